"""Finds the nearest codeword of each vector, the basic operation of k-means.

Decisions:
- A blocked matrix product and numpy's argmin. The squared norms are one more column of the product, so that distances
  need no second pass; errors are then computed from the differences, without cancellation.
- If a guess (last iteration's code, last hour's code) is nearer to its vector than half the distance to any other
  codeword, it is the answer, by the triangle inequality. If features form clusters, this spares 95 rows in 100 the
  product and never changes a code; otherwise it costs a twentieth.
- On a GPU the product and the argmin run there, over larger blocks; errors are still computed on the processor.

Shapes: N vectors, M of them, K codewords, D width, B rows of a block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saec import device
from saec.compression.products import multiply

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Codes = NDArray[np.int64]

BLOCK = 1 << 11
"""Rows whose distances to all codewords are held at once: with 255 codewords 2 MB, which stay in the cache."""
_DISTANCES = 1 << 22
"""Distances held at once at most: with thousands of codewords blocks have fewer rows."""
_DISTANCES_THERE = 1 << 28
"""Distances held at once on a GPU: 1 GiB."""
_STRIP = 32
"""Rows of a product are filled up to a multiple of this."""
_ROUNDING = 2e-5
"""Error of a computed squared distance, in parts of the largest codeword's squared norm; several times the true one."""


def assign(vectors_ND: Vectors, centroids_KD: Vectors, guess_N: Codes | None = None) -> tuple[Codes, Vectors]:
    """The nearest codeword of each vector (the lowest of equals), and the squared distance to it.

    Args:
        vectors_ND: vectors to code.
        centroids_KD: codewords, at least one.
        guess_N: a code that each vector is likely to have, or -1; saves time, changes nothing.
    """
    vectors_ND, centroids_KD = np.ascontiguousarray(vectors_ND), np.ascontiguousarray(centroids_KD)
    if guess_N is None:
        codes_N = _search(vectors_ND, centroids_KD)
    else:
        codes_N = guess_N.astype(np.int64)
        unsure_M = _unsure(vectors_ND, centroids_KD, codes_N)
        codes_N[unsure_M] = _search(vectors_ND[unsure_M], centroids_KD)
    codes_N = _first_of_equals(centroids_KD)[codes_N]
    return codes_N, squared_distances(vectors_ND, centroids_KD, codes_N)


def squared_distances(vectors_ND: Vectors, centroids_KD: Vectors, codes_N: Codes) -> Vectors:
    """Squared distance of each vector to the codeword of its code."""
    errors_N = np.empty(len(vectors_ND), np.float32)
    for start in range(0, len(vectors_ND), BLOCK):
        block = slice(start, start + BLOCK)
        difference_BD = vectors_ND[block] - centroids_KD[codes_N[block]]
        np.einsum("bd,bd->b", difference_BD, difference_BD, out=errors_N[block])
    return errors_N


def nearest_other(centroids_KD: Vectors) -> tuple[Codes, Vectors]:
    """The codeword nearest to each codeword but itself, and the squared distance to it (infinite when there is one)."""
    count = len(centroids_KD)
    if count == 1:
        return np.zeros(1, np.int64), np.full(1, np.inf, np.float32)
    neighbour_K = _search(centroids_KD, centroids_KD, np.arange(count))
    return neighbour_K, squared_distances(centroids_KD, centroids_KD, neighbour_K)


def _unsure(vectors_ND: Vectors, centroids_KD: Vectors, guess_N: Codes) -> Codes:
    """Indices of the vectors that may be nearer to another codeword than to the guessed one."""
    _, gap_K = nearest_other(centroids_KD)
    slack = _ROUNDING * float(np.square(centroids_KD).sum(1).max())
    distance_K = np.sqrt(gap_K, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        safe_K = np.maximum(distance_K / 2 - slack / (2 * distance_K), 0.0) ** 2
    return np.flatnonzero((guess_N < 0) | ~(squared_distances(vectors_ND, centroids_KD, guess_N) < safe_K[guess_N]))


def _search(vectors_ND: Vectors, centroids_KD: Vectors, own_N: Codes | None = None) -> Codes:
    """The nearest codeword of each vector, by looking at all of them, but for `own_N` if given."""
    if device.current != device.CPU:
        return _searched_on(device.current, vectors_ND, centroids_KD, own_N)
    width = vectors_ND.shape[1]
    norms_K1 = np.square(centroids_KD).sum(1, keepdims=True)
    product_DK = np.ascontiguousarray(np.concatenate([-2.0 * centroids_KD, norms_K1], axis=1).T)
    block = max(_STRIP, min(BLOCK, _DISTANCES // len(centroids_KD) // _STRIP * _STRIP, _strips(len(vectors_ND))))
    extended_BD = np.ones((block, width + 1), np.float32)
    distances_BK = np.empty((block, len(centroids_KD)), np.float32)
    codes_N = np.empty(len(vectors_ND), np.int64)
    for start in range(0, len(vectors_ND), block):
        end = min(start + block, len(vectors_ND))
        extended_BD[: end - start, :width] = vectors_ND[start:end]
        rows = _strips(end - start)  # a product of a few rows may round otherwise than one of many
        multiply(extended_BD[:rows], product_DK, distances_BK[:rows])
        if own_N is not None:
            distances_BK[np.arange(end - start), own_N[start:end]] = np.inf
        codes_N[start:end] = distances_BK[: end - start].argmin(1)  # three times as fast as torch's; first of equals
    return codes_N


def _searched_on(where: str, vectors_ND: Vectors, centroids_KD: Vectors, own_N: Codes | None = None) -> Codes:
    """`_search` on a device."""
    import torch  # noqa: PLC0415 - clustering runs without it where there is none

    centroids_DK = torch.from_numpy(centroids_KD).to(where).T.contiguous()
    norms_K = centroids_DK.square().sum(0)
    block = max(1, _DISTANCES_THERE // len(centroids_KD))
    codes_N = np.empty(len(vectors_ND), np.int64)
    for start in range(0, len(vectors_ND), block):
        vectors_BD = torch.from_numpy(vectors_ND[start : start + block]).to(where)
        distances_BK = torch.addmm(norms_K, vectors_BD, centroids_DK, alpha=-2.0)
        if own_N is not None:
            own_B1 = torch.from_numpy(own_N[start : start + block]).to(where)[:, None]
            distances_BK.scatter_(1, own_B1, float("inf"))
        codes_N[start : start + block] = distances_BK.argmin(1).cpu().numpy()
    return codes_N


def _strips(rows: int) -> int:
    """The number of rows, rounded up to whole strips."""
    return -(-rows // _STRIP) * _STRIP


def _first_of_equals(centroids_KD: Vectors) -> Codes:
    """The lowest code of the same codeword: a matrix product may round equal columns apart, so argmin finds any."""
    if len(np.unique(centroids_KD[:, 0])) == len(centroids_KD):  # the usual case, and much quicker to see
        return np.arange(len(centroids_KD))
    _, first_M, inverse_K = np.unique(centroids_KD, axis=0, return_index=True, return_inverse=True)
    return first_M[inverse_K]
