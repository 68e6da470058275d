"""Stores the peers' tables: int8 rows with a scale each, and a keyless index from key to row.

Decisions in the peers' favour: no file headers are counted for them; the index is the real one of Saec, without the 16
bits that its codes are limited to. Unknown keys that its fingerprint lets through get some row of the head, as they
would when served.

Shapes: N rows stored, U distinct features of an hour, D width.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.compression.stretch import bits_for, fuse_cells
from saec.compression.index import RetrievalIndex

SCALE_BYTES = 2
WITHIN = 0.01
"""How close to its target a size must come."""
_SMALLEST_SCALE = np.float16(6.2e-5)
_Made = TypeVar("_Made")


class Unreachable(Exception):
    """A method cannot be made as small as was asked."""


def timed(make: Callable[[], _Made]) -> tuple[_Made, float]:
    """What `make` returns, and the CPU seconds that it took; other processes do not add to these."""
    started = time.process_time()
    made = make()
    return made, time.process_time() - started


def row_bytes(width: int) -> int:
    """Bytes of an int8 row and its scale."""
    return width + SCALE_BYTES


def as_int8(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors as they come back from int8 with one half-precision scale a row."""
    scale_N = np.maximum((np.abs(vectors_ND).max(1, initial=0.0) / 127.0).astype(np.float16), _SMALLEST_SCALE)
    scale_N1 = scale_N.astype(np.float32)[:, None]
    stored_ND = np.clip(np.rint(vectors_ND / scale_N1), -127, 127).astype(np.int8)
    restored_ND: NDArray[np.float32] = stored_ND * scale_N1
    return restored_ND


def sized(build: Callable[[float], tuple[float, _Made]], budget: float) -> tuple[float, _Made]:
    """Size and form of what comes nearest to so many bytes, of a few that are built.

    Args:
        build: makes size and form for bytes to plan with; what is planned and what is built differ by some per cent.
        budget: bytes aimed at.
    """
    wanted, (size, made) = budget, build(budget)
    for _ in range(3):
        if abs(size / budget - 1) < WITHIN:
            break
        wanted *= budget / size
        again, other = build(wanted)
        if abs(again - budget) >= abs(size - budget):
            break
        size, made = again, other
    return size, made


def as_float16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Numbers as they come back from half precision."""
    restored: NDArray[np.float32] = np.asarray(values, np.float16).astype(np.float32)
    return restored


def as_levels(scaled: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Numbers, in steps, as they come back from so many bits: the middle of the step each lies in."""
    half = 2 ** (bits - 1)
    levels = np.clip(np.floor(scaled), -half, half - 1).astype(np.int8)
    return levels.astype(np.float32) + np.float32(0.5)


def filtered_bytes(count: int, width: int, fields: int, fingerprint_bits: int) -> float:
    """Bytes of a keyless index with row numbers, int8 rows, and a default row for each field, to plan with."""
    return fuse_cells(count) * (fingerprint_bits + bits_for(count)) / 8 + (count + fields) * row_bytes(width)


@dataclass(frozen=True)
class HeadIndex:
    """A keyless index of the features that own a stored row."""

    rows_N: NDArray[np.int64]
    """Table row of each indexed feature."""
    index: RetrievalIndex
    """Of values of one bit, which says nothing."""
    fingerprint_bits: int

    @classmethod
    def build(cls, keys_N: NDArray[np.uint64], rows_N: NDArray[np.int64], fingerprint_bits: int) -> HeadIndex:
        """Index some features; their row numbers are left out, as only their bits are counted."""
        nothing_N = np.zeros(len(keys_N), np.uint8)
        index = RetrievalIndex.build(keys_N, nothing_N, code_bits=1, fingerprint_bits=fingerprint_bits)
        return cls(rows_N, index, fingerprint_bits)

    def bytes(self, value_bits: int) -> int:
        """Bytes of the index with values of so many bits."""
        return round(self.index.nbytes * (self.fingerprint_bits + value_bits) / (self.fingerprint_bits + 1))

    def serve(
        self, keys_U: NDArray[np.uint64], rows_U: NDArray[np.int64], defaults_U: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The row that each feature is served with.

        Args:
            keys_U: the features.
            rows_U: their rows in the table.
            defaults_U: the default rows of their fields, for those that are not indexed.
        """
        accepted_U = self.index.lookup(keys_U) >= 0
        indexed_U = np.isin(rows_U, self.rows_N)
        wrong_U = accepted_U & ~indexed_U
        served_U = np.where(indexed_U, rows_U, defaults_U)
        if wrong_U.any():
            served_U[wrong_U] = self.rows_N[(keys_U[wrong_U] % np.uint64(len(self.rows_N))).astype(np.int64)]
        return served_U
