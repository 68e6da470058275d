"""Compares pairs of models on whole served hours, with intervals, pooled over any hours.

Decisions: each hour keeps sums for a pair of models (`saec.gate.evidence.Pair`), so hours are pooled without their
rows. Rows are ranked only among those of their own hour: an AUC over mixed hours would also reward knowing the hour of
the day. Intervals are two-sided and normal, from DeLong's variance for the AUC and from the rows' differences for the
log loss. A record without these sums, or with broken ones, is skipped, because a report must still show the hours that
went wrong.

Shapes: B rows of an hour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from statistics import NormalDist, median
from typing import Any

from saec.gate.evidence import Pair
from saec.gate.metrics import Floats, Labels, Weights

CONFIDENCE = 0.95
"""Of the two-sided intervals."""
TWO_SIDED = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
"""Standard errors that such an interval reaches to either side."""
PAIRS = (("live", "original"), ("version", "original"), ("live", "version"))
"""The pairs compared: the live version, the version made from the hour before, the original of that moment."""
NAMES = tuple(f"{first}-{second}" for first, second in PAIRS)
"""Names of the pairs in a record's `served_pairs`."""
Sums = Mapping[str, Any]
"""What `dataclasses.asdict` makes of a `Pair`: numbers, and mappings of numbers."""
_NOTHING: Sums = asdict(Pair())


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference with its interval."""

    difference: float
    """First minus second."""
    reach: float
    """Half of the interval; nan if the rows do not define it."""

    @property
    def lower(self) -> float:
        """Lower end of the interval."""
        return self.difference - self.reach

    @property
    def upper(self) -> float:
        """Upper end of the interval."""
        return self.difference + self.reach


@dataclass(frozen=True, slots=True)
class Gap(Interval):
    """One metric of the first model minus that of the second."""

    first: float
    """The first model's figure."""
    second: float
    """The second's."""
    median: float
    """Median of the single hours' differences: what a typical hour sees, where a few large ones decide the rest."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models over some hours."""

    hours: int
    rows: int
    auc: Gap
    logloss: Gap

    def as_dict(self, name: str) -> dict[str, float]:
        """Plain values for JSON: of `live-original` `auc_live`, `auc_original`, `auc_difference`, bounds, `auc_median`.

        Args:
            name: one of `NAMES`.
        """
        first, second = name.split("-")
        found: dict[str, float] = {"hours": self.hours, "rows": self.rows}
        for metric, gap in (("auc", self.auc), ("logloss", self.logloss)):
            figures = {
                first: gap.first,
                second: gap.second,
                "difference": gap.difference,
                "lower": gap.lower,
                "upper": gap.upper,
                "median": gap.median,
            }
            found |= {f"{metric}_{what}": value for what, value in figures.items()}
        return found


def served_pairs(
    labels_B: Labels, scores: Mapping[str, Floats], weights_B: Weights = None
) -> dict[str, dict[str, Any]]:
    """An hour's sums for each of `PAIRS` that it can compare, by `FIRST-SECOND`, as plain values for a record.

    Args:
        labels_B: uint8 [B], 0 or 1.
        scores: float64 [B] by model, probabilities.
        weights_B: float64 [B], how many rows each stands for.
    """
    found = {}
    for first, second in PAIRS:
        if first in scores and second in scores:
            found[f"{first}-{second}"] = asdict(Pair.of(labels_B, scores[first], scores[second], weights_B))
    return found


def pooled(pairs: Iterable[Sums], confidence: float = CONFIDENCE) -> Paired | None:
    """Two models over all hours whose pairs these are, with two-sided intervals; None without any."""
    known = list(pairs)
    if not known:
        return None
    sums: Sums = reduce(_added, known)
    total = Pair.from_dict(dict(sums))
    clicked, reach = total.ranks.positive, NormalDist().inv_cdf(0.5 + confidence / 2)
    return Paired(
        len(known),
        total.rows,
        Gap(
            clicked.mean,
            reach * total.ranks.standard_error,
            _mean(total.line.placements, clicked.weight),
            _mean(total.reference.placements, clicked.weight),
            _median(pair["ranks"]["positive"] for pair in known),
        ),
        Gap(
            total.loss.mean,
            reach * total.loss.standard_error,
            _mean(total.line.loss, total.rows),
            _mean(total.reference.loss, total.rows),
            _median(pair["loss"] for pair in known),
        ),
    )


def pair_of(record: Mapping[str, Any], name: str) -> Sums | None:
    """A pair's sums from an hour's record; None if it has none.

    Args:
        record: of an hour, from the ledger.
        name: one of `NAMES`.
    """
    found = record.get("served_pairs")
    return sums_of(found.get(name)) if isinstance(found, Mapping) else None


def sums_of(pair: object) -> Sums | None:
    """A pair's sums in a record; None if they are missing or broken."""
    return pair if isinstance(pair, Mapping) and _like(pair, _NOTHING) else None


def over_hours(records: Sequence[Mapping[str, Any]]) -> dict[str, Paired]:
    """Each of `NAMES` over those of some hours whose records know it; a pair that none knows is left out."""
    found = {name: pooled(pair for record in records if (pair := pair_of(record, name)) is not None) for name in NAMES}
    return {name: paired for name, paired in found.items() if paired is not None}


def _added(left: Sums, right: Sums) -> Sums:
    """The sums of both: as `Pair` adds them, but without making one of each hour first."""
    return {
        key: _added(value, right[key]) if isinstance(value, Mapping) else value + right[key]
        for key, value in left.items()
    }


def _like(found: Mapping[str, Any], wanted: Sums) -> bool:
    """Whether a mapping has the keys that are wanted, with finite numbers and such mappings at their places."""
    return found.keys() == wanted.keys() and all(
        isinstance(found[key], Mapping) and _like(found[key], value)
        if isinstance(value, Mapping)
        else isinstance(found[key], int | float) and math.isfinite(found[key])
        for key, value in wanted.items()
    )


def _median(hours: Iterable[Sums]) -> float:
    """Median of the hours' means; nan if no hour has one."""
    means = [hour["total"] / hour["weight"] for hour in hours if hour["weight"]]
    return median(means) if means else math.nan


def _mean(total: float, count: float) -> float:
    return total / count if count else float("nan")
