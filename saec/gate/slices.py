"""Compares the live version with the original slice by slice, so that an average gain cannot hide a loss in one part.

Decisions: an hour keeps sums (`saec.gate.evidence.Pair`), so slices are pooled over hours like whole hours. Rows are
ranked within their slice and hour. With many slices some look worse by chance, so intervals are wide enough to hold for
all slices together (Bonferroni), and a slice is called worse only if its whole interval is on the worse side.

Shapes: B rows of an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from saec.data.slices import Slices
from saec.gate.metrics import Floats, Labels, Weights, weights_of
from saec.gate.paired import CONFIDENCE, Paired, pooled, served_pairs, sums_of

PAIR = "live-original"
Standing = Literal["worse", "better", "not told apart"]


@dataclass(frozen=True, slots=True)
class SlicePaired:
    """One slice over some hours."""

    column: str
    value: str
    paired: Paired

    @property
    def standing(self) -> Standing:
        """Whether what was live is shown to be worse than the original here, by either metric, or better."""
        gains = (self.paired.auc.lower, -self.paired.logloss.upper)
        losses = (self.paired.auc.upper, -self.paired.logloss.lower)
        if any(best < 0 for best in losses):
            return "worse"
        return "better" if any(least > 0 for least in gains) else "not told apart"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"column": self.column, "value": self.value, "standing": self.standing} | self.paired.as_dict(PAIR)


def slice_pairs(
    labels_B: Labels, scores: Mapping[str, Floats], slices: Mapping[str, Slices], weights_B: Weights = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """The sums of each slice of an hour, by column and value, as plain values; none without a live version.

    Args:
        labels_B: uint8 [B], 0 or 1.
        scores: float64 [B] by model, probabilities; `live` and `original` are used.
        slices: by column.
        weights_B: float64 [B], how many rows each stands for.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    if "live" not in scores:
        return found
    for column, own in slices.items():
        found[column] = {}
        for place, name in enumerate(own.names):
            chosen_B = own.codes_B == place
            models = {model: scores[model][chosen_B] for model in ("live", "original")}
            found[column][name] = served_pairs(labels_B[chosen_B], models, weights_of(weights_B, chosen_B))[PAIR]
    return found


def slices_over_hours(records: Sequence[Mapping[str, Any]]) -> list[SlicePaired]:
    """Every slice, pooled over the hours that have it: in the order of the columns, the slice with most rows first."""
    known: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for column, value, pair in (entry for record in records for entry in _entries(record)):
        known.setdefault((column, value), []).append(pair)
    confidence = 1.0 - (1.0 - CONFIDENCE) / max(2 * len(known), 1)  # two metrics each
    found = [SlicePaired(*name, paired) for name, pairs in known.items() if (paired := pooled(pairs, confidence))]
    columns = list(dict.fromkeys(item.column for item in found))
    return sorted(found, key=lambda item: (columns.index(item.column), -item.paired.rows, item.value))


def _entries(record: Mapping[str, Any]) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    """Column, value and sums of each slice in a record; broken ones are skipped."""
    columns = record.get("slices")
    for column, values in columns.items() if isinstance(columns, Mapping) else ():
        for value, pair in values.items() if isinstance(values, Mapping) else ():
            if (sums := sums_of(pair)) is not None:
                yield str(column), str(value), sums
