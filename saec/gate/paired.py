"""Two models side by side on the whole hours that one of them served: differences with intervals, over any hours.

Decisions: what an hour's rows say of a pair of models is kept as sums (`saec.gate.evidence.Pair`), so hours are pooled
without their rows. Rows are ranked among those of their own hour only: an AUC over hours thrown together would also
reward knowing the hour of the day. Intervals are two-sided and normal, from DeLong's variance for the AUC and from the
rows' differences for the log loss.

Shapes: B rows of an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from saec.gate.evidence import Evidence, Pair
from saec.gate.metrics import Floats, Labels

CONFIDENCE = 0.95
"""Of the two-sided intervals."""
PAIRS = (("live", "original"), ("version", "original"), ("live", "version"))
"""Which model is compared with which: what was live, the version made from the hour before, the original then."""


@dataclass(frozen=True, slots=True)
class Gap:
    """One metric of the first model minus that of the second."""

    first: float
    """The first model's figure."""
    second: float
    """The second's."""
    difference: float
    """First minus second."""
    reach: float
    """Half of the interval; nan where the rows do not tell."""

    @property
    def lower(self) -> float:
        """Lower end of the interval."""
        return self.difference - self.reach

    @property
    def upper(self) -> float:
        """Upper end of the interval."""
        return self.difference + self.reach


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models over some hours."""

    hours: int
    rows: int
    auc: Gap
    logloss: Gap


def served_pairs(labels_B: Labels, scores: Mapping[str, Floats]) -> dict[str, dict[str, Any]]:
    """What an hour says of each of `PAIRS` that it knows, as `FIRST-SECOND`, plain values for a record.

    Args:
        labels_B: uint8 [B], 0 or 1.
        scores: float64 [B] by model, probabilities.
    """
    found = {}
    for first, second in PAIRS:
        if first in scores and second in scores:
            evidence = Evidence().with_stratum(labels_B, scores[first], {second: scores[second]})
            found[f"{first}-{second}"] = asdict(evidence.pairs[second])
    return found


def pooled(pairs: Iterable[Mapping[str, Any]]) -> Paired | None:
    """Two models over all hours whose pairs these are; None without any."""
    known = [Pair.from_dict(dict(pair)) for pair in pairs]
    if not known:
        return None
    total = sum(known[1:], known[0])
    clicked, reach = total.ranks.positive, NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    return Paired(
        len(known), total.rows,
        Gap(_mean(total.line.placements, clicked.weight), _mean(total.reference.placements, clicked.weight),
            clicked.mean, reach * total.ranks.standard_error),
        Gap(_mean(total.line.loss, total.rows), _mean(total.reference.loss, total.rows), total.loss.mean,
            reach * total.loss.standard_error),
    )


def _mean(total: float, count: float) -> float:
    return total / count if count else float("nan")
