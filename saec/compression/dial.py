"""The dial: derives the size of the head and of the codebooks from one ratio of bytes.

    bytes of the original's rows and keys  /  ratio  =  bytes for the index and the codebooks

Decisions: at most an eighth of the bytes goes to codewords, the rest to the index. More codewords per field lower the
clustering error but cost every index entry a bit, and their bytes are missing there: where there are many features, who
has a code matters more. 15 codewords are too few, 31 to 127 hardly differ (docs/LOG.md). A young table is small and all
of it matters, so a pipeline starts at `FIRST_RATIO` and doubles it every `compression.doubling_hours` until it reaches
the wanted ratio. Below `SMALLEST` bytes nothing is compressed further.

Shapes: F fields, D width, K codewords.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from saec.compression.quantised import stored_bytes

if TYPE_CHECKING:
    from saec.config import CompressionConfig, Config

KEY_BYTES = 8
"""Bytes of a feature key, which the original's table keeps beside every row."""
SMALLEST = 1 << 13
FIRST_RATIO = 25.0
FEWEST_FOR_TWO = 31
"""Clusters of a field without which a version is no ensemble: on five days of the real log one model at 1/212 was as
good as two of 15 clusters at 1/84, the second network counted."""
_CODEBOOK_SHARE = 1 / 8
_HEADERS = 640
"""Bytes of both files' headers."""
_MOST_CODEWORDS = 255
_SHARD = 1 << 20
"""Features of one index shard; beyond this, cells per feature no longer decrease."""


@dataclass(frozen=True)
class Allowance:
    """The limits for one hour's version."""

    codewords: int
    """Maximum number of clusters of a field."""
    features: int
    """Maximum number of features with a code."""
    ensemble: bool = True
    """Whether the original is quantised to the codes too: with fewer codewords it would cost more than it gains."""

    @classmethod
    def of(cls, config: Config, rows: int, ratio: float, models: int = 1) -> Allowance:
        """The allowance for an original with this many rows, default rows included.

        Args:
            config: all settings.
            rows: of the original's table.
            ratio: that is wanted.
            models: that a version would have, each with codewords of its own; one, if two would have too few.
        """
        compression, fields = config.compression, len(config.field_names)
        total = max(original_bytes(config, rows) / ratio, SMALLEST)
        codeword_bytes = stored_bytes(config.model.width, compression.codebook_precision)
        one, two = (
            cls.within(total, fields, number * codeword_bytes, compression.fingerprint_bits, compression.codewords)
            for number in (1, 2)
        )
        ensemble = compression.codewords is not None or two.codewords >= FEWEST_FOR_TWO
        return replace(two if ensemble and models > 1 else one, ensemble=ensemble)

    @classmethod
    def within(
        cls, total: float, fields: int, codeword_bytes: int, fingerprint_bits: int, codewords: int | None = None
    ) -> Allowance:
        """The allowance for this many bytes of index and codebooks.

        Args:
            total: the bytes.
            fields: how many codebooks there are.
            codeword_bytes: bytes of a codeword on disk, as `stored_bytes` has them.
            fingerprint_bits: of an entry of the index.
            codewords: clusters of a field; derived from the bytes if not given.
        """
        codewords = codewords or _codewords(_CODEBOOK_SHARE * total / fields / codeword_bytes)
        index_bytes = total - fields * (codewords + 2) * codeword_bytes - _HEADERS
        return cls(codewords, features_within(index_bytes, codewords.bit_length() + fingerprint_bits))


def warmed(compression: CompressionConfig, ratio: float, hours: int) -> float:
    """The current ratio of a pipeline that has coded this many hours and aims at `ratio`."""
    if not compression.doubling_hours:
        return ratio
    return float(min(ratio, FIRST_RATIO * 2.0 ** (hours / compression.doubling_hours)))


def original_bytes(config: Config, rows: int) -> int:
    """Bytes of the original's rows and keys."""
    return rows * (4 * config.model.width + KEY_BYTES)


def features_within(index_bytes: float, cell_bits: int) -> int:
    """Number of features that fit in an index of this many bytes; each takes slightly more than a cell (index.py)."""
    cells = max(8 * index_bytes / cell_bits, 0.0)
    features = cells
    for _ in range(8):
        features = cells / (1.035 + 1.22 * min(max(features, 1.0), _SHARD) ** -0.25)
    return int(features)


def _codewords(affordable: float) -> int:
    """One less than a power of two, so that no value of a code's bits is wasted."""
    codewords = 1
    while 2 * codewords + 1 <= min(affordable, _MOST_CODEWORDS):
        codewords = 2 * codewords + 1
    return codewords
