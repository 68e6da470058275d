"""Clusters the heads of all fields (field.py), and reports figures on the clusters.

Decisions: fields are independent, so they are clustered on as many threads as the configuration gives, and over ranks
where this process leads some (together.py); the result does not depend on either number.

Shapes: H features of the head, F fields, C clusters of all fields, K of one, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saec.compression.codebooks import Centroids
from saec.compression.field import Head
from saec.compression.places import CLUSTERS
from saec.compression.together import clustered
from saec.data.distinct import distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saec.config import Config
    from saec.train.tensors import Arrays

LEAST_WEIGHT = 1e-30
"""Minimum frequency for clustering: a field whose frequencies have all decayed still has clusters."""


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

    def head_of(field: int) -> Head:
        chosen = heads[field]
        return Head(
            field,
            vectors_HD[chosen],
            weights_H[chosen],
            old_codes_H[chosen] - np.int16(CLUSTERS),
            before.of(field),
            float(drawn_errors_F[field]),
            codewords,
        )

    by_field = clustered(config, [len(chosen) for chosen in heads], head_of)
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
            "used": np.array([len(distinct(found.codes_H)) for found in by_field]),
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


def _largest_share(codes_H: NDArray[np.int16], weights_H: NDArray[np.float32]) -> float:
    """Share of the head's frequency that the largest cluster has."""
    return float(np.bincount(codes_H, weights_H).max() / weights_H.sum()) if len(codes_H) else 0.0


def _drift(before_KD: NDArray[np.float32], now_KD: NDArray[np.float32]) -> float:
    """How far centroids have moved within the hour, over how far they lie from their mean (root mean squares)."""
    common = min(len(before_KD), len(now_KD))
    spread = np.square(now_KD - now_KD.mean(0)).sum() / len(now_KD) if common else 0.0
    moved = np.square(now_KD[:common] - before_KD[:common]).sum() / common if common else 0.0
    return float(np.sqrt(moved / spread)) if spread > 0 else 0.0
