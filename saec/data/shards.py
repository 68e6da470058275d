"""Splits training state into shards: says which shard holds a feature, and reads columns that lie in several.

A shard holds whole fields; a field larger than a shard should be is split by the first bits of its keys. Each shard has
columns of its own (saec.data.paged), and with them its own file, deltas and whole rewrites (saec.store.checkpoints).

Decisions:
- A place is a number of 64 bits: the shard in the upper 24, the place within its columns in the lower 40. So ids and
  rows stay plain numbers that are compared, sorted and stored as they are, and those of shard 0 are what they were
  before there were shards. With one shard nothing is split and nothing is added.
- Nothing that an hour comes to depends on the order of places, so neither on how many shards there are.
- Which shard has which part of a field is a small table that the state carries along. It is made by size when the state
  is dealt out anew, and stays until then.

Shapes: F fields, P parts of a field by the first bits of a key, S shards, V elements, N any of them.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saec.data.paged import CHUNK, Column, Paged, mapped, pages_of
from saec.durable import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from saec.data.paged import Values

LOCAL_BITS = 40
LOCAL = (1 << LOCAL_BITS) - 1
PART_BITS = 6
"""First bits of a key by which a field can be split."""
MOST_SHARDS = 1 << 10


@dataclass(frozen=True)
class Owners:
    """Which shard holds which features."""

    owners_FP: NDArray[np.uint16]
    shards: int

    @classmethod
    def one(cls, fields: int) -> Owners:
        """A single shard that holds all."""
        return cls(np.zeros((fields, 1 << PART_BITS), np.uint16), 1)

    @classmethod
    def by_size(cls, sizes_FP: NDArray[np.int64], shards: int) -> Owners:
        """Fields dealt out to shards, the largest first, each to the shard that has least.

        Args:
            sizes_FP: features of each part of each field.
            shards: how many.

        >>> sizes_FP = np.repeat([[9], [1], [1]], 1 << PART_BITS, axis=1)
        >>> [sorted({*owners}) for owners in Owners.by_size(sizes_FP, 2).owners_FP.tolist()]
        [[0, 1], [0], [1]]
        """
        owners_FP, held_S = np.zeros(sizes_FP.shape, np.uint16), np.zeros(shards, np.int64)
        parts = sizes_FP.shape[1]
        share = -(-int(sizes_FP.sum()) // shards)
        blocks = []
        for field, sizes_P in enumerate(sizes_FP):
            wanted = max(1, -(-int(sizes_P.sum()) // share)) if share else 1
            width = parts >> min((wanted - 1).bit_length(), parts.bit_length() - 1)
            starts = range(0, parts, width)
            blocks += [(1 + int(sizes_P[start : start + width].sum()), field, start, width) for start in starts]
        for size, field, start, width in sorted(blocks, key=lambda block: (-block[0], *block[1:])):
            shard = int(held_S.argmin())
            owners_FP[field, start : start + width] = shard
            held_S[shard] += size
        return cls(owners_FP, shards)

    def of(self, fields_N: NDArray[np.integer[Any]], keys_N: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The shard of each feature."""
        if self.shards == 1:
            return np.zeros(len(keys_N), np.int64)
        shards_N: NDArray[np.int64] = self.owners_FP[fields_N, parts_of(keys_N)].astype(np.int64)
        return shards_N


def parts_of(keys_N: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The part of its field that each key is in."""
    return (keys_N >> np.uint64(64 - PART_BITS)).astype(np.int64)


class Sharded:
    """Named columns over several shards, read and changed by places."""

    def __init__(self, shards: Sequence[Paged]) -> None:
        """Columns that lie in these, which go on to be their own."""
        self.shards = list(shards)

    def __len__(self) -> int:
        """Elements of each column."""
        return sum(len(shard) for shard in self.shards)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return self.shards[0].names

    def places(self) -> NDArray[np.int64]:
        """Places of all elements, ascending."""
        return np.concatenate([placed(number, np.arange(len(shard))) for number, shard in enumerate(self.shards)])

    def split(self, places_N: NDArray[np.int64]) -> Iterator[tuple[int, Any, NDArray[np.int64]]]:
        """Shards of some places: the number of each, which of the places are in it, and these within it."""
        if len(self.shards) == 1:
            yield 0, slice(None), places_N
            return
        for number, chosen in by_shard(places_N >> LOCAL_BITS):
            yield number, chosen, places_N[chosen] & LOCAL

    def take(self, name: str, places_N: NDArray[np.int64]) -> Values:
        """A copy of some elements of a column, in the order given."""
        if len(self.shards) == 1:
            return self.shards[0].take(name, places_N)
        like = self.shards[0].like(name)
        taken = np.empty((len(places_N), *like.shape[1:]), like.dtype)
        for number, chosen, local in self.split(places_N):
            taken[chosen] = self.shards[number].take(name, local)
        return taken

    def put(self, places_N: NDArray[np.int64], values: Mapping[str, Values]) -> None:
        """Set distinct elements of some columns; the other columns stay as they are."""
        for number, chosen, local in self.split(places_N):
            self.shards[number].put(local, {name: array[chosen] for name, array in values.items()})

    def append(self, shards_N: NDArray[np.int64], values: Mapping[str, Values]) -> NDArray[np.int64]:
        """Add elements, given for all columns, to these shards; returns their places."""
        places_N = np.empty(len(shards_N), np.int64)
        for number, chosen in by_shard(shards_N):
            shard = self.shards[number]
            places_N[chosen] = placed(number, len(shard) + np.arange(len(chosen)))
            shard.append({name: array[chosen] for name, array in values.items()})
        return places_N

    def since(self) -> NDArray[np.int64]:
        """Places, ascending, of elements changed or appended since the base of their shard was written."""
        return np.concatenate([placed(number, shard.since()) for number, shard in enumerate(self.shards)])

    def chunks(self, *names: str) -> Iterator[tuple[int, tuple[Values, ...]]]:
        """All elements of some columns, part by part: the place that each part starts at, and its arrays, copies."""
        for number, shard in enumerate(self.shards):
            for start, arrays in shard.chunks(*names):
                yield (number << LOCAL_BITS) + start, arrays

    def whole(self, name: str) -> Values:
        """A copy of a column, whole in memory, shard by shard."""
        if len(self.shards) == 1:
            return self.shards[0].whole(name)
        return np.concatenate([shard.whole(name) for shard in self.shards])

    def drawn(self, places_N: NDArray[np.int64], scratch: Path | None) -> Paged:
        """Columns of some elements, given ascending, in the same order.

        Args:
            places_N: which.
            scratch: folder of a file that holds them; it has no name, so it is gone with the last who reads it. In
                memory when left out.

        Raises:
            StoreError: when the file cannot be written.
        """
        if scratch is None:
            return Paged({name: self.take(name, places_N) for name in self.names})
        with storage_errors(f"write what stays in {scratch}"), tempfile.TemporaryFile(dir=scratch) as file:
            starts = {}
            for name in self.names:
                starts[name] = file.tell()
                for first in range(0, len(places_N), CHUNK):
                    file.write(np.ascontiguousarray(self.take(name, places_N[first : first + CHUNK])).data)
                file.write(bytes(-file.tell() % 64))
            file.write(b"\0")  # no file of no bytes can be mapped
            file.flush()
            pages, like = pages_of(file), self.shards[0].like
            return Paged(
                {
                    name: mapped(pages, like(name).dtype, (len(places_N), *like(name).shape[1:]), start)
                    for name, start in starts.items()
                }
            )

    def state(self, number: int) -> dict[str, Column]:
        """The columns of one shard."""
        shard = self.shards[number]
        return {name: shard.column(name) for name in shard.names}


def by_shard(shards_N: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each shard that is there, ascending, and which of the elements are in it."""
    for number in np.flatnonzero(np.bincount(shards_N, minlength=1)).tolist():
        yield number, np.flatnonzero(shards_N == number)


def within(shard: int, places_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the places that are in a shard, as places within it."""
    local_N: NDArray[np.int64] = places_N[places_N >> LOCAL_BITS == shard] & LOCAL
    return local_N


def placed(shard: int, local_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of what has these places within a shard."""
    return local_N + (shard << LOCAL_BITS) if shard else local_N
