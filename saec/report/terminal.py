"""Prints tables in a terminal: `saec report` and `saec status`.

Decisions: the served figures come first, the gate's figures after them. Everything is `rich.text.Text`, never markup,
so that brackets and control characters print as they are. A narrow terminal gets fewer columns rather than wrapped
numbers. The oldest hour comes first, because a terminal is read from the bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from saec.gate.paired import Paired
from saec.ledger import report_record
from saec.monitoring.alarms import Alarm
from saec.monitoring.outlook import Outlook
from saec.report import text
from saec.report.headline import METRICS, STAND_IN, covered, gap_text, typical_text, windows
from saec.report.logged import logged_text, newest_logged
from saec.report.records import Record, explanation, hour_of, number, ordered, total_seconds
from saec.report.slices import worse_text
from saec.report.standing import standing
from saec.report.strip import SIGNS, last_outcomes
from saec.report.summary import summarise

COLOURS = {"PUBLISHED": "green", "HELD": "yellow", "QUARANTINED": "magenta", "FAILED": "red"}
LETTERS = {"PUBLISHED": "■"}
"""Signs of the strip that differ from `SIGNS`, so that the usual outcome stays inconspicuous."""
TONES = {"good": "bold green", "plain": "", "attention": "yellow"}
LOGGED = "logged"
"""Heading of the AUC by the request log."""
WHOLE = "files"
"""Heading of the ratio that counts every file of a version."""
WIDE = 132
"""Minimum terminal width for the gate's figures in the hours' table."""
WIDER = 160
"""Minimum terminal width for all columns, including those of a request log."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of figures: its heading, how to fill it, and from which width of the terminal it is shown."""

    heading: str
    cell: Callable[[Record], str]
    least: int = 0


def _metric(key: str) -> Callable[[Record], str]:
    """A cell that shows a metric."""
    return lambda record: text.decimal(record.get(key))


def _times(key: str) -> Callable[[Record], str]:
    """A cell that shows a ratio."""
    return lambda record: text.times(record.get(key))


COLUMNS = (
    Column("AUC live", _metric("auc_served")),
    Column("vers.", _metric("auc_version_served"), WIDE),
    Column("orig.", _metric("auc_original_served")),
    Column("loss", _metric("logloss_served")),
    Column("vers.", _metric("logloss_version_served"), WIDE),
    Column("orig.", _metric("logloss_original_served")),
    Column(LOGGED, _metric("served_auc"), WIDER),
    Column("gate AUC", _metric("auc_compressed"), WIDE),
    Column("orig.", _metric("auc_original"), WIDE),
    Column("vectors", _times("ratio_vectors")),
    Column("bytes", _times("ratio_total")),
    Column(WHOLE, _times("ratio_version")),
    Column("rows", lambda record: text.count(record.get("rows")), WIDER),
    Column("new", lambda record: text.count(record.get("new_features")), WIDER),
    Column("size", lambda record: text.size(record.get("bytes_compressed")), WIDER),
    Column("time", lambda record: text.duration(total_seconds(record)), WIDE),
)


def hours_table(records: Iterable[Record], width: int = WIDE) -> Table:
    """One line an hour.

    Args:
        records: the ledger's records, in any order.
        width: columns of the terminal; below `WIDE` and `WIDER` the less needed figures are left out.
    """
    known = ordered(records)
    told = {LOGGED: any(map(logged_text, known)), WHOLE: any(number(record, "ratio_version") for record in known)}
    shown = [column for column in COLUMNS if width >= column.least and told.get(column.heading, True)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0, header_style="dim")
    table.add_column("hour (UTC)", no_wrap=True)
    table.add_column("outcome", overflow="fold", min_width=max(map(len, (*COLOURS, "HELD superseded"))))
    for column in shown:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for record in known:
        table.add_row(str(hour_of(record)), _outcome(record), *(Text(column.cell(record)) for column in shown))
    return table


def summary_panel(records: Sequence[Record]) -> Panel:
    """The summary: the served figures over the last 24 hours and over all, then sizes and the gate's figures."""
    summary = summarise(records)
    gate, medians, latest = summary["against_original"], summary["medians"], summary["latest"]
    grid = _grid()
    for window, pairs in windows(summary).items():
        _add_served(grid, window, pairs)
    grid.add_row("hours", _counts(summary["outcomes"]))
    grid.add_row("vectors", Text(f"{text.times(medians['ratio_vectors'])} fewer, now {text.vectors(latest)}"))
    grid.add_row("bytes", Text(f"{text.times(medians['ratio_total'])} fewer, keys counted, now {text.stored(latest)}"))
    if medians["ratio_version"]:
        grid.add_row("all files", Text(f"{text.times(medians['ratio_version'])} fewer, both networks counted"))
    for metric, name in METRICS.items():
        grid.add_row(
            f"gate {name}",
            Text(
                f"{text.decimal(gate[f'{metric}_compressed'])} candidate, "
                f"{text.decimal(gate[f'{metric}_reference'])} original: "
                f"{text.signed(gate[f'{metric}_difference'])} "
                f"({text.plural(gate['hours'], 'hour')}, {text.count(gate['rows'])} rows)"
            ),
        )
    if worse := worse_text(summary["slices"]):
        grid.add_row("slices", Text(worse, style="red"))
    if worth := list(summary["worth"]):
        grid.add_row("worth most", Text(", ".join(text.plain(name) for name in worth[:3])))
    if summary["stood_in"]:
        hours = text.plural(summary["stood_in"], "hour")
        grid.add_row("released", Text(f"in {hours} the judged candidate, {STAND_IN}"))
    if newest := newest_logged(records):
        grid.add_row("logged", Text(f"{hour_of(newest)}: {logged_text(newest)}"))
    grid.add_row("time", Text(f"{text.duration(medians['seconds'])} an hour (median)"))
    grid.add_row("published", Text(text.plain(summary["version"] or "nothing yet")))
    return _panel(grid, "served on each hour's rows, before they are learnt")


def _add_served(grid: Table, window: str, pairs: dict[str, Paired]) -> None:
    """The served figures of a window: live against original, and the version against both."""
    live = pairs.get("live-original")
    grid.add_row(Text(window, style="bold not dim"), Text(covered(live) if live else "not known"))
    for metric, name in METRICS.items():
        if live:
            grid.add_row(f"  {name}", Text(gap_text(getattr(live, metric)), style="bold"))
        if version := pairs.get("version-original"):
            label = "" if live else f"  {name}"
            grid.add_row(label, Text(f"{gap_text(getattr(version, metric), 'version')}", style="dim"))
    if live and live.hours > 1:
        grid.add_row("  median hour", Text(typical_text(live), style="bold"))


def status_panel(outlook: Outlook, fired: Sequence[Alarm]) -> Panel:
    """What is live, what the pipeline has to do, how the last hours ended, and the active alarms.

    Args:
        outlook: the state of the pipeline.
        fired: the alarms that are set off.
    """
    grid = _grid()
    for line in standing(outlook):
        grid.add_row(line.label, Text(text.plain(line.said), style=TONES[line.tone]))
    if outcomes := last_outcomes(outlook):
        grid.add_row(f"last {len(outcomes)}", _strip(outcomes.values()))
        newest = report_record(outlook.rows[-1])
        grid.add_row("newest", Text(f"{hour_of(newest)} ") + _outcome(newest))
        why = text.lines(explanation(newest))
        if why and not any(why in text.lines(alarm.message) for alarm in fired):  # it is said once
            grid.add_row("", Text(why, style="dim"))
    for alarm in fired:
        grid.add_row(Text("ALARM", style="bold red"), Text(f"{alarm.name}: {text.lines(alarm.message)}", style="red"))
    return _panel(grid, "saec")


def _outcome(record: Record) -> Text:
    """Outcome in its colour, and the reason."""
    outcome = text.plain(record.get("outcome") or "PENDING")
    said = Text(outcome, style=COLOURS.get(outcome, "dim"))
    return said.append(f" {text.plain(record['reason'])}", style="dim") if record.get("reason") else said


def _strip(outcomes: Iterable[str]) -> Text:
    """One sign an hour, oldest first."""
    return Text.assemble(
        *((LETTERS.get(outcome, SIGNS.get(outcome, "?")), COLOURS.get(outcome, "dim")) for outcome in outcomes)
    )


def _counts(outcomes: dict[str, int]) -> Text:
    """Hours by outcome, the colour only where there are any."""
    styled = [
        Text(f"{count} {text.plain(name).lower()}", style=COLOURS.get(name, "") if count else "dim")
        for name, count in outcomes.items()
    ]
    return Text(", ").join(styled)


def _grid() -> Table:
    """Labels on the left, what they say on the right."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _panel(grid: Table, title: str) -> Panel:
    """A grid in a frame as wide as it needs."""
    return Panel(grid, box=ROUNDED, title=Text(title), title_align="left", expand=False, border_style="dim")
