"""Seconds to cluster a table and to code all of its features on one core, and how well, against what one would use.

The features are Zipf-distributed around planted centres; the rarer one is, the noisier its vector. Everybody minimises
the squared error weighted by feature frequency, in 20 iterations of Lloyd's where a method has any, and then finds the
nearest codeword of every feature, the tail too. "Head" is the features that carry 80% of the impressions. A relative
error is the weighted squared error over the weighted variance, within all features or within the head.

Peers run once, our own figures are medians over several rounds. faiss is told not to subsample; scikit-learn draws its
start at random too (k-means++ is shown at the smaller size: on all rows it takes longer than the iterations).

    python -m benchmarks.clustering [FEATURES CODEWORDS]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits

from benchmarks.record import Figures
from saec.compress.clustering import COLD_ITERATIONS, assign, cluster

SIZES = ((100_000, 255), (1_000_000, 1024))
TARGETS_AT = 1_000_000
WIDTH, HEAD_SHARE, ROUNDS, DRIFT = 16, 0.8, 5, 0.02
Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]
Fit = Callable[[], tuple[Vectors, Callable[[], Codes]]]
"""Clusters, and returns the centroids and what codes all features."""


class Features(NamedTuple):
    """Vectors (N, D), their weights (N), and which of them are the head."""

    vectors_ND: Vectors
    frequency_N: Vectors
    head: Codes

    @classmethod
    def planted(cls, count: int, clusters: int) -> Features:
        """So many features around so many centres, in random order."""
        random = np.random.default_rng(count)
        frequency_N = count / random.permutation(np.arange(1, count + 1)).astype(np.float32)
        centres_KD = random.normal(size=(clusters, WIDTH))
        noise_N1 = 0.1 + 0.5 / np.sqrt(frequency_N[:, None])
        vectors_ND = centres_KD[random.integers(clusters, size=count)] + noise_N1 * random.normal(size=(count, WIDTH))
        order = np.argsort(-frequency_N, kind="stable")
        carried = np.cumsum(frequency_N[order], dtype=np.float64)
        head = order[: np.searchsorted(carried, HEAD_SHARE * carried[-1])]
        return cls(vectors_ND.astype(np.float32), frequency_N, head)

    def drifted(self) -> Features:
        """The same features an hour later."""
        moved_ND = np.random.default_rng(1).normal(0, DRIFT, self.vectors_ND.shape).astype(np.float32)
        return self._replace(vectors_ND=self.vectors_ND + moved_ND)

    def error(self, centroids_KD: Vectors, codes_N: Codes, chosen: Codes | slice) -> float:
        """Relative error over the chosen features."""
        vectors_MD, weight_M = self.vectors_ND[chosen].astype(np.float64), self.frequency_N[chosen].astype(np.float64)
        squared_M = ((vectors_MD - centroids_KD[codes_N[chosen]]) ** 2).sum(1)
        spread_M = ((vectors_MD - np.average(vectors_MD, axis=0, weights=weight_M)) ** 2).sum(1)
        return float(weight_M @ squared_M / (weight_M @ spread_M))


def by_scikit_learn(features: Features, model: KMeans | MiniBatchKMeans) -> Fit:
    """scikit-learn on all features, weighted."""
    def fit() -> tuple[Vectors, Callable[[], Codes]]:
        model.fit(features.vectors_ND, sample_weight=features.frequency_N)
        return model.cluster_centers_, lambda: model.predict(features.vectors_ND)
    return fit


def by_faiss(features: Features, codewords: int, chosen: Codes | slice) -> Fit:
    """Faiss on the chosen features, weighted, none of them left out."""
    def fit() -> tuple[Vectors, Callable[[], Codes]]:
        vectors_MD, weight_M = features.vectors_ND[chosen], features.frequency_N[chosen]
        model = faiss.Kmeans(WIDTH, codewords, niter=COLD_ITERATIONS, seed=1, min_points_per_centroid=1,
                             max_points_per_centroid=len(vectors_MD))
        model.train(vectors_MD, weights=weight_M)
        return model.centroids, lambda: model.index.search(features.vectors_ND, 1)[1][:, 0]
    return fit


def by_saec(features: Features, codewords: int, start_KD: Vectors | None = None) -> Fit:
    """Our own clustering of the head, cold, or warm from centroids of the hour before."""
    def fit() -> tuple[Vectors, Callable[[], Codes]]:
        vectors_MD, weight_M = features.vectors_ND[features.head], features.frequency_N[features.head]
        centroids_KD = cluster(vectors_MD, weight_M, codewords, start_KD=start_KD, seed=1)
        return centroids_KD, lambda: assign(features.vectors_ND, centroids_KD)[0]
    return fit


def measure(figures: Figures, name: str, features: Features, fit: Fit, rounds: int = 1) -> tuple[float, Vectors]:
    """Add what one method takes and reaches; returns its seconds for both steps, and its centroids."""
    fits, assigns = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        centroids_KD, code_all = fit()
        fitted = time.perf_counter()
        codes_N = code_all()
        fits.append(fitted - start)
        assigns.append(time.perf_counter() - fitted)
    figures.add(f"{name}: clustering", statistics.median(fits), "s")
    figures.add(f"{name}: coding all features", statistics.median(assigns), "s")
    figures.add(f"{name}: relative error, all", features.error(centroids_KD, codes_N, slice(None)), "share")
    figures.add(f"{name}: relative error, head", features.error(centroids_KD, codes_N, features.head), "share")
    return statistics.median(fits) + statistics.median(assigns), centroids_KD


def compare(figures: Figures, count: int, codewords: int) -> None:
    """Add all methods at one size, and how many times faster ours are."""
    features = Features.planted(count, codewords)
    size = f"{count:,} features, {codewords} codewords"
    figures.add(f"{size}: features of the head", len(features.head), "features")
    cold, start_KD = measure(figures, f"{size}, saec cold on the head", features, by_saec(features, codewords), ROUNDS)
    later = features.drifted()
    warm, _ = measure(figures, f"{size}, saec warm on the head", later, by_saec(later, codewords, start_KD), ROUNDS)
    lloyd = {"n_init": 1, "max_iter": COLD_ITERATIONS, "tol": 0.0, "algorithm": "lloyd", "random_state": 1}
    peers = {
        "faiss on the head": by_faiss(features, codewords, features.head),
        "faiss on all": by_faiss(features, codewords, slice(None)),
        "scikit-learn MiniBatchKMeans on all": by_scikit_learn(features, MiniBatchKMeans(codewords, random_state=1)),
        "scikit-learn Lloyd on all": by_scikit_learn(features, KMeans(codewords, init="random", **lloyd)),
    }
    if count < TARGETS_AT:
        peers["scikit-learn Lloyd on all from k-means++"] = by_scikit_learn(features, KMeans(codewords, **lloyd))
    wanted = {"faiss on all": 20, "scikit-learn Lloyd on all": 100} if count >= TARGETS_AT else {}
    for name, fit in peers.items():
        seconds, _ = measure(figures, f"{size}, {name}", features, fit)
        target = (f">= {wanted[name]}", seconds / cold >= wanted[name]) if name in wanted else (None, None)
        figures.add(f"{size}, cold, with coding, over {name}", seconds / cold, "times faster", *target)
        figures.add(f"{size}, warm, with coding, over {name}", seconds / warm, "times faster")
    target = (">= 5", cold / warm >= 5) if count >= TARGETS_AT else (None, None)
    figures.add(f"{size}, warm, with coding, over cold", cold / warm, "times faster", *target)


def main() -> None:
    """Measure both sizes, or the one that is asked for."""
    asked = [int(text) for text in sys.argv[1:3]]
    figures = Figures("clustering")
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        for count, codewords in [(asked[0], asked[1])] if asked else SIZES:
            compare(figures, count, codewords)
    figures.finish()


if __name__ == "__main__":
    main()
