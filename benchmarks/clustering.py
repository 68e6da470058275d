"""Measures time and error of clustering one field and coding its features on one core, against the usual libraries.

The features are Zipf-distributed around planted centres; the rarer one is, the noisier its vector. All methods minimise
the squared error weighted by feature frequency, in 20 iterations of Lloyd's where a method has a fixed number. "Head"
is the features that carry 80% of the impressions. A relative error is the weighted squared error over the weighted
variance, within the head or within all features.

All methods cluster and code the same vectors, once all features ("on all") and once the head ("on the head"), to
separate the gain of the head from that of the algorithm. In production we run "saec cold" on the head: nothing else is
ever coded, and the tail uses the default codeword, here the tail's mean. Coding the tail with these centroids is a
separate figure. "Warm" is the next hour, with slightly moved vectors, started from last hour's centroids and codes. On
all features the largest size needs too much memory for us.

Seconds are CPU seconds of the one thread that works, so that other work on the machine hardly counts. Ours on the head
are medians of several rounds; everything else runs once. A peer that would take longer than two minutes (`--limit`, in
seconds) is extrapolated from the size before, linearly in features times codewords, and marked as extrapolated. Each
size runs in a process of its own. The largest is also indexed with all keys, 8-bit codes and 8-bit fingerprints; these
seconds are wall time, and the peak memory is that of the process.

    python -m benchmarks.clustering [FEATURES ...]     one size or several of 100000 1000000 10000000 50000000
    python -m benchmarks.clustering --quick            the smallest, in half a minute
    python -m benchmarks.clustering --limit 600 ...    run peers that take up to ten minutes
    python -m benchmarks.clustering trained            AUC after retraining (benchmarks.clustering_trained)
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits

from benchmarks import clustering_trained
from benchmarks.record import Figures
from saec.compression.clustering import assign, cluster
from saec.compression.index import RetrievalIndex

SIZES = {100_000: 255, 1_000_000: 1024, 10_000_000: 255, 50_000_000: 255}
"""Codewords at each number of features."""
TARGETS_AT, INDEXED_AT = 1_000_000, 50_000_000
WIDTH, HEAD_SHARE, ROUNDS, DRIFT, ITERATIONS = 16, 0.8, 5, 0.02, 20
PEER_LIMIT_S = 120.0
PLUS_LIMIT = 60_000_000
"""Features times codewords up to which scikit-learn also starts from k-means++; beyond, that takes minutes."""
_BLOCK = 1 << 20

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]
Rows = Codes | slice
Measured = tuple[str, float, str]
Fit = Callable[[Vectors, Vectors], tuple[Vectors, Callable[[Vectors], Codes]]]
"""Clusters vectors with weights; returns the centroids and a function that codes vectors."""
EVERYTHING = slice(None)


class Features(NamedTuple):
    """Vectors (N, D), their weights (N), and which of them are the head."""

    vectors_ND: Vectors
    frequency_N: Vectors
    head: Codes

    @classmethod
    def planted(cls, count: int, clusters: int) -> Features:
        """So many features around so many centres, in random order."""
        random = np.random.default_rng(count)
        rank_N = random.permutation(np.arange(1, count + 1, dtype=np.int32))
        frequency_N = (count / rank_N).astype(np.float32)
        centres_KD = random.standard_normal((clusters, WIDTH), np.float32)
        vectors_ND = random.standard_normal((count, WIDTH), np.float32)
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            vectors_ND[block] *= 0.1 + 0.5 / np.sqrt(frequency_N[block, None])
            vectors_ND[block] += centres_KD[random.integers(clusters, size=len(vectors_ND[block]))]
        carried = np.cumsum(1.0 / np.arange(1, count + 1))
        last = np.searchsorted(carried, HEAD_SHARE * carried[-1])
        return cls(vectors_ND, frequency_N, np.flatnonzero(rank_N <= last))

    def drifted(self, rows: Rows) -> Vectors:
        """The vectors of these rows an hour later."""
        vectors_MD = self.vectors_ND[rows]
        moved_MD = np.random.default_rng(1).standard_normal(vectors_MD.shape, np.float32)
        moved_MD *= DRIFT
        moved_MD += vectors_MD
        return moved_MD


def relative_error(vectors_ND: Vectors, frequency_N: Vectors, centroids_KD: Vectors, codes_N: Codes) -> float:
    """Weighted squared error over weighted variance."""
    mean_D = (frequency_N @ vectors_ND) / frequency_N.sum(dtype=np.float64)
    error = spread = 0.0
    for start in range(0, len(vectors_ND), _BLOCK):
        block = slice(start, start + _BLOCK)
        vectors_BD, weight_B = vectors_ND[block].astype(np.float64), frequency_N[block].astype(np.float64)
        error += float(weight_B @ ((vectors_BD - centroids_KD[codes_N[block]]) ** 2).sum(1))
        spread += float(weight_B @ ((vectors_BD - mean_D) ** 2).sum(1))
    return error / spread


def by_scikit_learn(model: KMeans | MiniBatchKMeans) -> Fit:
    """Cluster with scikit-learn, weighted."""

    def fit(vectors_ND: Vectors, frequency_N: Vectors) -> tuple[Vectors, Callable[[Vectors], Codes]]:
        model.fit(vectors_ND, sample_weight=frequency_N)
        return model.cluster_centers_, model.predict

    return fit


def by_faiss(codewords: int) -> Fit:
    """Cluster with faiss, weighted, with no feature left out."""

    def fit(vectors_ND: Vectors, frequency_N: Vectors) -> tuple[Vectors, Callable[[Vectors], Codes]]:
        model = faiss.Kmeans(
            WIDTH,
            codewords,
            niter=ITERATIONS,
            seed=1,
            min_points_per_centroid=1,
            max_points_per_centroid=len(vectors_ND),
        )
        model.train(vectors_ND, weights=frequency_N)
        return model.centroids, lambda vectors_ND: model.index.search(vectors_ND, 1)[1][:, 0]

    return fit


def by_saec(codewords: int, start_KD: Vectors | None = None, guess_N: Codes | None = None) -> Fit:
    """Cluster with ours, cold, or warm from the centroids and codes of the hour before."""

    def fit(vectors_ND: Vectors, frequency_N: Vectors) -> tuple[Vectors, Callable[[Vectors], Codes]]:
        centroids_KD = cluster(vectors_ND, frequency_N, codewords, start_KD=start_KD, guess_N=guess_N, seed=1)
        return centroids_KD, lambda vectors_ND: assign(vectors_ND, centroids_KD, guess_N)[0]

    return fit


class Method(NamedTuple):
    """What one method took and reached."""

    clustering_s: float
    coding_s: float
    centroids_KD: Vectors
    codes_N: Codes

    @classmethod
    def measured(cls, fit: Fit, vectors_ND: Vectors, frequency_N: Vectors, rounds: int = 1) -> Method:
        """Cluster and code, several times over if asked to; medians."""
        fits, codings = [], []
        for _ in range(rounds):
            start = time.process_time()
            centroids_KD, code = fit(vectors_ND, frequency_N)
            fitted = time.process_time()
            codes_N = code(vectors_ND)
            fits.append(fitted - start)
            codings.append(time.process_time() - fitted)
        return cls(statistics.median(fits), statistics.median(codings), centroids_KD, codes_N)

    @property
    def seconds(self) -> float:
        """Both steps."""
        return self.clustering_s + self.coding_s

    def figures(self, name: str) -> list[Measured]:
        """The seconds as figures."""
        return [(f"{name}: clustering", self.clustering_s, "s"), (f"{name}: coding", self.coding_s, "s")]


def ours(features: Features, codewords: int) -> tuple[list[Measured], dict[str, Method]]:
    """Cold and warm on the head and, but for the largest size, on all; and what it would take to code the tail too."""
    vectors_MD, weight_M = features.vectors_ND[features.head], features.frequency_N[features.head]
    cold = Method.measured(by_saec(codewords), vectors_MD, weight_M, ROUNDS)
    later_MD = features.drifted(features.head)
    warm = Method.measured(by_saec(codewords, cold.centroids_KD, cold.codes_N), later_MD, weight_M, ROUNDS)
    blind = Method.measured(by_saec(codewords, cold.centroids_KD), later_MD, weight_M, ROUNDS)
    start = time.process_time()
    codes_N, _ = assign(features.vectors_ND, cold.centroids_KD)
    all_s = time.process_time() - start
    everything = (features.vectors_ND, features.frequency_N, cold.centroids_KD, codes_N)
    on_all, methods = _ours_on_all(features, codewords) if len(codes_N) < INDEXED_AT else ([], {})
    return (
        [
            *cold.figures("saec cold"),
            *warm.figures("saec warm"),
            *blind.figures("saec warm without last hour's codes"),
            ("saec cold: relative error, head", relative_error(vectors_MD, weight_M, *cold[2:]), "share"),
            ("saec warm: relative error, head", relative_error(later_MD, weight_M, *warm[2:]), "share"),
            (
                "saec anew in the next hour: relative error, head",
                relative_error(later_MD, weight_M, *Method.measured(by_saec(codewords), later_MD, weight_M)[2:]),
                "share",
            ),
            ("saec cold: relative error, all, tail on its default codeword", _with_default(features, cold), "share"),
            ("saec cold, coding all rows too: coding", all_s, "s"),
            ("saec cold, coding all rows too: relative error, all", relative_error(*everything), "share"),
            *on_all,
        ],
        {"saec cold": cold, "saec warm": warm} | methods,
    )


def _ours_on_all(features: Features, codewords: int) -> tuple[list[Measured], dict[str, Method]]:
    """Cold and warm on every feature, as the peers."""
    weight_N = features.frequency_N
    cold = Method.measured(by_saec(codewords), features.vectors_ND, weight_N)
    later_ND = features.drifted(EVERYTHING)
    warm = Method.measured(by_saec(codewords, cold.centroids_KD, cold.codes_N), later_ND, weight_N)
    figures = [*cold.figures("saec cold on all"), *warm.figures("saec warm on all")]
    for name, vectors_ND, method in (("cold", features.vectors_ND, cold), ("warm", later_ND, warm)):
        error = relative_error(vectors_ND, weight_N, *method[2:])
        figures.append((f"saec {name} on all: relative error, all", error, "share"))
        error = _error_of_head(features, vectors_ND, method)
        figures.append((f"saec {name} on all: relative error, head", error, "share"))
    return figures, {"saec cold on all": cold, "saec warm on all": warm}


def _error_of_head(features: Features, vectors_ND: Vectors, method: Method) -> float:
    """Relative error within the head of what was clustered and coded on all."""
    head = features.head
    return relative_error(vectors_ND[head], features.frequency_N[head], method.centroids_KD, method.codes_N[head])


def _with_default(features: Features, cold: Method) -> float:
    """Relative error over all features when the tail shares one more codeword, its mean."""
    in_tail_N = np.ones(len(features.vectors_ND), bool)
    in_tail_N[features.head] = False
    weight_N = np.where(in_tail_N, features.frequency_N, 0.0).astype(np.float32)
    default_D = (weight_N @ features.vectors_ND) / weight_N.sum(dtype=np.float64)
    codes_N = np.full(len(in_tail_N), len(cold.centroids_KD))
    codes_N[features.head] = cold.codes_N
    codebook_KD = np.concatenate([cold.centroids_KD, default_D[None].astype(np.float32)])
    return relative_error(features.vectors_ND, features.frequency_N, codebook_KD, codes_N)


def peers(
    features: Features, codewords: int, before: dict[str, float], limit_s: float
) -> tuple[list[Measured], dict[str, float]]:
    """All peers; returns their figures, and the seconds of each for a feature and codeword.

    Args:
        features: to cluster.
        codewords: how many.
        before: the seconds of each for a feature and codeword at the size before.
        limit_s: peers that would take longer are not run.
    """
    lloyd = {"n_init": 1, "max_iter": ITERATIONS, "tol": 0.0, "algorithm": "lloyd", "random_state": 1}
    mini_batch = MiniBatchKMeans(codewords, random_state=1)
    fits: list[tuple[str, Fit, Rows]] = []
    for where, rows in (("the head", features.head), ("all", EVERYTHING)):
        fits.append((f"faiss on {where}", by_faiss(codewords), rows))
        random_start = by_scikit_learn(KMeans(codewords, init="random", **lloyd))
        fits.append((f"scikit-learn Lloyd on {where}", random_start, rows))
        if len(features.vectors_ND[rows]) * codewords <= PLUS_LIMIT:
            plus = by_scikit_learn(KMeans(codewords, init="k-means++", **lloyd))
            fits.append((f"scikit-learn Lloyd on {where} from k-means++", plus, rows))
    fits.insert(-1, ("scikit-learn MiniBatchKMeans on all", by_scikit_learn(mini_batch), EVERYTHING))
    figures, cost = [], dict[str, float]()
    for name, fit, rows in fits:
        vectors_MD, weight_M = features.vectors_ND[rows], features.frequency_N[rows]
        work = len(vectors_MD) * codewords
        if work * before.get(name, 0.0) > limit_s:
            cost[name] = before[name]
            figures.append((f"{name}: clustering and coding (extrapolated)", work * before[name], "s"))
            continue
        method = Method.measured(fit, vectors_MD, weight_M)
        cost[name] = method.seconds / work
        figures += method.figures(name)
        error = relative_error(vectors_MD, weight_M, *method[2:])
        if rows is EVERYTHING:
            figures.append((f"{name}: relative error, all", error, "share"))
            error = _error_of_head(features, features.vectors_ND, method)
        figures.append((f"{name}: relative error, head", error, "share"))
        print(f"  {name}: {method.seconds:.2f} s, {error:.5f}", flush=True)
    return figures, cost


def compare(
    count: int, codewords: int, before: dict[str, float], limit_s: float = PEER_LIMIT_S
) -> tuple[list[Measured], dict[str, float]]:
    """All methods at one size, in a process of its own: figures, and the peers' seconds a feature and codeword."""
    _one_thread()
    features = Features.planted(count, codewords)
    print(f"{count:,} features, {codewords} codewords, {len(features.head):,} of the head", flush=True)
    figures, methods = ours(features, codewords)
    figures.insert(0, ("features of the head", len(features.head), "features"))
    print(*figures, sep="\n", flush=True)
    of_peers, cost = peers(features, codewords, before, limit_s)
    ratios = []
    for name, seconds in cost.items():
        work = codewords * (len(features.head) if "the head" in name else count)
        marked = name + (" (extrapolated)" if before.get(name) == seconds else "")
        for own, method in methods.items():
            if not ("on all" in own and "the head" in name):
                ratios.append((f"{own} over {marked}", seconds * work / method.seconds, "times faster"))
    for where in ("", " on all")[: len(methods) // 2]:
        times = methods[f"saec cold{where}"].seconds / methods[f"saec warm{where}"].seconds
        ratios.append((f"saec warm{where} over saec cold{where}", times, "times faster"))
    return [*figures, *of_peers, *ratios], cost


def indexed(count: int, codewords: int) -> list[Measured]:
    """Cluster the head, code all features and index all keys, in a process of its own: wall time and peak memory."""
    _one_thread()
    features = Features.planted(count, codewords)
    keys_N = np.random.default_rng(2).permutation(np.arange(1, count + 1, dtype=np.uint64))
    marks, cpu = [time.perf_counter()], time.process_time()
    centroids_KD = cluster(features.vectors_ND[features.head], features.frequency_N[features.head], codewords, seed=1)
    marks.append(time.perf_counter())
    codes_N = np.concatenate(
        [
            assign(features.vectors_ND[start : start + _BLOCK], centroids_KD)[0].astype(np.uint8) + 1
            for start in range(0, count, _BLOCK)
        ]
    )
    marks.append(time.perf_counter())
    index = RetrievalIndex.build(keys_N, codes_N, code_bits=8, fingerprint_bits=8)
    marks.append(time.perf_counter())
    cpu = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    asked_N = keys_N[:10_000_000]
    start = time.process_time()
    index.lookup(asked_N)
    steps = zip(("clustering", "coding all features", "indexing all keys"), marks, marks[1:], strict=False)
    return [
        *[(f"clustered and indexed: {step}, wall", end - begin, "s") for step, begin, end in steps],
        ("clustered and indexed: CPU", cpu, "s"),
        ("clustered and indexed: wall", marks[-1] - marks[0], "s"),
        ("clustered and indexed: peak memory, features and keys included", peak, "GiB"),
        ("index: size", index.nbytes / count, "bytes/key"),
        ("index: look-up of known keys", (time.process_time() - start) / len(asked_N) * 1e9, "ns/key"),
    ]


def _one_thread() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    threadpool_limits(1)


def targets(figures: list[Measured], size: int) -> dict[str, tuple[str, bool]]:
    """The targets of one size's figures that have one; what is extrapolated has none."""
    value = {name: figure for name, figure, _ in figures}
    found = {}
    if size == TARGETS_AT:
        rivals = {"faiss on all": 20, "scikit-learn Lloyd on all": 100}
        least = {f"saec cold over {name}": times for name, times in rivals.items()} | {"saec warm over saec cold": 5}
        found = {name: (f">= {times}", value[name] >= times) for name, times in least.items() if name in value}
        error = "relative error, head"
        best = min(value[f"{name}: {error}"] for name in rivals if f"{name}: {error}" in value)
        found[f"saec cold: {error}"] = (
            f"<= {best:.4f}, the better of faiss and Lloyd on all",
            value[f"saec cold: {error}"] <= best,
        )
    for name, most in (
        ("clustered and indexed: wall", 300.0),
        ("clustered and indexed: peak memory, features and keys included", 12.0),
        ("index: look-up of known keys", 100.0),
    ):
        if name in value:
            found[name] = (f"<= {most:g}", value[name] <= most)
    return found


def asked(words: list[str]) -> tuple[list[int], float]:
    """The sizes that a command line asks for, and the limit of peers, in seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clustering")
    parser.add_argument("sizes", nargs="*", type=int, help=f"of {list(SIZES)}; all when left out")
    parser.add_argument("--quick", action="store_true", help="the smallest size alone")
    parser.add_argument("--limit", type=float, default=PEER_LIMIT_S)
    found = parser.parse_args(words)
    if unknown := set(found.sizes) - set(SIZES):
        parser.error(f"no such sizes {sorted(unknown)}; there are {list(SIZES)}")
    return [min(SIZES)] if found.quick else found.sizes or list(SIZES), found.limit


def main() -> None:
    """Measure the sizes asked for, each in a process of its own; or hand over to the trained tables."""
    if sys.argv[1:] == ["trained"]:
        clustering_trained.main()
        return
    (sizes, limit), record, cost = asked(sys.argv[1:]), Figures("clustering"), dict[str, float]()
    for count in sizes:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as process:
            figures, cost = process.submit(compare, count, SIZES[count], cost, limit).result()
            if count >= INDEXED_AT:
                figures = [*process.submit(indexed, count, SIZES[count]).result(), *figures]
        wanted = targets(figures, count)
        for name, value, unit in figures:
            record.add(
                f"{count:,} features, {SIZES[count]} codewords: {name}", value, unit, *wanted.get(name, (None, None))
            )
    record.finish()


if __name__ == "__main__":
    main()
