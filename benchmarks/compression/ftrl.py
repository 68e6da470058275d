"""Implements the linear floor: logistic regression over hashed features by FTRL-proximal (McMahan et al., KDD 2013).

Decisions: fields and the configured crosses are hashed into one array of weights, which is stored as float16 without
keys. The values of a list share their row's weight. A step takes 32 rows and sums their gradients; the algorithm is
made for single rows, but these would take Python a minute an hour. Scores are bounded like the network's
(`model.logit_cap`), the bias excepted.

Shapes: B rows, S slots, M weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.compression import stored
from benchmarks.compression.stretch import HourRows, Served
from saec.data.hashing import mixed
from saec.train.batches import Pooling

if TYPE_CHECKING:
    from saec.config import Config

ROWS_AT_ONCE = 32
BETA = 1.0
ALPHA = 0.05
WEIGHT_BYTES = 2


class FtrlPeer:
    """One array of weights and a bias."""

    def __init__(self, name: str, config: Config, budget: float, *, rate: float, l1: float, l2: float) -> None:
        """As many weights as so many bytes hold; `rate` is a factor on the learning rate."""
        self.name, self.alpha, self.l1, self.l2 = name, rate * ALPHA, l1, l2
        self.count, self.cap = int(budget / WEIGHT_BYTES), config.model.logit_cap
        self.z_M, self.n_M = np.zeros(self.count + 1), np.zeros(self.count + 1)  # the bias is the last
        self.pooling = Pooling.of(config.slot_fields)

    def learn(self, given: HourRows) -> None:
        """One hour."""
        cells_BS, shares_BS = self._cells(given.rows.keys_BS)
        labels_B, weights_B = given.rows.labels_B.astype(np.float64), given.rows.weights_B
        for start in range(0, len(labels_B), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            self._step(cells_BS[some], shares_BS[some], labels_B[some], None if weights_B is None else weights_B[some])

    def serve(self, given: HourRows) -> Iterator[Served]:
        """Score the whole hour with the weights as stored."""
        every_M = stored.as_float16(self._weights(np.arange(self.count + 1)).astype(np.float32))

        def scored() -> NDArray[np.float64]:
            cells_BS, shares_BS = self._cells(given.rows.keys_BS)
            return _probability(self._bounded((every_M[cells_BS] * shares_BS)[:, :-1].sum(1))[0] + every_M[-1])

        scores_B, seconds = stored.timed(scored)
        yield Served(self.name, scores_B, self.count * WEIGHT_BYTES, 0.0, 0.0, seconds)

    def _cells(self, keys_BS: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Weight of each slot and of the bias (B, S + 1), and their shares; nothing for padding."""
        cells_BS = (mixed(keys_BS) % np.uint64(self.count)).astype(np.int64)
        shares_BS = self.pooling.shares(torch.from_numpy(np.where(keys_BS == 0, -1, 1))).double().numpy()
        rows = len(keys_BS)
        return np.c_[cells_BS, np.full(rows, self.count)], np.c_[shares_BS, np.ones(rows)]

    def _step(
        self,
        cells_BS: NDArray[np.int64],
        shares_BS: NDArray[np.float64],
        labels_B: NDArray[np.float64],
        weights_B: NDArray[np.float64] | None,
    ) -> None:
        distinct, inverse = np.unique(cells_BS, return_inverse=True)
        inverse_BS = inverse.reshape(cells_BS.shape)
        weights = self._weights(distinct)
        parts_BS = weights[inverse_BS] * shares_BS
        logits_B, slope_B = self._bounded(parts_BS[:, :-1].sum(1))
        off_B = _probability(logits_B + parts_BS[:, -1]) - labels_B
        if weights_B is not None:
            off_B *= weights_B
        gradient_BS = off_B[:, None] * shares_BS
        gradient_BS[:, :-1] *= slope_B[:, None]
        gradient = np.bincount(inverse_BS.ravel(), gradient_BS.ravel(), len(distinct))
        before, after = np.sqrt(self.n_M[distinct]), np.sqrt(self.n_M[distinct] + gradient**2)
        self.z_M[distinct] += gradient - (after - before) / self.alpha * weights
        self.n_M[distinct] += gradient**2

    def _weights(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """The weights that z and n stand for."""
        z, n = self.z_M[cells], self.n_M[cells]
        weights: NDArray[np.float64] = -(z - np.sign(z) * self.l1) / ((BETA + np.sqrt(n)) / self.alpha + self.l2)
        return np.where(np.abs(z) > self.l1, weights, 0.0)

    def _bounded(self, logits_B: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Logits within the cap, and their slope."""
        if not self.cap:
            return logits_B, np.ones(len(logits_B))
        bounded_B = np.tanh(logits_B / self.cap)
        return self.cap * bounded_B, 1 - bounded_B**2


def _probability(logits_B: NDArray[np.float64]) -> NDArray[np.float64]:
    probability_B: NDArray[np.float64] = 1 / (1 + np.exp(-logits_B))
    return probability_B
