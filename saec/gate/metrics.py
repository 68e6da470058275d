"""Computes the metrics of the gate: AUC, log loss, normalised entropy, calibration ratio.

Decisions: AUC and log loss equal scikit-learn's to the last bit (tests compare them), on every row, never binned (ten
thresholds give 0.617 where the AUC is 0.753). They are computed here because scikit-learn's functions take 3 to 4 ms a
call to check their arguments, even for few rows. A small hour needs twenty calls, a fifth of its time, and importing
them takes one to two seconds. A figure that the rows do not define (no rows, one class, a score that is not a
probability) is `nan`, which the verdict never accepts: `saec.gate.verdict` tests for "finite and inside", not for "not
worse".

Shapes: B rows, P positive rows (label 1), N negative rows (label 0).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saec.errors import TrainingError

EPSILON = 1e-7
"""Probabilities are clipped to [EPSILON, 1 - EPSILON] in the log loss: one row costs at most 16.1 nats."""

Labels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Weights = Floats | None
"""How many rows of the full traffic each row stands for; None where each stands for itself."""


def weights_of(weights_B: Weights, chosen: slice | NDArray[np.generic]) -> Weights:
    """Weights of some of the rows; None where each row stands for itself."""
    return None if weights_B is None else weights_B[chosen]


def auc(labels_B: Labels, scores_B: Floats, weights_B: Weights = None) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties counting half.

    Args:
        labels_B: uint8 [B], 0 or 1.
        scores_B: float64 [B], higher for likelier clicks.
        weights_B: float64 [B], how many rows each stands for.

    Returns:
        The share, or nan for one class or a score that is not finite.

    Raises:
        TrainingError: labels and scores do not match, or a label is neither 0 nor 1.

    >>> import numpy as np
    >>> auc(np.array([0, 1, 0, 1], np.uint8), np.array([0.1, 0.4, 0.4, 0.9]))
    0.875
    """
    check_rows(labels_B, scores_B)
    clicks = int(np.count_nonzero(labels_B))
    if not 0 < clicks < labels_B.size or not np.isfinite(scores_B).all():
        return float("nan")
    order_B = np.argsort(-scores_B, kind="stable")
    ends_T = np.append(np.flatnonzero(np.diff(scores_B[order_B])), labels_B.size - 1)
    clicked_B = labels_B[order_B].astype(np.float64)
    shares_B = 1.0 if weights_B is None else weights_B[order_B]
    positive_T = np.cumsum(clicked_B * shares_B)[ends_T]
    negative_T = 1 + ends_T - positive_T if weights_B is None else np.cumsum((1 - clicked_B) * shares_B)[ends_T]
    if len(ends_T) > 2:  # only corners of the curve matter
        corner_T = (np.diff(positive_T, 2) != 0) | (np.diff(negative_T, 2) != 0)
        kept_T = np.concatenate([[True], corner_T, [True]])
        positive_T, negative_T = positive_T[kept_T], negative_T[kept_T]
    return float(np.trapezoid(np.append(0.0, positive_T) / positive_T[-1], np.append(0.0, negative_T) / negative_T[-1]))


def logloss(labels_B: Labels, probabilities_B: Floats, weights_B: Weights = None) -> float:
    """Log loss, the mean of `row_losses`, in nats a row; nan without rows or with a probability outside [0, 1].

    >>> import numpy as np
    >>> round(logloss(np.array([0, 1], np.uint8), np.array([0.5, 0.5])), 6)
    0.693147
    """
    check_rows(labels_B, probabilities_B)
    if not labels_B.size or not ((probabilities_B >= 0.0) & (probabilities_B <= 1.0)).all():
        return float("nan")
    from scipy.special import xlogy  # noqa: PLC0415 - half a second that `saec status` does not pay

    clipped_B = np.clip(probabilities_B, EPSILON, 1.0 - EPSILON)
    return float(np.average(-xlogy(1.0, np.where(labels_B == 1, clipped_B, 1.0 - clipped_B)), weights=weights_B))


def row_losses(labels_B: Labels, probabilities_B: Floats) -> Floats:
    """Negative log likelihood of each row.

    Args:
        labels_B: uint8 [B], 0 or 1.
        probabilities_B: float64 [B], clipped to [EPSILON, 1 - EPSILON].

    Returns:
        float64 [B], nats; nan where the probability is outside [0, 1] or not finite (clipping must not hide it).

    Raises:
        TrainingError: labels and probabilities do not match, or a label is neither 0 nor 1.
    """
    check_rows(labels_B, probabilities_B)
    likelihood_B = np.where(labels_B == 1, probabilities_B, 1.0 - probabilities_B)
    likelihood_B[~((probabilities_B >= 0.0) & (probabilities_B <= 1.0))] = np.nan
    losses_B: Floats = -np.log(np.clip(likelihood_B, EPSILON, 1.0 - EPSILON))
    return losses_B


def base_rate_entropy(labels_B: Labels, weights_B: Weights = None) -> float:
    """Log loss (nats a row) of always predicting the share of clicks; 0 for one class, nan without rows."""
    if not labels_B.size:
        return float("nan")
    rate = click_rate(labels_B, weights_B)
    return -sum(share * float(np.log(share)) for share in (rate, 1.0 - rate) if share > 0.0)


def click_rate(labels_B: Labels, weights_B: Weights = None) -> float:
    """Share of clicks of some rows, one at least."""
    return float(np.average(labels_B == 1, weights=weights_B))


def normalised_entropy(labels_B: Labels, probabilities_B: Floats, weights_B: Weights = None) -> float:
    """Log loss over the base rate's entropy (He et al. 2014): below 1 is better than the base rate; nan for one class.

    >>> import numpy as np
    >>> normalised_entropy(np.array([0, 1], np.uint8), np.array([0.5, 0.5]))
    1.0
    """
    loss, entropy = logloss(labels_B, probabilities_B, weights_B), base_rate_entropy(labels_B, weights_B)
    return loss / entropy if entropy > 0.0 else float("nan")


def calibration_ratio(labels_B: Labels, probabilities_B: Floats, weights_B: Weights = None) -> float:
    """Mean prediction over mean label: 1 is calibrated, above 1 promises too many clicks; nan without clicks.

    >>> import numpy as np
    >>> calibration_ratio(np.array([0, 1], np.uint8), np.array([0.5, 0.75]))
    1.25
    """
    check_rows(labels_B, probabilities_B)
    if weights_B is None:
        clicks, promised = float(np.count_nonzero(labels_B)), float(probabilities_B.sum())
    else:
        clicks, promised = float(weights_B @ labels_B), float(weights_B @ probabilities_B)
    return promised / clicks if clicks else float("nan")


def split(labels_B: Labels, scores_B: Floats) -> tuple[Floats, Floats]:
    """The scores of the positive rows [P] and of the negative rows [N], each in row order.

    Raises:
        TrainingError: labels and scores do not match, or a label is neither 0 nor 1.
    """
    check_rows(labels_B, scores_B)
    positive_B = labels_B == 1
    return scores_B[positive_B], scores_B[~positive_B]


def twice_below(sorted_scores: Floats, scores: Floats) -> NDArray[np.int64]:
    """For each score, twice the number of sorted scores below it plus the number equal to it, in integers."""
    below = np.searchsorted(sorted_scores, scores, side="left")
    not_above = np.searchsorted(sorted_scores, scores, side="right")
    return (below + not_above).astype(np.int64, copy=False)


def check_rows(labels_B: Labels, scores_B: Floats) -> None:
    """Refuse labels and scores that cannot belong to the same rows.

    Raises:
        TrainingError: reason `gate-rows`, naming both shapes or the label found.
    """
    if labels_B.ndim != 1 or labels_B.shape != scores_B.shape:
        raise TrainingError(
            f"gate rows: labels of shape {labels_B.shape} and scores of shape {scores_B.shape}; wanted "
            "one score a row, in one dimension",
            reason="gate-rows",
        )
    if not ((labels_B == 0) | (labels_B == 1)).all():
        raise TrainingError(
            f"gate rows: labels must be 0 or 1, found {np.setdiff1d(labels_B, (0, 1))[:3].tolist()}; "
            "read the hour again, its labels were checked on the way in",
            reason="gate-rows",
        )
