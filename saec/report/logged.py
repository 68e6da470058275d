"""Figures from the request log: one line of figures, and a table by version.

Decisions: an hour without a request log adds nothing to the report. In reports these figures are called "logged",
because "served" means the figures of the hour's rows (`saec.report.headline`); their keys in a record are `served_…`.
They are drawn in `saec.report.logged_figures`, so that a terminal does not wait for matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saec.report import text
from saec.report.records import Record, finite, ordered

HEAD = ("version", "rows", "AUC", "log loss", "mean score", "click rate", "calibration")
_COUNTED = (("unreadable", "unreadable"), ("torn", "torn"), ("unknown_versions", "of its versions not in the store"))


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
    return (
        f"{covered}, AUC {text.decimal(record.get('served_auc'))}, log loss "
        f"{text.decimal(record.get('served_logloss'))}, calibration "
        f"{text.decimal(record.get('served_calibration'), 3)}, ECE {text.decimal(record.get('served_ece'))}"
    )


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
        [
            text.plain(name),
            text.count(known.get("rows")),
            text.decimal(known.get("auc")),
            text.decimal(known.get("logloss")),
            text.percent(known.get("mean_score")),
            text.percent(known.get("click_rate")),
            text.decimal(known.get("calibration"), 3),
        ]
        for name, known in found.items()
    ]
