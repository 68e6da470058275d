"""What was served by the request log: its line of figures, its table by version, and its two figures.

Decisions: an hour without a request log says nothing, so that a report without one is as it was; the reliability
diagram is the newest hour's, since bins of several hours do not add up; beside the logged AUC stands that of what was
live, had it answered every row of the hour at once, which is what was to be expected. To people these figures are
"logged", since "served" are those of the hour's rows (`saec.report.headline`); their keys in a record are `served_…`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from saec.report import text
from saec.report.canvas import blank, panel, settings
from saec.report.figures import NO_DATA, Line, draw_lines, label_lines
from saec.report.palette import LIGHT
from saec.report.records import Record, finite, ordered

HEAD = ("version", "rows", "AUC", "log loss", "mean score", "click rate", "calibration")
_COUNTED = (("unreadable", "unreadable"), ("torn", "torn"), ("unknown_versions", "of its versions not in the store"))
_LINES = (Line("served_auc", "logged", "compressed"), Line("auc_served", "live", "champion"))


def newest_logged(records: Sequence[Record]) -> Record | None:
    """The newest hour that has a request log, or knows why it could not be read."""
    return next((record for record in reversed(ordered(records)) if logged_text(record)), None)


def logged_text(record: Record) -> str:
    """Coverage and figures in one line; empty without a request log."""
    if record.get("served_problem"):
        return text.plain(record["served_problem"])
    if finite(record.get("served_rows")) is None:
        return ""
    covered = f"{text.count(record['served_rows'])} rows ({text.percent(record.get('served_coverage'))})"
    if not record["served_rows"]:
        return covered
    return (f"{covered}, AUC {text.decimal(record.get('served_auc'))}, log loss "
            f"{text.decimal(record.get('served_logloss'))}, calibration "
            f"{text.decimal(record.get('served_calibration'), 3)}, ECE {text.decimal(record.get('served_ece'))}")


def log_text(record: Record) -> str:
    """What was read of the log, and what was wrong with it; empty without one."""
    counts = record.get("served_log")
    if not isinstance(counts, Mapping):
        return ""
    wrong = [f"{text.count(counts.get(key))} {name}" for key, name in _COUNTED if finite(counts.get(key))]
    read = f"{text.count(counts.get('lines'))} lines in {text.plural(int(counts.get('files') or 0), 'file')}"
    return ", ".join([read, *wrong])


def version_rows(record: Record) -> list[list[str]]:
    """A row a version that was logged, under `HEAD`; names are as the log has them, not yet escaped."""
    versions = record.get("served_versions")
    found = versions if isinstance(versions, Mapping) else {}
    return [
        [text.plain(name), text.count(known.get("rows")), text.decimal(known.get("auc")),
         text.decimal(known.get("logloss")), text.percent(known.get("mean_score")),
         text.percent(known.get("click_rate")), text.decimal(known.get("calibration"), 3)]
        for name, known in found.items()
    ]


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
    bins = [(score, rate) for item in record.get("served_bins") or ()
            if (score := finite(item.get("mean_score"))) is not None
            and (rate := finite(item.get("click_rate"))) is not None]
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
    said = (f"calibration {text.decimal(record.get('served_calibration'), 3)}",
            f"ECE {text.decimal(record.get('served_ece'))}", f"{text.count(record.get('served_rows'))} rows")
    for place, line in enumerate(said):
        axes.text(1.05, 0.92 - 0.13 * place, line, transform=axes.transAxes, fontsize=8.8)
    return figure
