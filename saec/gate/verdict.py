"""Decides whether an hour's candidate may be published, from the evidence on its line and its own gate rows.

    a score that is no probability                                     -> FAIL(metric)
    the running test shows the line worse, past a margin               -> FAIL(worse-auc, worse-logloss)
    the gate rows show the candidate worse than what is live, past a
    margin                                                             -> FAIL(worse-auc, worse-logloss)
    log loss shown worse than the base rate of the rows, or, of a line
    that would pass, found worse, and the gate rows do not show the
    candidate better than both what is live and the base rate          -> FAIL(floor)
    the running test passed, or the line is qualified by an earlier one -> PASS(ok), or BOOTSTRAP(ok) without a champion
    the line, or the candidate on the gate rows, is shown better than
    what is live                                                       -> PASS(better)
    fewer rows, or rows of a label, than the gate wants                -> UNDECIDED(too-few)
    otherwise                                                          -> UNDECIDED(undecided)

A line is on trial until a test passes: every check (AUC and log loss, against the original and, if there is one, the
champion) is shown to be inside its margin, and without a champion the base rate is shown to be beaten. Then the line is
qualified, and its hours are published while a new test runs; if that test shows it worse, it is on trial again.
Whenever a test decides, a new one begins. Decisions:

- *The live version ages* while its line is on trial. So a line on trial is released once it is shown better than the
  live version, in AUC and in log loss, on the hours since that version's release; it stays on trial. The chance that a
  live version is ever replaced by a line that is not better is at most 1 - confidence, without a margin. Nor is a
  candidate held that its own gate rows show better than the live version, by still wider bounds: when news breaks, the
  line loses to the original in the hour, and holding keeps the very version that lost.
- *Evidence* (`saec.gate.evidence`): whole served hours, each scored by the version made from the hour before, released
  or not, and by the original at the start of the hour. Hours are pooled until they decide, so a site with two clicks an
  hour gets its answer too, only later. The bounds are valid at every look (`saec.gate.pooled`).
- *The gate rows* guard against a single bad hour: the candidate must not be shown worse on them than the live version,
  or than the version made before it. The original is not compared here: it knows who arrived minutes ago, which a
  version never knows in the hour that it serves, and codewords are not trained for that. There is only one look, so the
  bounds are those of a fixed sample; the error is divided among the checks. The gate rows are not used if they have
  fewer rows of a label than `gate.min_class_rows`.
- *The base rate* must be beaten: to be published, a version must have a lower log loss than always predicting the share
  of clicks, on the rows of the running test and the one before it. This uses the point estimate; the rows of the test
  before are included because a new test has none. The one exception is a candidate that its gate rows show better than
  both the live version and the base rate: news can make a line worse than the base rate for an hour, the live version
  with it, and the candidate has learnt of it.
- *Ties*: a challenger inside the margins replaces the champion even if it is no better, because it has learnt newer
  data. The comparison with the original prevents many small losses from adding up.
- An hour with only one label gives evidence on log loss alone, and is never an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from saec.config import GateConfig
from saec.gate.comparison import Comparison, Difference, Standing, compare, score
from saec.gate.evidence import Evidence, Pair
from saec.gate.metrics import Floats, Labels, Weights, check_rows, click_rate, weights_of
from saec.gate.pooled import FLOOR, Check, Test, beside_live, entropy_margin, test_of
from saec.plain_json import plain_json

BY_GATE_ROWS = 0.1
"""Share of the error that the confidence allows with which gate rows may show a candidate better than the live version:
every hour on trial has others, so that they are not one test that is looked at often, but many."""
ROUNDING = 1e-9
"""Rounding tolerance in nats per row: a loss equal to the base rate's is not worse."""


class Status(StrEnum):
    """The four verdicts.

    Examples:
        >>> [status.value for status in Status]
        ['PASS', 'FAIL', 'UNDECIDED', 'BOOTSTRAP']
    """

    PASS = "PASS"  # noqa: S105 - a verdict, not a secret
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    BOOTSTRAP = "BOOTSTRAP"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's verdict on an hour's candidate, with the reasons.

    Examples:
        >>> verdict = Verdict(Status.UNDECIDED, "too-few", "the rows cannot tell yet", Evidence())
        >>> verdict.accepted, verdict.as_dict()["status"]
        (False, 'UNDECIDED')
    """

    status: Status
    """PASS, FAIL, UNDECIDED, or BOOTSTRAP for one that passed without a champion."""
    reason: str
    """Stable slug: ok, better, worse-auc, worse-logloss, undecided, floor, metric or too-few."""
    text: str
    """The reason for people, with the figures that decided."""
    evidence: Evidence
    """For the next hour."""
    comparisons: tuple[Comparison, ...] = ()
    """On the pooled rows, with original, champion where there is one, and base rate; bounds for any look."""
    gate_rows: tuple[Comparison, ...] = ()
    """Comparisons on the hour's gate rows alone; bounds for one look. Empty if they were not used."""
    rows_to_decide: int | None = None
    """Rows at which the test of an equal line passes with 95% probability; None if the rows do not define it."""
    hours_to_decide: int | None = None
    """Hours like this one until then; 0 if reached."""
    live: Comparison | None = None
    """Comparison with the live version on the hours since its release; bounds for any look. None on too few rows."""

    @property
    def accepted(self) -> bool:
        """Whether the challenger may be published."""
        return self.status in (Status.PASS, Status.BOOTSTRAP)

    def as_dict(self) -> dict[str, Any]:
        """The verdict for JSON: plain values, `accepted` and `qualified` included, null for what is not finite.

        Without the evidence, which the hour's record keeps beside it (`Evidence.as_dict`).
        """
        known = {name: value for name, value in asdict(self).items() if name != "evidence"}
        return {"accepted": self.accepted, "qualified": self.evidence.qualified, **plain_json(known)}


def judge(  # noqa: PLR0913, PLR0917 - four models, rules
    labels_B: Labels,
    line_B: Floats | None,
    original_B: Floats,
    champion_B: Floats | None,
    candidate_G: Floats,
    cut: int,
    evidence: Evidence | None,
    config: GateConfig,
    weights_B: Weights = None,
) -> Verdict:
    """Judge an hour's candidate; no model has learnt a row that it scores here.

    Args:
        labels_B: uint8 [B], 0 or 1, of the whole hour.
        line_B: float64 [B], probabilities of the version made from the hour before, released or not; None before any.
        original_B: float64 [B], of the original as the hour began.
        champion_B: float64 [B], of the live version; None when there is none.
        candidate_G: float64 [B - cut], of this hour's candidate on the gate rows, read back from its files.
        cut: rows before the gate rows.
        evidence: what is known of the line from the hours before; None of a new one.
        config: margins, confidence and fewest rows.
        weights_B: float64 [B], how many rows each stands for.

    Raises:
        TrainingError: labels and probabilities do not match, or a label is neither 0 nor 1.

    Examples:
        >>> labels_B = np.array([0, 1] * 300, np.uint8)
        >>> scores_B = np.where(labels_B == 1, 0.6, 0.4)
        >>> judge(labels_B, scores_B, scores_B, None, scores_B[400:], 400, None, GateConfig()).reason
        'ok'
    """
    so_far = evidence or Evidence()
    references = {"original": original_B} | ({} if champion_B is None else {"champion": champion_B})
    whole = references | ({} if line_B is None else {"line": line_B})
    for probabilities_B in whole.values():
        check_rows(labels_B, probabilities_B)
    check_rows(labels_B[cut:], candidate_G)
    if broken := _unusable({"candidate": candidate_G, **whole}):
        return Verdict(Status.FAIL, "metric", broken, so_far)
    pooled = so_far
    if line_B is not None:
        pooled = replace(so_far.with_stratum(labels_B, line_B, references, weights_B), hours=so_far.hours + 1)
    before_B = line_B if champion_B is None else champion_B
    guarded = {} if before_B is None else {"champion" if champion_B is not None else "line": before_B[cut:]}
    weights_G = weights_of(weights_B, slice(cut, None))
    gate_rows = _gate_rows(labels_B[cut:], {"candidate": candidate_G, **guarded}, pooled, config, weights_G)
    rows = labels_B.size if weights_B is None else round(float(weights_B.sum()))
    now = Pair() if champion_B is None else Pair.of(labels_B[cut:], candidate_G, champion_B[cut:], weights_G)
    verdict = _decided(pooled, test_of(pooled, config), gate_rows, now, rows, config)
    return replace(verdict, evidence=replace(verdict.evidence, live=Pair())) if verdict.accepted else verdict


def _unusable(given: dict[str, Floats]) -> str:
    """What is wrong with the first model that has a score that is no probability; empty when all are."""
    for name, probabilities_B in given.items():
        if unusable := int(np.count_nonzero(~((probabilities_B >= 0.0) & (probabilities_B <= 1.0)))):
            return (
                f"{unusable:,} of {probabilities_B.size:,} rows have a score of the {name} that is no probability "
                "(not finite, or outside [0, 1])."
            )
    return ""


def _gate_rows(
    labels_B: Labels, given: dict[str, Floats], pooled: Evidence, config: GateConfig, weights_B: Weights
) -> tuple[Comparison, ...]:
    """Comparisons of the candidate on the gate rows alone, at one look; none if there are too few rows."""
    clicks = int(np.count_nonzero(labels_B))
    if min(clicks, labels_B.size - clicks) < config.min_class_rows:
        return ()
    given = given | {FLOOR: np.full(labels_B.size, click_rate(labels_B, weights_B))}
    candidate, *references = (score(name, labels_B, scores_B, weights_B) for name, scores_B in given.items())
    margins = config.auc_margin, entropy_margin(pooled.alone.rows, pooled.alone.positives, config.entropy_margin)
    checks = max(2 * len(references) - 1, 1)  # the base rate has one check, not two
    confidence = 1.0 - (1.0 - config.confidence) / checks
    return tuple(
        compare(candidate, reference, auc_margin=auc, logloss_margin=logloss, confidence=confidence)
        for reference in references
        for auc, logloss in [(0.0, 0.0) if reference.name == FLOOR else margins]
    )


def _decided(
    pooled: Evidence, test: Test, gate_rows: tuple[Comparison, ...], now: Pair, rows: int, config: GateConfig
) -> Verdict:
    """The verdict, by the order in the module's docstring, and the evidence that the next hour begins with.

    Args:
        pooled: the line on whole hours, this one included.
        test: what the running test says of it.
        gate_rows: the candidate on this hour's gate rows, bounds for one look.
        now: the candidate beside the live version on these.
        rows: rows of the hour.
        config: margins, confidence and fewest rows.
    """
    passed = test.state == "passed"
    qualified = passed or (pooled.qualified and not test.failed)
    over = passed or test.failed or test.exhausted
    after = pooled.afresh(qualified=qualified, passed=passed) if over else pooled
    hours = _hours_to_decide(test, rows, config)
    counted = f"{_several(pooled.hours, 'hour')}, {test.rows:,} rows ({test.floor.positives:,} with label 1)"
    wrong = [check for check in _checks(gate_rows) if check.difference.standing is Standing.FAIL]
    live = beside_live(pooled.live, config)
    fresh = _better(beside_live(now, config, BY_GATE_ROWS), "gate rows")
    better = fresh or _better(live, "rows since the live version was released")
    informed = _informed(gate_rows) if fresh else ""
    excused = {"original", FLOOR} if informed else {"original"}
    gap = (pooled.before + pooled.alone).loss_gap
    below = (
        f"The challenger's log loss is {gap.mean:.5f} worse than always predicting the share of clicks, on "
        f"{gap.weight:,.0f} rows of this test and the one before."
        if gap.mean > ROUNDING
        else ""
    )
    if test.failed and not (better and excused.issuperset(check.reference for check in test.failed)):
        status, reason = Status.FAIL, test.state
        text = f"The challenger is worse on {counted}: {_figures(test.failed)}."
    elif wrong:
        status, reason = Status.FAIL, _reason(wrong[0])
        text = f"The challenger is worse on {gate_rows[0].rows:,} gate rows alone: {_figures(wrong)}."
    elif (qualified or better) and below and not informed:
        status, reason, text = Status.FAIL, "floor", below
    elif qualified and not below:
        status, reason = Status.PASS if "champion" in pooled.pairs else Status.BOOTSTRAP, "ok"
        text = (
            f"No loss beyond the margins on {counted}: {', '.join(map(str, _checks(test.references)))}."
            if passed
            else f"Qualified; the new test has {counted}: {_leanings(test)}."
        ) + _beaten(test, status)
    elif better:
        status, reason = Status.PASS, "better"
        standing = "Qualified" if qualified else "Still on trial"
        so_far = _figures(test.failed) if test.failed else _leanings(test)
        text = " ".join(filter(None, [better, informed, f"{standing}, {counted}: {so_far}.", below]))
    elif test.state == "too-few":
        status, reason = Status.UNDECIDED, "too-few"
        text = (
            f"{counted} are too few: the gate wants {config.min_rows:,} rows and {config.min_class_rows:,} of "
            f"either label. So far: {_leanings(test)}. Decides {_when(hours)}."
        )
    else:
        status, reason = Status.UNDECIDED, "undecided"
        found = (
            "show the challenger worse, not yet by how much: inside the margin or past it"
            if _shown_worse(test)
            else "cannot tell yet"
        )
        text = f"{counted} {found}: {_leanings(test)}. Decides {_when(hours)}."
    return Verdict(status, reason, text, after, test.comparisons, gate_rows, test.rows_to_decide, hours, live)


def _checks(comparisons: tuple[Comparison, ...]) -> list[Check]:
    """All checks: both metrics against each reference, log loss alone against the base rate."""
    return [
        Check(item.reference, gap)
        for item in comparisons
        for gap in item.differences
        if item.reference != FLOOR or gap.metric == "logloss"
    ]


def _reason(check: Check) -> str:
    """The slug of a check that failed."""
    return "floor" if check.reference == FLOOR else f"worse-{check.difference.metric}"


def _hours_to_decide(test: Test, rows: int, config: GateConfig) -> int | None:
    """Hours of so many rows until an equal line has most likely passed."""
    rarer = min(test.floor.positives, test.floor.rows - test.floor.positives)
    if not rarer or not rows:
        return None
    wanted = max(config.min_rows, math.ceil(config.min_class_rows * test.floor.rows / rarer), test.rows_to_decide or 0)
    return max(0, math.ceil((wanted - test.rows) / rows))


def _leanings(test: Test) -> str:
    """How each check that has not passed leans, in words and figures."""
    floor = () if any(item.reference == "champion" for item in test.references) else test.floor.differences
    checks = [*_checks(test.references), *(Check(FLOOR, gap) for gap in floor)]
    unclear = [check for check in checks if check.difference.loss_at_most > check.difference.margin]
    unknown = [check for check in checks if math.isnan(check.difference.loss_at_most)]
    told = [_leaning(check) for check in unclear]
    told += [f"{check} not known yet" for check in unknown]
    return "; ".join(told) or "nothing against it"


def _leaning(check: Check) -> str:
    """One check: which way, how far, and how far it may be at worst."""
    gap = check.difference
    worst = f"at worst {gap.loss_at_most:.5f} worse" if math.isfinite(gap.loss_at_most) else "no bound yet"
    if gap.loss_at_least > 0.0:
        return (
            f"{check} is worse by {gap.loss:.5f} (at least {gap.loss_at_least:.5f}, {worst}, margin {gap.margin:.2g})"
        )
    way = "better" if gap.loss < 0.0 else "worse"
    return f"{check} leans {way} by {abs(gap.loss):.5f} ({worst}, margin {gap.margin:.2g})"


def _shown_worse(test: Test) -> bool:
    """Whether a loss is shown that is not shown to be inside its margin."""
    return any(
        check.difference.loss_at_least > 0.0 and check.difference.standing is not Standing.PASS
        for check in _checks(test.references)
    )


def _figures(checks: Iterable[Check]) -> str:
    """What failed, in words and figures."""
    return " and ".join(
        f"{check} {gap.challenger:.4f} to {gap.reference:.4f}, worse by {gap.loss:.5f} (at least "
        f"{gap.loss_at_least:.5f}, margin {gap.margin:.2g})"
        for check in checks
        for gap in [check.difference]
    )


def _better(compared: Comparison | None, rows: str) -> str:
    """That both metrics are shown better than those of the live version, in words; empty where they are not."""
    if not compared or not all(gap.loss_at_most < 0.0 for gap in compared.differences):  # nan is not shown
        return ""
    return f"Better on {compared.rows:,} {rows}: {' and '.join(map(_gain, compared.differences))}."


def _informed(gate_rows: tuple[Comparison, ...]) -> str:
    """That the gate rows show a lower log loss than the base rate's, in words; empty where they do not."""
    shown = gate_rows and gate_rows[-1].logloss.standing is Standing.PASS
    return f"The base rate is beaten on them: {_gain(gate_rows[-1].logloss, FLOOR)}." if shown else ""


def _gain(gap: Difference, reference: str = "what is live") -> str:
    """A difference that is shown to be a gain, in words and figures."""
    return (
        f"{Check(reference, gap)} {gap.challenger:.4f} to {gap.reference:.4f}, better by "
        f"{-gap.loss:.5f} (at least {-gap.loss_at_most:.5f})"
    )


def _beaten(test: Test, status: Status) -> str:
    """Without a champion: how far the base rate is beaten."""
    if status is not Status.BOOTSTRAP:
        return ""
    auc, logloss = test.floor.differences
    return (
        f" No champion yet; the base rate is beaten: AUC {auc.challenger:.4f} to {auc.reference:.4f}, log loss "
        f"{logloss.challenger:.4f} to {logloss.reference:.4f}."
    )


def _when(hours: int | None) -> str:
    """When a decision is likely, in words."""
    if hours is None:
        return "when there are rows of both labels"
    return f"in about {_several(hours, 'hour')} like this one" if hours else "soon, if no worse than its references"


def _several(count: int, word: str) -> str:
    """A number and its noun, `1 hour` or `24 hours`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
