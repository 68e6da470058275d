"""The full embedding table of the original model, and the part of it that one hour works on.

Decisions: rows live in numpy arrays that double when full, so a new feature costs a row and not a copy of the table;
training never touches the table itself: it takes the rows of an hour out as a `WorkingSet`, works on those (they fit
the processor's cache) and puts them back, so cost grows with the hour. A new row starts near zero, not as a copy of its
field's default row: that a feature came back at all tells it from the unknown ones (docs/LOG.md has the figures).

Shapes: V rows of the table, U rows of a working set, D width, B rows of data, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

INITIAL_SCALE = 0.01
"""Standard deviation of a row's first values."""


@dataclass
class WorkingSet:
    """Some rows of a table, being trained: vectors (U, D), their Adagrad sums (U), and which rows they are."""

    rows_U: NDArray[np.int64]
    vectors_UD: Tensor
    squares_U: Tensor

    def locate(self, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in this set of rows that are all in it."""
        return np.searchsorted(self.rows_U, rows_N)


class EmbeddingTable:
    """V vectors of D numbers and, for each, the sum of squared gradients that row-wise Adagrad keeps."""

    def __init__(self, width: int, defaults: int, seed: int) -> None:
        """A table that holds only the default rows."""
        self._seed = seed
        self._vectors = np.zeros((0, width), np.float32)
        self._squares = np.zeros(0, np.float32)
        self._rows = 0
        self.grow(defaults)

    @classmethod
    def restore(cls, vectors_VD: NDArray[np.float32], squares_V: NDArray[np.float32], seed: int) -> EmbeddingTable:
        """The table with these vectors and Adagrad sums."""
        table = cls(vectors_VD.shape[1], 0, seed)
        table._vectors, table._squares, table._rows = vectors_VD, squares_V, len(vectors_VD)
        return table

    def __len__(self) -> int:
        """Number of rows."""
        return self._rows

    @property
    def vectors_VD(self) -> NDArray[np.float32]:
        """All vectors (a view)."""
        return self._vectors[: self._rows]

    @property
    def squares_V(self) -> NDArray[np.float32]:
        """All Adagrad sums (a view)."""
        return self._squares[: self._rows]

    def grow(self, rows: int) -> None:
        """Append rows up to so many; their first values follow from the seed and from how many rows there were."""
        if rows > len(self._vectors):
            capacity = max(rows, 2 * len(self._vectors))
            self._vectors = _extended(self._vectors, capacity)
            self._squares = _extended(self._squares, capacity)
        added = (rows - self._rows, self._vectors.shape[1])
        drawn = np.random.default_rng([self._seed, self._rows]).standard_normal(added, np.float32)
        self._vectors[self._rows : rows] = INITIAL_SCALE * drawn
        self._squares[self._rows : rows] = 0.0
        self._rows = rows

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Drop all rows but these, which are renumbered in the order given."""
        self._vectors, self._squares, self._rows = self._vectors[rows], self._squares[rows], len(rows)

    def take(self, rows_U: NDArray[np.int64]) -> WorkingSet:
        """A working copy of some rows (ascending, distinct)."""
        return WorkingSet(rows_U, torch.from_numpy(self._vectors[rows_U]), torch.from_numpy(self._squares[rows_U]))

    def put(self, working: WorkingSet) -> None:
        """Write a working set back."""
        self._vectors[working.rows_U] = working.vectors_UD.numpy()
        self._squares[working.rows_U] = working.squares_U.numpy()


def _extended(array: NDArray[np.float32], capacity: int) -> NDArray[np.float32]:
    longer = np.zeros((capacity, *array.shape[1:]), np.float32)
    longer[: len(array)] = array
    return longer
