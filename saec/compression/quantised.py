"""Quantises codewords and codes for storage, for versions and for tables compressed by the library.

Shapes: F fields, T codewords of all fields, D width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saec.errors import TrainingError


def code_bits(counts_F: NDArray[np.int64]) -> int:
    """Bits of a code in the index, for the field with the most clusters; the newcomers' code is one more."""
    return max(1, int(counts_F.max(initial=0)).bit_length())


def quantised(vectors_TD: NDArray[np.float32], precision: str) -> dict[str, NDArray[Any]]:
    """Codewords as stored: half precision, or bytes with one scale a codeword.

    Args:
        vectors_TD: the codewords.
        precision: float16 or int8.

    Raises:
        TrainingError: when a codeword is not finite in this precision.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if precision == "float16":
            stored: dict[str, NDArray[Any]] = {"codewords_TD": vectors_TD.astype(np.float16)}
        else:
            scale_T = (np.maximum(np.abs(vectors_TD).max(1), 1e-12) / 127.0).astype(np.float16)
            scale_T = np.maximum(scale_T, np.finfo(np.float16).smallest_subnormal)
            steps_TD = np.rint(vectors_TD / scale_T[:, None]).clip(-127, 127)
            stored = {"codewords_TD": steps_TD.astype(np.int8), "scale_T": scale_T}
        finite = np.isfinite(_dequantised(stored)).all()
    if not finite:
        raise TrainingError(
            f"codewords are not finite as {precision}, the largest is {np.abs(vectors_TD).max():g}; the hour's "
            "training diverged: lower training.table_learning_rate and run the hour again",
            reason="non-finite",
        )
    return stored


def _dequantised(codebooks: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    vectors_TD: NDArray[np.float32] = codebooks["codewords_TD"].astype(np.float32)
    return vectors_TD * codebooks["scale_T"][:, None] if "scale_T" in codebooks else vectors_TD
