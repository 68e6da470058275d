"""Writes the page of one hour in Prefect's UI: a markdown artifact, with a figure of the hour among the last 48.

Decisions: the headline is the outcome and the gate's verdict in words; the served figures follow, then the gate's
figures on the candidate. The figure is embedded as a data URI, because the UI may not be able to read the file.
Everything from outside is escaped, so that no message of a broken partition can add a heading, a link or HTML.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from saec.gate.paired import over_hours
from saec.gate.slices import slices_over_hours
from saec.report import text
from saec.report.canvas import PANEL_BOX, PANEL_INCHES, png, settings
from saec.report.fields import HEAD, field_rows
from saec.report.figures import draw_metric
from saec.report.headline import HEAD as PAIR_HEAD
from saec.report.headline import level_rows, pair_rows, stand_in_text
from saec.report.headline_figures import served_lines
from saec.report.logged import HEAD as LOGGED_HEAD
from saec.report.logged import log_text, logged_text, version_rows
from saec.report.logged_figures import reliability_figure
from saec.report.markdown import escape, markdown_table
from saec.report.palette import LIGHT
from saec.report.records import (
    PARTS,
    STEPS,
    Record,
    comparisons,
    explanation,
    hour_of,
    last_hours,
    parts,
    total_seconds,
    verdict_status,
    verdict_text,
)
from saec.report.slices import HEAD as SLICE_HEAD
from saec.report.slices import slice_rows, worse_text
from saec.report.worth import HEAD as WORTH_HEAD
from saec.report.worth import field_worth, worth_rows

CONTEXT_HOURS = 48
CLICKS = {
    "contradicting": "ids with rows of both labels",
    "clicks_joined": "clicks that came in a later hour",
    "clicks_of_earlier": "rows of clicks on earlier hours",
}
"""Figures on click rows, if there are any: their keys in records, and their names for people."""
HOUR_DOTS = 130
"""Dots per inch of an hour's figure: as wide as half a page of the UI, and shrunk by a third on a telephone."""
GATE_MODELS = {"original": "original", "compressed": "candidate (compressed)", "champion": "champion"}
"""The models on the gate rows: their keys in records, and their names for people."""


def hour_markdown(record: Record, history: Sequence[Record] = ()) -> str:
    """The page of one hour in markdown.

    Args:
        record: the hour.
        history: records to draw the figure from (those of later hours are left out); no figure when empty.
    """
    described = f"AUC and log loss served in the last {CONTEXT_HOURS} hours"
    figure = _image(hour_figure(history, record), described) if history else ""
    tables = [_facts(record), _logged(record), _shares(record), _fields(record), _worth(record)]
    blocks = [_headline(record), _served(record), _slices(record), figure, _gate(record), *tables]
    return "\n\n".join(block for block in blocks if block) + "\n"


def models_table(record: Record) -> list[dict[str, str]]:
    """The models of an hour on all its rows and on the gate rows, as rows of a table; none for an hour without any."""
    rows = [
        {
            "scored on": "all rows",
            "model": name,
            "AUC": auc,
            "log loss": logloss,
            "bytes": text.DASH,
            "vectors": text.DASH,
        }
        for name, auc, logloss in level_rows(record)
    ]
    for model, name, auc, logloss in _gate_levels(record):
        rows.append(
            {
                "scored on": "gate rows",
                "model": name,
                "AUC": auc,
                "log loss": logloss,
                "bytes": text.size(record.get(f"bytes_{model}")),
                "vectors": text.count(record.get(f"vectors_{model}")),
            }
        )
    return rows


@settings()
def hour_figure(records: Sequence[Record], record: Record) -> bytes:
    """AUC and log loss of the last 48 hours up to this one, which is marked, as PNG bytes.

    One above the other, so that a narrow window need not shrink them till they cannot be read.
    """
    hour = hour_of(record)
    others = [other for other in records if hour_of(other) < hour]
    recent = last_hours([*others, record], CONTEXT_HOURS)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width, 2 * height))
    FigureCanvasAgg(figure)
    titles = {"auc": "AUC served (higher is better)", "logloss": "Log loss served (lower is better)"}
    for place, (metric, title) in enumerate(reversed(titles.items())):
        left, bottom, across, up = PANEL_BOX
        # A little narrower than a panel of the report, so that the labels beside the lines end inside the image.
        axes = figure.add_axes((left, (bottom + place) / 2, across - 0.03, up / 2))
        axes.set_title(title, loc="left", pad=7)
        draw_metric(axes, recent, served_lines(metric))
        if axes.lines:
            axes.axvspan(hour.index - 0.5, hour.index + 0.5, color=LIGHT["grid"], linewidth=0, zorder=0)
    return png(figure, HOUR_DOTS)


def _headline(record: Record) -> str:
    """Outcome, reason and verdict, then why."""
    reason = f" ({escape(record['reason'])})" if record.get("reason") else ""
    status = verdict_status(record)
    verdict = f" · verdict {escape(status)}" if status else ""
    version = f"Version `{re.sub('[^0-9A-Za-z.-]', '', str(record['version']))}`. " if record.get("version") else ""
    outcome = escape(record.get("outcome") or "PENDING")
    return f"# {hour_of(record)} · {outcome}{reason}{verdict}\n\n{version}{escape(explanation(record))}".rstrip()


def _served(record: Record) -> str:
    """The served figures on all rows of the hour, and their differences with intervals."""
    levels = markdown_table(["served, all rows of the hour", "AUC", "log loss"], level_rows(record))
    pairs = [row[2:] for row in pair_rows({"": over_hours([record])})]
    released = escape(stand_in_text(record))
    said = f"Released: {released}." if released else ""
    return "\n\n".join(block for block in (levels, markdown_table(PAIR_HEAD[2:], pairs), said) if block)


def _gate_levels(record: Record) -> list[tuple[str, str, str, str]]:
    """Model, its name, AUC and log loss on the gate rows; those that the hour knows."""
    rows = [
        (model, name, text.decimal(record.get(f"auc_{model}")), text.decimal(record.get(f"logloss_{model}")))
        for model, name in GATE_MODELS.items()
    ]
    return [row for row in rows if row[2:] != (text.DASH, text.DASH)]


def _gate(record: Record) -> str:
    """What the gate found on the hour's last minutes."""
    levels = markdown_table(["gate rows", "AUC", "log loss"], [row[1:] for row in _gate_levels(record)])
    return "\n\n".join(block for block in (levels, _verdict(record)) if block)


def _verdict(record: Record) -> str:
    """The gate's comparisons: difference and bound, metric by metric."""
    keys = ("auc_difference", "auc_bound", "logloss_difference", "logloss_bound")
    rows = [
        [escape(item["reference"]), text.count(item["rows"]), *(text.signed(item[key]) for key in keys)]
        for item in comparisons(record)
    ]
    head = ["candidate against", "rows", "AUC difference", "bound", "log loss difference", "bound"]
    said = verdict_text(record)
    lead = f"Gate: {escape(said)}\n\n" if said and said != explanation(record) else ""
    return (lead + markdown_table(head, rows)).strip()


def _facts(record: Record) -> str:
    """Rows, features, vectors and bytes."""
    return markdown_table(
        ["what", "figure"],
        _known(
            [
                [
                    "rows (train / gate)",
                    (
                        f"{text.count(record.get('rows'))} ({text.count(record.get('rows_train'))} / "
                        f"{text.count(record.get('rows_gate'))})"
                    ),
                ],
                ["clicks", text.count(record.get("clicks"))],
                [
                    "rows quarantined / duplicates",
                    (f"{text.count(record.get('quarantined_rows'))} / {text.count(record.get('duplicates'))}"),
                ],
                *(
                    [["stand for rows / clicks of the full traffic", " / ".join(map(text.count, record["stand_for"]))]]
                    if record.get("stand_for")
                    else []
                ),
                *([said, text.count(record[name])] for name, said in CLICKS.items() if record.get(name)),
                [
                    "new features / admitted",
                    f"{text.count(record.get('new_features'))} / {text.count(record.get('features'))}",
                ],
                ["vectors", f"{text.vectors(record)} ({text.times(record.get('ratio_vectors'))})"],
                ["bytes, keys counted", f"{text.stored(record)} ({text.times(record.get('ratio_total'))})"],
                ["embedding bytes, no keys", text.times(record.get("ratio_embedding"))],
                ["all files, network included", text.times(record.get("ratio_version"))],
                ["share of the quantised original", text.decimal(record.get("share_of_original"), 3)],
                [
                    "calibration / normalised entropy",
                    (
                        f"{text.decimal(record.get('calibration_compressed'), 3)} / "
                        f"{text.decimal(record.get('normalised_entropy_compressed'))}"
                    ),
                ],
            ]
        ),
    )


def _logged(record: Record) -> str:
    """What was served according to the request log, by version, and its calibration."""
    if not (said := logged_text(record)):
        return ""
    read = f" Read: {escape(log_text(record))}." if log_text(record) else ""
    table = markdown_table(LOGGED_HEAD, [[escape(name), *cells] for name, *cells in version_rows(record)])
    figure = _image(png(reliability_figure([record]), HOUR_DOTS), "Click rate by mean score") if table else ""
    return "\n\n".join(block for block in (f"Logged: {escape(said)}.{read}", table, figure) if block)


def _shares(record: Record) -> str:
    """Bytes by part and seconds by step."""
    sizes = [[f"file: {escape(name)}", text.size(value)] for name, value in parts(record, "sizes", PARTS).items()]
    steps = [[f"step: {escape(name)}", text.duration(value)] for name, value in parts(record, "seconds", STEPS).items()]
    total = [["all steps", text.duration(total_seconds(record))]] if steps else []
    return markdown_table(["part", "figure"], [*sizes, *steps, *total])


def _fields(record: Record) -> str:
    """Figures of the clusters of each field."""
    return markdown_table(HEAD, [[escape(name), *cells] for name, *cells in field_rows(record)])


def _worth(record: Record) -> str:
    """What the codes of each field saved in the hour."""
    rows = worth_rows(field_worth([record], 1))
    return markdown_table(WORTH_HEAD[:3], [[escape(row[0]), *row[1:3]] for row in rows])


def _slices(record: Record) -> str:
    """The live version beside the original, slice by slice, and where it is shown to be worse."""
    slices = slices_over_hours([record])
    table = markdown_table(SLICE_HEAD, [[escape(row[0]), *row[1:]] for row in slice_rows(slices)])
    return "\n\n".join(block for block in (table, escape(worse_text(slices))) if block)


def _image(figure: bytes, described: str) -> str:
    """A PNG as a markdown image."""
    return f"![{described}](data:image/png;base64,{base64.b64encode(figure).decode()})"


def _known(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The rows that have a figure at all: an hour that stopped early shows what it reached."""
    return [row for row in rows if any(any(letter.isdigit() for letter in cell) for cell in row[1:])]
