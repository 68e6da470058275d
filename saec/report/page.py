"""Writes the HTML report: one self-contained file, to be mailed, archived or opened without a network.

Decisions: no script and no request (a content security policy in the page forbids both); light or dark like the
reader's system. On a narrow screen the table of hours becomes cards. The template escapes everything but our own
figures, and text from outside is first stripped of unprintable characters. The same records give the same bytes, so
there is no "generated at".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from saec.gate.paired import Gap
from saec.report import figures, headline_figures, text
from saec.report.canvas import svg
from saec.report.fields import HEAD, by_field, field_rows
from saec.report.headline import HEAD as PAIR_HEAD
from saec.report.headline import (
    MODELS,
    STAND_IN,
    covered,
    interval_text,
    pair_rows,
    stand_in_text,
    typical_text,
    windows,
)
from saec.report.logged import HEAD as LOGGED_HEAD
from saec.report.logged import (
    log_text,
    logged_text,
    newest_logged,
    version_rows,
)
from saec.report.logged_figures import logged_auc_figure, reliability_figure
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
from saec.report.slices import HEAD as SLICE_HEAD
from saec.report.slices import slice_rows, worse_text
from saec.report.summary import summarise
from saec.report.worth import HEAD as WORTH_HEAD
from saec.report.worth import worth_rows

OPEN_HOURS = 48
"""Hours of the table that are shown at first; older ones unfold."""

GATE_MODELS = {"compressed": "candidate", "champion": "champion", "original": "original"}
"""The models on the gate rows: their keys in records, and their names for people."""
_METRICS = (("AUC", "auc"), ("Log loss", "logloss"))
_ROW_KINDS = (
    ("train", "rows_train"),
    ("gate", "rows_gate"),
    ("quarantined", "quarantined_rows"),
    ("duplicate", "duplicates"),
    ("of both labels", "contradicting"),
    ("clicks", "clicks"),
)
_FIGURES = (
    (
        headline_figures.auc_figure,
        "Figure 1a",
        "AUC served",
        "All rows of each hour, before they are learnt: live version, version of the hour before, original.",
    ),
    (
        headline_figures.logloss_figure,
        "Figure 1b",
        "Log loss served",
        "The same hours, rows and models, in nats per row.",
    ),
    (
        headline_figures.auc_gap_figure,
        "Figure 2a",
        "AUC against the original's",
        "Lines: paired, pooled over the 24 hours up to each; bands: 95%. Dots: single hours of live, where they fit.",
    ),
    (
        headline_figures.logloss_gap_figure,
        "Figure 2b",
        "Log loss against the original's",
        "Like figure 2a. Above the line is worse.",
    ),
    (
        figures.reduction_figure,
        "Figure 3",
        "Reduction over the last 24 hours",
        "Vectors: rows over codewords. Bytes: rows and keys over what replaces them. All files: with the networks.",
    ),
    (figures.sizes_figure, "Figure 4", "What a version is made of", "Files on disk; labels: the newest hour."),
    (figures.seconds_figure, "Figure 5", "Where the time goes", "Labels: seconds of the newest hour."),
    (
        figures.gate_auc_figure,
        "Figure 6a",
        "The gate: AUC",
        "On the hour's last minutes: candidate, original and champion (the live version); none has learnt these rows.",
    ),
    (figures.gate_logloss_figure, "Figure 6b", "The gate: log loss", "The rows of figure 6a."),
)
_LIFE = (
    figures.life_figure,
    "Figure 7",
    "How codebooks live",
    "Codes that changed within the hour; error and drift of clusters, means over fields.",
)
_LOGGED = (
    (
        reliability_figure,
        "Figure 8",
        "Calibration",
        "Each dot is a tenth of the logged rows, by score; above the line there were more clicks than predicted.",
    ),
    (
        logged_auc_figure,
        "Figure 9",
        "AUC by the request log",
        "Logged scores against labels; beside them the live version, if it had answered every row of the hour.",
    ),
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
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=text.plain(title),
            span=_span(summary),
            tiles=_tiles(summary, live),
            days=_days(rows),
            figures=[_figure(*drawn, in_order) for drawn in _FIGURES] if in_order else [],
            pair_head=PAIR_HEAD,
            pairs=pair_rows(windows(summary)),
            stood_in=_stood_in(summary),
            slice_head=SLICE_HEAD,
            slices=slice_rows(summary["slices"]),
            worse=worse_text(summary["slices"]),
            codebooks=_codebooks(in_order),
            worth_head=WORTH_HEAD,
            worth=worth_rows(summary["worth"]),
            logged=_logged(in_order),
            row_groups=[rows[:OPEN_HOURS], rows[OPEN_HOURS:]],
            gate_models=list(GATE_MODELS.values()),
            light=LIGHT,
            dark=DARK,
        )
    )


def _environment() -> Environment:
    """Templates that escape everything but our own figures, and stop at a misspelt name."""
    return Environment(
        loader=PackageLoader("saec.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _figure(
    draw: Callable[[Sequence[Record]], Figure], name: str, heading: str, caption: str, records: Sequence[Record]
) -> dict[str, object]:
    """A figure with its number, heading and one line of explanation."""
    return {"name": name, "heading": heading, "caption": caption, "svg": svg(draw(records), f"{name}: {heading}")}


def _codebooks(records: Sequence[Record]) -> dict[str, Any]:
    """The newest hour that knows of its fields, and all hours in a figure."""
    newest = next((record for record in reversed(records) if by_field(record)), None)
    if newest is None:
        return {}
    return {"hour": str(hour_of(newest)), "head": HEAD, "rows": field_rows(newest), "figure": _figure(*_LIFE, records)}


def _logged(records: Sequence[Record]) -> dict[str, Any]:
    """The request log's figures of the newest hour that has them, and a figure of all hours; empty without a log."""
    newest = newest_logged(records)
    if newest is None:
        return {}
    return {
        "hour": str(hour_of(newest)),
        "said": logged_text(newest),
        "read": log_text(newest),
        "head": LOGGED_HEAD,
        "rows": version_rows(newest),
        "figures": [_figure(*drawn, records) for drawn in _LOGGED],
    }


def _stood_in(summary: dict[str, Any]) -> str:
    """How often the judged candidate was published instead of the version of the hour's end."""
    if not summary["stood_in"]:
        return ""
    hours = f"{summary['stood_in']} of the last {summary['window']['length']} hours"
    return f"In {hours} the judged candidate was published, {STAND_IN}."


def _span(summary: dict[str, Any]) -> str:
    """Which hours the page is about."""
    if not summary["hours"]:
        return "The ledger has no hours yet. Run `saec run` and make the report again."
    hours, pair = text.plural(summary["hours"], "hour"), summary["served"]["last"].get("live-original")
    over = f" Served: {covered(pair)}; live minus original in the median hour: {typical_text(pair)}." if pair else ""
    span = f"{summary['first']} to {summary['last']} (UTC), {hours} known"
    return f"{span}; differences and medians over the last 24.{over}"


def _tiles(summary: dict[str, Any], live: str | None) -> list[dict[str, str]]:
    """The figures at a glance, those that matter most first."""
    medians, totals, latest, outcomes = (summary[part] for part in ("medians", "totals", "latest", "outcomes"))
    pair = summary["served"]["last"].get("live-original")
    whole = f"; all files {text.times(medians['ratio_version'])}" if medians["ratio_version"] else ""
    return [
        *(_served_tile(name, getattr(pair, key) if pair else None) for name, key in _METRICS),
        _tile("Hours published", f"{outcomes['PUBLISHED']} of {summary['hours']}", _others(outcomes)),
        _tile("Fewer vectors", text.times(medians["ratio_vectors"]), f"median; now {text.vectors(latest)}"),
        _tile(
            "Fewer bytes, keys counted", text.times(medians["ratio_total"]), f"median{whole}; now {text.stored(latest)}"
        ),
        _tile(
            "Time to do an hour",
            text.duration(medians["seconds"]),
            f"median; {text.count(totals['rows'])} rows, {text.count(totals['new_features'])} new features in all",
        ),
        _tile("Live version", text.plain(live or summary["version"] or text.DASH), _freshness(summary, live), "long"),
    ]


def _served_tile(name: str, gap: Gap | None) -> dict[str, str]:
    """What was live beside the original, with the interval."""
    label = f"{name} served, live {text.MINUS} original"
    if gap is None:
        return _tile(label, text.DASH, "not known")
    return _tile(
        label,
        text.signed(gap.difference),
        f"95%: {interval_text(gap)}; {text.decimal(gap.first)} against {text.decimal(gap.second)}",
    )


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
        "hour": str(hour),
        "day": f"{hour.start:%Y-%m-%d}",
        "clock": f"{hour.start:%H}h",
        "outcome": outcome,
        "role": outcome_role(outcome),
        "reason": reason,
        "why": why,
        "verdict": text.plain(verdict_status(record)),
        "tip": " · ".join(part for part in (str(hour), outcome, reason, why) if part),
        "metrics": [
            {"name": name, "model": model, "value": text.decimal(record.get(f"{metric}_{key}"))}
            for name, metric in _METRICS
            for model, key in MODELS.items()
        ],
        "gate": [
            (name, *(text.decimal(record.get(f"{metric}_{model}")) for model in GATE_MODELS))
            for name, metric in _METRICS
        ]
        if record.get("auc_compressed") is not None
        else [],
        "facts": _facts(record),
        "comparisons": _comparisons(record),
        "details": _details(record),
    }


def _facts(record: Record) -> list[tuple[str, str]]:
    """The columns of figures after the metrics: label (for the cards) and value."""
    return [
        ("rows", text.count(record.get("rows"))),
        ("new features", text.count(record.get("new_features"))),
        ("fewer vectors", text.times(record.get("ratio_vectors"))),
        ("fewer bytes", text.times(record.get("ratio_total"))),
        ("all files", text.times(record.get("ratio_version"))),
        ("size", text.size(record.get("bytes_compressed"))),
        ("time", text.duration(total_seconds(record))),
    ]


def _comparisons(record: Record) -> list[dict[str, str]]:
    """The gate's comparisons, with their bounds."""
    return [
        {
            key: text.plain(value) if key == "reference" else text.count(value) if key == "rows" else text.signed(value)
            for key, value in item.items()
        }
        for item in comparisons(record)
    ]


def _details(record: Record) -> list[tuple[str, str]]:
    """What unfolds under an hour: label and value."""
    said = text.plain(verdict_text(record))
    pairs = [
        ("version", text.plain(record.get("version") or text.DASH)),
        ("rows", ", ".join(f"{name} {text.count(record.get(key))}" for name, key in _ROW_KINDS)),
        ("vectors", text.vectors(record)),
        (
            "bytes",
            (
                f"{text.stored(record)} (no keys: {text.times(record.get('ratio_embedding'))}; "
                f"all files: {text.times(record.get('ratio_version'))})"
            ),
        ),
        ("by part", _listed(parts(record, "sizes", PARTS), text.size)),
        ("by step", _listed(parts(record, "seconds", STEPS), text.duration)),
        (
            "gate calibration",
            (
                f"{text.decimal(record.get('calibration_compressed'), 3)}, normalised entropy "
                f"{text.decimal(record.get('normalised_entropy_compressed'))}"
            ),
        ),
        (
            "codes",
            (
                f"share changed {text.decimal(record.get('code_churn'), 3)}, "
                f"share of clusters used {text.decimal(record.get('utilisation'), 3)}"
            ),
        ),
    ]
    if logged := logged_text(record):
        pairs.append(("logged", logged))
    if said_of_release := stand_in_text(record):
        pairs.append(("released", said_of_release))
    return [("verdict", said), *pairs] if said and said != text.plain(explanation(record)) else pairs


def _listed(shares: dict[str, float], style: Callable[[float], str]) -> str:
    """Names and figures in one line, a dash for none."""
    return ", ".join(f"{text.plain(name)} {style(value)}" for name, value in shares.items()) or text.DASH
