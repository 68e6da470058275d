"""Measures how often the gate is wrong, on single hours and over days of sparse ones, and DeLong's speed.

Decisions: labels are drawn first, scores are normal around a mean that depends on the label. With means d apart, the
exact AUC is Phi(d / sqrt 2) and the exact click probability is logistic(logit(CTR) + d s - d^2 / 2), so "worse by
exactly the margin" is planted exactly and not estimated. Models share most of their noise: correlation 0.986 within a
class. First single hours (CTR 6%) of as many rows as `rows_to_decide` asks for, derived from one pilot of 200,000 rows;
then sites whose hours are pooled (`benchmarks.gate_sites`).

The gate's level is 5% for one check at exactly the margin, over all its looks. Against two references, as in every hour
after the first, both checks must err at once, so the level is below that.

    python -m benchmarks.gate                                    # 1,000 challengers a scenario, 500 sites
    python -m benchmarks.gate --challengers 5000 --sites 100     # tells 5% from 6%
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import click
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from benchmarks.record import Figures
from saec.config import GateConfig
from saec.gate.delong import auc_difference, placements
from saec.gate.pooled import entropy_margin
from saec.gate.verdict import Verdict, judge

Floats = NDArray[np.float64]
CTR, AUC, CORRELATION = 0.06, 0.75, 0.986
CONFIG = GateConfig()


@dataclass(frozen=True)
class Model:
    """A simulated model of known quality: the distance between its two classes, and a fault of its calibration."""

    auc: float = AUC
    """Exact area under its ROC curve."""
    shift: float = 0.0
    """Added to the logit of every prediction: changes log loss, not AUC."""
    scale: float = 1.0
    """Times the logit's distance from the base rate's; above 1 is overconfident, with the same AUC."""
    ctr: float = CTR
    """Click rate of the rows it is made for."""

    @property
    def distance(self) -> float:
        """Between the mean scores of clicked and other rows, in standard deviations."""
        return NormalDist().inv_cdf(self.auc) * math.sqrt(2)

    def logits(self, scores_B: Floats) -> Floats:
        """Predictions for scores, as logits; calibrated exactly when shift is 0 and scale 1."""
        evidence_B = self.distance * scores_B - self.distance**2 / 2
        return math.log(self.ctr / (1 - self.ctr)) + self.scale * evidence_B + self.shift

    def logloss(self) -> float:
        """Its exact log loss, by quadrature over the two score densities."""

        def of_class(mean: float, sign: int) -> float:
            scores = np.linspace(mean - 9, mean + 9, 4001)
            density = np.exp(-((scores - mean) ** 2) / 2) / math.sqrt(2 * math.pi)
            return float(np.trapezoid(density * np.logaddexp(0.0, -sign * self.logits(scores)), scores))

        return self.ctr * of_class(self.distance, 1) + (1 - self.ctr) * of_class(0.0, -1)


def worse_by(loss: float, fault: Callable[[float], Model], start: float, stop: float) -> Model:
    """The model whose exact log loss is `loss` above that of the reference, by one kind of calibration fault."""
    base = Model(ctr=fault(start).ctr).logloss()
    return fault(float(brentq(lambda size: fault(size).logloss() - base - loss, start, stop)))


def simulate(
    random: np.random.Generator, rows: int, models: list[Model], correlation: float = CORRELATION
) -> tuple[NDArray[np.uint8], list[Floats]]:
    """Labels [B] and each model's probabilities [B] on the same rows."""
    labels_B = (random.random(rows) < models[0].ctr).astype(np.uint8)
    shared_B = math.sqrt(correlation) * random.standard_normal(rows)

    def predict(model: Model) -> Floats:
        own_B = math.sqrt(1 - correlation) * random.standard_normal(rows)
        predicted_B: Floats = expit(model.logits(model.distance * labels_B + shared_B + own_B))
        return predicted_B

    return labels_B, [predict(model) for model in models]


def verdicts(
    challengers: int, rows: int, challenger: Model, references: int, seed: int, *, broken: bool = False
) -> list[Verdict]:
    """The verdicts on so many challengers, each against fresh references, on fresh rows."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(challengers):
        labels_B, scores = simulate(random, rows, [challenger, *[Model()] * references])
        if broken:
            scores[0][random.integers(rows)] = np.nan
        champion_B = scores[2] if references > 1 else None
        found.append(judge(labels_B, scores[0], scores[1], champion_B, scores[0], 0, None, CONFIG))
    return found


def minimum_rows(seed: int, references: int) -> tuple[int, Verdict]:
    """The rows that the gate asks for, from a pilot of an equal challenger, and the pilot's verdict."""
    labels_B, scores = simulate(np.random.default_rng(seed), 200_000, [Model()] * (references + 1))
    pilot = judge(labels_B, scores[0], scores[1], scores[2] if references > 1 else None, scores[0], 0, None, CONFIG)
    assert pilot.rows_to_decide is not None
    return max(CONFIG.min_rows, pilot.rows_to_decide), pilot


def accepted(found: list[Verdict]) -> float:
    """Share of the verdicts that let the challenger through."""
    return sum(verdict.accepted for verdict in found) / len(found)


def delong_seconds(rows: int = 1_000_000) -> float:
    """Wall time of one paired DeLong comparison, best of three."""
    labels_B, (first_B, second_B) = simulate(np.random.default_rng(0), rows, [Model(), Model()])
    times = []
    for _ in range(3):
        start = time.perf_counter()
        auc_difference(placements(labels_B, first_B), placements(labels_B, second_B))
        times.append(time.perf_counter() - start)
    return min(times)


def point_gate(found: list[Verdict]) -> float:
    """Share that a gate without statistics, `AUC >= that of both references`, would have let through."""
    return sum(all(comparison.auc.loss <= 0.0 for comparison in verdict.comparisons) for verdict in found) / len(found)


def faults(ctr: float = CTR) -> dict[str, Model]:
    """Challengers that are worse by exactly the margin, each in a way of its own."""
    nats = entropy_margin(1_000_000, round(1_000_000 * ctr), CONFIG.entropy_margin)
    return {
        "AUC": Model(auc=AUC - CONFIG.auc_margin, ctr=ctr),
        "log loss (shifted)": worse_by(nats, lambda size: Model(shift=size, ctr=ctr), 0.0, 3.0),
        "log loss (overconfident)": worse_by(nats, lambda size: Model(scale=size, ctr=ctr), 1.0, 5.0),
    }


@click.command()
@click.option("--challengers", default=1000, show_default=True, help="Simulated challengers of each scenario.")
@click.option("--sites", default=500, show_default=True, help="Simulated sites of each scenario.")
@click.option("--seed", default=1, show_default=True, help="Seed of all draws.")
def main(challengers: int, sites: int, seed: int) -> None:
    """Measure the gate's two errors, on one hour and over two days, and its speed."""
    figures = Figures("gate")
    single_hours(figures, challengers, seed)
    from benchmarks.gate_sites import sparse_sites  # noqa: PLC0415 - it takes its models from here

    sparse_sites(figures, sites, seed)
    figures.finish()


def single_hours(figures: Figures, challengers: int, seed: int) -> None:
    """One hour of as many rows as the gate asks for, on its own."""
    rows, pilot = minimum_rows(seed, references=2)
    rows_alone, _ = minimum_rows(seed, references=1)
    error = pilot.comparisons[0].auc.standard_error
    figures.add("standard error of the AUC difference, pilot of 200,000 rows", error, "AUC")
    figures.add("gate rows that decide, two references", rows, "rows")
    figures.add("gate rows that decide, one reference", rows_alone, "rows")

    equal = verdicts(challengers, rows, Model(), 2, seed)
    figures.add("equal, accepted", accepted(equal), "share", ">= 0.95", accepted(equal) >= 0.95)
    alone = accepted(verdicts(challengers, rows_alone, Model(), 1, seed))
    figures.add("equal, one reference, accepted", alone, "share", ">= 0.95", alone >= 0.95)
    figures.add("equal, accepted by a gate of AUC >= both references", point_gate(equal), "share")
    scatter = float(binom.ppf(0.99, challengers, 1 - CONFIG.confidence)) / challengers
    for name, model in faults().items():
        both = accepted(verdicts(challengers, rows, model, 2, seed))
        alone = accepted(verdicts(challengers, rows_alone, model, 1, seed))
        figures.add(f"worse by the margin in {name}, accepted", both, "share", "<= 0.05", both <= 0.05)
        figures.add(
            f"worse by the margin in {name}, one reference, accepted",
            alone,
            "share",
            f"<= {scatter:g} (0.05 and sampling)",
            alone <= scatter,
        )
    broken = accepted(verdicts(challengers, rows, Model(auc=0.9), 2, seed, broken=True))
    figures.add("far better but for one NaN, accepted", broken, "share", "= 0", broken == 0.0)
    seconds = delong_seconds()
    figures.add("paired DeLong on 1,000,000 rows", seconds, "s", "<= 1", seconds <= 1.0)


if __name__ == "__main__":
    main()
