"""Simulates small sites, and measures how soon the gate publishes an equal line and how often a worse one.

Decisions: a site begins without a champion. Each hour the gate judges 70% of the rows as scored by the models of the
hour's beginning and 30% as scored by those of the cut. Once a line is released, the champion is its version of the hour
before: the same model on the rows before the cut, and one that correlates with the candidate by 0.99 after it. A worse
line is planted at exactly the margin, in AUC or in log loss, over 48 hours; it counts as accepted if any of them is:
48 chances to be wrong, where a fixed-sample test keeps its 5% for one. A line on trial beside an old live version is
released once it is shown better than that version. Two cases are planted for this: lines as good as what is live, while
the original is better than both by more than the margin; and lines that are better than what is live.

    python -m benchmarks.gate --challengers 100
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from benchmarks.gate import AUC, CONFIG, CORRELATION, Floats, Model, faults, simulate
from benchmarks.record import Figures
from saec.gate.evidence import Evidence
from saec.gate.verdict import judge

HOURS, SHARE, SUCCESSIVE = 48, 0.7, 0.99
"""Hours of two days; share of an hour's rows before its cut; correlation of a version with the next one."""


@dataclass(frozen=True)
class Site:
    """What a site's hours are like."""

    rows: int = 500
    """Rows an hour."""
    ctr: float = 0.005
    """Click rate."""
    correlation: float = CORRELATION
    """Of line and original, within a class."""

    def __str__(self) -> str:
        """In words."""
        return f"{self.rows:,} rows an hour, {self.ctr:.1%} clicks, correlation {self.correlation:g}"


def published(random: np.random.Generator, site: Site, line: Model, *, to_the_end: bool) -> list[bool]:
    """Which hours of one site the gate accepts; up to the first such hour unless `to_the_end`."""
    evidence: Evidence | None = None
    accepted: list[bool] = []
    while len(accepted) < HOURS and (to_the_end or not any(accepted)):
        labels_B, (line_B, original_B) = simulate(random, site.rows, [line, Model(ctr=site.ctr)], site.correlation)
        cut = round(SHARE * site.rows)
        champion_B = _champion(random, line, labels_B, line_B, cut, released=accepted[-1]) if any(accepted) else None
        verdict = judge(labels_B, line_B, original_B, champion_B, line_B[cut:], cut, evidence, CONFIG)
        evidence = verdict.evidence
        accepted.append(verdict.accepted)
    return accepted


def _champion(
    random: np.random.Generator, line: Model, labels_B: NDArray[np.uint8], line_B: Floats, cut: int, *, released: bool
) -> Floats:
    """The scores of the version before: the line's own before the cut, if that was the one released."""
    spread = line.scale * line.distance * math.sqrt(2 * (1 - SUCCESSIVE))
    apart_B = logit(np.clip(line_B, 1e-12, 1 - 1e-12)) + spread * random.standard_normal(labels_B.size)
    champion_B: Floats = 1 / (1 + np.exp(-apart_B))
    if released:
        champion_B[:cut] = line_B[:cut]
    return champion_B


def first_hours(sites: int, site: Site, line: Model, seed: int) -> list[int]:
    """The first accepted hour of each site that has one."""
    random = np.random.default_rng(seed)
    runs = [published(random, site, line, to_the_end=False) for _ in range(sites)]
    return [len(run) for run in runs if any(run)]


def relieved(sites: int, site: Site, gain: float, seed: int) -> list[int]:
    """The first hour of each site in which a line is released for being better than what is live by so much AUC."""
    random, hours = np.random.default_rng(seed), []
    line = Model(auc=AUC - 2 * CONFIG.auc_margin, ctr=site.ctr)
    models = [line, Model(ctr=site.ctr), Model(auc=line.auc - gain, ctr=site.ctr)]
    for _ in range(sites):
        evidence: Evidence | None = None
        for hour in range(1, HOURS + 1):
            labels_B, (line_B, original_B, live_B) = simulate(random, site.rows, models, site.correlation)
            cut = round(SHARE * site.rows)
            verdict = judge(labels_B, line_B, original_B, live_B, line_B[cut:], cut, evidence, CONFIG)
            evidence = verdict.evidence
            if verdict.reason == "better":
                hours.append(hour)
                break
    return hours


def sparse_sites(figures: Figures, sites: int, seed: int) -> None:
    """All sites, all lines."""
    small = Site()
    _soon(figures, sites, small, seed, wanted=0.95)
    better = first_hours(sites, small, Model(auc=AUC + 0.01, ctr=small.ctr), seed)
    figures.add(f"{small}: better by 0.01 of AUC, published within {HOURS} hours", len(better) / sites, "share")
    for name, line in faults(small.ctr).items():
        share = len(first_hours(sites, small, line, seed)) / sites
        figures.add(
            f"{small}: worse by the margin in {name}, ever published in {HOURS} hours",
            share,
            "share",
            "<= 0.05",
            share <= 1 - CONFIG.confidence,
        )
    fewer = max(1, sites // 5)
    large = Site(rows=5_800, ctr=0.35, correlation=0.94)
    for site, count in ((small, sites), (large, fewer)):
        share = len(relieved(count, site, 0.0, seed)) / count
        figures.add(
            f"{site}: on trial and no better than what is live, released as better in {HOURS} hours",
            share,
            "share",
            "<= 0.05",
            share <= 1 - CONFIG.confidence,
        )
    hours = relieved(fewer, large, 0.03, seed)
    figures.add(
        f"{large}: on trial and better by 0.03 of AUC, so released in {HOURS} hours", len(hours) / fewer, "share"
    )
    if hours:
        figures.add(
            f"{large}: on trial and better by 0.03 of AUC, so released, median", float(np.median(hours)), "hour"
        )
    for other in (Site(correlation=0.97), Site(correlation=0.94), Site(ctr=0.002)):
        _soon(figures, fewer, other, seed)
        share = len(first_hours(fewer, other, faults(other.ctr)["log loss (shifted)"], seed)) / fewer
        figures.add(f"{other}: worse by the margin in log loss, ever published in {HOURS} hours", share, "share")
    random = np.random.default_rng(seed)
    runs = np.array([published(random, large, Model(ctr=large.ctr), to_the_end=True) for _ in range(-(-sites // 25))])
    figures.add(f"{large}: equal, first published, median", float(np.median(runs.argmax(axis=1) + 1)), "hour")
    figures.add(
        f"{large}: equal, hours published of the last 24",
        float(runs[:, 24:].mean()),
        "share",
        ">= 0.9",
        bool(runs[:, 24:].mean() >= 0.9),
    )


def _soon(figures: Figures, sites: int, site: Site, seed: int, wanted: float | None = None) -> None:
    """How soon an equal line is published."""
    hours = first_hours(sites, site, Model(ctr=site.ctr), seed)
    share = len(hours) / sites
    target = {} if wanted is None else {"target": f">= {wanted}", "holds": share >= wanted}
    figures.add(f"{site}: equal, published within {HOURS} hours, of {sites} sites", share, "share", **target)
    if hours:
        figures.add(f"{site}: equal, first published, median of these", float(np.median(hours)), "hour")
