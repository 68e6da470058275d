"""Clusters the head of one field with frequency-weighted k-means (the paper's field-aware fast clustering).

The paper clusters the features of each field into one codebook, and is fast because feature frequency is heavy-tailed.
Our reading: only the head is clustered, each feature weighted by its frequency; the tail shares the default codeword.
Decisions:
- A cold start first runs on a sample of eight features per codeword, drawn by frequency (`saec.compression.seeding`),
  then on the whole head, which needs two or three more iterations. With thousands of codewords it starts in two levels
  (`saec.compression.two_level`).
- After each iteration codewords are swapped: a codeword whose features lose little by joining a neighbour moves to
  where it gains more. This finds what better starting points would have found, and moves unused codewords.
- Iterations end when the last one lowered the error by less than half a percent. Starting from last hour's centroids,
  one iteration is enough, and codeword k keeps its meaning.
- There are never more codewords than distinct vectors.
- An iteration asks sums over the features of each codeword (`saec.compression.blocks`), wherever these are; the rest
  works on codewords alone.

Shapes: N head features, M of them, K codewords, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saec.compression.blocks import Blocks, Features, Step, Totals, least_weight, sums
from saec.compression.nearest import assign, nearest_other
from saec.compression.seeding import drawn, thinned
from saec.compression.two_level import coarse_to_fine
from saec.errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Weights = NDArray[np.float64]

__all__ = ["assign", "cluster", "means"]

COLD_ITERATIONS = 20
LARGE_ITERATIONS = 2
"""Iterations over the whole head after a two-level start; each costs far more than the start."""
WARM_ITERATIONS = 1
LARGEST = 1e15
"""Vectors with larger numbers are refused, because their squares would overflow float32."""
FLAT = 2048
"""Maximum number of codewords for a single-level cold start; more start in two levels."""
_SAMPLE = 8
"""Features per codeword in the sample of a cold start."""
_WORTH = 0.005
"""Iterations go on while one lowers the error by this share."""
_LEAST_STAYING = 1e-12
"""Minimum weight that a split leaves behind, as a share of the codeword's: with less it is no split."""


def cluster(
    vectors_ND: NDArray[np.float32],
    frequency_N: NDArray[np.float32],
    codewords: int,
    *,
    start_KD: NDArray[np.float32] | None = None,
    guess_N: NDArray[np.int64] | None = None,
    seed: int = 0,
    field: str = "",
    features: Features | None = None,
) -> NDArray[np.float32]:
    """Centroids (K, D) of the head of one field; K is at most `codewords` and the number of distinct vectors.

    Args:
        vectors_ND: embedding vectors of the head.
        frequency_N: feature frequency, the weight of each vector; not negative.
        codewords: maximum number of codewords.
        start_KD: last hour's centroids, to start from; their order is kept.
        guess_N: the code in `start_KD` that each feature had, -1 where it had none; saves time, changes nothing.
        seed: of the cold start.
        field: name for error messages.
        features: the same features, if iterations are to ask them elsewhere; they know `guess_N`.

    Raises:
        TrainingError: when a vector or frequency is not finite, a vector is too large to square, or a frequency is
            negative.
    """
    check(vectors_ND, frequency_N, field)
    vectors_ND, distinct_MD = np.ascontiguousarray(vectors_ND), _distinct(vectors_ND, codewords)
    if len(distinct_MD) <= codewords:
        return _direct(distinct_MD, start_KD, codewords)
    least = least_weight(frequency_N)
    if features is None:
        features = Blocks(vectors_ND, frequency_N, least)
        features.guess(guess_N)
    if start_KD is not None and len(start_KD) >= codewords:
        return _iterated(features, start_KD[:codewords], WARM_ITERATIONS)
    weight_N = np.maximum(frequency_N.astype(np.float64), least)
    start_KD = _start(vectors_ND, weight_N, codewords, start_KD, np.random.default_rng(seed))
    features.guess(None)
    return _iterated(features, start_KD, COLD_ITERATIONS if codewords <= FLAT else LARGE_ITERATIONS)


def means(
    vectors_ND: NDArray[np.float32],
    frequency_N: NDArray[np.float32] | NDArray[np.float64],
    codes_N: NDArray[np.int64],
    centroids_KD: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The weighted mean of each codeword's vectors; a codeword without vectors does not move."""
    return Totals(*sums(vectors_ND, frequency_N, codes_N, len(centroids_KD)), 0.0).means(centroids_KD)


def check(vectors_ND: Vectors, frequency_N: Vectors, field: str) -> None:
    """Refuse vectors and frequencies that cannot be clustered."""
    if len(vectors_ND) and not -LARGEST <= vectors_ND.min() <= vectors_ND.max() <= LARGEST:  # nor is any NaN
        raise TrainingError(
            f"field {field!r} has embedding vectors that are not finite or beyond {LARGEST:g}; the hour's training "
            "diverged: lower training.table_learning_rate and run the hour again",
            reason="non-finite",
        )
    if not (np.isfinite(frequency_N).all() and (frequency_N >= 0).all()):
        raise TrainingError(
            f"field {field!r} has feature frequencies that are negative or not finite; the vocabulary is damaged: "
            "take the checkpoint of an earlier hour and backfill from there",
            reason="non-finite",
        )


def _distinct(vectors_ND: Vectors, enough: int) -> Vectors:
    """The distinct vectors in order of appearance; not all of them once there are more than `enough`."""
    for tried in (2 * enough, len(vectors_ND)):
        _, first_M = np.unique(vectors_ND[:tried], axis=0, return_index=True)
        if len(first_M) > enough:
            break
    return vectors_ND[np.sort(first_M)]


def _direct(distinct_MD: Vectors, start_KD: Vectors | None, codewords: int) -> Vectors:
    """For no more distinct vectors than codewords: each is a codeword, at the place of last hour's if one is near."""
    if start_KD is None or not len(start_KD):
        return distinct_MD
    centroids_KD = start_KD[:codewords].copy()
    if not len(distinct_MD):
        return centroids_KD
    owners, places = np.unique(assign(centroids_KD, distinct_MD)[0], return_index=True)
    centroids_KD[places] = distinct_MD[owners]
    others = np.delete(distinct_MD, owners, axis=0)
    appended = min(len(others), codewords - len(centroids_KD))
    spare = np.delete(np.arange(len(centroids_KD)), places)[: len(others) - appended]
    centroids_KD[spare] = others[appended:]
    return np.concatenate([centroids_KD, others[:appended]])


def _start(
    vectors_ND: Vectors, weight_N: Weights, codewords: int, start_KD: Vectors | None, random: np.random.Generator
) -> Vectors:
    """Starting centroids on the whole head for a cold start, or if codewords are missing."""
    two_levels = start_KD is None and codewords > FLAT
    if two_levels:
        start_KD = coarse_to_fine(vectors_ND, weight_N.astype(np.float32), codewords, cluster)
    elif start_KD is None:
        start_KD = np.zeros((0, vectors_ND.shape[1]), np.float32)
    chosen, weight_M = thinned(weight_N, _SAMPLE * codewords, random)
    start_KD = drawn(vectors_ND[chosen], weight_M, start_KD, codewords, random)
    start_KD = drawn(vectors_ND, weight_N, start_KD, codewords, random)  # if the sample has too few distinct vectors
    return start_KD if two_levels else _iterated(Blocks(vectors_ND[chosen], weight_M), start_KD, COLD_ITERATIONS)


def _iterated(features: Features, centroids_KD: Vectors, most: int) -> Vectors:
    """Centroids after as many iterations as pay off: at most `most`, more only while codewords are unused."""
    for iteration in range(1, COLD_ITERATIONS + 1):
        nearest = features.total(Step.NEAREST, centroids_KD)
        means_KD = nearest.means(centroids_KD)
        worst = features.total(Step.WORST, means_KD)
        leaving = features.total(Step.LEAVING, worst.vectors_KD.astype(np.float32))
        centroids_KD, saved, idle = _swapped(means_KD, nearest.weight_K, leaving)
        little = nearest.error - worst.error + saved <= _WORTH * nearest.error
        if little or (iteration >= most and not idle):
            break
    return centroids_KD


def _swapped(centroids_KD: Vectors, weight_K: Weights, leaving: Totals) -> tuple[Vectors, float, int]:
    """Move codewords to where they reduce the error more.

    To free a codeword, its features are merged with its neighbour's; to place it, another codeword's features are split
    in two. A codeword without features needs no merge. Both effects are computed with the resulting means, and no two
    swaps touch each other, so the error falls by exactly the returned amount.

    Args:
        centroids_KD: the mean of each codeword's features.
        weight_K: their weight.
        leaving: of each codeword, the features that are nearer to the one that errs most.

    Returns:
        The centroids, the error saved, and how many codewords without features found no place, because each other
        codeword is split only once.
    """
    apart_KD, share_K, gain_K = _splits(centroids_KD, weight_K, leaving)
    neighbour_K, gap_K = nearest_other(centroids_KD)
    part_K = weight_K / np.maximum(weight_K + weight_K[neighbour_K], 1e-300)
    cost_K = np.where(weight_K > 0, part_K * weight_K[neighbour_K] * gap_K, 0.0)
    swapped_KD, saved, touched = centroids_KD.copy(), 0.0, set[int]()
    idle = set(np.flatnonzero(weight_K == 0).tolist())
    targets = iter(np.argsort(-gain_K, kind="stable").tolist())
    target = next(targets)
    for code in np.argsort(cost_K, kind="stable").tolist():
        neighbour = code if code in idle else int(neighbour_K[code])
        if gain_K[target] <= cost_K[code]:
            break
        if target in (code, neighbour) or touched & {code, neighbour}:
            continue
        if neighbour != code:
            swapped_KD[neighbour] += part_K[code] * (centroids_KD[code] - centroids_KD[neighbour])
        left_D = centroids_KD[target] - share_K[target] * (apart_KD[target] - centroids_KD[target])
        heavier_first = (left_D, apart_KD[target]) if share_K[target] <= 1.0 else (apart_KD[target], left_D)
        swapped_KD[target], swapped_KD[code] = heavier_first  # most of the features keep their code
        saved += float(gain_K[target] - cost_K[code])
        touched |= {code, neighbour, target}
        target = next((other for other in targets if other not in touched), -1)
    return swapped_KD, saved, len(idle - touched)


def _splits(centroids_KD: Vectors, weight_K: Weights, leaving: Totals) -> tuple[Vectors, Weights, Weights]:
    """Split each codeword's features in two: those that leave, and those that stay.

    Returns:
        The mean of those that leave, their weight over that of those that stay, and what the split saves.
    """
    apart_KD, leaving_K = leaving.means(centroids_KD), leaving.weight_K
    staying_K = weight_K - leaving_K
    share_K = np.where(staying_K > _LEAST_STAYING * weight_K, leaving_K / np.maximum(staying_K, 1e-300), 0.0)
    distance_K = np.square(apart_KD - centroids_KD).sum(1, dtype=np.float64)
    return apart_KD, share_K, share_K * weight_K * distance_K
