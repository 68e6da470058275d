"""scikit-learn's k-means behind the interface of our clusterer, for comparison (`compression.clusterer`).

It is Lloyd's algorithm, weighted by frequency. A cold start uses k-means++, a warm start last hour's centroids. It is
far slower than ours and no better (docs/results.md); it lets users check that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from saec.compression import clustering

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saec.compression.blocks import Features

ITERATIONS = 20
"""At most; as many as our own has."""


def cluster(
    vectors_ND: NDArray[np.float32],
    frequency_N: NDArray[np.float32],
    codewords: int,
    *,
    start_KD: NDArray[np.float32] | None = None,
    guess_N: NDArray[np.int64] | None = None,
    seed: int = 0,
    field: str = "",
    features: Features | None = None,  # noqa: ARG001 - it asks the vectors themselves
) -> NDArray[np.float32]:
    """Centroids of the head of one field; arguments and errors as in `saec.compression.clustering.cluster`."""
    if len(np.unique(vectors_ND, axis=0)) <= codewords:
        return clustering.cluster(
            vectors_ND, frequency_N, codewords, start_KD=start_KD, guess_N=guess_N, seed=seed, field=field
        )
    from sklearn.cluster import KMeans  # noqa: PLC0415 - a second and 60 MB that a run with our own does not pay

    warm = start_KD is not None and len(start_KD) >= codewords
    start = start_KD[:codewords] if warm and start_KD is not None else "k-means++"
    model = KMeans(codewords, init=start, n_init=1, max_iter=ITERATIONS, tol=0.0, algorithm="lloyd", random_state=seed)
    with threadpool_limits(1):  # sums of several threads differ in their last bits
        model.fit(vectors_ND, sample_weight=np.maximum(frequency_N, np.float32(1e-30)))
    return np.asarray(model.cluster_centers_, np.float32)
