"""Turns pooled evidence into comparisons with bounds that are valid at every look, and evaluates the running test.

    too-few    fewer rows, or rows of a label, than the gate wants
    worse-…    shown worse than a reference, past the margin; `floor`: shown worse than the base rate
    passed     shown inside every margin; without a champion also shown better than the base rate
    open       neither

Decisions: the log-loss margin is a share of the base rate's entropy on the pooled rows, because 0.005 nats are a third
of the entropy at 0.2% clicks and a hundredth at 50%. Each test that ended without passing lowers the error of the next,
by (tests + 1)^2, so that a worse line does not pass by being tested often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from saec.config import GateConfig
from saec.gate.comparison import POWER, Comparison, Difference, Standing
from saec.gate.evidence import Alone, Evidence, Levels, Pair
from saec.gate.sequential import reach, rows_needed

FLOOR = "base-rate"
"""Name of the reference that predicts the share of clicks of the rows for every row."""
FLOOR_AUC, FLOOR_SHARE = 0.1, 0.05
"""Where the comparison with the base rate is sharpest: AUC above a half, and share of its entropy saved."""
EXHAUSTED = 2.0
"""An open test is replaced by a new one after this many times the rows at which an equal model would have passed."""
SPENT = 1.6
"""The bounds spread their error over all time, but a test ends when it is exhausted; this factor spends earlier what
would be left for later. With it, a Brownian motion watched from no information to `EXHAUSTED` crosses in 5.0%."""

Metric = Literal["auc", "logloss"]


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


@dataclass(frozen=True, slots=True)
class Test:
    """The result of the running test."""

    __test__ = False  # pytest would take a class of this name for a test

    state: str
    """passed, open, too-few, floor, worse-auc or worse-logloss."""
    comparisons: tuple[Comparison, ...]
    """With original and champion, then the base rate."""
    failed: tuple[Check, ...] = ()
    """What was shown worse."""
    rows_to_decide: int | None = None
    """Rows at which an equal line has passed with 95% probability; None when the rows do not tell."""

    @property
    def rows(self) -> int:
        """Rows of the test: those of the reference that has the fewest."""
        return min((item.rows for item in self.comparisons), default=0)

    @property
    def references(self) -> tuple[Comparison, ...]:
        """The comparisons without the base rate's."""
        return self.comparisons[:-1]

    @property
    def floor(self) -> Comparison:
        """The comparison with the base rate."""
        return self.comparisons[-1]

    @property
    def exhausted(self) -> bool:
        """Whether a check is still open after so many rows that a new test, on newer rows, is better."""
        unclear = any(gap.standing is not Standing.PASS for item in self.references for gap in item.differences)
        return (
            self.state == "open"
            and unclear
            and self.rows_to_decide is not None
            and self.rows >= EXHAUSTED * self.rows_to_decide
        )


def test_of(evidence: Evidence, config: GateConfig) -> Test:
    """The running test: comparisons, and the first of the states in the module's docstring that holds."""
    error = SPENT * (1.0 - config.confidence) / (evidence.tried + 1) ** 2
    pairs = tuple(_compared(name, pair, error, config) for name, pair in evidence.pairs.items())
    comparisons = (*pairs, _floor(evidence.alone, error / SPENT))
    checks = [Check(item.reference, gap) for item in pairs for gap in item.differences]
    floor = Check(FLOOR, comparisons[-1].logloss)
    failed = tuple(check for check in [*checks, floor] if check.difference.standing is Standing.FAIL)
    rows = _rows_to_decide(pairs, error)
    if not all(_enough(item, config) for item in comparisons):
        return Test("too-few", comparisons, (), rows)
    if failed:
        state = "floor" if failed[0] is floor else f"worse-{failed[0].difference.metric}"
        return Test(state, comparisons, failed, rows)
    passed = all(check.difference.standing is Standing.PASS for check in checks)
    if "champion" not in evidence.pairs:
        passed = passed and all(gap.loss_at_most < 0.0 for gap in comparisons[-1].differences)
    return Test("passed" if passed else "open", comparisons, (), rows)


def beside_live(found: Pair, config: GateConfig, share: float = 1.0) -> Comparison | None:
    """A model against the live version, with bounds for every look; None on too few rows.

    Args:
        found: both on the same rows.
        config: confidence, margins and fewest rows.
        share: of the error that the confidence allows.
    """
    compared = _compared("champion", found, share * (1.0 - config.confidence), config)
    return compared if _enough(compared, config) else None


def entropy_margin(rows: int, positives: int, share: float) -> float:
    """The log-loss margin in nats a row: a share of the entropy of the base rate of so many rows and clicks."""
    return share * Alone(rows, positives).entropy


def _compared(name: str, pair: Pair, error: float, config: GateConfig) -> Comparison:
    """The line beside one reference."""
    margin = entropy_margin(pair.rows, pair.positives, config.entropy_margin)
    clicked = pair.ranks.positive
    return _comparison(
        name,
        pair,
        (pair.line, pair.reference),
        _bounded(
            "auc",
            _ratio(pair.line.placements, clicked.weight),
            _ratio(pair.reference.placements, clicked.weight),
            clicked.mean,
            pair.ranks.standard_error,
            config.auc_margin,
            config.auc_margin,
            error,
        ),
        _bounded(
            "logloss",
            _ratio(pair.line.loss, pair.rows),
            _ratio(pair.reference.loss, pair.rows),
            pair.loss.mean,
            pair.loss.standard_error,
            margin,
            margin,
            error,
        ),
    )


def _floor(alone: Alone, error: float) -> Comparison:
    """The line beside the base rate, without any margin."""
    above, gap, entropy = alone.ranks.positive.mean, alone.loss_gap, alone.entropy
    own, constant = Levels(alone.predicted, alone.loss.total), Levels(alone.positives, entropy * alone.rows)
    return _comparison(
        FLOOR,
        alone,
        (own, constant),
        _bounded("auc", 0.5 + above, 0.5, above, alone.ranks.standard_error, 0.0, FLOOR_AUC, error),
        _bounded("logloss", alone.loss.mean, entropy, gap.mean, gap.standard_error, 0.0, FLOOR_SHARE * entropy, error),
    )


def _comparison(
    name: str, rows: Pair | Alone, levels: tuple[Levels, Levels], auc: Difference, logloss: Difference
) -> Comparison:
    """Both differences, with the figures that are shown beside them."""
    line, reference = levels
    entropy = Alone(rows.rows, rows.positives).entropy * rows.rows
    return Comparison(
        reference=name,
        rows=rows.rows,
        positives=rows.positives,
        auc=auc,
        logloss=logloss,
        calibration_challenger=_ratio(line.predicted, rows.positives),
        calibration_reference=_ratio(reference.predicted, rows.positives),
        normalised_entropy_challenger=_ratio(line.loss, entropy),
        normalised_entropy_reference=_ratio(reference.loss, entropy),
    )


def _bounded(
    metric: Metric,
    line: float,
    reference: float,
    gap: float,
    standard_error: float,
    margin: float,
    scale: float,
    error: float,
) -> Difference:
    """A difference with bounds that are valid at every look."""
    width = reach(standard_error, scale, error)
    return Difference(metric, line, reference, gap, standard_error, gap - width, gap + width, margin)


def _rows_to_decide(pairs: tuple[Comparison, ...], error: float) -> int | None:
    """Fewest rows at which an equal line has passed all checks; these share the risk that it has not."""
    checks = [(gap, item.rows) for item in pairs for gap in item.differences]
    if not checks or not all(math.isfinite(gap.standard_error) and gap.margin > 0.0 for gap, _ in checks):
        return None
    power = 1.0 - (1.0 - POWER) / len(checks)
    return max(rows_needed(gap.standard_error, rows, gap.margin, error, power) for gap, rows in checks)


def _enough(item: Comparison, config: GateConfig) -> bool:
    """Whether there are the rows, and the rows of the rarer label, that the settings want."""
    rarer = min(item.positives, item.rows - item.positives)
    return item.rows >= config.min_rows and rarer >= config.min_class_rows


def _ratio(total: float, count: float) -> float:
    """A ratio; nan if the denominator is 0."""
    return total / count if count else math.nan
