"""Figures of the codebooks, field by field: the rows of their table, and means over the hours.

Decisions: shares, errors and distances are percentages, because nobody reads 0.0612 as a share. A field without a code
keeps its row, full of dashes; averages over fields leave such fields out.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from saec.report import text
from saec.report.records import Record, finite

HEAD = ("field", "features with codes", "clusters", "in use", "in the largest", "error", "drift", "drawn anew")


def by_field(record: Record) -> dict[str, Mapping[str, object]]:
    """The figures of each field's clusters; nothing when the hour did not get that far or was done before they were."""
    found = record.get("fields")
    if not isinstance(found, Mapping):
        return {}
    return {str(name): figures for name, figures in found.items() if isinstance(figures, Mapping)}


def field_rows(record: Record) -> list[list[str]]:
    """A row a field, under `HEAD`; names are as the configuration has them, not yet escaped."""
    return [[text.plain(name), *_cells(figures)] for name, figures in by_field(record).items()]


def life(record: Record) -> dict[str, float | None]:
    """`error` and `drift` of the hour, means over the fields that have codes; None for none."""
    coded = [figures for figures in by_field(record).values() if _coded(figures)]
    return {key: _mean([finite(figures.get(key)) for figures in coded]) for key in ("error", "drift")}


def _cells(figures: Mapping[str, object]) -> list[str]:
    """The figures of a field as text."""
    if not _coded(figures):
        return [text.count(figures.get("head")), *[text.DASH] * (len(HEAD) - 2)]
    clusters, used = finite(figures.get("clusters")), finite(figures.get("used"))
    return [
        text.count(figures.get("head")),
        text.count(clusters),
        text.percent(used / clusters if clusters and used is not None else None),
        *(text.percent(figures.get(key)) for key in ("largest_share", "error", "drift")),
        "yes" if figures.get("rebuilt") else "no",
    ]


def _coded(figures: Mapping[str, object]) -> bool:
    """Whether any feature of the field has a code."""
    return bool(finite(figures.get("head")))


def _mean(values: list[float | None]) -> float | None:
    """Mean of the known values, None when none is known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
