"""Compares clusterers by AUC after retraining: the hourly loop on a real log, with the clusterer of the head exchanged.

Everything else stays the same: the original and its training, the features of the head, the succession of codewords,
and retraining. The last 24 hours of the stretch are compared as one set of rows; each whole hour is scored by the
version made from the hour before. Differences from our own clustering are paired, with two-sided 95% intervals (DeLong
for the AUC).

- faiss: unweighted, nothing left out, 20 iterations, anew every hour;
- scikit-learn: Lloyd from k-means++, weighted by frequency, 20 iterations, anew every hour;
- saec anew every hour: ours without last hour's centroids, which shows what the warm start contributes.

    python -m benchmarks.clustering trained
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from benchmarks.record import ROOT, Figures
from saec.compression import clustering, fields
from saec.config import Config
from saec.gate.comparison import compare, score
from saec.hours import Hour
from saec.schedule.backfill import run_backfill
from saec.schedule.pipeline import Pipeline
from saec.schedule.progress import ask
from saec.settings_file import load_config
from saec.steps import SERVED_SCORES

FIRST, LAST = Hour.parse("2017-10-01T03"), Hour.parse("2017-10-03T14")
JUDGED_HOURS = 24
CONFIDENCE = 0.975
"""Of each bound, so that both enclose 95%."""
Vectors = NDArray[np.float32]
Clusterer = Callable[[Vectors, Vectors, int, int], Vectors]
"""Vectors, weights, most codewords and seed to centroids."""


def by_faiss(vectors_ND: Vectors, _frequency_N: Vectors, codewords: int, seed: int) -> Vectors:
    """Unweighted k-means on every feature it is given."""
    faiss.omp_set_num_threads(1)  # applies to the calling thread only, and fields are clustered in threads of their own
    model = faiss.Kmeans(
        vectors_ND.shape[1],
        codewords,
        niter=20,
        seed=1 + seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors_ND),
    )
    model.train(np.ascontiguousarray(vectors_ND))
    return model.centroids


def by_scikit_learn(vectors_ND: Vectors, frequency_N: Vectors, codewords: int, seed: int) -> Vectors:
    """Weighted Lloyd from k-means++."""
    model = KMeans(codewords, n_init=1, max_iter=20, tol=0.0, algorithm="lloyd", random_state=seed)
    return model.fit(vectors_ND, sample_weight=frequency_N).cluster_centers_


def by_saec(vectors_ND: Vectors, frequency_N: Vectors, codewords: int, seed: int) -> Vectors:
    """Our own, cold."""
    return clustering.cluster(vectors_ND, frequency_N, codewords, seed=seed)


PEERS: dict[str, Clusterer] = {
    "saec anew every hour": by_saec,
    "faiss, unweighted": by_faiss,
    "scikit-learn Lloyd, weighted": by_scikit_learn,
}


class Exchanged:
    """Stands in for `saec.compression.clustering.cluster`; times what it stands in for."""

    def __init__(self, clusterer: Clusterer | None) -> None:
        """Use a peer, or our own with all that it is given."""
        self._clusterer = clusterer
        self.seconds = 0.0

    def __call__(self, vectors_ND: Vectors, frequency_N: Vectors, codewords: int, **options: object) -> Vectors:
        """Centroids of one field; no clustering is needed if there are no more features than codewords."""
        start = time.process_time()
        if self._clusterer is None or len(np.unique(vectors_ND, axis=0)) <= codewords:
            centroids_KD = clustering.cluster(vectors_ND, frequency_N, codewords, **options)
        else:
            centroids_KD = self._clusterer(vectors_ND, frequency_N, codewords, int(options.get("seed", 0)))
        self.seconds += time.process_time() - start
        return np.asarray(centroids_KD, np.float32)


def run(config: Config, clusterer: Clusterer | None) -> tuple[dict[str, NDArray[np.float64]], float, float]:
    """The loop over the whole stretch: labels and scores of the last hours, clustering seconds an hour, code churn."""
    exchanged = Exchanged(clusterer)
    pipeline = Pipeline(config)
    with patch.dict(fields.CLUSTERERS, {"saec": exchanged}):
        _, rows = run_backfill(pipeline, ask(FIRST, LAST, "benchmark", promote=True, stop_on_failure=False))
    judged = [
        row for row in rows if (config.workspace / "hours" / Hour.parse(str(row.hour)).compact / SERVED_SCORES).exists()
    ][-JUDGED_HOURS:]
    files = [
        load_file(config.workspace / "hours" / Hour.parse(str(row.hour)).compact / SERVED_SCORES) for row in judged
    ]
    scores = {name: np.concatenate([file[f"{name}_B"] for file in files]) for name in ("labels", "original", "version")}
    churn = statistics.fmean(row.record["code_churn"] for row in judged)
    return scores, exchanged.seconds / len(rows), churn


def configured(workspace: Path) -> Config:
    """The settings of configs/globo.yaml in a workspace of its own, on one thread."""
    config = load_config(ROOT / "configs" / "globo.yaml")
    source = ROOT / config.data.source
    data = config.data.model_copy(update={"source": str(source)})
    return config.model_copy(update={"workspace": workspace, "data": data, "threads": 1})


def main() -> None:
    """Run the loop once for each clusterer."""
    torch.set_num_threads(1)
    figures, found = Figures("clustering_trained"), {}
    with threadpool_limits(1):
        for name, clusterer in {"saec": None, **PEERS}.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name], seconds, churn = run(configured(Path(folder)), clusterer)
            figures.add(f"{name}: clustering", seconds, "s/hour")
            figures.add(f"{name}: code churn", churn, "share")
            print(f"{name}: {seconds:.3f} s an hour", flush=True)
    labels_B = found["saec"]["labels"].astype(np.uint8)
    own = score("saec", labels_B, found["saec"]["version"])
    figures.add("rows", len(labels_B), "rows")
    against = {"original": found["saec"]["original"], **{name: found[name]["version"] for name in PEERS}}
    for metric in ("auc", "logloss"):
        figures.add(
            f"saec: {metric}",
            getattr(compare(own, own, auc_margin=0, logloss_margin=0, confidence=CONFIDENCE), metric).challenger,
            metric,
        )
    for name, scores_B in against.items():
        if name in found and not np.array_equal(found[name]["labels"], labels_B):
            raise RuntimeError(f"{name} was judged on other rows than saec")
        result = compare(own, score(name, labels_B, scores_B), auc_margin=0, logloss_margin=0, confidence=CONFIDENCE)
        for difference in result.differences:
            figures.add(f"{name}: {difference.metric}", difference.reference, difference.metric)
            interval = f"95%: {difference.lower:+.5f} to {difference.upper:+.5f}"
            target = ("no worse", difference.loss_at_least <= 0.0) if name in PEERS else (None, None)
            figures.add(
                f"saec minus {name}: {difference.metric} ({interval})",
                difference.difference,
                difference.metric,
                *target,
            )
    figures.finish()


if __name__ == "__main__":
    main()
