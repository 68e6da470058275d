"""Maps 64-bit feature keys to dense ids, with a hash table in numpy and a sorted run of keys that may be a file.

A vocabulary looks the features of its checkpoint up in the run that lies in that file, so that a process which has just
started need not build anything, and those that came since in the table.

Decisions: keys are keyed SipHash outputs, so their top bits are already a good slot number and a flood of chosen values
cannot pile them up; linear probing at a load of at most one half, so a batch is settled in a few vectorised rounds;
ids are given in order of insertion, so the same insertions give the same ids; 0 is the padding key and never stored.
Keys spread evenly, so the first bits of a key say where it lies in a sorted run up to a few places: a look-up reads two
or three pages of the file, and the run takes half the bytes of a table that is half full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saec.data.paged import CHUNK, give_back

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Keys = NDArray[np.uint64]
Ids = NDArray[np.int64]

_SMALLEST = 1 << 10
_CHUNK = 1 << 15
"""Keys looked up at a time: the temporaries of a chunk stay in the processor's cache."""


class KeyMap:
    """Keys numbered 0, 1, 2 … in the order they were inserted.

    >>> keymap = KeyMap()
    >>> keymap.insert(np.array([70, 50], np.uint64)).tolist()
    [0, 1]
    >>> keymap.find(np.array([50, 60, 70], np.uint64)).tolist()
    [1, -1, 0]
    """

    def __init__(self, keys_V: Keys | None = None) -> None:
        """Number the given distinct keys 0 to V-1."""
        count = 0 if keys_V is None else len(keys_V)
        self._count = 0
        self._allocate(max(_SMALLEST, 1 << int(2 * count).bit_length()))
        if keys_V is not None:
            self.insert(keys_V)

    def __len__(self) -> int:
        """Number of keys held."""
        return self._count

    def find(self, keys_N: Keys) -> Ids:
        """The id of each key, -1 for a key that is not held."""
        ids_N = np.empty(len(keys_N), np.int64)
        for start in range(0, len(keys_N), _CHUNK):
            ids_N[start : start + _CHUNK] = self._find_chunk(keys_N[start : start + _CHUNK])
        return ids_N

    def insert(self, keys_N: Keys) -> Ids:
        """Add keys, distinct and not yet held, and return their new ids, in the order given."""
        self._reserve(self._count + len(keys_N))
        ids_N = np.arange(self._count, self._count + len(keys_N))
        pending, slots = np.arange(len(keys_N)), self._home(keys_N)
        while len(pending):
            # Of several keys that want one empty slot, the last written stays; the others probe on.
            empty = self._key_of_slot[slots] == 0
            self._key_of_slot[slots[empty]] = keys_N[pending[empty]]
            settled = empty & (self._key_of_slot[slots] == keys_N[pending])
            self._id_of_slot[slots[settled]] = ids_N[pending[settled]]
            pending, slots = pending[~settled], self._next(slots[~settled])
        self._count += len(keys_N)
        return ids_N

    def _find_chunk(self, keys_N: Keys) -> Ids:
        slots_N = self._home(keys_N)
        held_N = self._key_of_slot[slots_N]
        ids_N = np.where(held_N == keys_N, self._id_of_slot[slots_N], -1).astype(np.int64)
        pending = np.flatnonzero((held_N != keys_N) & (held_N != 0))
        slots = slots_N[pending]
        while len(pending):
            slots = self._next(slots)
            held = self._key_of_slot[slots]
            hit = held == keys_N[pending]
            ids_N[pending[hit]] = self._id_of_slot[slots[hit]]
            probe_on = ~hit & (held != 0)
            pending, slots = pending[probe_on], slots[probe_on]
        ids_N[keys_N == 0] = -1
        return ids_N

    def _home(self, keys_N: Keys) -> Ids:
        return (keys_N >> self._shift).astype(np.int64)

    def _next(self, slots: Ids) -> Ids:
        return (slots + 1) & (len(self._key_of_slot) - 1)

    def _allocate(self, capacity: int) -> None:
        self._key_of_slot = np.zeros(capacity, np.uint64)
        self._id_of_slot = np.zeros(capacity, np.int64)
        self._shift = np.uint64(64 - (capacity.bit_length() - 1))

    def _reserve(self, count: int) -> None:
        """Double the table until `count` keys fill at most half of it."""
        capacity = len(self._key_of_slot)
        if 2 * count <= capacity:
            return
        used = self._key_of_slot != 0
        keys, ids = self._key_of_slot[used], self._id_of_slot[used]
        self._allocate(1 << (2 * count - 1).bit_length())
        held, self._count = self._count, 0
        keys_V = np.empty(held, np.uint64)
        keys_V[ids] = keys
        self.insert(keys_V)


class KeyRun:
    """Keys in ascending order, the id of each, and where the keys of each first few bits start.

    >>> run = KeyRun.of(np.array([70, 50], np.uint64))
    >>> run.find(np.array([50, 60, 70], np.uint64)).tolist()
    [1, -1, 0]
    """

    GROUPS = ("run", "run_starts")
    """Groups of its arrays in a checkpoint: keys and ids are of one length, starts of another."""

    def __init__(self, keys_V: Keys, ids_V: Ids, starts: Ids) -> None:
        """The run that these are; nothing is copied."""
        self.keys_V, self.ids_V, self.starts = keys_V, ids_V, starts

    @classmethod
    def of(cls, keys_V: Keys) -> KeyRun:
        """The run of keys whose ids are their places."""
        ids_V = np.argsort(keys_V)
        return cls(keys_V[ids_V], ids_V, _starts([keys_V[ids_V]], len(keys_V)))

    @classmethod
    def restore(cls, arrays: Mapping[str, Any]) -> KeyRun:
        """The run of a checkpoint, from its arrays by `group.NAME`."""
        return cls(arrays["run.keys_V"], arrays["run.ids_V"], arrays["run_starts.starts"])

    def __len__(self) -> int:
        """Number of keys."""
        return len(self.keys_V)

    def find(self, keys_N: Keys) -> Ids:
        """The id of each key, -1 for one that is not in the run."""
        ids_N = np.full(len(keys_N), -1, np.int64)
        for start in range(0, len(keys_N) if len(self) else 0, _CHUNK):
            ids_N[start : start + _CHUNK] = self._find_chunk(keys_N[start : start + _CHUNK])
        return ids_N

    def merged(self, keys_N: Keys) -> dict[str, NDArray[Any] | Merged]:
        """Arrays, by `group.NAME`, of the run to which keys were added whose ids follow behind the largest."""
        order = np.argsort(keys_N)
        before_N = self._places(keys_N[order])
        keys = Merged(self.keys_V, before_N, keys_N[order])
        ids = Merged(self.ids_V, before_N, len(self) + order)
        return {"run.keys_V": keys, "run.ids_V": ids, "run_starts.starts": _starts(keys.parts(), len(keys))}

    def _find_chunk(self, keys_N: Keys) -> Ids:
        places_N = self._places(keys_N)
        inside_N = np.minimum(places_N, len(self) - 1)
        ids_N = np.where(self.keys_V[inside_N] == keys_N, self.ids_V[inside_N], -1)
        give_back(self.ids_V, int(inside_N.min()), int(inside_N.max()) + 1)
        return ids_N

    def _places(self, keys_N: Keys) -> Ids:
        """How many keys of the run are smaller than each."""
        first_N = (keys_N >> np.uint64(_shift(len(self.starts) - 1))).astype(np.int64)
        low_N, high_N = self.starts[first_N], self.starts[first_N + 1]
        if len(keys_N):
            give_back(self.starts, int(first_N.min()), int(first_N.max()) + 2)
        passed = slice(int(low_N.min(initial=0)), int(high_N.max(initial=0)))
        while (open_N := low_N < high_N).any():
            middle_N = (low_N + high_N) >> 1
            smaller_N = self.keys_V[np.minimum(middle_N, len(self) - 1)] < keys_N
            low_N = np.where(open_N & smaller_N, middle_N + 1, low_N)
            high_N = np.where(open_N & ~smaller_N, middle_N, high_N)
        give_back(self.keys_V, passed.start, passed.stop)
        return low_N


class Merged:
    """A long array with a few more elements in it, to be read once through; the long one is not copied."""

    def __init__(self, base: NDArray[Any], before_N: Ids, values_N: NDArray[Any]) -> None:
        """`values_N` stand before the elements at `before_N`, which ascend."""
        self._base, self._before, self._values = base, before_N, values_N
        self.dtype, self.shape = base.dtype, (len(base) + len(values_N),)

    def __len__(self) -> int:
        """Elements."""
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All elements."""
        return np.insert(self._base, self._before, self._values).astype(dtype or self.dtype, copy=False)

    def parts(self) -> Iterator[NDArray[Any]]:
        """All elements, some at a time."""
        for start in range(0, max(len(self._base), 1), CHUNK):
            stop = start + CHUNK
            first = int(np.searchsorted(self._before, start))
            end = int(np.searchsorted(self._before, stop)) if stop < len(self._base) else len(self._before)
            yield np.insert(self._base[start:stop], self._before[first:end] - start, self._values[first:end])
            give_back(self._base)


def _starts(parts: Iterable[Keys], count: int) -> Ids:
    """How many of so many sorted keys are smaller than all that begin with each number of bits."""
    buckets = 1 << max(1, count.bit_length() - 4)
    counts = np.zeros(buckets + 1, np.int64)
    for keys in parts:
        if len(keys):
            first = (keys >> np.uint64(_shift(buckets))).astype(np.int64)
            found = np.bincount(first - first[0])
            counts[first[0] + 1 : first[0] + 1 + len(found)] += found
    return np.cumsum(counts, out=counts)


def _shift(buckets: int) -> int:
    """By how many bits a key is moved to the right for the number of its bucket."""
    return 64 - (buckets.bit_length() - 1)
