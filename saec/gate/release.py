"""Checks whether the version of the hour's end is fit to be released instead of the judged candidate.

Unlike the candidate, the version has learnt the gate rows, so they cannot judge it, and its codes include the features
that came in them. Its scores of these rows are therefore not compared with the candidate's: that would count the
version's better knowledge against it (in an experiment, 19 of 24 hours fell back to the candidate and lost 0.018 of AUC
in the following hours). Instead it checks each thing that can go wrong:

- scores that are no probabilities;
- learning the gate rows: through lagged codes, the same before and after, the loss on them must not rise;
- codes and files of the hour's end: their mean score must be close to the model's through lagged codes, and their log
  loss must not be shown worse than that of always predicting the share of clicks.

Shapes: G gate rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saec.gate.comparison import Standing, compare, score
from saec.gate.metrics import base_rate_entropy, click_rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saec.config import GateConfig
    from saec.gate.metrics import Floats, Labels, Weights

CALIBRATION = 1.5
"""Maximum factor between the version's mean score and the model's through lagged codes."""


def release_problem(
    labels_G: Labels,
    version_G: Floats,
    before_G: Floats,
    after_G: Floats,
    config: GateConfig,
    weights_G: Weights = None,
) -> str:
    """Why the version is not fit for release; empty when it is.

    Args:
        labels_G: uint8 [G], 0 or 1.
        version_G: float64 [G], probabilities of the version, read back from its files.
        before_G: float64 [G], of the challenger through lagged codes, before it learnt the rows.
        after_G: float64 [G], the same after it.
        config: margins and confidence.
        weights_G: float64 [G], how many rows each stands for.
    """
    if not all(((scores_G >= 0.0) & (scores_G <= 1.0)).all() for scores_G in (version_G, before_G, after_G)):
        return "a score of a gate row is no probability"
    return next(_problems(labels_G, version_G, before_G, after_G, config, weights_G), "") if len(labels_G) else ""


def _problems(
    labels_G: Labels, version_G: Floats, before_G: Floats, after_G: Floats, config: GateConfig, weights_G: Weights
) -> Iterator[str]:
    """Each problem with these probabilities, in the order of the module's docstring."""
    clicks = int(np.count_nonzero(labels_G))
    margin = config.entropy_margin * base_rate_entropy(labels_G, weights_G)
    learnt = compare(
        score("after", labels_G, after_G, weights_G),
        score("before", labels_G, before_G, weights_G),
        auc_margin=config.auc_margin,
        logloss_margin=margin,
        confidence=config.confidence,
    )
    for gap in learnt.differences:
        if gap.standing is Standing.FAIL:
            yield (
                f"its {gap.metric} on the gate rows, once it had learnt them, is {gap.challenger:.4f} to "
                f"{gap.reference:.4f} before"
            )
    mean, met = (float(np.average(scores_G, weights=weights_G)) for scores_G in (version_G, after_G))
    if mean == 0.0 or not met / CALIBRATION <= mean <= met * CALIBRATION:
        yield f"its mean score on the gate rows is {mean:.4f}, {met:.4f} through the codes that met them"
    if 0 < clicks < len(labels_G):
        constant_G = np.full(len(labels_G), click_rate(labels_G, weights_G))
        floor = compare(
            score("version", labels_G, version_G, weights_G),
            score("base-rate", labels_G, constant_G, weights_G),
            auc_margin=config.auc_margin,
            logloss_margin=margin,
            confidence=config.confidence,
        ).logloss
        if floor.standing is Standing.FAIL:
            yield (
                f"its log loss on the gate rows is {floor.challenger:.4f}, that of always predicting their share of "
                f"clicks {floor.reference:.4f}"
            )
