"""The features of one field in blocks, and what k-means asks of them: sums over the features of each codeword.

Decisions:
- Sums are taken within blocks of 65,536 features, and blocks are added up in their order. So they do not depend on who
  has which block: several processes come to the bytes of one (`saec.compression.together`). A field of one block is
  summed in one go.
- Every step takes a vector for each codeword, and comes to a vector, a weight and an error for each; so one form of
  message does for all of them.
- A block stays in the processor's cache while its columns are summed one by one.

Shapes: N features, M of them, B features of a block, K codewords, D width.
"""

from __future__ import annotations

from enum import IntEnum, auto
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from saec.compression.nearest import assign, squared_distances

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Codes = NDArray[np.int64]
    Weights = NDArray[np.float64]

BLOCK = 1 << 16
"""Features of a block. Another number gives larger fields other bytes."""
_LEAST_WEIGHT = 1e-12
"""Minimum weight of a feature, as a share of the heaviest, so that no weight is 0."""


class Step(IntEnum):
    """What is asked of the features; each takes `given_KD` and comes to `Totals`."""

    NEAREST = auto()
    """Take the nearest of these centroids as code: sums of vectors times weight, weights, and the error."""
    WORST = auto()
    """With these as centroids of the same codes: the feature that errs most of each code, by how much; the error."""
    LEAVING = auto()
    """Of the features that are nearer to this vector of their code than to its centroid: sums and weights."""
    MEAN = auto()
    """Sums and weights of all, in float32; takes one vector, of any numbers."""
    SPREAD = auto()
    """The error that all have to this one vector."""
    CODED = auto()
    """Take the nearest of these centroids as code: nothing but the error, by frequency."""


class Totals(NamedTuple):
    """What a step comes to over some features."""

    vectors_KD: Weights
    weight_K: Weights
    error: float

    @classmethod
    def none(cls, like_KD: Vectors) -> Totals:
        """Nothing, for as many codewords."""
        return cls(np.zeros(like_KD.shape), np.zeros(len(like_KD)), 0.0)

    def means(self, otherwise_KD: Vectors) -> Vectors:
        """The mean of each codeword, and another vector where it has no weight."""
        means_KD, used_K = otherwise_KD.copy(), self.weight_K > 0
        means_KD[used_K] = self.vectors_KD[used_K] / self.weight_K[used_K, None]
        return means_KD


class Features(Protocol):
    """The features of one field, wherever they are."""

    def guess(self, codes_N: Codes | None) -> None:
        """Say which code each is likely to have, -1 where none is; it saves time and changes nothing."""

    def total(self, step: Step, given_KD: Vectors) -> Totals:
        """What a step comes to over all of them."""

    def codes(self) -> NDArray[np.int16]:
        """The code of each, after the last step that took one."""


class Blocks:
    """Some whole blocks of features, in this process."""

    def __init__(self, vectors_ND: Vectors, frequency_N: Vectors | Weights, least: float = 0.0) -> None:
        """Features by their vectors and frequencies; no weight is below `least`."""
        self.vectors_ND, self.frequency_N = vectors_ND, frequency_N
        self._weight_N = np.maximum(frequency_N.astype(np.float64), least)
        self._codes_N: Codes | None = None
        self._errors_N = np.zeros(0, np.float32)

    def guess(self, codes_N: Codes | None) -> None:
        """Say which code each is likely to have, -1 where none is."""
        self._codes_N = codes_N

    def total(self, step: Step, given_KD: Vectors) -> Totals:
        """What a step comes to over all blocks."""
        return added(step, self.totals(step, given_KD))

    def codes(self) -> NDArray[np.int16]:
        """The code of each."""
        return np.zeros(0, np.int16) if self._codes_N is None else self._codes_N.astype(np.int16)

    def totals(self, step: Step, given_KD: Vectors) -> Iterator[Totals]:
        """What a step comes to over each block in turn; all must be taken."""
        if step in (Step.NEAREST, Step.CODED):
            if self._codes_N is not None:
                self._codes_N = np.where(self._codes_N < len(given_KD), self._codes_N, -1)
            self._codes_N, self._errors_N = assign(self.vectors_ND, given_KD, self._codes_N)
        elif step is Step.WORST:
            self._errors_N = squared_distances(self.vectors_ND, given_KD, self._known)
        for start in range(0, len(self.vectors_ND), BLOCK):
            yield getattr(self, f"_{step.name.lower()}")(slice(start, start + BLOCK), given_KD)

    @property
    def _known(self) -> Codes:
        if self._codes_N is None:
            raise ValueError("a step that needs codes comes before one that takes them")
        return self._codes_N

    def _nearest(self, block: slice, given_KD: Vectors) -> Totals:
        weight_B, errors_B = self._weight_N[block], self._errors_N[block]
        sums_KD, weight_K = sums(self.vectors_ND[block], weight_B, self._known[block], len(given_KD))
        return Totals(sums_KD, weight_K, float(weight_B @ errors_B))

    def _worst(self, block: slice, given_KD: Vectors) -> Totals:
        weight_B, errors_B, codes_B = self._weight_N[block], self._errors_N[block], self._known[block]
        worth_B, most_K, place_K = weight_B * errors_B, np.full(len(given_KD), -1.0), np.zeros(len(given_KD), np.int64)
        np.maximum.at(most_K, codes_B, worth_B)
        places = np.flatnonzero(worth_B == most_K[codes_B])
        place_K[codes_B[places]] = places  # of several the last is written
        return Totals(self.vectors_ND[block][place_K].astype(np.float64), most_K, float(weight_B @ errors_B))

    def _leaving(self, block: slice, given_KD: Vectors) -> Totals:
        vectors_BD, codes_B = self.vectors_ND[block], self._known[block]
        leave = np.flatnonzero(squared_distances(vectors_BD, given_KD, codes_B) < self._errors_N[block])
        return Totals(*sums(vectors_BD[leave], self._weight_N[block][leave], codes_B[leave], len(given_KD)), 0.0)

    def _mean(self, block: slice, _: Vectors) -> Totals:
        frequency_B1 = self.frequency_N[block, None]
        sums_D = (self.vectors_ND[block] * frequency_B1).sum(0)
        return Totals(sums_D[None].astype(np.float64), frequency_B1.sum(0).astype(np.float64), 0.0)

    def _spread(self, block: slice, given_KD: Vectors) -> Totals:
        squared_B = np.square(self.vectors_ND[block] - given_KD[0]).sum(1)
        return self._erring(block, squared_B, given_KD)

    def _coded(self, block: slice, given_KD: Vectors) -> Totals:
        return self._erring(block, self._errors_N[block], given_KD)

    def _erring(self, block: slice, squared_B: Vectors, given_KD: Vectors) -> Totals:
        return Totals.none(given_KD)._replace(error=float(self.frequency_N[block].astype(np.float64) @ squared_B))


def least_weight(frequency_N: Vectors) -> float:
    """The minimum weight of these features."""
    return _LEAST_WEIGHT * (float(frequency_N.max()) or 1.0)


def added(step: Step, totals: Iterator[Totals]) -> Totals:
    """The totals of blocks in one; the order of the blocks matters to the last bit."""
    return reduce(_worse if step is Step.WORST else _both, totals)


def sums(
    vectors_ND: Vectors, weight_N: Vectors | Weights, codes_N: Codes, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors times weight, and weights, added up for each of so many codewords, in the order of the features."""
    columns_N = (
        column_N.astype(np.float64) for column_N in vectors_ND.T
    )  # one by one: all at once would need twice the memory of the vectors
    sums_KD: NDArray[np.float64] = np.stack(
        [np.bincount(codes_N, weight_N * column_N, count) for column_N in columns_N], axis=1
    ).astype(np.float64, copy=False)
    return sums_KD, np.bincount(codes_N, weight_N, count).astype(np.float64, copy=False)


def _both(one: Totals, other: Totals) -> Totals:
    return Totals(one.vectors_KD + other.vectors_KD, one.weight_K + other.weight_K, one.error + other.error)


def _worse(one: Totals, other: Totals) -> Totals:
    """Of each code the feature that errs more; the later of equals."""
    later_K = other.weight_K >= one.weight_K
    return Totals(
        np.where(later_K[:, None], other.vectors_KD, one.vectors_KD),
        np.maximum(one.weight_K, other.weight_K),
        one.error + other.error,
    )
