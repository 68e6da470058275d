"""Clusters the heads of all fields, from last hour's clusters or from scratch, and reports figures on the clusters.

Decisions:
- Clusters start from those of the hour before, so that codes keep their meaning. They age: their relative error grows
  as features come and go. Once it is `REBUILD` times what it was when they were last drawn from scratch, they are drawn
  from scratch again, and the better result is kept.
- Fields are independent, so they are clustered on as many threads as the configuration gives; the result does not
  depend on the number.

Shapes: H features of the head, F fields, C clusters of all fields, K of one, D width.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from saec.compression import clustering, reference
from saec.compression.clustering import assign
from saec.compression.codebooks import Centroids
from saec.compression.places import CLUSTERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saec.config import Config
    from saec.train.tensors import Arrays

CLUSTERERS = {"saec": clustering.cluster, "scikit-learn": reference.cluster}
"""The choices of `compression.clusterer`."""
REBUILD = 2.0
LEAST_WEIGHT = 1e-30
"""Minimum frequency for clustering: a field whose frequencies have all decayed still has clusters."""


class FieldClusters(NamedTuple):
    """The clusters of one field, and their error."""

    centroids_KD: NDArray[np.float32]
    codes_H: NDArray[np.int16]
    """Cluster of each of the field's features of the head, from 0."""
    error: float
    """Weighted squared distance to the centroids over that to the mean."""
    rebuilt: bool


@dataclass(frozen=True)
class Clusters:
    """The clusters of all fields."""

    centroids: Centroids
    codes_H: NDArray[np.int16]
    """Code of each feature of the head."""
    drawn_errors_F: NDArray[np.float64]
    """Relative error of each field's clusters when they were last drawn from scratch."""
    figures_F: Arrays


def cluster_fields(
    config: Config,
    vectors_HD: NDArray[np.float32],
    fields_H: NDArray[np.int64],
    weights_H: NDArray[np.float32],
    before: Centroids,
    drawn_errors_F: NDArray[np.float64],
    codewords: int,
    old_codes_H: NDArray[np.int16],
) -> Clusters:
    """Cluster the head of every field into at most `codewords` clusters.

    Args:
        config: settings of the pipeline.
        vectors_HD: embedding vectors of the head.
        fields_H: their fields.
        weights_H: their frequencies.
        before: clusters of the hour before, to start from.
        drawn_errors_F: relative error of each field's clusters when last drawn from scratch.
        codewords: maximum number of clusters of a field.
        old_codes_H: codes that the features had in the hour before; they save time and change nothing.
    """
    weights_H = np.maximum(weights_H, np.float32(LEAST_WEIGHT))
    order_H = np.argsort(fields_H.astype(np.uint16), kind="stable")  # 16 bits: a radix sort
    heads = np.split(order_H, np.cumsum(np.bincount(fields_H, minlength=len(drawn_errors_F)))[:-1])

    def of_field(field: int) -> FieldClusters:
        chosen = heads[field]
        return _cluster_field(
            config,
            field,
            vectors_HD[chosen],
            weights_H[chosen],
            codewords,
            before.of(field),
            float(drawn_errors_F[field]),
            guess_H=old_codes_H[chosen].astype(np.int64) - CLUSTERS,
        )

    if config.threads == 1:
        by_field = [of_field(field) for field in range(len(heads))]
    else:
        with ThreadPoolExecutor(config.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            by_field = list(pool.map(of_field, range(len(heads))))
    centroids = Centroids.joined([found.centroids_KD for found in by_field])
    codes_H = np.zeros(len(fields_H), np.int16)
    for chosen, found in zip(heads, by_field, strict=True):
        codes_H[chosen] = found.codes_H + CLUSTERS
    error_F = np.array([found.error for found in by_field])
    rebuilt_F = np.array([found.rebuilt for found in by_field])
    return Clusters(
        centroids=centroids,
        codes_H=codes_H,
        drawn_errors_F=np.where(rebuilt_F, error_F, drawn_errors_F),
        figures_F={
            "head": np.array([len(chosen) for chosen in heads]),
            "clusters": centroids.counts_F,
            "used": np.array([len(np.unique(found.codes_H)) for found in by_field]),
            "largest_share": np.array(
                [
                    _largest_share(found.codes_H, weights_H[chosen])
                    for chosen, found in zip(heads, by_field, strict=True)
                ]
            ),
            "error": error_F,
            "drift": np.array([_drift(before.of(field), found.centroids_KD) for field, found in enumerate(by_field)]),
            "rebuilt": rebuilt_F,
        },
    )


def _cluster_field(
    config: Config,
    field: int,
    vectors_HD: NDArray[np.float32],
    weights_H: NDArray[np.float32],
    codewords: int,
    start_KD: NDArray[np.float32],
    drawn_error: float,
    *,
    guess_H: NDArray[np.int64],
) -> FieldClusters:
    """The clusters of one field: from last hour's, or from scratch if there were none or they have aged."""
    if not len(vectors_HD):
        return FieldClusters(start_KD[:0], np.zeros(0, np.int16), 0.0, rebuilt=False)

    def found(start_KD: NDArray[np.float32] | None, guess_H: NDArray[np.int64] | None) -> FieldClusters:
        centroids_KD = CLUSTERERS[config.compression.clusterer](
            vectors_HD,
            weights_H,
            codewords,
            start_KD=start_KD,
            guess_N=guess_H,
            seed=config.seed + field,
            field=config.field_names[field],
        )
        guess_H = None if guess_H is None else np.where(guess_H < len(centroids_KD), guess_H, -1)
        codes_H, squared_H = assign(vectors_HD, centroids_KD, guess_H)
        error = _relative(squared_H, vectors_HD, weights_H)
        return FieldClusters(centroids_KD, codes_H.astype(np.int16), error, rebuilt=start_KD is None)

    if not len(start_KD):
        return found(None, None)
    moved = found(start_KD, np.maximum(guess_H, -1))
    if moved.error <= REBUILD * drawn_error:
        return moved
    drawn = found(None, None)
    return drawn if drawn.error < moved.error else moved._replace(rebuilt=True)


def _relative(squared_H: NDArray[np.float32], vectors_HD: NDArray[np.float32], weights_H: NDArray[np.float32]) -> float:
    """Weighted squared error over the weighted spread; 0 when all vectors are the same."""
    mean_D = np.average(vectors_HD, axis=0, weights=weights_H)
    spread = float(weights_H.astype(np.float64) @ np.square(vectors_HD - mean_D).sum(1))
    return float(weights_H.astype(np.float64) @ squared_H) / spread if spread > 0 else 0.0


def _largest_share(codes_H: NDArray[np.int16], weights_H: NDArray[np.float32]) -> float:
    """Share of the head's frequency that the largest cluster has."""
    return float(np.bincount(codes_H, weights_H).max() / weights_H.sum()) if len(codes_H) else 0.0


def _drift(before_KD: NDArray[np.float32], now_KD: NDArray[np.float32]) -> float:
    """How far centroids have moved within the hour, over how far they lie from their mean (root mean squares)."""
    common = min(len(before_KD), len(now_KD))
    spread = np.square(now_KD - now_KD.mean(0)).sum() / len(now_KD) if common else 0.0
    moved = np.square(now_KD[:common] - before_KD[:common]).sum() / common if common else 0.0
    return float(np.sqrt(moved / spread)) if spread > 0 else 0.0
