"""Trains on vectors that are decoded from a smaller representation instead of looked up in a table.

Decisions: the network learns as ever (`Learner`). Each distinct vector of a batch is decoded once; its gradient, summed
over the batch as the row-wise Adagrad of the original takes it, goes to the decoder, which knows what it made the
vector of. What is stored is therefore learnt end to end, in the same pass and by the same steps as the original's rows.

Shapes: B rows, S slots, N distinct vectors of a batch, M rows of a table, W its width, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from saec.model.table import INITIAL_SCALE, WorkingSet
from saec.train.batches import Touched
from saec.train.learner import Learner

if TYPE_CHECKING:
    from saec.config import TrainingConfig
    from saec.model.networks import CtrNetwork
    from saec.train.batches import Pooling
    from saec.train.parts import Rows as BatchRows


class Decoder(ABC):
    """Makes the vectors of places, and learns from their gradients."""

    @abstractmethod
    def vectors(self, working: WorkingSet, places_N: Tensor, classes_N: Tensor) -> Tensor:
        """Vectors (N, D) of distinct pairs of a place and the place of its class row (equal where there are none)."""

    @abstractmethod
    def learn(self, working: WorkingSet, gradient_ND: Tensor) -> None:
        """Learn from the gradient, summed over the batch's rows, of the vectors that were asked for last."""


class Rows:
    """A table of vectors of W numbers, learnt by row-wise Adagrad; every row is there from the start."""

    def __init__(self, values_MW: Tensor, config: TrainingConfig) -> None:
        """A table of these values."""
        self.values_MW, self.squares_M, self.config = values_MW, torch.zeros(len(values_MW)), config

    @classmethod
    def drawn(cls, rows: int, width: int, config: TrainingConfig, seed: int) -> Rows:
        """A table of values near zero."""
        values_MW = np.random.default_rng(seed).standard_normal((rows, width), np.float32)
        return cls(torch.from_numpy(INITIAL_SCALE * values_MW), config)

    def learn(self, rows_N: Tensor, gradient_NW: Tensor) -> None:
        """One step; a row that is there several times gets the sum of its gradients."""
        adagrad(self.values_MW, self.squares_M, rows_N, gradient_NW, self.config)


class Groups:
    """Equal numbers of an array brought together, by one sort of number and place packed into one integer."""

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        """Group numbers from 0 on."""
        bits = len(numbers).bit_length()
        packed = (numbers << bits) | np.arange(len(numbers))
        packed.sort()
        numbers, self.order = packed >> bits, packed & ((1 << bits) - 1)
        first = np.empty(len(numbers), bool)
        first[:1] = True
        np.not_equal(numbers[1:], numbers[:-1], out=first[1:])
        self._first = first
        self.starts = np.flatnonzero(first)
        self.distinct = numbers[self.starts]

    @property
    def inverse(self) -> NDArray[np.int64]:
        """For each number its place among the distinct ones."""
        inverse = np.empty(len(self.order), np.int64)
        inverse[self.order] = np.cumsum(self._first) - 1
        return inverse

    def sum(self, values_NW: Tensor) -> Tensor:
        """Values summed over equal numbers."""
        return embedding_bag(torch.from_numpy(self.order), values_NW, torch.from_numpy(self.starts), mode="sum")


def adagrad(values_MW: Tensor, squares_M: Tensor, rows_N: Tensor, gradient_NW: Tensor, config: TrainingConfig) -> None:
    """The step of `Learner` on some rows, in place; a row that is there several times gets the sum of its gradients."""
    if not len(rows_N):
        return
    groups = Groups(rows_N.numpy())
    rows_R, gradient_RW = torch.from_numpy(groups.distinct), groups.sum(gradient_NW)
    squares_R = squares_M.index_select(0, rows_R) + gradient_RW.square().mean(1)
    step_RW = gradient_RW / (config.table_prior + squares_R).sqrt().unsqueeze(1)
    squares_M[rows_R] = squares_R
    values_MW[rows_R] = values_MW.index_select(0, rows_R).sub_(step_RW, alpha=config.table_learning_rate)


class DecodingLearner(Learner):
    """A `Learner` whose vectors come from a decoder."""

    def __init__(self, network: CtrNetwork, pooling: Pooling, config: TrainingConfig, decoder: Decoder) -> None:
        """The decoder is asked for every batch's vectors; working sets are passed on to it as they are."""
        super().__init__(network, pooling, config)
        self.decoder = decoder

    def step(self, working: WorkingSet, batch: BatchRows) -> Tensor:
        """As a `Learner`'s, on the processor."""
        parts, labels_B, weights_B = batch.parts, batch.labels_B, batch.weights_B
        places, classes = (part_BS.numpy().ravel() for part_BS in (parts[0], parts[-1]))
        several = int(classes.max()) + 1
        groups = Groups(np.where(places >= 0, places * several + classes, -1) + 1)
        distinct, inverse = groups.distinct - 1, groups.inverse
        if distinct[0] < 0:  # padding
            distinct, inverse = distinct[1:], inverse - 1
        places_N, classes_N = np.divmod(distinct, several)
        decoded_ND = self.decoder.vectors(working, torch.from_numpy(places_N), torch.from_numpy(classes_N))
        inverse_BS = torch.from_numpy(inverse.reshape(parts[0].shape))
        stand_for = float(len(labels_B) if weights_B is None else weights_B.sum())
        loss, gradient_BFD = self.gradients(
            decoded_ND.detach(), (inverse_BS,), labels_B, weights_B, None if weights_B is None else stand_for
        )
        self.optimiser.step()
        self.decoder.learn(working, Touched.of((inverse_BS,), self.pooling).sum(gradient_BFD) * stand_for)
        return loss
