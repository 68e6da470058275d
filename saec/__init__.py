"""Saec: hourly CTR retraining with similarity-aware compressed embeddings (arXiv 1903.00103).

Compressing your own table needs no pipeline: use `saec.compress`, `saec.CompressedTable`, `saec.rows_of` and, for
scikit-learn, `saec.FieldKMeans`. They are imported when first used, so that `import saec` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["CompressedTable", "FieldKMeans", "compress", "rows_of"]

_HOMES = {
    "CompressedTable": "saec.serving.table",
    "FieldKMeans": "saec.compression.estimator",
    "compress": "saec.compression.library",
    "rows_of": "saec.compression.library",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'saec' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
