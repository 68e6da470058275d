"""Computes row weights: how many rows of the full traffic a row of a sampled log stands for.

Decisions: if a log keeps only one in a hundred rows without a click, each such row counts a hundred times: in the
training losses, in every figure and in the gate's evidence. The network then gives the probabilities of the full
traffic, and serving needs no correction. Weights do not affect feature counts: how well a feature is known depends on
the rows that were seen.

Shapes: B rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saec.config import DataConfig


def row_weights(table: pa.Table, labels_B: NDArray[np.uint8], data: DataConfig) -> NDArray[np.float64] | None:
    """How many rows of the full traffic each row stands for; None where each stands for itself.

    Args:
        table: good rows.
        labels_B: their labels, 0 or 1.
        data: which columns say so.

    >>> from saec.config import DataConfig
    >>> rates = DataConfig(source="x", time_column="t", label_column="y", negative_sampling=0.01)
    >>> row_weights(pa.table({"t": [1, 2]}), np.array([0, 1], np.uint8), rates).tolist()
    [100.0, 1.0]
    """
    if not data.weighted:
        return None
    weights_B = np.ones(len(labels_B))
    if data.weight_column is not None:
        weights_B *= _numbers(table, data.weight_column)
    rate = data.negative_sampling
    if rate is not None:
        rates = _numbers(table, rate) if isinstance(rate, str) else np.full(len(labels_B), rate)
        weights_B /= np.where(labels_B == 0, rates, 1.0)
    return weights_B


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(table[name].cast(pa.float64()).to_numpy())
