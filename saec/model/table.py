"""The full embedding table of the original model, and the part of it that one hour works on.

Decisions: rows lie in a checkpoint's file but for those that hours changed since (saec.data.paged), so that memory
follows the hours; training never touches the table itself: it takes the rows of an hour out as a `WorkingSet`, works on
those (they fit the processor's cache) and puts them back, so cost grows with the hour. A new row starts near zero, not
as a copy of its field's default row: that a feature came back at all tells it from the unknown ones (docs/LOG.md has
the figures). Its first values follow from the seed and its key alone: the same whichever features came before it, in
whichever order.

Shapes: V rows of the table, U rows of a working set, N any rows, F fields, D width, B rows of data, S slots.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from saec.data.hashing import mixed
from saec.data.paged import Column, Paged
from saec.data.shards import LOCAL_BITS, Sharded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

INITIAL_SCALE = 0.01
"""Standard deviation of a row's first values."""
_STEP = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: multiples of it are as unlike each other as 64 bits allow."""
_MEAN_OF_LANES, _DEVIATION_OF_LANES = 2 * 65535, (4 * (65536**2 - 1) / 12) ** 0.5


def first_values(keys_N: NDArray[np.uint64], width: int, seed: int) -> NDArray[np.float32]:
    """The vectors (N, D) that rows of these keys start with: near normal, of deviation `INITIAL_SCALE`.

    A number is the sum of the four 16-bit parts of a hash, so it is exact and the same on every processor.
    """
    steps_D = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(_STEP)
    hash_ND = mixed(mixed(keys_N ^ mixed(np.array([seed % 2**64], np.uint64)))[:, None] + steps_D)
    lanes_ND4 = hash_ND.view(np.uint16).reshape(*hash_ND.shape, 4)
    centred_ND = lanes_ND4.sum(2, dtype=np.int32) - np.int32(_MEAN_OF_LANES)
    values_ND: NDArray[np.float32] = centred_ND.astype(np.float32) * np.float32(INITIAL_SCALE / _DEVIATION_OF_LANES)
    return values_ND


def shared_keys(field_names: Sequence[str], groups: int) -> NDArray[np.uint64]:
    """Keys of the rows that features of a field share, for `first_values`: of all fields, group by group.

    They follow from the name of the field alone, so its shared rows start alike wherever it stands among others.
    """
    tags_F = np.array(
        [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") for name in field_names],
        np.uint64,
    )
    return (tags_F + np.arange(groups, dtype=np.uint64)[:, None] * np.uint64(_STEP)).ravel()


@dataclass
class WorkingSet:
    """Some rows of a table, being trained: vectors (U, D), their Adagrad sums (U), and which rows they are."""

    rows_U: NDArray[np.int64]
    vectors_UD: Tensor
    squares_U: Tensor

    def locate(self, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in this set, whose rows ascend, of rows that are all in it."""
        return np.searchsorted(self.rows_U, rows_N)

    @contextmanager
    def on(self, device: torch.device, spare: int) -> Iterator[WorkingSet]:
        """The set on a GPU, with so many spare rows behind its own, and back here when done."""
        count, width = self.vectors_UD.shape
        vectors_XD = torch.zeros(count + spare, width, device=device)
        squares_X = torch.zeros(count + spare, device=device)
        vectors_XD[:count].copy_(self.vectors_UD)
        squares_X[:count].copy_(self.squares_U)
        yield WorkingSet(self.rows_U, vectors_XD, squares_X)
        self.vectors_UD.copy_(vectors_XD[:count])
        self.squares_U.copy_(squares_X[:count])


class EmbeddingTable:
    """V vectors of D numbers and, for each, the sum of squared gradients that row-wise Adagrad keeps.

    Rows are places (saec.data.shards); those that features share are the first of shard 0.
    """

    def __init__(self, width: int, keys_V: NDArray[np.uint64], seed: int, shards: int = 1) -> None:
        """A table of rows of these keys, as they start, in shard 0 of so many."""
        self._seed = seed
        self._width = width
        self._rows = Sharded([self._empty() for _ in range(shards)])
        self.grow(keys_V)

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[np.float32] | Column], seed: int) -> EmbeddingTable:
        """The table of one shard with these arrays; see `lay`."""
        table = cls(arrays["vectors_VD"].shape[1], np.zeros(0, np.uint64), seed)
        table.lay(0, arrays)
        return table

    def _empty(self) -> Paged:
        return Paged({"vectors_VD": np.zeros((0, self._width), np.float32), "squares_V": np.zeros(0, np.float32)})

    def lay(self, number: int, arrays: Mapping[str, NDArray[np.float32] | Column]) -> None:
        """Have a shard lie in these `vectors_VD` and `squares_V`; those of a `Paged` are taken over, not copied."""
        self._rows.shards[number] = Paged.of(arrays)

    def state(self, number: int = 0) -> dict[str, Column]:
        """The arrays in which a shard can `lay` again."""
        return self._rows.state(number)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    @property
    def vectors_VD(self) -> NDArray[np.float32]:
        """A copy of all vectors, shard by shard."""
        return self._rows.whole("vectors_VD")

    @property
    def squares_V(self) -> NDArray[np.float32]:
        """A copy of all Adagrad sums, shard by shard."""
        return self._rows.whole("squares_V")

    def vectors(self, rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of the vectors of some rows, in any order."""
        return self._rows.take("vectors_VD", rows_N)

    def grow(self, keys_N: NDArray[np.uint64], rows_N: NDArray[np.int64] | None = None) -> None:
        """Append a row for each of these keys; its first values follow from the seed and the key.

        Args:
            keys_N: the keys.
            rows_N: the rows, ascending; behind the last of shard 0 when left out.
        """
        rows_N = np.zeros(len(keys_N), np.int64) if rows_N is None else rows_N
        vectors_ND = first_values(keys_N, self._width, self._seed)
        self._rows.append(
            rows_N >> LOCAL_BITS, {"vectors_VD": vectors_ND, "squares_V": np.zeros(len(keys_N), np.float32)}
        )

    def drawn(self, rows_N: NDArray[np.int64], scratch: Path | None) -> dict[str, Column]:
        """Columns of some rows, given ascending, for a shard to lie in.

        Args:
            rows_N: which.
            scratch: folder of a nameless file for them; in memory when left out.
        """
        drawn = self._rows.drawn(rows_N, scratch)
        return {name: drawn.column(name) for name in drawn.names}

    def take(self, rows_U: NDArray[np.int64]) -> WorkingSet:
        """A working copy of some distinct rows."""
        return WorkingSet(
            rows_U, torch.from_numpy(self.vectors(rows_U)), torch.from_numpy(self._rows.take("squares_V", rows_U))
        )

    def put(self, working: WorkingSet) -> None:
        """Write a working set back."""
        values = {"vectors_VD": working.vectors_UD.numpy(), "squares_V": working.squares_U.numpy()}
        self._rows.put(working.rows_U, values)
