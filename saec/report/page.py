"""The HTML report: one file that needs nothing else, to be mailed, archived or opened without a network.

Decisions: no script and no request (a content security policy in the page forbids both), light or dark as the
reader's system is; the hours' table turns into cards on a narrow screen; the template escapes all but our own figures,
and text from outside is stripped of what does not print before that; the same records give the same bytes, so there is
no "generated at".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from saec.report import figures, text
from saec.report.canvas import svg
from saec.report.fields import DROPPED, HEAD, by_field, field_rows, retraining_dropped
from saec.report.palette import DARK, LIGHT, outcome_role
from saec.report.records import (
    PARTS,
    STEPS,
    Record,
    comparisons,
    explanation,
    hour_of,
    ordered,
    parts,
    total_seconds,
    verdict_status,
    verdict_text,
)
from saec.report.served import HEAD as SERVED_HEAD
from saec.report.served import (
    log_text,
    newest_served,
    reliability_figure,
    served_auc_figure,
    served_text,
    version_rows,
)
from saec.report.summary import summarise

OPEN_HOURS = 48
"""Hours of the table that are shown at once; older ones unfold."""

_METRICS = (("AUC", "auc"), ("Log loss", "logloss"))
_ROW_KINDS = (("train", "rows_train"), ("gate", "rows_gate"), ("quarantined", "quarantined_rows"),
              ("duplicate", "duplicates"), ("clicks", "clicks"))
_FIGURES = (
    (figures.auc_figure, "Figure 1a", "AUC, hour by hour",
     "What is served (compressed) against what it was made from (original) and what was live before (champion)."),
    (figures.logloss_figure, "Figure 1b", "Log loss, hour by hour",
     "The same hours and rows as figure 1a, in nats a row."),
    (figures.reduction_figure, "Figure 2", "Reduction over the last 24 hours",
     "Vectors: rows of the original for one codeword. All bytes: rows and keys against every file that replaces them."),
    (figures.progressive_figure, "Figure 3", "Progressive validation",
     "Each hour scored before anything trained on it: what users met."),
    (figures.sizes_figure, "Figure 4", "What a version is made of", "Files on disk; beside it the newest hour's."),
    (figures.seconds_figure, "Figure 5", "Where the time goes", "Beside it the newest hour's seconds."),
)
_LIFE = (figures.life_figure, "Figure 6", "How codebooks live",
         "Codes that changed within the hour; error and drift of clusters, means over fields.")


_SERVED = (
    (reliability_figure, "Figure 7", "Whether scores mean what they say",
     "A dot a tenth of the rows, by score; above the line more was clicked than promised."),
    (served_auc_figure, "Figure 8", "The live model as users met it",
     "Scores of the request log against labels; beside them the champion, had it served every row."),
)


def render_report(records: Iterable[Record], title: str, live: str | None = None) -> str:
    """The report of a range of hours as one HTML page.

    Args:
        records: the ledger's records, in any order; none is fine.
        title: heading of the page.
        live: the live version as the store knows it (a rollback moves it); the newest published one when None.
    """
    in_order = ordered(records)
    summary = summarise(in_order)
    rows = [_row(record) for record in reversed(in_order)]
    return _environment().get_template("page.html.j2").render(
        title=text.plain(title), span=_span(summary), tiles=_tiles(summary, live), days=_days(rows),
        figures=[_figure(*drawn, in_order) for drawn in _FIGURES] if in_order else [],
        codebooks=_codebooks(in_order), served=_served(in_order),
        row_groups=[rows[:OPEN_HOURS], rows[OPEN_HOURS:]], light=LIGHT, dark=DARK,
    )


def _environment() -> Environment:
    """Templates that escape everything but our own figures, and stop at a misspelt name."""
    return Environment(loader=PackageLoader("saec.report", "."), autoescape=True, undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True)


def _figure(
    draw: Callable[[Sequence[Record]], Figure], name: str, heading: str, caption: str, records: Sequence[Record]
) -> dict[str, object]:
    """A figure with its number, heading and one line of explanation."""
    return {"name": name, "heading": heading, "caption": caption, "svg": svg(draw(records), f"{name}: {heading}")}


def _codebooks(records: Sequence[Record]) -> dict[str, Any]:
    """The newest hour that knows of its fields, all hours in a figure, and how often retraining was dropped."""
    newest = next((record for record in reversed(records) if by_field(record)), None)
    if newest is None:
        return {}
    dropped = sum(map(retraining_dropped, records))
    said = f"Retraining was dropped in {dropped} of {text.plural(len(records), 'hour')}."
    return {"hour": str(hour_of(newest)), "head": HEAD, "rows": field_rows(newest), "figure": _figure(*_LIFE, records),
            "dropped": said if dropped else ""}


def _served(records: Sequence[Record]) -> dict[str, Any]:
    """What the request log says of the newest hour that knows of it, and all hours in a figure; nothing without."""
    newest = newest_served(records)
    if newest is None:
        return {}
    return {"hour": str(hour_of(newest)), "said": served_text(newest), "read": log_text(newest), "head": SERVED_HEAD,
            "rows": version_rows(newest), "figures": [_figure(*drawn, records) for drawn in _SERVED]}


def _span(summary: dict[str, Any]) -> str:
    """Which hours the page is about."""
    if not summary["hours"]:
        return "The ledger has no hours yet. Run `saec run` and make the report again."
    hours = text.plural(summary["hours"], "hour")
    return f"{summary['first']} to {summary['last']} (UTC), {hours} known; differences and medians over the last 24."


def _tiles(summary: dict[str, Any], live: str | None) -> list[dict[str, str]]:
    """The figures at a glance, those that matter most first."""
    pooled, medians = summary["against_original"], summary["medians"]
    totals, latest, outcomes = summary["totals"], summary["latest"], summary["outcomes"]
    over = f"{text.plural(pooled['hours'], 'hour')} gated, {text.count(pooled['rows'])} rows"
    return [
        _tile("Hours published", f"{outcomes['PUBLISHED']} of {summary['hours']}", _others(outcomes)),
        *(_tile(f"{name}, compressed − original", text.signed(pooled[f"{key}_difference"]),
                f"{text.decimal(pooled[f'{key}_compressed'])} against "
                f"{text.decimal(pooled[f'{key}_reference'])}; {over}")
          for name, key in _METRICS),
        _tile("Fewer vectors", text.times(medians["ratio_vectors"]), f"median; now {text.vectors(latest)}"),
        _tile("Fewer bytes, keys counted", text.times(medians["ratio_total"]), f"median; now {text.stored(latest)}"),
        _tile("Time to do an hour", text.duration(medians["seconds"]),
              f"median; {text.count(totals['rows'])} rows, {text.count(totals['new_features'])} new features in all"),
        _tile("Live version", text.plain(live or summary["version"] or text.DASH), _freshness(summary, live), "long"),
    ]


def _tile(label: str, value: str, note: str, kind: str = "") -> dict[str, str]:
    """One figure at a glance."""
    return {"label": label, "value": value, "note": note, "kind": kind}


def _others(outcomes: dict[str, int]) -> str:
    """Hours that published nothing, in words."""
    return ", ".join(f"{count} {text.plain(name).lower()}" for name, count in outcomes.items() if name != "PUBLISHED")


def _freshness(summary: dict[str, Any], live: str | None) -> str:
    """How old the newest published version is, counted in hours of the ledger."""
    behind = summary["hours_since_publish"]
    if behind is None:
        return "nothing published yet"
    age = "of the newest hour" if behind == 0 else f"published {text.plural(behind, 'hour')} before the newest hour"
    if live is None or live == summary["version"]:
        return age
    return f"not the newest one, which is {text.plain(summary['version'])}"


def _days(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The strip of hours: for each day 24 cells, None where the ledger has no hour, oldest day first."""
    days: dict[str, list[dict[str, Any] | None]] = {}
    for row in reversed(rows):
        days.setdefault(row["day"], [None] * 24)[int(row["clock"][:2])] = row
    return [{"day": day, "cells": cells} for day, cells in days.items()]


def _row(record: Record) -> dict[str, Any]:
    """Everything the table, the strip and the details say of one hour, as text."""
    outcome, reason = text.plain(record.get("outcome") or "PENDING"), text.plain(record.get("reason") or "")
    hour, why = hour_of(record), text.plain(explanation(record))
    return {
        "hour": str(hour), "day": f"{hour.start:%Y-%m-%d}", "clock": f"{hour.start:%H}h", "outcome": outcome,
        "role": outcome_role(outcome), "reason": reason, "why": why, "verdict": text.plain(verdict_status(record)),
        "tip": " · ".join(part for part in (str(hour), outcome, reason, why) if part),
        "metrics": [{"name": name, "model": model, "value": text.decimal(record.get(f"{key}_{model}"))}
                    for name, key in _METRICS for model in ("original", "compressed", "champion")],
        "facts": _facts(record), "comparisons": _comparisons(record), "details": _details(record),
    }


def _facts(record: Record) -> list[tuple[str, str]]:
    """The columns of figures after the metrics: label (for the cards) and value."""
    return [
        ("rows", text.count(record.get("rows"))),
        ("new features", text.count(record.get("new_features"))),
        ("fewer vectors", text.times(record.get("ratio_vectors"))),
        ("fewer bytes", text.times(record.get("ratio_total"))),
        ("size", text.size(record.get("bytes_compressed"))),
        ("time", text.duration(total_seconds(record))),
    ]


def _comparisons(record: Record) -> list[dict[str, str]]:
    """The gate's comparisons, with their bounds."""
    return [
        {key: text.plain(value) if key == "reference" else text.count(value) if key == "rows" else text.signed(value)
         for key, value in item.items()}
        for item in comparisons(record)
    ]


def _details(record: Record) -> list[tuple[str, str]]:
    """What unfolds under an hour: label and value."""
    said = text.plain(verdict_text(record))
    pairs = [
        ("version", text.plain(record.get("version") or text.DASH)),
        ("rows", ", ".join(f"{name} {text.count(record.get(key))}" for name, key in _ROW_KINDS)),
        ("vectors", text.vectors(record)),
        ("bytes", (f"{text.stored(record)} (no keys: {text.times(record.get('ratio_embedding'))}; "
                   f"all files: {text.times(record.get('ratio_version'))})")),
        ("by part", _listed(parts(record, "sizes", PARTS), text.size)),
        ("by step", _listed(parts(record, "seconds", STEPS), text.duration)),
        ("calibration", (f"{text.decimal(record.get('calibration_compressed'), 3)}, normalised entropy "
                        f"{text.decimal(record.get('normalised_entropy_compressed'))}")),
        ("codes", (f"share changed {text.decimal(record.get('code_churn'), 3)}, "
                  f"share of clusters used {text.decimal(record.get('utilisation'), 3)}")),
    ]
    if served := served_text(record):
        pairs.append(("served", served))
    if retraining_dropped(record):
        pairs.append(("retraining", DROPPED))
    return [("verdict", said), *pairs] if said and said != text.plain(explanation(record)) else pairs


def _listed(shares: dict[str, float], style: Callable[[float], str]) -> str:
    """Names and figures in one line, a dash for none."""
    return ", ".join(f"{text.plain(name)} {style(value)}" for name, value in shares.items()) or text.DASH
