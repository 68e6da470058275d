"""Whether a challenger may be published: its comparisons with the original and the champion, made into one verdict.

    unusable score, undefined figure                       -> FAIL(metric)
    fewer rows, or rows of a label, than the gate wants    -> UNDECIDED(too-few)
    no champion, and not shown to beat the base rate       -> FAIL(floor)
    a metric shown worse than a reference, past the margin -> FAIL(worse-auc, worse-logloss)
    every metric inside the margin of every reference      -> PASS(ok), or BOOTSTRAP(ok) without a champion
    otherwise                                              -> UNDECIDED(undecided)

Decisions: the first line that holds decides, references in the order original, champion, AUC before log loss. Original
and champion go through the same code. Only PASS and BOOTSTRAP are accepted; the rest holds the hour with its reason.
Ties: a challenger inside the margins replaces the champion even when it is no better, because it has learnt from newer
data and the gate rows are the newest there are. That many small losses, each inside the margin, add up is what the
comparison with the original prevents: the original is trained on every hour, never gated, and does not erode.
The floor compares with a model that always predicts the share of clicks of these very rows (AUC 0.5, log loss their
entropy): the challenger must be shown better on both, with the gate's confidence.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from saec.config import GateConfig
from saec.gate.comparison import Comparison, Difference, Scored, Standing, compare, rows_to_decide, score
from saec.gate.metrics import Floats, Labels, check_rows
from saec.plain_json import plain_json

FLOOR = "base-rate"
"""Name of the reference that predicts the share of clicks of the gate rows for every row."""


class Status(StrEnum):
    """The four verdicts."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a secret
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    BOOTSTRAP = "BOOTSTRAP"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of a challenger, and why."""

    status: Status
    """PASS, FAIL, UNDECIDED, or BOOTSTRAP for a first challenger that passed."""
    reason: str
    """Stable slug: ok, worse-auc, worse-logloss, undecided, floor, metric or too-few."""
    text: str
    """The same for people, with the figures that decided."""
    comparisons: tuple[Comparison, ...] = ()
    """With the original, then the champion, or the base rate when there is none; empty when nothing was comparable."""
    rows_to_decide: int | None = None
    """Gate rows at which an equal challenger passes with 95% probability; None when the rows do not tell."""

    @property
    def accepted(self) -> bool:
        """Whether the challenger may be published."""
        return self.status in (Status.PASS, Status.BOOTSTRAP)

    def as_dict(self) -> dict[str, Any]:
        """The verdict for JSON: plain values, `accepted` included, null for a figure that is not finite."""
        return {"accepted": self.accepted, **plain_json(asdict(self))}


@dataclass(frozen=True, slots=True)
class Check:
    """One metric against one reference."""

    reference: str
    """Name of the reference."""
    difference: Difference
    """The metric, its bounds and its margin."""

    def __str__(self) -> str:
        """The check in words: `AUC against champion`."""
        return f"{'AUC' if self.difference.metric == 'auc' else 'log loss'} against {self.reference}"


def judge(labels_B: Labels, challenger_B: Floats, original_B: Floats, champion_B: Floats | None,
          config: GateConfig) -> Verdict:
    """Judge a challenger on the hour's gate rows, which none of the models has been trained on.

    Args:
        labels_B: uint8 [B], 0 or 1.
        challenger_B: float64 [B], probabilities of the challenger, read back from its files.
        original_B: float64 [B], of the original at the cut.
        champion_B: float64 [B], of the live version; None when there is none.
        config: margins, confidence and fewest rows.

    Raises:
        TrainingError: labels and probabilities do not match, or a label is neither 0 nor 1.
    """
    given = {"challenger": challenger_B, "original": original_B}
    given |= {} if champion_B is None else {"champion": champion_B}
    for probabilities_B in given.values():
        check_rows(labels_B, probabilities_B)
    for name, probabilities_B in given.items():
        if unusable := int(np.count_nonzero(~((probabilities_B >= 0.0) & (probabilities_B <= 1.0)))):
            return Verdict(Status.FAIL, "metric", f"{unusable:,} of {labels_B.size:,} gate rows have a score of the "
                           f"{name} that is no probability (not finite, or outside [0, 1]).")
    challenger, *references = (score(name, labels_B, scores_B) for name, scores_B in given.items())
    comparisons = tuple(compare(challenger, reference, auc_margin=config.auc_margin, confidence=config.confidence,
                                logloss_margin=config.logloss_margin) for reference in references)
    if labels_B.size < config.min_rows or _rarer(labels_B) < config.min_class_rows:
        return _too_few(labels_B, comparisons, config)
    verdict = _decide(comparisons, config)
    return verdict if champion_B is not None else _bootstrap(verdict, _compare_floor(labels_B, challenger, config))


def _decide(comparisons: tuple[Comparison, ...], config: GateConfig) -> Verdict:
    """The verdict over all references: the first of undefined, failed and undecided checks rules, else it is a PASS."""
    checks = [Check(comparison.reference, difference)
              for comparison in comparisons for difference in comparison.differences]
    undefined, failed, unclear = ([check for check in checks if check.difference.standing is standing]
                                  for standing in (Standing.UNDEFINED, Standing.FAIL, Standing.UNDECIDED))
    rows, rows_wanted = comparisons[0].rows, rows_to_decide(comparisons, config.confidence)
    counted = f"{rows:,} gate rows ({comparisons[0].positives:,} with label 1)"
    if undefined:
        status, reason, text = Status.FAIL, "metric", f"{counted} do not define {_join(undefined)}."
    elif failed:
        status, reason = Status.FAIL, f"worse-{failed[0].difference.metric}"
        text = f"The challenger is worse on {counted}: {_figures(failed, config)}."
    elif unclear:
        status, reason = Status.UNDECIDED, "undecided"
        text = f"{counted} cannot tell: {_figures(unclear, config)}; {_more_rows(rows, rows_wanted)}."
    else:
        status, reason = Status.PASS, "ok"
        text = f"No loss beyond the margins on {counted}: {_join(checks)}."
    return Verdict(status, reason, text, comparisons, rows_wanted)


def _bootstrap(verdict: Verdict, floor: Comparison) -> Verdict:
    """The verdict without a champion: as against the original, and the challenger must be shown to beat the floor."""
    verdict = replace(verdict, comparisons=(*verdict.comparisons, floor))
    if verdict.reason == "metric":
        return verdict
    auc, logloss = floor.differences
    figures = (f"AUC {auc.challenger:.4f} (at least {auc.reference + auc.lower:.4f}) to {auc.reference:.4f}, log loss "
               f"{logloss.challenger:.4f} (at most {logloss.reference + logloss.upper:.4f}) to {logloss.reference:.4f}")
    if not all(difference.loss_at_most < 0.0 for difference in floor.differences):
        text = f"No champion yet, and the challenger is not shown to beat the base rate: {figures}."
        return replace(verdict, status=Status.FAIL, reason="floor", text=text)
    status = Status.BOOTSTRAP if verdict.accepted else verdict.status
    return replace(verdict, status=status, text=f"{verdict.text} No champion yet; the base rate is beaten: {figures}.")


def _compare_floor(labels_B: Labels, challenger: Scored, config: GateConfig) -> Comparison:
    """The challenger beside the constant share of clicks, without any margin."""
    constant_B = np.full(labels_B.size, np.count_nonzero(labels_B) / labels_B.size)
    return compare(challenger, score(FLOOR, labels_B, constant_B), auc_margin=0.0, logloss_margin=0.0,
                   confidence=config.confidence)


def _too_few(labels_B: Labels, comparisons: tuple[Comparison, ...], config: GateConfig) -> Verdict:
    """The verdict on fewer rows, or rows of a label, than the settings want."""
    rows, rarer, rows_wanted = labels_B.size, _rarer(labels_B), rows_to_decide(comparisons, config.confidence)
    rows_by_class = math.ceil(config.min_class_rows * rows / rarer) if rarer else 0
    more = max(config.min_rows, rows_by_class, rows_wanted or 0) - rows
    advice = f"about {more:,} more gate rows would decide" if rarer else "gate rows of one label decide nothing"
    text = (f"{rows:,} gate rows, {rarer:,} of the rarer label, are too few: the gate wants {config.min_rows:,} and "
            f"{config.min_class_rows:,}; {advice}.")
    return Verdict(Status.UNDECIDED, "too-few", text, comparisons, rows_wanted)


def _rarer(labels_B: Labels) -> int:
    """Rows of the rarer label."""
    positives = int(np.count_nonzero(labels_B))
    return min(positives, labels_B.size - positives)


def _figures(checks: list[Check], config: GateConfig) -> str:
    """Checks in words and figures."""
    return " and ".join(
        f"{check} {gap.challenger:.4f} to {gap.reference:.4f}, difference {gap.difference:+.4f} "
        f"({config.confidence:.0%} bounds {gap.lower:+.4f}, {gap.upper:+.4f}; margin {gap.margin:g})"
        for check in checks for gap in [check.difference])


def _more_rows(rows: int, rows_wanted: int | None) -> str:
    """How many more rows would decide, in words."""
    if rows_wanted is None or rows_wanted <= rows:
        return "an equal challenger would most likely have passed on these rows"
    return f"about {rows_wanted - rows:,} more gate rows would decide"


def _join(checks: list[Check]) -> str:
    """Checks in words."""
    return ", ".join(map(str, checks))
