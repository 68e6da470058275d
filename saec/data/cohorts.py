"""Orders the features of a whole state so that cold ones need not be looked at one by one.

What a feature is expected to do next follows from its field, whether it has a row, when it was last seen and how often
it was seen. The first three are the same for all features of a cohort, and their frequencies fade alike as hours pass.
Features are therefore sorted by these; those of a cohort whose frequencies differ by at most one part in 128 are a
bundle. There are far fewer bundles than features, and they last until the state is written anew.

Decisions: features without a row are candidates for nothing but in the hour after they were seen, so only those of the
two newest hours are here (two, for a state may be looked at from within its own newest hour). What identifies a bundle
is one number, so features are sorted and found by it.

Shapes: N features, G bundles, M members of some of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from saec.data.distinct import distinct
from saec.data.paged import CHUNK, give_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from saec.data.paged import Paged

_DROPPED = np.uint32(16)
"""Last bits of a frequency that may differ within a bundle: the seven before them are its share of 128."""
_ROWLESS, _FIELD, _SEEN = np.uint64(63), np.uint64(47), np.uint64(16)
"""Where in a bundle's number stand whether its features lack rows, their field and the hour they were last seen."""
GONE = -2
"""Row of a feature that is forgotten and whose place has not been dropped yet."""
COLUMNS = ("keys_V", "fields_V", "frequency_V", "last_seen_V", "row_V")
"""What of a vocabulary makes cohorts."""


def bundle_of(
    fields_N: NDArray[Any], frequency_N: NDArray[np.float32], last_seen_N: NDArray[Any], rows_N: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """The number of the bundle that each feature belongs to; frequency as of the hour last seen."""
    shares_N = (frequency_N.view(np.uint32) >> _DROPPED).astype(np.uint64)
    cohorts_N = (rows_N < 0).astype(np.uint64) << _ROWLESS | fields_N.astype(np.uint64) << _FIELD
    numbers_N: NDArray[np.uint64] = cohorts_N | last_seen_N.astype(np.uint64) << _SEEN | shares_N
    return numbers_N


@dataclass(frozen=True)
class Cohorts:
    """Features of a state by bundle."""

    GROUPS = ("cohorts", "bundles")
    """Groups of its arrays in a checkpoint."""

    keys_N: NDArray[np.uint64]
    frequency_N: NDArray[np.float32]
    """As of the hour last seen."""
    rows_N: NDArray[np.int64]
    """-1 without one."""
    numbers_G: NDArray[np.uint64]
    """What `bundle_of` gives, ascending."""
    sizes_G: NDArray[np.int64]
    low_G: NDArray[np.float32]
    """The least frequency in a bundle; `high_G` the greatest."""
    high_G: NDArray[np.float32]

    @classmethod
    def of(cls, known: Paged) -> Cohorts:
        """Those of the columns of a vocabulary."""
        arrays = cohort_arrays(known)
        return cls.restore({name: np.asarray(array) for name, array in arrays.items()})

    @classmethod
    def restore(cls, arrays: Mapping[str, Any]) -> Cohorts:
        """Those of a checkpoint, from its arrays by `group.NAME`."""
        features = (arrays[f"cohorts.{name}"] for name in ("keys_N", "frequency_N", "rows_N"))
        bundles = (np.array(arrays[f"bundles.{name}"]) for name in ("numbers_G", "sizes_G", "low_G", "high_G"))
        return cls(*features, *bundles)

    @cached_property
    def own_G(self) -> NDArray[np.bool_]:
        """Whether the features of a bundle have rows."""
        own_G: NDArray[np.bool_] = self.numbers_G >> _ROWLESS == 0
        return own_G

    @cached_property
    def fields_G(self) -> NDArray[np.int64]:
        """Their field."""
        return (self.numbers_G >> _FIELD & np.uint64(0xFFFF)).astype(np.int64)

    @cached_property
    def last_seen_G(self) -> NDArray[np.int64]:
        """Index of the hour they were last seen in."""
        return (self.numbers_G >> _SEEN & np.uint64(0x7FFFFFFF)).astype(np.int64)

    @property
    def rows(self) -> int:
        """Features that have a row."""
        return int(self.sizes_G[self.own_G].sum())

    def members(self, bundles: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[NDArray[Any], ...]]:
        """The features of some bundles, given ascending.

        Returns:
            The bundle of each (M), and their `keys_N`, `frequency_N` and `rows_N`.
        """
        sizes = self.sizes_G[bundles]
        starts = self._starts_G[bundles]
        columns: tuple[NDArray[Any], ...] = (self.keys_N, self.frequency_N, self.rows_N)
        found = tuple(np.empty(int(sizes.sum()), column.dtype) for column in columns)
        ends = np.cumsum(sizes)
        # Neighbouring bundles are read at once.
        apart = np.flatnonzero(starts[1:] != (starts + sizes)[:-1]) + 1
        firsts = np.concatenate([np.zeros(min(len(bundles), 1), np.int64), apart])
        lasts = np.concatenate([apart, np.full(min(len(bundles), 1), len(bundles))])
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            start, stop = int(starts[first]), int(starts[last - 1] + sizes[last - 1])
            at = slice(int(ends[first] - sizes[first]), int(ends[last - 1]))
            for column, taken in zip(columns, found, strict=True):
                taken[at] = column[start:stop]
        for column in columns if len(bundles) else ():
            give_back(column, int(starts[0]), int(starts[-1] + sizes[-1]))
        return np.repeat(bundles, sizes), found

    @cached_property
    def _starts_G(self) -> NDArray[np.int64]:
        return np.cumsum(self.sizes_G) - self.sizes_G


class Arranged:
    """A column in another order, to be read once through; it is in memory only while it is read."""

    def __init__(self, known: Paged, name: str, order_N: NDArray[np.int64]) -> None:
        """The elements of a column at these places."""
        self._known, self._name, self._order = known, name, order_N
        self.dtype, self.shape = known.like(name).dtype, order_N.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All elements."""
        return np.concatenate([np.zeros(0, self.dtype), *self.parts()]).astype(dtype or self.dtype, copy=False)

    def parts(self) -> Iterator[NDArray[Any]]:
        """All elements, some at a time."""
        column = self._known.whole(self._name)
        for start in range(0, len(self._order), CHUNK):
            yield column[self._order[start : start + CHUNK]]


def cohort_arrays(known: Paged) -> dict[str, NDArray[Any] | Arranged]:
    """Arrays of the `Cohorts` of a vocabulary's columns, by `group.NAME`."""
    newest = np.zeros(0, np.int32)
    for _, (last_seen_M,) in known.chunks("last_seen_V"):
        newest = distinct(np.concatenate([newest, last_seen_M]))[-2:]
    numbers, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for start, (fields_M, frequency_M, last_seen_M, rows_M) in known.chunks(*COLUMNS[1:]):
        wanted = np.flatnonzero((rows_M >= 0) | (last_seen_M >= newest[0]) & (rows_M != GONE))
        numbers.append(bundle_of(fields_M, frequency_M, last_seen_M, rows_M)[wanted])
        places.append(start + wanted)
    numbers_N, places_N = np.concatenate(numbers), np.concatenate(places)
    del numbers, places
    order_N = np.argsort(numbers_N, kind="stable")
    numbers_G, starts_G = _first_of_each(numbers_N, order_N)
    order_N = places_N[order_N]
    del numbers_N, places_N
    low_G, high_G = np.full(len(numbers_G), np.inf, np.float32), np.zeros(len(numbers_G), np.float32)
    frequency, start = Arranged(known, "frequency_V", order_N), 0
    for part in frequency.parts():
        first = int(np.searchsorted(starts_G, start, side="right")) - 1
        bundles = slice(first, int(np.searchsorted(starts_G, start + len(part))))
        cuts = np.maximum(starts_G[bundles] - start, 0)
        low_G[bundles] = np.minimum(low_G[bundles], np.minimum.reduceat(part, cuts))
        high_G[bundles] = np.maximum(high_G[bundles], np.maximum.reduceat(part, cuts))
        start += len(part)
    return {
        "cohorts.keys_N": Arranged(known, "keys_V", order_N),
        "cohorts.frequency_N": frequency,
        "cohorts.rows_N": Arranged(known, "row_V", order_N),
        "bundles.numbers_G": numbers_G,
        "bundles.sizes_G": np.diff(starts_G, append=len(order_N)),
        "bundles.low_G": low_G,
        "bundles.high_G": high_G,
    }


def _first_of_each(
    numbers_N: NDArray[np.uint64], order_N: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Distinct numbers, ascending, and where each begins in the order."""
    distinct, starts, before = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], ~np.uint64(0)  # no number is that
    for start in range(0, len(order_N), CHUNK):
        part = numbers_N[order_N[start : start + CHUNK]]
        new = 1 + np.flatnonzero(part[1:] != part[:-1])
        if part[0] != before:
            new = np.append(0, new)
        distinct.append(part[new])
        starts.append(start + new)
        before = part[-1]
    return np.concatenate(distinct), np.concatenate(starts)
