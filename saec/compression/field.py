"""Clusters the head of one field, from last hour's clusters or from scratch.

Decisions:
- Clusters start from those of the hour before, so that codes keep their meaning. They age: their relative error grows
  as features come and go. Once it is `REBUILD` times what it was when they were last drawn from scratch, they are drawn
  from scratch again, and the better result is kept.

Shapes: H features of the field's head, K clusters, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from saec.compression import clustering, reference
from saec.compression.blocks import Blocks, Features, Step, least_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saec.config import Config

CLUSTERERS = {"saec": clustering.cluster, "scikit-learn": reference.cluster}
"""The choices of `compression.clusterer`."""
REBUILD = 2.0


class Head(NamedTuple):
    """The head of one field, and what is known of its clusters in the hour before."""

    field: int
    vectors_HD: NDArray[np.float32]
    weights_H: NDArray[np.float32]
    """Frequencies, none of them 0."""
    guess_H: NDArray[np.int16]
    """Cluster that each feature had, from 0; negative where it had none."""
    start_KD: NDArray[np.float32]
    drawn_error: float
    """Relative error of the clusters when they were last drawn from scratch."""
    codewords: int
    """Maximum number of clusters."""


class FieldClusters(NamedTuple):
    """The clusters of one field, and their error."""

    centroids_KD: NDArray[np.float32]
    codes_H: NDArray[np.int16]
    """Cluster of each of the field's features of the head, from 0."""
    error: float
    """Weighted squared distance to the centroids over that to the mean."""
    rebuilt: bool


def clusters_of(config: Config, head: Head, features: Features | None = None) -> FieldClusters:
    """The clusters of one field: from last hour's, or from scratch if there were none or they have aged.

    Args:
        config: settings of the pipeline.
        head: of the field.
        features: the head's features, if they are not to be asked in this process alone.

    Raises:
        TrainingError: as `saec.compression.clustering.cluster` does.
    """
    if not len(head.vectors_HD):
        return FieldClusters(head.start_KD[:0], np.zeros(0, np.int16), 0.0, rebuilt=False)
    features = features or Blocks(head.vectors_HD, head.weights_H, least_weight(head.weights_H))
    spread = _spread(features, head.vectors_HD.shape[1])

    def found(start_KD: NDArray[np.float32] | None, guess_H: NDArray[np.int64] | None) -> FieldClusters:
        features.guess(guess_H)
        centroids_KD = CLUSTERERS[config.compression.clusterer](
            head.vectors_HD,
            head.weights_H,
            head.codewords,
            start_KD=start_KD,
            guess_N=guess_H,
            seed=config.seed + head.field,
            field=config.field_names[head.field],
            features=features,
        )
        coded = features.total(Step.CODED, centroids_KD)
        error = coded.error / spread if spread > 0 else 0.0
        return FieldClusters(centroids_KD, features.codes(), error, rebuilt=start_KD is None)

    if not len(head.start_KD):
        return found(None, None)
    moved = found(head.start_KD, np.maximum(head.guess_H.astype(np.int64), -1))
    if moved.error <= REBUILD * head.drawn_error:
        return moved
    drawn = found(None, None)
    return drawn if drawn.error < moved.error else moved._replace(rebuilt=True)


def _spread(features: Features, width: int) -> float:
    """Weighted squared distance to the mean; 0 when all vectors are the same."""
    total = features.total(Step.MEAN, np.zeros((1, width), np.float32))
    mean_1D: NDArray[np.float32] = total.vectors_KD.astype(np.float32) / total.weight_K.astype(np.float32)[:, None]
    return features.total(Step.SPREAD, mean_1D).error
