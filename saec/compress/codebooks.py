"""Codebooks: one a field, laid end to end, and the rules by which they live from hour to hour.

Decisions:
- Codeword 0 of a field is its default codeword: the tail, the unadmitted and the unknown all use it. Codewords 1 to K
  belong to the clusters of the head.
- A codeword has two vectors. Its centroid lives in the original's space and decides which features get the code; the
  codeword itself lives in the challenger's space, is retrained every hour, and is what is published. Centroids move a
  little each hour, code k keeps its meaning, so what retraining learnt carries over.
- A codeword that is added later starts at its centroid, shifted as retraining has shifted the nearest older codeword.

Shapes: F fields, K codewords of one field without the default, T codewords of all fields with defaults, D width, V
rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saec.compress.clustering import assign

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Centroids:
    """The clusters of every field in the original's space: all centroids end to end, and how many each field has."""

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

    def at_most(self, counts_F: NDArray[np.int64]) -> Centroids:
        """The same, without the last clusters of fields that have more of them than given."""
        return Centroids.joined([self.of(field)[:count] for field, count in enumerate(counts_F)])

    def of(self, field: int) -> NDArray[np.float32]:
        """Centroids (K, D) of one field."""
        end = int(self.counts_F[: field + 1].sum())
        return self.vectors_CD[end - int(self.counts_F[field]) : end]

    @property
    def starts_F(self) -> NDArray[np.int64]:
        """Place of each field's default codeword among all T codewords."""
        starts_F: NDArray[np.int64] = np.cumsum(self.counts_F + 1) - (self.counts_F + 1)
        return starts_F

    @property
    def codewords(self) -> int:
        """T: codewords of all fields, the defaults included."""
        return int((self.counts_F + 1).sum())

    def codes(self, vectors_ND: NDArray[np.float32], fields_N: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The code 1..K of each vector in its field's codebook; 0 where the field has no clusters."""
        codes_N = np.zeros(len(vectors_ND), np.uint8)
        for field in np.flatnonzero(self.counts_F):
            chosen = np.flatnonzero(fields_N == field)
            nearest, _ = assign(vectors_ND[chosen], self.of(int(field)))
            codes_N[chosen] = nearest + 1
        return codes_N


@dataclass(frozen=True)
class Codebooks:
    """The codewords (T, D) of all fields in the challenger's space, and their Adagrad sums (T)."""

    vectors_TD: NDArray[np.float32]
    squares_T: NDArray[np.float32]

    @classmethod
    def start(cls, defaults_FD: NDArray[np.float32], centroids: Centroids) -> Codebooks:
        """Codewords at their centroids, default codewords at the original's default rows."""
        vectors_TD = np.empty((centroids.codewords, defaults_FD.shape[1]), np.float32)
        for field, start in enumerate(centroids.starts_F):
            vectors_TD[start] = defaults_FD[field]
            vectors_TD[start + 1 : start + 1 + centroids.counts_F[field]] = centroids.of(field)
        return cls(vectors_TD, np.zeros(len(vectors_TD), np.float32))

    def carried(self, before: Centroids, now: Centroids) -> Codebooks:
        """These codewords on the next hour's clusters: old codes keep theirs, added ones get one to start from."""
        vectors_TD = np.zeros((now.codewords, self.vectors_TD.shape[1]), np.float32)
        squares_T = np.zeros(now.codewords, np.float32)
        for field, (old, start) in enumerate(zip(before.starts_F, now.starts_F, strict=True)):
            kept = 1 + min(int(before.counts_F[field]), int(now.counts_F[field]))
            vectors_TD[start : start + kept] = self.vectors_TD[old : old + kept]
            squares_T[start : start + kept] = self.squares_T[old : old + kept]
            added_KD = now.of(field)[kept - 1 :]
            if len(added_KD) and kept > 1:
                nearest, _ = assign(added_KD, before.of(field))
                added_KD = added_KD + self.vectors_TD[old + 1 + nearest] - before.of(field)[nearest]
            vectors_TD[start + kept : start + kept + len(added_KD)] = added_KD
        return Codebooks(vectors_TD, squares_T)
