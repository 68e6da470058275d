"""What the Prefect UI shows of one hour: a markdown artifact, with a figure of the hour among the last 48.

Decisions: the headline is the outcome and the gate's verdict in words; the figure travels inside the text as a data
URI, because the UI may have no other way to the file; everything that came from outside is escaped, so that no message
of a broken partition can add a heading, a link or HTML.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from saec.report import text
from saec.report.canvas import PANEL_BOX, PANEL_INCHES, png, settings
from saec.report.fields import DROPPED, HEAD, field_rows, retraining_dropped
from saec.report.figures import draw_metric
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
from saec.report.served import HEAD as SERVED_HEAD
from saec.report.served import log_text, reliability_figure, served_text, version_rows

CONTEXT_HOURS = 48
HOUR_DOTS = 130
"""Dots per inch of an hour's figure: as wide as half a page of the UI, and shrunk by a third on a telephone."""
MODELS = {"original": "original", "compressed": "challenger (compressed)", "champion": "champion"}
"""How the records call each model, and how people do."""


def hour_markdown(record: Record, history: Sequence[Record] = ()) -> str:
    """The page of one hour in markdown.

    Args:
        record: the hour.
        history: records to draw the figure from (those of later hours are left out); no figure when empty.
    """
    described = f"AUC and log loss of the last {CONTEXT_HOURS} hours"
    figure = _image(hour_figure(history, record), described) if history else ""
    tables = [_facts(record), _served(record), _shares(record), _fields(record)]
    blocks = [_headline(record), _metrics(record), _verdict(record), figure, *tables]
    return "\n\n".join(block for block in blocks if block) + "\n"


def models_table(record: Record) -> list[dict[str, str]]:
    """The three models of an hour, as rows of a table; none for an hour that never came to the gate."""
    rows = []
    for model, name in MODELS.items():
        metrics = {"AUC": text.decimal(record.get(f"auc_{model}")),
                   "log loss": text.decimal(record.get(f"logloss_{model}"))}
        sizes = {"bytes": text.size(record.get(f"bytes_{model}")),
                 "vectors": text.count(record.get(f"vectors_{model}"))}
        if metrics["AUC"] != text.DASH:
            rows.append({"model": name, **metrics, **sizes})
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
    titles = {"auc": "AUC on gate rows (higher is better)", "logloss": "Log loss on gate rows (lower is better)"}
    for place, (metric, title) in enumerate(reversed(titles.items())):
        left, bottom, across, up = PANEL_BOX
        # A little narrower than a panel of the report, so that the labels beside the lines end inside the image.
        axes = figure.add_axes((left, (bottom + place) / 2, across - 0.03, up / 2))
        axes.set_title(title, loc="left", pad=7)
        draw_metric(axes, recent, metric, ("original", "champion", "compressed"))
        if axes.lines:
            axes.axvspan(hour.index - 0.5, hour.index + 0.5, color=LIGHT["grid"], linewidth=0, zorder=0)
    return png(figure, HOUR_DOTS)


def escape(value: object) -> str:
    r"""Text from outside as literal text of one line of markdown, also inside a table.

    >>> print(escape("<b> a|b *c*"))
    &lt;b&gt; a\|b \*c\*
    """
    literal = text.plain(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~:@-])", r"\\\1", literal)


def _headline(record: Record) -> str:
    """Outcome, reason and verdict, then why."""
    reason = f" ({escape(record['reason'])})" if record.get("reason") else ""
    status = verdict_status(record)
    verdict = f" · verdict {escape(status)}" if status else ""
    version = f"Version `{re.sub('[^0-9A-Za-z.-]', '', str(record['version']))}`. " if record.get("version") else ""
    outcome = escape(record.get("outcome") or "PENDING")
    return f"# {hour_of(record)} · {outcome}{reason}{verdict}\n\n{version}{escape(explanation(record))}".rstrip()


def _metrics(record: Record) -> str:
    """Original, challenger and champion on the gate rows, and on all rows before training."""
    rows = []
    for model, name in MODELS.items():
        keys = (f"auc_{model}", f"logloss_{model}", f"progressive_auc_{model}", f"progressive_logloss_{model}")
        rows.append([name, *(text.decimal(record.get(key)) for key in keys)])
    head = ["model", "AUC", "log loss", "AUC, before training", "log loss, before training"]
    return markdown_table(head, _known(rows))


def _verdict(record: Record) -> str:
    """The gate's comparisons: difference and bound, metric by metric."""
    keys = ("auc_difference", "auc_bound", "logloss_difference", "logloss_bound")
    rows = [
        [escape(item["reference"]), text.count(item["rows"]), *(text.signed(item[key]) for key in keys)]
        for item in comparisons(record)
    ]
    head = ["challenger against", "rows", "AUC difference", "bound", "log loss difference", "bound"]
    said = verdict_text(record)
    lead = f"Gate: {escape(said)}\n\n" if said and said != explanation(record) else ""
    return (lead + markdown_table(head, rows)).strip()


def _facts(record: Record) -> str:
    """Rows, features, vectors and bytes."""
    return markdown_table(["what", "figure"], _known([
        ["rows (train / gate)", (f"{text.count(record.get('rows'))} ({text.count(record.get('rows_train'))} / "
                                f"{text.count(record.get('rows_gate'))})")],
        ["clicks", text.count(record.get("clicks"))],
        ["rows quarantined / duplicates", (f"{text.count(record.get('quarantined_rows'))} / "
                                          f"{text.count(record.get('duplicates'))}")],
        ["new features / admitted", f"{text.count(record.get('new_features'))} / {text.count(record.get('features'))}"],
        ["vectors", f"{text.vectors(record)} ({text.times(record.get('ratio_vectors'))})"],
        ["bytes, keys counted", f"{text.stored(record)} ({text.times(record.get('ratio_total'))})"],
        ["embedding bytes, no keys", text.times(record.get("ratio_embedding"))],
        ["all files, network included", text.times(record.get("ratio_version"))],
        ["calibration / normalised entropy", (f"{text.decimal(record.get('calibration_compressed'), 3)} / "
                                             f"{text.decimal(record.get('normalised_entropy_compressed'))}")],
    ]))


def _served(record: Record) -> str:
    """What was served by the request log, by version, and whether scores meant what they said."""
    if not (said := served_text(record)):
        return ""
    read = f" Read: {escape(log_text(record))}." if log_text(record) else ""
    table = markdown_table(SERVED_HEAD, [[escape(name), *cells] for name, *cells in version_rows(record)])
    figure = _image(png(reliability_figure([record]), HOUR_DOTS), "Click rate by mean score") if table else ""
    return "\n\n".join(block for block in (f"Served: {escape(said)}.{read}", table, figure) if block)


def _shares(record: Record) -> str:
    """Bytes by part and seconds by step."""
    sizes = [[f"file: {escape(name)}", text.size(value)] for name, value in parts(record, "sizes", PARTS).items()]
    steps = [[f"step: {escape(name)}", text.duration(value)] for name, value in parts(record, "seconds", STEPS).items()]
    total = [["all steps", text.duration(total_seconds(record))]] if steps else []
    return markdown_table(["part", "figure"], [*sizes, *steps, *total])


def _fields(record: Record) -> str:
    """How the clusters of each field live, and whether the hour's retraining was dropped."""
    table = markdown_table(HEAD, [[escape(name), *cells] for name, *cells in field_rows(record)])
    dropped = f"Retraining {DROPPED}." if retraining_dropped(record) else ""
    return "\n\n".join(block for block in (dropped, table) if block)


def _image(figure: bytes, described: str) -> str:
    """A PNG as a markdown image."""
    return f"![{described}](data:image/png;base64,{base64.b64encode(figure).decode()})"


def _known(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The rows that have a figure at all: an hour that stopped early shows what it reached."""
    return [row for row in rows if any(any(letter.isdigit() for letter in cell) for cell in row[1:])]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table, the first column left, the others right aligned; nothing for no rows."""
    if not rows:
        return ""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
