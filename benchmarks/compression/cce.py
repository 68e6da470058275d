"""Implements the peer CCE, clustered compositional embeddings (Tsang and Ahle, NeurIPS 2023, arXiv 2210.05974).

In each of c columns, a feature's part of the vector is a row of the column's table, to which a stored pointer
leads, plus a row of a helper table, to which a hash leads. Between epochs the sums of each column are clustered: the
centroids are the table, the pointers their assignment; the hash is drawn anew, the helper table begins again at zero.

Decisions:
- What the stream changes: there are no epochs, so tables are clustered every so many hours (`every`). Features admitted
  since have no assignment yet and point where the hash of their key does, as all do in the first epoch of the paper.
- Columns are clustered over all features of the head, as in the paper over all; k-means by faiss, on a sample.
  What enters the head later points where its hash does.
- Pointers are the values of a keyless index and counted; hashes cost nothing. Tables of both kinds are int8.
- Features outside the head get their field's default row: pointers by hash alone, for every rare feature, would put
  them all into rows that frequent ones train.
- Known features have no class rows, because neither a pointer nor a hash says how old a feature is.

Shapes: V rows of the table, N vectors, c columns, K rows of a table, W width of a column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.compression import stored
from benchmarks.compression.coded import Coder
from benchmarks.compression.decoding import Rows
from saec.data.hashing import mixed

if TYPE_CHECKING:
    from saec.config import Config
    from saec.hours import Hour
    from saec.train.original import Original

POINTS, ROUNDS = 64, 10
_STEP = np.uint64(0x9E3779B97F4A7C15)


class CCE(Coder):
    """Pointers and hashes into tables of columns."""

    def __init__(self, config: Config, columns: int, bits: int, every: int) -> None:
        """Tables of 2^bits rows a column, clustered every so many hours."""
        super().__init__(config)
        self.columns, self.count, self.every = columns, 1 << bits, every
        self.value_bits = columns * bits
        rows, width = columns * self.count, self.width // columns
        self.tables = Rows.drawn(rows, width, config.training, config.seed)
        self.helpers = Rows(torch.zeros(rows, width), config.training)
        self.epoch = 0
        self.pointers_VC = np.zeros((self.shared, columns), np.int64)
        self.keys_V = np.zeros(self.shared, np.uint64)

    def besides(self) -> float:
        """Tables and helper tables."""
        return 2 * self.columns * self.count * stored.row_bytes(self.width // self.columns)

    def begin(self, original: Original, hour: Hour, threshold: float) -> None:
        """Pointers of new features by hash; those of the others stay, as their rows do."""
        super().begin(original, hour, threshold)
        vocabulary = original.vocabulary
        own_V = np.flatnonzero(vocabulary.row_V >= 0)
        self.keys_V = np.zeros(len(original.table), np.uint64)
        self.keys_V[vocabulary.row_V[own_V]] = vocabulary.keys_V[own_V]
        known = len(self.pointers_VC)
        self.pointers_VC = np.concatenate([self.pointers_VC, self.hashed(np.arange(known, len(self.keys_V)), 0)])

    def hashed(self, rows_N: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """Rows (N, c) of all columns' tables that an epoch's hashes name."""
        seeds_C = np.uint64(1 + epoch * self.columns) + np.arange(self.columns, dtype=np.uint64)
        mixed_NC = mixed(self.keys_V[rows_N][:, None] ^ (seeds_C * _STEP))
        return (mixed_NC % np.uint64(self.count)).astype(np.int64) + np.arange(self.columns) * self.count

    def decoded(self, vectors_ND: Tensor, rows_N: NDArray[np.int64]) -> Tensor:
        """Columns, each of two rows."""
        self._pointers_NC = torch.from_numpy(self.pointers_VC[rows_N])
        self._hashes_NC = torch.from_numpy(self.hashed(rows_N, 1 + self.epoch))
        tables, helpers = self.tables.values_MW, self.helpers.values_MW
        self._parts_NCW = (tables[self._pointers_NC] + helpers[self._hashes_NC]).requires_grad_()
        return self._parts_NCW.flatten(1)

    def learn_codes(self) -> None:
        """Both rows of each column; rows of the original's table play no part."""
        if self._parts_NCW.grad is not None and len(self._parts_NCW):
            gradient_XW = self._parts_NCW.grad.flatten(0, 1)
            self.tables.learn(self._pointers_NC.flatten(), gradient_XW)
            self.helpers.learn(self._hashes_NC.flatten(), gradient_XW)

    def refit(self, vectors: Callable[[], NDArray[np.float32]], rows_N: NDArray[np.int64], hours: int) -> None:
        """Cluster every so many hours."""
        if hours % self.every or len(rows_N) < self.count:
            return
        tables, helpers = self.tables.values_MW, self.helpers.values_MW
        hashes_NC = self.hashed(rows_N, 1 + self.epoch)
        squares = self.tables.squares_M.clone()
        for column in range(self.columns):
            part = slice(column * self.count, (column + 1) * self.count)
            sums_NW = (tables[self.pointers_VC[rows_N, column]] + helpers[hashes_NC[:, column]]).numpy()
            kmeans: Any = faiss.Kmeans(
                sums_NW.shape[1],
                self.count,
                niter=ROUNDS,
                seed=self.config.seed + hours,
                max_points_per_centroid=POINTS,
                min_points_per_centroid=1,
            )
            kmeans.train(np.ascontiguousarray(sums_NW))
            assigned_N = kmeans.index.search(np.ascontiguousarray(sums_NW), 1)[1][:, 0]
            self._take(column, part, rows_N, assigned_N, torch.from_numpy(kmeans.centroids), squares)
        rare = np.setdiff1d(np.arange(len(self.pointers_VC)), rows_N, assume_unique=True)
        self.pointers_VC[rare] = self.hashed(rare, 0)
        self.helpers.values_MW.zero_()
        self.helpers.squares_M.zero_()
        self.epoch += 1

    def restored(self, vectors_ND: NDArray[np.float32], rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """From tables in int8."""
        tables, helpers = (stored.as_int8(rows.values_MW.numpy()) for rows in (self.tables, self.helpers))
        parts_NCW = tables[self.pointers_VC[rows_N]] + helpers[self.hashed(rows_N, 1 + self.epoch)]
        restored_ND: NDArray[np.float32] = parts_NCW.reshape(len(rows_N), -1)
        return restored_ND

    def _take(
        self,
        column: int,
        part: slice,
        rows_N: NDArray[np.int64],
        assigned_N: NDArray[np.int64],
        centroids_KW: Tensor,
        squares_M: Tensor,
    ) -> None:
        """Centroids as table, with the mean of the Adagrad sums of the rows that their features came from."""
        assigned = torch.from_numpy(assigned_N)
        before_N = squares_M[self.pointers_VC[rows_N, column]]
        total_K = torch.zeros(self.count).index_add_(0, assigned, before_N)
        count_K = torch.zeros(self.count).index_add_(0, assigned, torch.ones(len(assigned)))
        self.tables.squares_M[part] = total_K / count_K.clamp_min(1)
        self.tables.values_MW[part] = centroids_KW
        self.pointers_VC[rows_N, column] = assigned_N + part.start
