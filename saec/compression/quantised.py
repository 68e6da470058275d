"""Quantises codewords and codes for storage, for versions and for tables compressed by the library.

Only numpy is imported, so that serving needs no torch.

Shapes: F fields, T codewords of all fields, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saec.errors import TrainingError

_MOST = {"int4": 7, "int8": 127}
"""Most steps of a codeword's scale away from zero."""
_FREE = 1 / 64
"""Share of the index's bytes that codewords may take in bytes in place of half bytes."""
_ZERO = 8
"""What half a byte holds for zero."""


def code_bits(counts_F: NDArray[np.int64]) -> int:
    """Bits of a code in the index, for the field with the most clusters; the newcomers' code is one more."""
    return max(1, int(counts_F.max(initial=0)).bit_length())


def stored_bytes(width: int, precision: str) -> int:
    """Bytes of a codeword on disk, that of its scale among them."""
    return {"int4": -(-width // 2) + 2, "int8": width + 2, "float16": 2 * width}[precision]


def affordable(precision: str, vectors_TD: NDArray[np.float32], index_bytes: int) -> str:
    """The precision to store codewords in: bytes in place of half bytes where both are next to nothing.

    Args:
        precision: as configured.
        vectors_TD: the codewords.
        index_bytes: of the index beside them.
    """
    codewords, width = vectors_TD.shape
    free = codewords * stored_bytes(width, "int8") <= _FREE * index_bytes
    return "int8" if precision == "int4" and free else precision


def quantised(vectors_TD: NDArray[np.float32], precision: str) -> dict[str, NDArray[Any]]:
    """Codewords as stored: half precision, or bytes or half bytes with one scale a codeword.

    Args:
        vectors_TD: the codewords.
        precision: float16, int8 or int4.

    Returns:
        `codewords_TD`, and unless they are float16 `scale_T`; two numbers of int4 share a byte, the first in its lower
        half, each above zero by 8.

    Raises:
        TrainingError: when a codeword is not finite in this precision.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if precision == "float16":
            stored: dict[str, NDArray[Any]] = {"codewords_TD": vectors_TD.astype(np.float16)}
        else:
            most = _MOST[precision]
            scale_T = (np.maximum(np.abs(vectors_TD).max(1), 1e-12) / most).astype(np.float16)
            scale_T = np.maximum(scale_T, np.finfo(np.float16).smallest_subnormal)
            steps_TD = np.rint(vectors_TD / scale_T[:, None]).clip(-most, most).astype(np.int8)
            stored = {"codewords_TD": _paired(steps_TD) if precision == "int4" else steps_TD, "scale_T": scale_T}
        finite = np.isfinite(restored(stored, vectors_TD.shape[1])).all()
    if not finite:
        raise TrainingError(
            f"codewords are not finite as {precision}, the largest is {np.abs(vectors_TD).max():g}; the hour's "
            "training diverged: lower training.table_learning_rate and run the hour again",
            reason="non-finite",
        )
    return stored


def restored(stored: Mapping[str, NDArray[Any]], width: int) -> NDArray[np.float32]:
    """Codewords as all who serve them have them.

    Args:
        stored: what `quantised` gave; it may come from anywhere.
        width: numbers of a codeword; what is stored of another width keeps that.
    """
    codewords_TD = stored["codewords_TD"]
    if codewords_TD.dtype == np.uint8 and codewords_TD.ndim == 2:
        codewords_TD = _parted(codewords_TD, width)
    vectors_TD: NDArray[np.float32] = codewords_TD.astype(np.float32)
    if "scale_T" in stored:
        vectors_TD *= stored["scale_T"].astype(np.float32)[:, None]  # in place: scales of another number are an error
    return vectors_TD


def _paired(steps_TD: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two steps a byte; a zero completes an odd number."""
    halves_TD = (steps_TD + _ZERO).astype(np.uint8)
    halves_TD = np.pad(halves_TD, ((0, 0), (0, halves_TD.shape[1] % 2)), constant_values=_ZERO)
    return halves_TD[:, ::2] | halves_TD[:, 1::2] << np.uint8(4)


def _parted(pairs_TD: NDArray[np.uint8], width: int) -> NDArray[np.int8]:
    """The inverse of `_paired`."""
    halves_TD = np.stack([pairs_TD & 15, pairs_TD >> 4], -1).reshape(len(pairs_TD), -1)
    if width == halves_TD.shape[1] - 1:
        halves_TD = halves_TD[:, :width]
    return halves_TD.astype(np.int8) - np.int8(_ZERO)
