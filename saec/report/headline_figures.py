"""Draws the served figures: live, version and original on all rows of each hour, and their differences with intervals.

Decisions: the difference of one hour is mostly chance, so the line is pooled over the 24 hours up to each hour, with
its interval as a band, and single hours are dots. The line of the version is drawn beneath that of the live version;
the two coincide where every hour was released.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from saec.gate.paired import pair_of, pooled
from saec.report import text
from saec.report.canvas import EndLabel, blank, hour_axis, label_ends, mark_unpublished, panel, settings
from saec.report.figures import NO_DATA, Line, metric_figure
from saec.report.headline import MODELS, trailing
from saec.report.palette import LIGHT
from saec.report.records import Record, hour_of, ordered

WINDOW = 24
"""Hours on the clock that each point of the line is pooled over."""
SETTLING = 5
"""Hours at the start that the line leaves out: a band over so few would stretch the panel."""
ROLES = {"original": "original", "version": "champion", "live": "compressed"}
"""The colour of each model, in the order in which they are drawn."""
_COMPARED = {"version-original": ("version", "champion"), "live-original": ("live", "compressed")}


def served_lines(metric: str) -> tuple[Line, ...]:
    """The lines of a metric on all rows of the hour."""
    return tuple(Line(f"{metric}_{MODELS[model]}", model, role) for model, role in ROLES.items())


@settings()
def auc_figure(records: Sequence[Record]) -> Figure:
    """AUC on all rows of each hour."""
    return metric_figure(records, "AUC on all rows of the hour (higher is better)", served_lines("auc"))


@settings()
def logloss_figure(records: Sequence[Record]) -> Figure:
    """Log loss on all rows of each hour."""
    return metric_figure(records, "Log loss on all rows (lower is better)", served_lines("logloss"))


@settings()
def auc_gap_figure(records: Sequence[Record]) -> Figure:
    """AUC above the original's."""
    return _gap_figure(records, "auc", "AUC minus the original's (higher is better)")


@settings()
def logloss_gap_figure(records: Sequence[Record]) -> Figure:
    """Log loss above the original's."""
    return _gap_figure(records, "logloss", "Log loss minus the original's (lower is better)")


def _gap_figure(records: Sequence[Record], metric: str, title: str) -> Figure:
    """Differences of live and version from the original."""
    figure, axes = panel(title)
    labels = []
    for name, (said, role) in _COMPARED.items():
        last = _draw_gap(axes, records, name, metric, LIGHT[role])
        if last is not None:
            labels.append(EndLabel(last, f"{said} {text.signed(last)}", LIGHT[role]))
    if not labels:
        blank(axes, NO_DATA)
        return figure
    axes.axhline(0.0, color=LIGHT["original"], linewidth=1.2, zorder=1)
    axes.margins(y=0.3)
    _draw_hours(axes, records, metric)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.3f}".replace("-", text.MINUS) if value else "0")
    hour_axis(axes, ordered(records))
    mark_unpublished(axes, ordered(records))
    label_ends(axes, [*labels, EndLabel(0.0, "original", LIGHT["original"])])
    return figure


def _draw_gap(axes: Axes, records: Sequence[Record], name: str, metric: str, colour: str) -> float | None:
    """A pair's pooled difference and its band; returns the newest, None where no hour knows the pair."""
    found = [
        (hour_of(record).index, getattr(paired, metric))
        for record, paired in trailing(records, name, WINDOW)
        if paired is not None
    ]
    known = [(index, gap) for index, gap in found if np.isfinite(gap.difference)]
    known = known[min(SETTLING, len(known) - 1) :] if known else []
    if not known:
        return None
    hours, gaps = zip(*known, strict=True)
    axes.fill_between(
        hours, [gap.lower for gap in gaps], [gap.upper for gap in gaps], color=colour, alpha=0.18, linewidth=0
    )
    axes.plot(hours, [gap.difference for gap in gaps], "-" if len(hours) > 1 else "o", color=colour, markersize=4.0)
    return float(gaps[-1].difference)


def _draw_hours(axes: Axes, records: Sequence[Record], metric: str) -> None:
    """The difference of live and original in each hour alone, where it fits: one far off must not stretch the panel."""
    alone = [
        (hour_of(record).index, getattr(paired, metric).difference)
        for record in ordered(records)
        if (pair := pair_of(record, "live-original")) is not None and (paired := pooled([pair])) is not None
    ]
    low, high = axes.get_ylim()
    if alone:
        hours, values = zip(*alone, strict=True)
        axes.plot(hours, values, ".", color=LIGHT["compressed"], alpha=0.45, markersize=3.0)
        axes.set_ylim(low, high)
