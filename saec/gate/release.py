"""Whether the version of an hour's end is fit to be released in place of the candidate that was judged.

It differs from the candidate in the gate rows, which it has learnt, so they cannot judge it afresh. They can show that
learning them went wrong: its scores there must be probabilities, lose nothing to the candidate's, and promise about as
many clicks as there were.

Shapes: G gate rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from saec.gate.comparison import Standing, compare, score
from saec.gate.pooled import entropy_margin

if TYPE_CHECKING:
    from saec.config import GateConfig
    from saec.gate.metrics import Floats, Labels

CALIBRATION = 1.5
"""Furthest that the version's mean score may be from the candidate's, as a factor."""


def release_problem(labels_G: Labels, version_G: Floats, candidate_G: Floats, config: GateConfig) -> str:
    """Why the version is not fit for release; empty when it is.

    Args:
        labels_G: uint8 [G], 0 or 1.
        version_G: float64 [G], probabilities of the version, read back from its files.
        candidate_G: float64 [G], of the judged candidate.
        config: margins and confidence.
    """
    if not ((version_G >= 0.0) & (version_G <= 1.0)).all():
        return "a score of a gate row is no probability"
    if not len(labels_G):
        return ""
    margin = entropy_margin(len(labels_G), int(np.count_nonzero(labels_G)), config.entropy_margin)
    found = compare(score("version", labels_G, version_G), score("candidate", labels_G, candidate_G),
                    auc_margin=config.auc_margin, logloss_margin=margin, confidence=config.confidence)
    worse = [gap for gap in found.differences if gap.standing is Standing.FAIL]
    if worse:
        return (f"its {worse[0].metric} on the gate rows, which it has learnt, is {worse[0].challenger:.4f} to "
                f"{worse[0].reference:.4f} of the judged candidate")
    factor = float(version_G.mean() / max(candidate_G.mean(), np.finfo(float).tiny))
    if not abs(math.log(max(factor, np.finfo(float).tiny))) <= math.log(CALIBRATION):
        return (f"its mean score on the gate rows is {version_G.mean():.4f}, that of the judged candidate "
                f"{candidate_G.mean():.4f}")
    return ""
