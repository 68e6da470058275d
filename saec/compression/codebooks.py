"""The codebooks of all fields, laid end to end, and how they carry over from hour to hour.

Decisions:
- Codeword 0 of a field is its default codeword, for tail and unknown features. Codeword 1 is for newcomers: features
  seen earlier in the hour that are too new for a row in the original. Codewords from 2 on belong to the clusters of the
  head.
- A codeword has two vectors. Its centroid is in the original's space and decides which features get the code. The
  codeword itself is in the challenger's space, is retrained every hour, and is published.
- From hour to hour codewords are carried over through the features that use them (`Succession`), so that nothing learnt
  in retraining is lost when clusters are redrawn or change in number.

Shapes: F fields, K clusters of one field, C clusters of all fields, T codewords of all fields, D width, B rows, S
slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saec.compression.clustering import assign, means
from saec.compression.places import CLUSTERS, DEFAULT, NEWCOMER, starts

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Centroids:
    """The clusters of all fields in the original's space: all centroids end to end, and their number per field."""

    vectors_CD: NDArray[np.float32]
    counts_F: NDArray[np.int64]

    @classmethod
    def empty(cls, fields: int, width: int) -> Centroids:
        """No clusters yet: every feature uses its field's default codeword."""
        return cls(np.zeros((0, width), np.float32), np.zeros(fields, np.int64))

    @classmethod
    def joined(cls, by_field: list[NDArray[np.float32]]) -> Centroids:
        """The centroids of each field in turn."""
        return cls(np.concatenate(by_field), np.array([len(centroids_KD) for centroids_KD in by_field], np.int64))

    def of(self, field: int) -> NDArray[np.float32]:
        """Centroids (K, D) of one field."""
        end = int(self.counts_F[: field + 1].sum())
        return self.vectors_CD[end - int(self.counts_F[field]) : end]

    @property
    def starts_F(self) -> NDArray[np.int64]:
        """Index of each field's default codeword among all T codewords."""
        return starts(self.counts_F)

    @property
    def codewords(self) -> int:
        """T: codewords of all fields, those without a cluster included."""
        return int((self.counts_F + CLUSTERS).sum())

    def laid_out(self) -> NDArray[np.float32]:
        """The centroids at the indices of their codewords (T, D); zeros for codewords without a cluster."""
        vectors_TD = np.zeros((self.codewords, self.vectors_CD.shape[1]), np.float32)
        has_cluster_T = np.ones(self.codewords, bool)
        for code in (DEFAULT, NEWCOMER):
            has_cluster_T[self.starts_F + code] = False
        vectors_TD[has_cluster_T] = self.vectors_CD
        return vectors_TD

    def codes(self, vectors_ND: NDArray[np.float32], fields_N: NDArray[np.int64]) -> NDArray[np.int16]:
        """The code of the nearest cluster to each vector in its field; the default code if the field has none."""
        codes_N = np.zeros(len(vectors_ND), np.int16)
        order_N = np.argsort(fields_N.astype(np.uint16), kind="stable")  # 16 bits: a radix sort
        ends_F = np.cumsum(np.bincount(fields_N, minlength=len(self.counts_F)))
        for field, chosen in enumerate(np.split(order_N, ends_F[:-1])):
            if self.counts_F[field]:
                codes_N[chosen] = assign(vectors_ND[chosen], self.of(field))[0] + CLUSTERS
        return codes_N


@dataclass(frozen=True)
class Codebooks:
    """The codewords (T, D) of all fields in the challenger's space, and their Adagrad sums (T)."""

    vectors_TD: NDArray[np.float32]
    squares_T: NDArray[np.float32]

    @classmethod
    def start(cls, defaults_FD: NDArray[np.float32], centroids: Centroids) -> Codebooks:
        """Codewords at their centroids; default and newcomer codewords at the original's default rows."""
        vectors_TD = centroids.laid_out()
        for code in (DEFAULT, NEWCOMER):
            vectors_TD[centroids.starts_F + code] = defaults_FD
        return cls(vectors_TD, np.zeros(len(vectors_TD), np.float32))

    def succeeded(self, succession: Succession, now: Centroids) -> Codebooks:
        """These codewords, retrained on the codes of the hour before, carried over to the hour's own clusters."""
        learnt_TD = self.vectors_TD - succession.old_means_TD
        for code in (DEFAULT, NEWCOMER):  # features without a code of their own carry nothing over
            learnt_TD[succession.old_starts_F + code] = 0.0
        vectors_TD = succession.new_means_TD + succession.passed_on(learnt_TD)
        squares_T = succession.passed_on(self.squares_T[:, None])[:, 0]
        for code in (DEFAULT, NEWCOMER):  # these two mean the same in both hours, whatever their features
            vectors_TD[now.starts_F + code] = self.vectors_TD[succession.old_starts_F + code]
            squares_T[now.starts_F + code] = self.squares_T[succession.old_starts_F + code]
        return Codebooks(vectors_TD, squares_T)


@dataclass(frozen=True)
class Succession:
    """How the codewords of one hour follow from those of the hour before, by way of the features that use them.

    A feature's position in the challenger's space is estimated as its current vector plus what retraining has learnt
    for its old code: the old codeword minus the current mean of the features that had it. A new codeword is the
    frequency-weighted mean of its features' estimates. So if no feature changes its code, codewords are exactly the
    retrained ones; if clusters are redrawn, codewords follow their features; and the number of codewords may change
    freely.

    P pairs of old and new places that share features, T codewords of either hour.
    """

    old_P: NDArray[np.int64]
    new_P: NDArray[np.int64]
    weight_P: NDArray[np.float64]
    """Feature frequency that moves from the old place to the new one."""
    old_means_TD: NDArray[np.float32]
    """Mean vector, now, of the features that had each old code."""
    new_means_TD: NDArray[np.float32]
    """Mean vector, now, of the features that have each new code; its centroid where there are none."""
    old_starts_F: NDArray[np.int64]
    """Places of the old default codewords."""

    @classmethod
    def of(
        cls,
        before: Centroids,
        now: Centroids,
        old_codes_N: NDArray[np.int16],
        new_codes_N: NDArray[np.int16],
        fields_N: NDArray[np.int64],
        frequency_N: NDArray[np.float32],
        vectors_ND: NDArray[np.float32],
    ) -> Succession:
        """The succession for the features of the head: their codes in both hours and their vectors now."""
        old_N, new_N = before.starts_F[fields_N] + old_codes_N, now.starts_F[fields_N] + new_codes_N
        pairs, pair_of_N = np.unique(old_N * now.codewords + new_N, return_inverse=True)
        width = vectors_ND.shape[1]
        return cls(
            old_P=pairs // now.codewords,
            new_P=pairs % now.codewords,
            weight_P=np.bincount(pair_of_N, frequency_N, len(pairs)).astype(np.float64),
            old_means_TD=means(vectors_ND, frequency_N, old_N, np.zeros((before.codewords, width), np.float32)),
            new_means_TD=means(vectors_ND, frequency_N, new_N, now.laid_out()),
            old_starts_F=before.starts_F,
        )

    def passed_on(self, values_TX: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of the old codewords as values of the new ones: weighted means over the features they share."""
        count = len(self.new_means_TD)
        weight_T = np.bincount(self.new_P, self.weight_P, count)
        columns = [np.bincount(self.new_P, self.weight_P * column_T[self.old_P], count) for column_T in values_TX.T]
        return (np.stack(columns, axis=1) / np.maximum(weight_T, 1e-30)[:, None]).astype(np.float32)
