"""Training on vectors that are decoded from something stored smaller, and not looked up in a table.

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
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from saec.model.table import INITIAL_SCALE, WorkingSet
from saec.train.learner import Learner

if TYPE_CHECKING:
    from saec.config import TrainingConfig
    from saec.model.networks import CtrNetwork
    from saec.train.batches import Pooling

_CLASS_BITS = 31


class Decoder(ABC):
    """What makes vectors of places, and learns from their gradients."""

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


def adagrad(values_MW: Tensor, squares_M: Tensor, rows_N: Tensor, gradient_NW: Tensor, config: TrainingConfig) -> None:
    """The step of `Learner` on some rows, in place; a row that is there several times gets the sum of its gradients."""
    distinct, inverse = np.unique(rows_N.numpy(), return_inverse=True)
    rows_R = torch.from_numpy(distinct)
    if len(distinct) < len(rows_N):
        total_RW = torch.zeros(len(distinct), gradient_NW.shape[1])
        gradient_RW = total_RW.index_add_(0, torch.from_numpy(inverse), gradient_NW)
    else:
        order = np.empty(len(distinct), np.int64)
        order[inverse] = np.arange(len(distinct))
        gradient_RW = gradient_NW[torch.from_numpy(order)]
    squares_R = squares_M[rows_R] + gradient_RW.square().mean(1)
    step_RW = gradient_RW / (config.table_prior + squares_R).sqrt().unsqueeze(1)
    squares_M[rows_R] = squares_R
    values_MW[rows_R] = values_MW[rows_R] - config.table_learning_rate * step_RW


class DecodingLearner(Learner):
    """A `Learner` whose vectors come from a decoder."""

    def __init__(self, network: CtrNetwork, pooling: Pooling, config: TrainingConfig, decoder: Decoder) -> None:
        """The decoder is asked for every batch's vectors; working sets are passed on to it as they are."""
        super().__init__(network, pooling, config)
        self.decoder = decoder

    def _step(
        self, working: WorkingSet, parts: tuple[Tensor, ...], labels_B: Tensor, weights_B: Tensor | None
    ) -> float:
        places_BS, classes_BS = parts[0], parts[-1]
        pairs = np.where(places_BS >= 0, (places_BS.numpy() << _CLASS_BITS) | np.maximum(classes_BS.numpy(), 0), -1)
        distinct, inverse = np.unique(pairs, return_inverse=True)
        inverse_BS = inverse.reshape(pairs.shape)
        if distinct[0] < 0:  # padding
            distinct, inverse_BS = distinct[1:], inverse_BS - 1
        places_N, classes_N = distinct >> _CLASS_BITS, distinct & ((1 << _CLASS_BITS) - 1)
        decoded_ND = self.decoder.vectors(working, torch.from_numpy(places_N), torch.from_numpy(classes_N))
        vectors_ND = decoded_ND.detach().requires_grad_()
        logits_B = self.network(self.pooling.gather(vectors_ND, torch.from_numpy(inverse_BS))).float()
        loss_B = binary_cross_entropy_with_logits(logits_B, labels_B, weights_B, reduction="none")
        stand_for = float(len(labels_B) if weights_B is None else weights_B.sum())
        loss = loss_B.sum() / stand_for
        for parameter in self.network.parameters():
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        assert vectors_ND.grad is not None
        self.decoder.learn(working, vectors_ND.grad * stand_for)
        return loss.item()
