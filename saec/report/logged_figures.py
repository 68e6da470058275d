"""Draws figures from the request log: the AUC over the hours, and the calibration of the logged scores.

Decisions: the reliability diagram is that of the newest hour, because bins of several hours do not add up. The expected
AUC is drawn beside the logged one: that of the live version if it had answered every row of the hour.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from saec.report import text
from saec.report.canvas import blank, panel, settings
from saec.report.figures import NO_DATA, Line, draw_lines, label_lines
from saec.report.logged import newest_logged
from saec.report.palette import LIGHT
from saec.report.records import Record, finite, ordered

_LINES = (Line("served_auc", "logged", "compressed"), Line("auc_served", "live", "champion"))


@settings()
def logged_auc_figure(records: Sequence[Record]) -> Figure:
    """AUC of the logged scores, and of what was live had it answered every row."""
    figure, axes = panel("AUC of the scores that were logged")
    if draw_lines(axes, records, _LINES):
        label_lines(axes, ordered(records), _LINES, text.decimal)
    return figure


@settings()
def reliability_figure(records: Sequence[Record]) -> Figure:
    """Click rate against mean score, a dot a tenth of the newest hour's logged rows; on the line is calibrated."""
    figure, axes = panel("Click rate (up) by mean score (across)")
    record = newest_logged(records) or {}
    bins = [
        (score, rate)
        for item in record.get("served_bins") or ()
        if (score := finite(item.get("mean_score"))) is not None
        and (rate := finite(item.get("click_rate"))) is not None
    ]
    if not bins:
        blank(axes, NO_DATA)
        return figure
    highest = 1.06 * max(max(item) for item in bins) or 1.0
    axes.plot([0, highest], [0, highest], color=LIGHT["muted"], linewidth=0.8)
    axes.plot(*zip(*bins, strict=True), "o-", color=LIGHT["compressed"], linewidth=1.0, markersize=4.5)
    axes.set(xlim=(0, highest), ylim=(0, highest))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    said = (
        f"calibration {text.decimal(record.get('served_calibration'), 3)}",
        f"ECE {text.decimal(record.get('served_ece'))}",
        f"{text.count(record.get('served_rows'))} rows",
    )
    for place, line in enumerate(said):
        axes.text(1.05, 0.92 - 0.13 * place, line, transform=axes.transAxes, fontsize=8.8)
    return figure
