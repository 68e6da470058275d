"""Shares code among the peers that learn a code for each feature of a head, end to end in a pass of their own.

    low-bits      rows of 4 or 2 bits a number, steps learnt (low_bits.py)
    mixed-bits    0 to 6 bits a number by group of frequency (mixed_bits.py)
    trained-pq    codewords of parts of vectors (trained_pq.py)
    cce           codebooks clustered anew between hours (cce.py)

Decisions, the same for all of them:
- The head is the most frequent features for which the size has room. Its features have their codes as the values of a
  keyless index with 6 bits of fingerprint, as Saec's own; no keys, and no row numbers, which would cost more.
- `rows`: either only the head is trained with codes, rarer features train their field's default row ("from the start"),
  or every admitted feature is, and the size decides only about what is served ("at the cut").
- Class rows (by frequency and age, as the original has them) are added before coding, in training and when stored, so a
  code stands for the feature as it is in the hour. A feature without a code is served its field's default row with the
  class row of the unknown: what Saec knows of newcomers. These rows, one a field, are stored as int8 and counted.

Shapes: V rows of the table, F fields, N vectors of a batch, D width.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.compression import stored
from benchmarks.compression.decoding import Decoder, DecodingLearner, adagrad
from benchmarks.compression.filtered import HeadVocabulary
from benchmarks.compression.full import StoredTable, vectors_at
from benchmarks.compression.stored import HeadIndex
from benchmarks.compression.stretch import HourRows, Served, fuse_cells
from saec.data.hashing import mixed
from saec.data.hour_features import HourFeatures
from saec.data.vocabulary import Vocabulary
from saec.train.original import Original

if TYPE_CHECKING:
    from saec.config import Config
    from saec.hours import Hour
    from saec.model.table import WorkingSet

FINGERPRINT_BITS = 6


class Coder(Decoder):
    """How rows of the table are coded: what is learnt, what is stored, and how many bytes it takes."""

    value_bits: int
    """Bits of a feature's code."""

    def __init__(self, config: Config) -> None:
        """Nothing learnt yet."""
        self.config, self.fields, self.width = config, len(config.field_names), config.model.width
        self.shared = Original(config).vocabulary.shared
        self.fields_V = np.zeros(self.shared, np.int64)
        self.frequency_V = np.zeros(self.shared, np.float32)

    @abstractmethod
    def besides(self) -> float:
        """Bytes stored besides the index and the default rows."""

    @abstractmethod
    def decoded(self, vectors_ND: Tensor, rows_N: NDArray[np.int64]) -> Tensor:
        """Vectors as coded, differentiable in what is learnt, of own rows of the table with class rows added."""

    @abstractmethod
    def learn_codes(self) -> Tensor | None:
        """Take a step on what is learnt besides the rows, by gradients that what `decoded` made was given.

        Returns:
            What is to be added to the gradient of the vectors that were coded.
        """

    @abstractmethod
    def restored(self, vectors_ND: NDArray[np.float32], rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors as they come back from what is stored."""

    def index_bytes(self, index: HeadIndex) -> float:
        """Bytes of the index of the head with its codes."""
        return index.bytes(self.value_bits)

    def begin(self, original: Original, hour: Hour, threshold: float) -> None:
        """Know field and frequency of each row of the table before an hour, and from which frequency the head is."""
        vocabulary = original.vocabulary
        own_V = np.flatnonzero(vocabulary.row_V >= 0)
        rows = vocabulary.row_V[own_V]
        self.fields_V, self.frequency_V = np.zeros(len(original.table), np.int64), np.zeros(len(original.table), "f4")
        self.fields_V[rows], self.frequency_V[rows] = vocabulary.fields_V[own_V], vocabulary.frequency(hour, own_V)

    def refit(self, vectors: Callable[[], NDArray[np.float32]], rows_N: NDArray[np.int64], hours: int) -> None:
        """Look at the head's rows and their vectors at an hour's end, after so many hours; by default not at all."""

    def bytes(self, head: int) -> float:
        """Bytes with so many features in the head, to plan with."""
        index = fuse_cells(head) * (FINGERPRINT_BITS + self.value_bits) / 8
        return index + self.besides() + self.fields * stored.row_bytes(self.width)

    def vectors(self, working: WorkingSet, places_N: Tensor, classes_N: Tensor) -> Tensor:
        """Sums of own and class rows; own rows as coded, default rows as they are."""
        self._places_N, self._classes_N = places_N, classes_N
        self._sum_ND = (working.vectors_UD[places_N] + working.vectors_UD[classes_N]).requires_grad_()
        rows_N = working.rows_U[places_N.numpy()]
        own = int(np.searchsorted(rows_N, self.shared))  # places ascend, and with them rows
        coded_ND = self.decoded(self._sum_ND[own:], rows_N[own:])
        self._coded_ND = torch.cat([self._sum_ND[:own], coded_ND])
        return self._coded_ND

    def learn(self, working: WorkingSet, gradient_ND: Tensor) -> None:
        """Straight through to the rows, and to what else is learnt."""
        self._coded_ND.backward(gradient_ND)  # type: ignore[no-untyped-call]
        gradient = self._sum_ND.grad
        assert gradient is not None
        if (more_ND := self.learn_codes()) is not None:
            gradient[len(gradient) - len(more_ND) :] += more_ND
        for places_N in (self._places_N, self._classes_N):
            adagrad(working.vectors_UD, working.squares_U, places_N, gradient, self.config.training)


class TopVocabulary(HeadVocabulary):
    """A head by frequency in which the keys' hashes break ties, so that it has any number of features."""

    def standing(self, hour: Hour, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Frequency, and up to a thousandth more."""
        chance = mixed(self.keys_V[ids]).astype(np.float64) / 2.0**64
        standing: NDArray[np.float64] = self.frequency(hour, ids) * (1 + 0.001 * chance)
        return standing

    def rows_of(self, features: HourFeatures, ids_U: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The embedding row of each feature: its own where it is in the head, or its field's default row."""
        ids_U = self.find(features.keys_U) if ids_U is None else ids_U
        rows_U = Vocabulary.rows_of(self, features, ids_U)
        own = np.flatnonzero(rows_U >= self.fields)
        rare = own[self.standing(self.now, ids_U[own]) < self.threshold]
        rows_U[rare] = features.fields_U[rare]
        return rows_U

    def threshold_for(self, hour: Hour, count: int) -> float:
        """The standing from which so many features are the head."""
        standing_N = self.standing(hour, np.flatnonzero(self.row_V >= 0))
        return 0.0 if len(standing_N) <= count else float(np.partition(standing_N, -count)[-count])

    def head(self, hour: Hour, threshold: float) -> NDArray[np.int64]:
        """Ids of the features of the head."""
        own_V = np.flatnonzero(self.row_V >= 0)
        return own_V[self.standing(hour, own_V) >= threshold]


class CodedPeer:
    """A contestant that serves a head of coded features."""

    def __init__(self, name: str, config: Config, coder: Coder, budget: float, *, from_start: bool) -> None:
        """As many features as there is room for in so many bytes."""
        self.name, self.coder, self.budget, self.from_start = name, coder, budget, from_start
        self.head = most(coder.bytes, budget)
        self.original = Original(config)
        self.vocabulary = TopVocabulary(config.vocabulary, coder.fields)
        self.original.vocabulary = self.vocabulary
        learner = self.original.learner
        self.learner = DecodingLearner(learner.network, learner.pooling, config.training, coder)
        self.original.learner = self.learner
        self.hours = 0

    def learn(self, given: HourRows) -> None:
        """One hour."""
        vocabulary, original, coder, after = self.vocabulary, self.original, self.coder, given.hour + 1
        threshold = vocabulary.threshold_for(given.hour, self.head)
        vocabulary.now, vocabulary.threshold = given.hour, threshold if self.from_start else 0.0
        prepared = original.prepare(given.hour, given.rows)
        coder.begin(original, given.hour, threshold)
        original.learn(given.hour, given.rows, prepared, given.cut)
        self.hours += 1
        threshold = vocabulary.threshold_for(after, self.head)
        rows_N = np.sort(vocabulary.row_V[vocabulary.head(after, threshold)]).astype(np.int64)
        if len(rows_N):
            coder.begin(original, after, threshold)
            coder.refit(lambda: vectors_at(original, after)[rows_N], rows_N, self.hours)

    def serve(self, given: HourRows) -> Iterator[Served]:
        """Score the whole hour with what is stored before it."""
        vocabulary, coder = self.vocabulary, self.coder

        def built(budget: float) -> tuple[float, HeadIndex]:
            count = most(coder.bytes, budget) if budget > coder.bytes(1) else 1
            vocabulary.threshold = vocabulary.threshold_for(given.hour, count)
            ids = vocabulary.head(given.hour, vocabulary.threshold)
            rows_N = vocabulary.row_V[ids].astype(np.int64)
            index = HeadIndex.build(vocabulary.keys_V[ids], rows_N, FINGERPRINT_BITS)
            return coder.index_bytes(index) + coder.besides() + coder.fields * stored.row_bytes(coder.width), index

        size, index = stored.sized(built, self.budget)
        vocabulary.now = given.hour
        vocabulary.threshold = vocabulary.threshold_for(given.hour, len(index.rows_N))
        table = StoredTable(self.original, given)
        coder.begin(self.original, given.hour, vocabulary.threshold)
        vectors_VD = table.vectors_VD
        vectors_VD[: coder.fields] = stored.as_int8(vectors_VD[: coder.fields])
        vectors_VD[index.rows_N] = coder.restored(vectors_VD[index.rows_N], index.rows_N)
        scores_B, seconds = stored.timed(lambda: table.score(vectors_VD, index))
        yield Served(self.name, scores_B, size, len(self.original.table) / max(len(index.rows_N), 1), 0.0, seconds)


class Scalars:
    """Some numbers learnt by Adam, whose steps do not depend on how large their gradients are."""

    def __init__(self, values: Any, rate: float) -> None:
        """These numbers, changing by `rate` a step at most."""
        self.values = torch.as_tensor(values, dtype=torch.float32).requires_grad_()
        self._adam = torch.optim.Adam([self.values], lr=rate)

    def learn(self) -> None:
        """A step by the gradients that are there."""
        self._adam.step()
        self._adam.zero_grad()


def most(bytes_of: Any, budget: float) -> int:
    """The most features that so many bytes have room for.

    Raises:
        Unreachable: when what is stored besides the features takes more alone.
    """
    if bytes_of(1) > budget:
        raise stored.Unreachable(f"{bytes_of(0):,.0f} bytes are taken before the first feature, {budget:,.0f} wanted")
    low, high = 1, 1 << 32
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bytes_of(middle) <= budget else (low, middle)
    return low


def steps_for(vectors_ND: NDArray[np.float32], bits: int) -> float:
    """First step size: 2 mean |v| / sqrt(Q), Q the largest level (Esser et al. 2020, arXiv 1902.08153)."""
    return max(2 * float(np.abs(vectors_ND).mean()) / math.sqrt(max(2 ** (bits - 1) - 0.5, 0.5)), 1e-4)
