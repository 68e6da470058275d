"""Computes the figures of an hour: AUC and log loss of its models, by slice, and from the request log.

Shapes: B rows of the hour or of its gate rows, N row ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saec.data.ingest import ROW_IDS_FILE, SLICES_FILE, IngestRecord
from saec.data.slices import Slices
from saec.gate.metrics import auc, logloss, weights_of
from saec.gate.paired import served_pairs
from saec.gate.served import served_figures
from saec.gate.slices import slice_pairs
from saec.workspace import FileDigest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saec.data.rows import EncodedRows
    from saec.records import HourPlan
    from saec.train.tensors import Arrays


def metrics_of(
    labels_B: NDArray[np.uint8], scores: dict[str, NDArray[np.float64]], weights_B: NDArray[np.float64] | None
) -> dict[str, float]:
    """AUC and log loss of each model, as `auc_MODEL` and `logloss_MODEL`."""
    return {
        f"{metric.__name__}_{model}": metric(labels_B, scores_B, weights_B)
        for model, scores_B in scores.items()
        for metric in (auc, logloss)
    }


def served_hour(rows: EncodedRows, scores: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Figures of the served hour: `auc_served` of the live version, `auc_version_served`, …, and paired differences."""
    figures = {
        f"{name.removesuffix('_live')}_served": value
        for name, value in metrics_of(rows.labels_B, scores, rows.weights_B).items()
    }
    return {**figures, "served_pairs": served_pairs(rows.labels_B, scores, rows.weights_B)}


def sliced_hour(
    plan: HourPlan, ingested: IngestRecord, rows: EncodedRows, scores: dict[str, NDArray[np.float64]]
) -> dict[str, Any]:
    """Figures of the live version on the hour's own rows, slice by slice; empty without `report.slices`."""
    if not ingested.slices:
        return {}
    codes = plan.workspace.read(plan.hour, FileDigest(SLICES_FILE, ingested.slices_sha256))
    slices = {name: Slices(names, codes[name].astype(np.uint8)) for name, names in ingested.slices.items()}
    own = slice(len(rows) - len(next(iter(slices.values())).codes_B), None)  # late rows of other hours come first
    models = {model: scores_B[own] for model, scores_B in scores.items()}
    return slice_pairs(rows.labels_B[own], models, slices, weights_of(rows.weights_B, own))


def score_arrays(labels_B: NDArray[np.uint8], scores: dict[str, NDArray[np.float64]]) -> Arrays:
    """Labels and scores as named arrays."""
    return {"labels_B": labels_B, **{f"{name}_B": scores_B for name, scores_B in scores.items()}}


def logged_hour(plan: HourPlan, ingested: IngestRecord, rows: EncodedRows) -> dict[str, Any]:
    """Figures of the answers in the request log for the hour; empty without a log."""
    folder, workspace = plan.config.serving.log, plan.workspace
    if folder is None or not ingested.row_ids_sha256:
        return {}
    ids_N = workspace.read(plan.hour, FileDigest(ROW_IDS_FILE, ingested.row_ids_sha256))["ids_B"]
    return served_figures(folder, plan.hour, plan.config.data, rows, ids_N, workspace.store().versions())
