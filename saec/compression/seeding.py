"""Draws starting points for k-means: a sample of the head, and codewords from it.

Decisions:
- The sample represents the head: a feature is drawn with probability proportional to its frequency (at most one), and
  its weight includes the features it represents. Unlike a sample of the most frequent features, its expected weighted
  error is that of the head, so clusters of the sample fit the head.
- Codewords are drawn by k-means++ (Arthur & Vassilvitskii 2007), many at a time. Candidates are drawn with their
  probabilities before the round; each is accepted with the ratio of its probability after the earlier acceptances to
  the one before the round. This rejection sampling gives the distribution of drawing one by one, in K / 64 rounds
  instead of K.

Shapes: N features of the head, M of the sample, K codewords, C candidates of a round, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saec.compression.products import least, squared_norms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Codes = NDArray[np.int64]
    Weights = NDArray[np.float64]

_CANDIDATES = 64
"""Most draws of one round; no more than the codewords there are, so that the first rounds are not all rejected."""
_ROUNDING = 5e-6
"""What is taken off squared distances, in parts of the vector's norm: a vector equal to a codeword is never drawn."""


def thinned(weight_N: Weights, most: int, random: np.random.Generator) -> tuple[Codes, Weights]:
    """Places of a sample of about `most` features, and the weight that each one stands for; all if there are no more.

    Args:
        weight_N: positive weights.
        most: features wanted.
        random: draws one number (systematic sampling), so that the sample hardly varies.
    """
    if len(weight_N) <= most:
        return np.arange(len(weight_N)), weight_N
    falling_N = np.sort(weight_N)[::-1]
    rest_N = np.cumsum(falling_N[::-1])[::-1]
    # With the n heaviest taken surely, each of the others is worth `rest / (most - n)`, which none of them may exceed.
    surely = int(np.argmax(falling_N * (most - np.arange(len(falling_N))) <= rest_N))
    worth = rest_N[surely] / (most - surely)
    summed_N = np.cumsum(np.minimum(weight_N / worth, 1.0)) + random.random()
    chosen = np.flatnonzero(np.diff(np.floor(summed_N), prepend=0.0))
    return chosen, np.maximum(weight_N[chosen], worth)


def drawn(
    vectors_MD: Vectors, weight_M: Weights, start_KD: Vectors, codewords: int, random: np.random.Generator
) -> Vectors:
    """The given codewords and as many k-means++ draws as are missing; fewer when every vector is a codeword.

    Args:
        vectors_MD: vectors to draw from.
        weight_M: their weights, positive.
        start_KD: codewords there are, possibly none.
        codewords: how many are wanted.
        random: where the draws come from.
    """
    if len(start_KD) >= codewords:
        return start_KD
    centroids_KD = start_KD if len(start_KD) else vectors_MD[_draws(weight_M, 1, random)]
    far_M = _nearer(np.full(len(vectors_MD), np.inf), vectors_MD, centroids_KD)
    while len(centroids_KD) < codewords:
        chance_M = weight_M * far_M
        if not chance_M.any():
            break
        missing = codewords - len(centroids_KD)
        drawn_C = _draws(chance_M, min(_CANDIDATES, len(centroids_KD), 2 * missing), random)
        accepted = _accepted(vectors_MD[drawn_C], far_M[drawn_C], random)[:missing]
        centroids_KD = np.concatenate([centroids_KD, vectors_MD[drawn_C[accepted]]])
        far_M = _nearer(far_M, vectors_MD, vectors_MD[drawn_C[accepted]])
        far_M[drawn_C[accepted]] = 0.0
    return centroids_KD


def _draws(chance_M: Weights, count: int, random: np.random.Generator) -> Codes:
    """Places drawn with the given chances, with replacement."""
    summed_M = np.cumsum(chance_M)
    places_C = np.searchsorted(summed_M, random.random(count) * summed_M[-1], side="right")
    within_C: Codes = np.minimum(places_C, np.flatnonzero(chance_M)[-1])  # rounding may point past the last chance
    return within_C


def _accepted(candidates_CD: Vectors, far_C: Weights, random: np.random.Generator) -> list[int]:
    """The candidates kept, in turn: each with the share of its distance that those kept before it have left."""
    between_CC = np.square(candidates_CD[:, None] - candidates_CD).sum(2, dtype=np.float64)
    left_C = far_C.copy()
    kept = []
    for number, luck in enumerate(random.random(len(far_C))):
        if luck * far_C[number] < left_C[number]:
            kept.append(number)
            left_C = np.minimum(left_C, between_CC[number])
    return kept


def _nearer(far_M: Weights, vectors_MD: Vectors, codewords_CD: Vectors) -> Weights:
    """Squared distance of each vector to the nearest codeword, given that to the nearest of the former ones."""
    norms_C = squared_norms(codewords_CD)
    norms_M = squared_norms(vectors_MD) * np.float32(1.0 - _ROUNDING)
    for start in range(0, len(codewords_CD), _CANDIDATES):
        part = slice(start, start + _CANDIDATES)
        nearest_M = least(norms_C[part], vectors_MD, codewords_CD[part])
        far_M = np.minimum(far_M, np.maximum(nearest_M + norms_M, 0.0))
    return far_M
