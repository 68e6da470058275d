"""Clusters fields with thousands of codewords, in two levels.

Flat k-means with K codewords costs N * K per iteration. Here the head is first split into about sqrt(K) coarse
clusters. Each gets a share of the codewords by its weighted error and is clustered separately, at a cost of N *
sqrt(K). A few iterations over the whole head follow in `saec.compression.clustering`.

Shapes: N head features, K codewords, G coarse clusters, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saec.compression.nearest import assign

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def coarse_to_fine(
    vectors_ND: NDArray[np.float32],
    weight_N: NDArray[np.float32],
    codewords: int,
    flat: Callable[[NDArray[np.float32], NDArray[np.float32], int], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Centroids, `codewords` or somewhat fewer where coarse clusters have fewer distinct vectors than their share.

    Args:
        vectors_ND: embedding vectors of the head.
        weight_N: their weights.
        codewords: how many are wanted.
        flat: clusters vectors with weights into so many codewords.
    """
    coarse_GD = flat(vectors_ND, weight_N, int(codewords**0.5))
    group_N, errors_N = assign(vectors_ND, coarse_GD)
    sizes_G = np.bincount(group_N, minlength=len(coarse_GD))
    error_G = np.bincount(group_N, weight_N * errors_N, len(coarse_GD)).astype(np.float64)
    shares_G = shared_out(error_G, sizes_G, codewords)
    places_by_group = np.split(np.argsort(group_N, kind="stable"), np.cumsum(sizes_G)[:-1])
    return np.concatenate(
        [
            flat(vectors_ND[places], weight_N[places], share)
            for places, share in zip(places_by_group, shares_G.tolist(), strict=True)
            if share
        ]
    )


def shared_out(errors_G: NDArray[np.float64], sizes_G: NDArray[np.int64], codewords: int) -> NDArray[np.int64]:
    """Codewords of each coarse cluster: in proportion to its weighted error, at least one and at most its features.

    >>> shared_out(np.array([6.0, 2.0, 0.0]), np.array([90, 90, 90]), 9)
    array([6, 2, 1])
    >>> shared_out(np.array([6.0, 2.0, 0.0]), np.array([3, 90, 0]), 9)
    array([3, 6, 0])
    """
    shares_G = np.minimum(sizes_G, 1)
    while (missing := codewords - int(shares_G.sum())) > 0 and (open_G := (shares_G < sizes_G) & (errors_G > 0)).any():
        wanted_G = np.where(open_G, errors_G, 0.0)
        exact_G = missing * wanted_G / wanted_G.sum()
        added_G = np.floor(exact_G).astype(np.int64)
        largest = np.argsort(added_G - exact_G, kind="stable")[: missing - int(added_G.sum())]
        added_G[largest] += 1
        shares_G = np.minimum(shares_G + np.where(open_G, added_G, 0), sizes_G)
    return shares_G
