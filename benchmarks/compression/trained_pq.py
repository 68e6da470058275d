"""Implements product quantisation that is trained end to end with the network.

DPQ in its vector-quantised form (Chen et al. 2020, arXiv 1908.09756): each part of a vector is replaced by its nearest
codeword; gradients go straight through to the vector and as well to the codeword, and a term draws the two together.
With `tail: fewer codewords` also MGQE (Kang et al. 2020, arXiv 2002.08530): features of the rarer half of the head may
use only the first 2^(bits/2) codewords, and their codes take half of the bits. With `fitted: each hour` codebooks are
also fitted anew at every hour's end, by Lloyd's rounds from where they are in which frequent features count more: the
first of MEC's two stages, taken hour by hour, of which the straight-through training is the second.

Decisions:
- What the stream changes: rows start near zero and grow for days, so in the first hours codebooks are fitted at each
  hour's end, in any case.
- One set of codebooks for all fields, or one for each field (`codebooks`), int8 as stored.
- Codes are the values of the keyless index, no keys; where the rarer half has shorter codes it has an index of its
  own, which is counted; that it accepts keys of its own besides is not.

Shapes: N vectors, D width, P parts, C codewords of all fields' codebooks of a part, K codewords of one codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.compression import stored
from benchmarks.compression.coded import Coder
from benchmarks.compression.decoding import Rows
from benchmarks.compression.low_bits import FITTED_HOURS
from benchmarks.compression.stored import HeadIndex
from benchmarks.compression.stretch import fuse_cells

if TYPE_CHECKING:
    from saec.config import Config
    from saec.hours import Hour
    from saec.train.original import Original

COMMITMENT = 0.1
"""Weight of the squared distance between a vector and its codeword."""
FITTED_POINTS, ROUNDS, FIRST_ROUNDS = 64, 2, 8
"""Vectors for each codeword in a fit, and its Lloyd rounds; the first fit has more rounds."""


class TrainedPQ(Coder):
    """A codeword for each part of a vector."""

    def __init__(
        self, config: Config, parts: int, bits: int, *, by_field: bool, short_tail: bool, each_hour: bool
    ) -> None:
        """Codebooks of 2^bits codewords near zero."""
        super().__init__(config)
        self.parts, self.bits, self.by_field, self.each_hour = parts, bits, by_field, each_hour
        self.tail_bits = (bits + 1) // 2 if short_tail else bits
        self.value_bits = parts * bits
        self.codewords, self.books = 1 << bits, self.fields if by_field else 1
        count, width = parts * self.books * self.codewords, self.width // parts
        self.codebooks = Rows.drawn(count, width, config.training, config.seed)
        self.middle = 0.0

    def besides(self) -> float:
        """Codebooks."""
        return self.parts * self.books * self.codewords * stored.row_bytes(self.width // self.parts)

    def bytes(self, head: int) -> float:
        """The rarer half of the head in an index of shorter codes."""
        saved = self.parts * (self.bits - self.tail_bits) / 8
        return super().bytes(head) - fuse_cells(head // 2) * saved

    def index_bytes(self, index: HeadIndex) -> float:
        """Half of the head with short codes, in an index of its own."""
        count = len(index.rows_N)
        apart = 2 * fuse_cells(count // 2) / max(fuse_cells(count), 1.0) if self.tail_bits < self.bits else 1.0
        return apart * (index.bytes(self.value_bits) + index.bytes(self.parts * self.tail_bits)) / 2

    def begin(self, original: Original, hour: Hour, threshold: float) -> None:
        """The frequency that parts the head into halves."""
        super().begin(original, hour, threshold)
        own = self.frequency_V[self.shared :]
        head = own[own >= threshold]
        self.middle = float(np.median(head)) if len(head) else 0.0

    def decoded(self, vectors_ND: Tensor, rows_N: NDArray[np.int64]) -> Tensor:
        """Nearest codewords; straight through to vectors."""
        self._codes_NP = self._nearest(vectors_ND.detach(), rows_N, self.codebooks.values_MW)
        self._words_NPW = self.codebooks.values_MW[self._codes_NP].requires_grad_()
        self._vectors_ND = vectors_ND.detach()
        return self._words_NPW.flatten(1) + (vectors_ND - vectors_ND.detach())

    def learn_codes(self) -> Tensor | None:
        """Codewords by the gradient of what they stand for, and towards it; vectors towards their codewords."""
        gradient = self._words_NPW.grad
        if gradient is None:
            return None
        away_ND = 2 * COMMITMENT * (self._vectors_ND - self._words_NPW.detach().flatten(1))
        self.codebooks.learn(self._codes_NP.flatten(), (gradient - away_ND.view_as(gradient)).flatten(0, 1))
        return away_ND

    def refit(self, vectors: Callable[[], NDArray[np.float32]], rows_N: NDArray[np.int64], hours: int) -> None:
        """Lloyd's rounds from the codewords as they are, by frequency."""
        if hours > FITTED_HOURS and not self.each_hour:
            return
        vectors_ND = vectors()
        random = np.random.default_rng([self.config.seed, hours])
        most = FITTED_POINTS * self.codewords * self.books
        if len(rows_N) > most:
            chosen = np.sort(random.choice(len(rows_N), most, replace=False))
            vectors_ND, rows_N = vectors_ND[chosen], rows_N[chosen]
        if hours == 1:
            self._revive(torch.from_numpy(vectors_ND), rows_N, random, np.zeros(len(self.codebooks.values_MW), "f4"))
        points_ND, weights_N = torch.from_numpy(vectors_ND), torch.from_numpy(self.frequency_V[rows_N])
        values_MW = self.codebooks.values_MW
        for _ in range(FIRST_ROUNDS if hours == 1 else ROUNDS):
            codes_X = self._nearest(points_ND, rows_N, values_MW).flatten()
            parts_XW = points_ND.view(-1, self.width // self.parts)
            weights_X1 = weights_N.repeat_interleave(self.parts)[:, None]
            total_MW = torch.zeros_like(values_MW).index_add_(0, codes_X, parts_XW * weights_X1)
            weight_M1 = torch.zeros(len(values_MW), 1).index_add_(0, codes_X, weights_X1)
            torch.where(weight_M1 > 0, total_MW / weight_M1.clamp_min(1e-6), values_MW, out=values_MW)
            self._revive(points_ND, rows_N, random, weight_M1[:, 0].numpy())

    def restored(self, vectors_ND: NDArray[np.float32], rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Nearest codewords, which are int8."""
        values_MW = torch.from_numpy(stored.as_int8(self.codebooks.values_MW.numpy()))
        codes_NP = self._nearest(torch.from_numpy(vectors_ND), rows_N, values_MW)
        restored_ND: NDArray[np.float32] = values_MW[codes_NP].flatten(1).numpy()
        return restored_ND

    def _book_starts(self, rows_N: NDArray[np.int64]) -> Tensor:
        """First codeword (N, P) of the codebooks of each row."""
        book_N = self.fields_V[rows_N] if self.by_field else np.zeros(len(rows_N), np.int64)
        starts = (np.arange(self.parts) * self.books + book_N[:, None]) * self.codewords
        return torch.from_numpy(starts)

    def _nearest(self, vectors_ND: Tensor, rows_N: NDArray[np.int64], values_MW: Tensor) -> Tensor:
        """Numbers (N, P) of the nearest codewords among all rows of the codebooks."""
        parts_NPW = vectors_ND.view(len(vectors_ND), self.parts, self.width // self.parts)
        starts_NP, codes_NP = self._book_starts(rows_N), torch.zeros(len(rows_N), self.parts, dtype=torch.int64)
        books = self.fields_V[rows_N] if self.by_field else np.zeros(len(rows_N), np.int64)
        tail = self.frequency_V[rows_N] < self.middle if self.tail_bits < self.bits else np.zeros(len(rows_N), bool)
        kinds = books * 2 + tail
        for kind in np.unique(kinds):
            of = torch.from_numpy(np.flatnonzero(kinds == kind))
            allowed = 1 << (self.tail_bits if kind % 2 else self.bits)
            for part in range(self.parts):
                first = int(starts_NP[of[0], part])
                words_KW = values_MW[first : first + allowed]
                scores_NK = torch.addmm(0.5 * words_KW.square().sum(1), parts_NPW[of, part], words_KW.T, alpha=-1)
                codes_NP[of, part] = first + torch.from_numpy(scores_NK.numpy().argmin(1))  # torch's is 20 times slower
        return codes_NP

    def _revive(
        self, vectors_ND: Tensor, rows_N: NDArray[np.int64], random: np.random.Generator, weight_M: NDArray[np.float32]
    ) -> None:
        """Move codewords that stand for nothing to parts of vectors of their codebook, drawn by frequency."""
        parts_NPW = vectors_ND.view(len(vectors_ND), self.parts, self.width // self.parts)
        books_N = self.fields_V[rows_N] if self.by_field else np.zeros(len(rows_N), np.int64)
        for book in np.unique(books_N):
            of = np.flatnonzero(books_N == book)
            chance = self.frequency_V[rows_N[of]].astype(np.float64) + 1e-3
            for part in range(self.parts):
                first = (part * self.books + int(book)) * self.codewords
                idle = first + np.flatnonzero(weight_M[first : first + self.codewords] == 0)
                drawn = random.choice(of, min(len(idle), len(of)), replace=False, p=chance / chance.sum())
                moved = torch.from_numpy(idle[: len(drawn)])
                self.codebooks.values_MW[moved] = parts_NPW[torch.from_numpy(drawn), part]
