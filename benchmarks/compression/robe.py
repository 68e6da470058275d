"""Implements the peer ROBE-Z, random offset block embeddings (Desai et al., MLSys 2022, arXiv 2108.02191).

One array of weights for all fields. A key's vector is cut into blocks of Z numbers; each block lies at an offset that a
hash of the key and the block names, blocks overlap at will and wrap around the end, and has a sign by another hash.

Decisions:
- The stream changes nothing: a feature has its place before it is seen. Newcomers cannot be recognised, because no key
  is stored.
- Row-wise Adagrad has no rows here, so each number has a sum of its own.
- Stored as int8, one half-precision scale for 64 numbers, which costs less than one for each vector: blocks may start
  anywhere, so no smaller group of numbers belongs together.

Shapes: U features of the hour, N vectors of a batch, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.compression import stored
from benchmarks.compression.decoding import Rows
from benchmarks.compression.hashed_features import KeyDecoder
from saec.data.hashing import mixed

if TYPE_CHECKING:
    from saec.config import Config
    from saec.data.hour_features import HourFeatures
    from saec.hours import Hour
    from saec.model.table import WorkingSet

SCALED_TOGETHER = 64
_STEP = np.uint64(0x9E3779B97F4A7C15)


class Robe(KeyDecoder):
    """One array of weights."""

    def __init__(self, config: Config, budget: float, block: int) -> None:
        """As many weights as so many bytes hold, used in blocks of so many."""
        self.width, self.block = config.model.width, block
        groups = max(int(budget / stored.row_bytes(SCALED_TOGETHER)), 1)
        self.count = groups * SCALED_TOGETHER
        self.weights = Rows.drawn(self.count, 1, config.training, config.seed)

    def begin(self, hour: Hour, features: HourFeatures) -> None:
        """Where the hour's features lie."""
        cells_UD, signs_UD = self.cells(features.keys_U)
        self._cells_UD, self._signs_UD = torch.from_numpy(cells_UD), torch.from_numpy(signs_UD)

    def finish(self, hour: Hour, features: HourFeatures) -> None:
        """Nothing is left to do."""

    def cells(self, keys_U: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Which weights make up each vector, and their signs."""
        blocks = np.arange(self.width // self.block, dtype=np.uint64)
        hash_UX = mixed(keys_U[:, None] + (blocks + np.uint64(1)) * _STEP)
        starts_UX = ((hash_UX >> np.uint64(1)) % np.uint64(self.count)).astype(np.int64)
        cells_UD = (starts_UX[:, :, None] + np.arange(self.block)).reshape(len(keys_U), -1) % self.count
        signs_UX = np.where(hash_UX & np.uint64(1), np.float32(1), np.float32(-1))
        return cells_UD, np.repeat(signs_UX, self.block, axis=1)

    def vectors(self, working: WorkingSet, places_N: Tensor, classes_N: Tensor) -> Tensor:
        """Weights times signs."""
        self._cells_ND = self._cells_UD.index_select(0, places_N)
        self._signs_ND = self._signs_UD.index_select(0, places_N)
        weights = self.weights.values_MW.view(-1).index_select(0, self._cells_ND.flatten())
        return weights.view(self._signs_ND.shape) * self._signs_ND

    def learn(self, working: WorkingSet, gradient_ND: Tensor) -> None:
        """Each weight by the gradients of all vectors that it is in."""
        self.weights.learn(self._cells_ND.flatten(), (gradient_ND * self._signs_ND).view(-1, 1))

    def stored(self, hour: Hour, features: HourFeatures) -> tuple[NDArray[np.float32], float, float]:
        """The weights in int8."""
        weights = stored.as_int8(self.weights.values_MW.numpy().reshape(-1, SCALED_TOGETHER)).ravel()

        def found() -> NDArray[np.float32]:
            cells_UD, signs_UD = self.cells(features.keys_U)
            vectors_UD: NDArray[np.float32] = weights[cells_UD] * signs_UD
            return vectors_UD

        vectors_UD, seconds = stored.timed(found)
        return vectors_UD, self.count / SCALED_TOGETHER * stored.row_bytes(SCALED_TOGETHER), seconds
