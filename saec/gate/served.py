"""Measures the answers that were really served in an hour: the request log's scores against the hour's labels.

Decisions: these figures show the live model including delays, swaps and outages, whereas `auc_served` and the like
assume that the version live at the start of the hour answered every row. In reports these figures are called logged.
Nothing is learnt from the log: no byte of a version or a checkpoint depends on it, and a log that cannot be read is a
warning in the hour's record, not a failed hour. Rows missing from the log (served elsewhere, or lost in a crash) only
lower the coverage. Versions that the store does not have are counted, and their scores count, because they were served.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saec.config import DataConfig
from saec.data.hashing import Keys
from saec.data.request_log import ServedRows, join_log
from saec.data.rows import EncodedRows
from saec.gate.calibration import calibration_error, reliability
from saec.gate.metrics import Floats, Labels, Weights, auc, calibration_ratio, click_rate, logloss, weights_of
from saec.hours import Hour

log = logging.getLogger(__name__)


def served_figures(
    folder: Path, hour: Hour, data: DataConfig, rows: EncodedRows, ids_N: Keys, known: Collection[str]
) -> dict[str, Any]:
    """Compute the `served_*` figures of an hour's record.

    Args:
        folder: of the request log, setting `serving.log`.
        hour: which hour.
        data: which columns identify a row.
        rows: the hour's rows; late rows of earlier hours come before its own.
        ids_N: the id of each of its own rows (`saec.data.request_log.row_ids`).
        known: versions of the store.

    Returns:
        The figures; for a log that cannot be read only `served_problem`, which is also logged.
    """
    own = slice(len(rows) - len(ids_N), None)
    try:
        found = join_log(folder, hour, data, ids_N, rows.times_B[own])
    except OSError as error:
        problem = f"the request log {folder} cannot be read: {error.strerror or error}"
        log.warning("hour %s: %s", hour, problem)
        return {"served_problem": problem}
    return _figures(rows.labels_B[own], found, known, weights_of(rows.weights_B, own))


def _figures(labels_B: Labels, found: ServedRows, known: Collection[str], weights_B: Weights) -> dict[str, Any]:
    """All figures of the rows that were served."""
    rows = np.flatnonzero(found.version_B >= 0)
    labels, scores, versions = labels_B[rows], found.scores_B[rows], found.version_B[rows]
    weights = weights_of(weights_B, rows)
    by_version = {
        name: _metrics(labels[mask], scores[mask], weights_of(weights, mask))
        for index, name in enumerate(found.versions)
        if (mask := versions == index).any()
    }
    bins = reliability(labels, scores, weights_B=weights)
    figures = {
        **_metrics(labels, scores, weights),
        "ece": calibration_error(bins),
        "coverage": len(rows) / len(labels_B),
    }
    return {
        **{f"served_{name}": value for name, value in figures.items()},
        "served_bins": [asdict(item) for item in bins],
        "served_versions": dict(sorted(by_version.items())),
        "served_log": {**found.counts, "unknown_versions": len(by_version.keys() - set(known))},
    }


def _metrics(labels: NDArray[np.uint8], scores: Floats, weights: Weights) -> dict[str, float]:
    """Rows, AUC, log loss, and mean score against click rate."""
    return {
        "rows": len(labels),
        "auc": auc(labels, scores, weights),
        "logloss": logloss(labels, scores, weights),
        "mean_score": float(np.average(scores, weights=weights)) if len(scores) else float("nan"),
        "click_rate": click_rate(labels, weights) if len(labels) else float("nan"),
        "calibration": calibration_ratio(labels, scores, weights),
    }
