"""Field-aware fast clustering: frequency-weighted k-means over the head of one field.

The paper clusters the features of each field into one codebook and is fast because feature frequency is heavy-tailed.
Our reading: only the head, the features frequent enough to be worth a code, is clustered, each weighted by its
frequency; the tail shares the default codeword. Decisions:
- Lloyd's iterations on the head alone: at D of 8 to 64 a blocked matrix product beats every pruning variant.
- Started from last hour's centroids, two iterations reach what twenty cold ones do, and codeword k keeps meaning what
  it meant.
- Cold start: greedy draws weighted by frequency and distance (k-means++, Arthur & Vassilvitskii 2007) from a seed.
- A codeword that loses all its features moves to the feature that is served worst; never more codewords than distinct
  vectors.

Shapes: N head features, K codewords, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from saec.errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLD_ITERATIONS = 20
WARM_ITERATIONS = 2
LARGEST = 1e15
"""Vectors with a larger number in them are refused: their squares would overflow float32."""
_BLOCK = 1 << 11
"""Rows whose distances to all codewords are held at once: with 255 codewords 2 MB, which stay in the cache."""
_SEEDING_SAMPLE = 64
"""Candidates a codeword for the cold start's draws: seeding looks at the most frequent features only."""


def cluster(
    vectors_ND: NDArray[np.float32],
    frequency_N: NDArray[np.float32],
    codewords: int,
    *,
    start_KD: NDArray[np.float32] | None = None,
    seed: int = 0,
    field: str = "",
) -> NDArray[np.float32]:
    """Centroids (K, D) of the head features of one field, K being at most `codewords` and the distinct vectors.

    Args:
        vectors_ND: embedding vectors of the head.
        frequency_N: feature frequency, the weight of each vector; positive.
        codewords: most codewords wanted.
        start_KD: last hour's centroids, to start from; their order is kept.
        seed: of the cold start.
        field: name for error messages.

    Raises:
        TrainingError: when a vector is not finite or too large to square.
    """
    if not np.isfinite(vectors_ND).all() or (len(vectors_ND) and np.abs(vectors_ND).max() > LARGEST):
        raise TrainingError(
            f"field {field!r} has embedding vectors that are not finite or beyond {LARGEST:g}; the hour's training "
            "diverged: lower training.table_learning_rate and run the hour again",
            reason="non-finite",
        )
    distinct_MD = _distinct(vectors_ND, codewords)
    if len(distinct_MD) <= codewords:
        return _direct(distinct_MD, start_KD, codewords)
    centroids_KD = _filled(vectors_ND, frequency_N, codewords, start_KD, seed)
    iterations = COLD_ITERATIONS if start_KD is None else WARM_ITERATIONS
    for _ in range(iterations):
        codes_N, errors_N = assign(vectors_ND, centroids_KD)
        centroids_KD = means(vectors_ND, frequency_N, codes_N, centroids_KD)
        centroids_KD = _revived(vectors_ND, frequency_N, codes_N, errors_N, centroids_KD)
    return centroids_KD


def assign(
    vectors_ND: NDArray[np.float32], centroids_KD: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest codeword of each vector (the lowest of equals), and the squared distance to it."""
    codes_N = np.empty(len(vectors_ND), np.int64)
    errors_N = np.empty(len(vectors_ND), np.float32)
    centroids = torch.from_numpy(np.ascontiguousarray(centroids_KD))
    norms_K = centroids.square().sum(1)
    for start in range(0, len(vectors_ND), _BLOCK):
        block = torch.from_numpy(np.ascontiguousarray(vectors_ND[start : start + _BLOCK]))
        distances_BK = torch.addmm(norms_K, block, centroids.T, alpha=-2.0)
        # numpy's argmin is three times as fast as torch's min, and promises the first of equals.
        codes = torch.from_numpy(distances_BK.numpy().argmin(1))
        nearest = distances_BK.gather(1, codes[:, None])[:, 0]
        codes_N[start : start + _BLOCK] = codes.numpy()
        errors_N[start : start + _BLOCK] = (nearest + block.square().sum(1)).clamp_min(0.0).numpy()
    return _first_of_equals(centroids_KD)[codes_N], errors_N


def _first_of_equals(centroids_KD: NDArray[np.float32]) -> NDArray[np.int64]:
    """The lowest code of the same codeword: a matrix product may round equal columns apart, so argmin finds any."""
    _, first_M, inverse_K = np.unique(centroids_KD, axis=0, return_index=True, return_inverse=True)
    return first_M[inverse_K]


def _distinct(vectors_ND: NDArray[np.float32], enough: int) -> NDArray[np.float32]:
    """The distinct vectors in order of appearance; not all of them once there are more than `enough`."""
    for tried in (4 * enough, len(vectors_ND)):
        _, first_M = np.unique(vectors_ND[:tried], axis=0, return_index=True)
        if len(first_M) > enough:
            break
    return vectors_ND[np.sort(first_M)]


def _direct(
    distinct_MD: NDArray[np.float32], start_KD: NDArray[np.float32] | None, codewords: int
) -> NDArray[np.float32]:
    """No more distinct vectors than codewords: each is its own, those near a last hour's codeword in its place."""
    if start_KD is None or not len(start_KD):
        return distinct_MD
    centroids_KD = start_KD[:codewords].copy()
    owners, places = np.unique(assign(centroids_KD, distinct_MD)[0], return_index=True)
    centroids_KD[places] = distinct_MD[owners]
    others = np.delete(distinct_MD, owners, axis=0)
    appended = min(len(others), codewords - len(centroids_KD))
    spare = np.delete(np.arange(len(centroids_KD)), places)[: len(others) - appended]
    centroids_KD[spare] = others[appended:]
    return np.concatenate([centroids_KD, others[:appended]])


def _filled(
    vectors_ND: NDArray[np.float32],
    frequency_N: NDArray[np.float32],
    codewords: int,
    start_KD: NDArray[np.float32] | None,
    seed: int,
) -> NDArray[np.float32]:
    """Starting centroids: last hour's, and as many k-means++ draws from the most frequent features as are missing."""
    if start_KD is not None and len(start_KD) >= codewords:
        return start_KD[:codewords].copy()
    chosen = np.argsort(-frequency_N, kind="stable")[: _SEEDING_SAMPLE * codewords]
    sample_MD = torch.from_numpy(np.ascontiguousarray(vectors_ND[chosen]))
    weight_M = torch.from_numpy(frequency_N[chosen].astype(np.float64))
    centroids = [] if start_KD is None else list(torch.from_numpy(start_KD[:codewords]))
    far_M = torch.full((len(chosen),), torch.inf, dtype=torch.float64)
    for centroid in centroids:
        far_M = torch.minimum(far_M, (sample_MD - centroid).square().sum(1).double())
    rng = np.random.default_rng(seed)
    while len(centroids) < codewords:
        chance_M = weight_M * (far_M if centroids else 1.0)
        summed = torch.cumsum(chance_M, 0)
        if float(summed[-1]) <= 0.0:
            break
        drawn = int(torch.searchsorted(summed, rng.random() * float(summed[-1]), right=True))
        centroids.append(sample_MD[min(drawn, len(chosen) - 1)])
        far_M = torch.minimum(far_M, (sample_MD - centroids[-1]).square().sum(1).double())
    return torch.stack(centroids).numpy()


def means(
    vectors_ND: NDArray[np.float32],
    frequency_N: NDArray[np.float32],
    codes_N: NDArray[np.int64],
    centroids_KD: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The weighted mean of each codeword's vectors; a codeword without any stays where it was."""
    count = len(centroids_KD)
    weight_K = np.bincount(codes_N, frequency_N, count)
    sums_KD = np.stack(
        [np.bincount(codes_N, frequency_N * column_N, count) for column_N in vectors_ND.T.astype(np.float64)], axis=1
    )
    used_K = weight_K > 0
    means_KD = centroids_KD.copy()
    means_KD[used_K] = sums_KD[used_K] / weight_K[used_K, None]
    return means_KD


def _revived(
    vectors_ND: NDArray[np.float32],
    frequency_N: NDArray[np.float32],
    codes_N: NDArray[np.int64],
    errors_N: NDArray[np.float32],
    centroids_KD: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Codewords that no feature uses move to the features with the largest weighted error, in that order."""
    unused = np.flatnonzero(np.bincount(codes_N, minlength=len(centroids_KD)) == 0)
    if len(unused):
        worst = np.argsort(-(errors_N * frequency_N), kind="stable")[: len(unused)]
        centroids_KD[unused] = vectors_ND[worst]
    return centroids_KD
