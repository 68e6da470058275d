"""Shows the live version beside the original, slice by slice: rows of a table, and slices shown to be worse."""

from __future__ import annotations

from collections.abc import Sequence

from saec.gate.slices import SlicePaired
from saec.report import text
from saec.report.headline import interval_text

HEAD = (
    "slice",
    "rows",
    "AUC live",
    "original",
    "difference",
    "interval",
    "log loss live",
    "original",
    "difference",
    "interval",
    "live is",
)


def slice_rows(slices: Sequence[SlicePaired]) -> list[list[str]]:
    """A row a slice under `HEAD`; names are as the data have them, not yet escaped."""
    return [
        [
            f"{text.plain(item.column)} = {text.plain(item.value)}",
            text.count(item.paired.rows),
            *(
                cell
                for gap in (item.paired.auc, item.paired.logloss)
                for cell in (
                    text.decimal(gap.first),
                    text.decimal(gap.second),
                    text.signed(gap.difference),
                    interval_text(gap),
                )
            ),
            item.standing,
        ]
        for item in slices
    ]


def worse_text(slices: Sequence[SlicePaired]) -> str:
    """Which slices are shown to be worse, in words; empty for none."""
    worse = [f"{text.plain(item.column)} = {text.plain(item.value)}" for item in slices if item.standing == "worse"]
    return (
        f"Shown to be worse than the original in {text.plural(len(worse), 'slice')}: {', '.join(worse)}."
        if worse
        else ""
    )
