"""Divides the rows of a training pass among ranks: the batches of one process, each cut into parts.

Shapes: B rows of the pass, P rows of a part, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass
class Rows:
    """The rows of a pass, as `Learner.fit` takes them: all of them, or a rank's."""

    parts: tuple[Tensor, ...]
    labels_B: Tensor
    weights_B: Tensor | None

    def of(self, chosen_P: NDArray[np.int64] | slice) -> Rows:
        """Some of the rows."""
        weights_P = None if self.weights_B is None else self.weights_B[chosen_P]
        parts = tuple(part_BS[chosen_P] for part_BS in self.parts)
        return Rows(parts, self.labels_B[chosen_P], weights_P)


@dataclass(frozen=True)
class Cut:
    """How the batches of a pass are cut into parts.

    >>> cut = Cut(rows=7, batch_rows=4, size=2)
    >>> cut.chosen(0), cut.chosen(1)
    (array([0, 1, 4]), array([2, 3, 5, 6]))
    """

    rows: int
    batch_rows: int
    size: int

    @property
    def batches(self) -> list[int]:
        """Rows of each batch."""
        return [min(self.batch_rows, self.rows - start) for start in range(0, self.rows, self.batch_rows)]

    def part(self, batch: int, rank: int) -> slice:
        """The rows of a batch of so many rows that are a rank's."""
        return slice(batch * rank // self.size, batch * (rank + 1) // self.size)

    def chosen(self, rank: int) -> NDArray[np.int64]:
        """The rows of the pass that are a rank's."""
        pieces = [
            place * self.batch_rows + np.arange(batch)[self.part(batch, rank)]
            for place, batch in enumerate(self.batches)
        ]
        return np.concatenate([np.zeros(0, np.int64), *pieces])
