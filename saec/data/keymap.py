"""From 64-bit feature keys to dense ids: an open-addressing hash table in numpy.

Decisions: keys are keyed SipHash outputs, so their top bits are already a good slot number and a flood of chosen values
cannot pile them up; linear probing at a load of at most one half, so a batch is settled in a few vectorised rounds;
ids are given in order of insertion, so the same insertions give the same ids; 0 is the padding key and never stored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
        self._id_of_slot = np.zeros(capacity, np.int32)
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
