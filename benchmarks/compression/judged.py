"""Computes paired differences on the same rows: each method against the original, and Saec against each peer.

Decisions: a peer is compared with the largest Saec that takes no more bytes than it, so a difference in size is always
in the peer's favour. Within a seed the interval is DeLong's for the AUC and that of the rows' mean difference for the
log loss. Over seeds the rows are the same, so the rows' variance does not average out: the interval of the mean takes
the mean of the seeds' variances plus the variance of the seeds over their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.compression.runs import Kept, Record, scores_file
from saec.gate.comparison import Scored, compare, score
from saec.gate.paired import Interval

REACH = 1.96
"""Standard errors on both sides of a difference: 95%."""


@dataclass(frozen=True, slots=True)
class Gap(Interval):
    """A difference in the mean over seeds, and half of its 95% interval."""

    @classmethod
    def over_seeds(cls, found: Iterable[tuple[float, float]]) -> Gap:
        """From difference and standard error of each seed.

        >>> Gap.over_seeds([(0.01, 0.001)])
        Gap(difference=0.01, reach=0.00196)
        """
        differences, errors = zip(*found, strict=True)
        seeds = variance(differences) / len(differences) if len(differences) > 1 else 0.0
        return cls(fmean(differences), REACH * math.sqrt(fmean(error**2 for error in errors) + seeds))


def judge(kept: Kept, labels_B: NDArray[np.uint8], scores: Path) -> None:
    """Compare all runs whose scores are there, and keep the differences beside them; of others those kept before."""
    pairs = [(first, second) for second in _names(kept.content["runs"]) for first in opponents(kept, second)]
    before = {(old["seed"], old["first"], old["second"]): old for old in kept.content.get("compared", [])}
    compared: list[Record] = []
    for seed in sorted({record["seed"] for record in kept.content["runs"]}):
        scored = {
            record["name"]: _scored(record["name"], labels_B, scores, seed)
            for record in kept.content["runs"]
            if record["seed"] == seed and scores_file(scores, record["name"], seed).exists()
        }
        for first, second in pairs:
            found = before.get((seed, first, second))
            if first in scored and second in scored:
                found = {
                    "seed": seed,
                    "first": first,
                    "second": second,
                    **_compared(scored[first], scored[second]),
                }
            if found is not None:
                compared.append(found)
    kept.content["compared"] = compared
    kept.save()


def opponents(kept: Kept, name: str) -> list[str]:
    """The contestants to compare with this one: all with the original, a Saec of no more bytes with a peer."""
    if name == "original":
        return [other for other in _names(kept.content["runs"]) if other != name]
    if name.startswith("saec@"):
        return []
    saec = saec_no_larger(kept, name)
    return [saec] if saec else []


def saec_no_larger(kept: Kept, name: str) -> str | None:
    """The largest Saec that takes no more bytes than a contestant; None when all take more."""
    sizes = {other: mean_of(kept, other, "bytes") for other in _names(kept.content["runs"])}
    fitting = [other for other in sizes if other.startswith("saec@") and sizes[other] <= sizes[name]]
    return max(fitting, key=sizes.__getitem__, default=None)


def gap(kept: Kept, first: str, second: str, metric: str) -> Gap | None:
    """The first minus the second in `auc` or `logloss`, over seeds; None where they were not compared."""
    pair = [
        record for record in kept.content.get("compared", []) if (record["first"], record["second"]) == (first, second)
    ]
    return Gap.over_seeds(record[metric] for record in pair) if pair else None


def mean_of(kept: Kept, name: str, figure: str) -> float:
    """A figure of a contestant, in the mean over seeds."""
    return fmean(record[figure] for record in kept.content["runs"] if record["name"] == name)


def _names(runs: list[Record]) -> list[str]:
    return list(dict.fromkeys(record["name"] for record in runs))


def _scored(name: str, labels_B: NDArray[np.uint8], scores: Path, seed: int) -> Scored:
    return score(name, labels_B, np.load(scores_file(scores, name, seed)).astype(np.float64))


def _compared(first: Scored, second: Scored) -> dict[str, Any]:
    """Difference and standard error of both metrics."""
    found = compare(first, second, auc_margin=1.0, logloss_margin=1.0, confidence=0.975)
    return {gap.metric: [gap.difference, gap.standard_error] for gap in found.differences}
