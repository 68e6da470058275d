"""Peels the keys of an index: finds an order in which all keys can be removed, then sets their cells.

A key that is alone in one of its cells can be removed: whatever its other three cells contain, this cell can be set to
produce its value. Once it is removed, other keys are alone in theirs. If all keys can be removed, cells are set in the
opposite order.

Decisions:
- Peeling goes in rounds: all keys that are alone in a cell leave together, so numpy does the work. Each round goes by
  cell, never by key, so equal sets of pairs give equal bytes in whatever order they come, without being sorted.
- A build peels some twenty times, because it starts with fewer cells than usually suffice. The compiled kernel, where
  there is one, is ten times as fast; it keeps to numpy's rounds and order, so that both give the same bytes.

Shapes: N keys, P keys peeled in one round, C cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from saec.compression.index_layout import Cells, Keys, Layout
    from saec.serving.kernel import Library

_ALONE = 1 << 48  # state of a cell: keys in it above bit 48, sum of their numbers below


class Peeled(NamedTuple):
    """The order in which all keys left."""

    keys_N: Cells
    """Numbers of the keys, in the order in which they left."""
    cells_N: Cells
    """The cell in which each key was alone."""
    ends: list[int]
    """Where each round ends; empty if compiled code peeled, which does not need it."""


def peel(hash_N: Keys, layout: Layout) -> Peeled | None:
    """Remove, round by round, all keys that are alone in a cell; None if some keys can never leave."""
    library = _kernel()
    return _peeled(hash_N, layout) if library is None else _peeled_compiled(library, hash_N, layout)


def filled(peeled: Peeled, hash_N: Keys, values_N: NDArray[np.uint32], layout: Layout) -> NDArray[np.uint32]:
    """Set the cells, last round first: a key's own cell is then still 0, and its other three are not set again."""
    cells_C = np.zeros(layout.cells, np.uint32)
    if peeled.ends:
        for start, end in zip(reversed([0, *peeled.ends[:-1]]), reversed(peeled.ends), strict=True):
            keys_P = peeled.keys_N[start:end]
            first_P, second_P, third_P, fourth_P = layout.places(hash_N[keys_P])
            others_P = cells_C[first_P] ^ cells_C[second_P] ^ cells_C[third_P] ^ cells_C[fourth_P]
            cells_C[peeled.cells_N[start:end]] = values_N[keys_P] ^ others_P
    elif (library := _kernel()) is not None:
        library.functions.saec_fill(
            hash_N.ctypes.data,
            values_N.ctypes.data,
            hash_N.size,
            layout.segments,
            layout.segment_length,
            peeled.keys_N.ctypes.data,
            peeled.cells_N.ctypes.data,
            cells_C.ctypes.data,
        )
    return cells_C


def _peeled(hash_N: Keys, layout: Layout) -> Peeled | None:
    """`peel` in numpy."""
    state_C = np.zeros(layout.cells, np.int64)
    tokens_N = np.arange(_ALONE, _ALONE + hash_N.size)
    for places_N in layout.places(hash_N):
        np.add.at(state_C, places_N, tokens_N)
    claims_N = np.empty(hash_N.size, np.intp)
    peeled = Peeled(np.empty(hash_N.size, np.intp), np.empty(hash_N.size, np.intp), [])
    gone = 0
    cells_P = np.flatnonzero(state_C >> 48 == 1)
    while cells_P.size:
        keys_P = state_C[cells_P] & (_ALONE - 1)
        numbers_P = np.arange(keys_P.size)
        claims_N[keys_P] = numbers_P  # of a key that is alone in two cells, or listed twice, the last claim counts
        kept_P = claims_N[keys_P] == numbers_P
        keys_P, cells_P = keys_P[kept_P], cells_P[kept_P]
        left, gone = gone, gone + keys_P.size
        peeled.keys_N[left:gone], peeled.cells_N[left:gone] = keys_P, cells_P
        peeled.ends.append(gone)
        touched = np.concatenate(layout.places(hash_N[keys_P]))
        np.subtract.at(state_C, touched, np.concatenate((keys_P + _ALONE,) * 4))
        cells_P = touched[state_C[touched] >> 48 == 1]
    return peeled if gone == hash_N.size else None


def _peeled_compiled(library: Library, hash_N: Keys, layout: Layout) -> Peeled | None:
    """`peel` in compiled code."""
    count, cells = hash_N.size, layout.cells
    state_C, claims_N = np.zeros(cells, np.int64), np.empty(count, np.int64)
    alone = np.empty(max(cells, 4 * count), np.int64)
    peeled = Peeled(np.empty(count, np.int64), np.empty(count, np.int64), [])
    refused = library.functions.saec_peel(
        hash_N.ctypes.data,
        count,
        layout.segments,
        layout.segment_length,
        cells,
        state_C.ctypes.data,
        claims_N.ctypes.data,
        alone.ctypes.data,
        peeled.keys_N.ctypes.data,
        peeled.cells_N.ctypes.data,
    )
    return None if refused else peeled


def _kernel() -> Library | None:
    """The compiled kernel, where there is one and the environment does not ask for numpy."""
    from saec.serving.kernel import chosen  # noqa: PLC0415 - serving imports the index

    return chosen(None)[0]
