"""Tables for a terminal: `saec report` and `saec status`.

Decisions: everything is built of `rich.text.Text`, never of markup, so that a message with brackets or control
characters prints as itself; a narrow terminal gets fewer columns rather than folded numbers; oldest hour first,
because a terminal is read at its foot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from saec.ledger import report_record
from saec.monitoring.alarms import Alarm
from saec.monitoring.outlook import Outlook
from saec.report import text
from saec.report.records import Record, explanation, hour_of, ordered, total_seconds
from saec.report.served import newest_served, served_text
from saec.report.standing import standing
from saec.report.strip import SIGNS, last_outcomes
from saec.report.summary import summarise

COLOURS = {"PUBLISHED": "green", "HELD": "yellow", "QUARANTINED": "magenta", "FAILED": "red"}
LETTERS = {"PUBLISHED": "■"}
"""The strip's sign of an outcome where it is not that of `SIGNS`: what is usual should not have to be read."""
TONES = {"good": "bold green", "plain": "", "attention": "yellow"}
SERVED = "served"
"""Heading of the AUC of what was served."""
WIDE = 132
"""Columns of a terminal from which the hours' table shows everything but what only a request log tells."""
WIDER = 160
"""Columns from which it shows that too, where there is a log."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of figures: its heading, how to fill it, and whether only wide terminals show it."""

    heading: str
    cell: Callable[[Record], str]
    only_wide: bool = False


def _metric(key: str) -> Callable[[Record], str]:
    """A cell that shows a metric."""
    return lambda record: text.decimal(record.get(key))


COLUMNS = (
    Column("AUC orig.", _metric("auc_original")),
    Column("compr.", _metric("auc_compressed")),
    Column("champ.", _metric("auc_champion"), only_wide=True),
    Column(SERVED, _metric("served_auc"), only_wide=True),
    Column("loss orig.", _metric("logloss_original")),
    Column("compr.", _metric("logloss_compressed")),
    Column("champ.", _metric("logloss_champion"), only_wide=True),
    Column("rows", lambda record: text.count(record.get("rows")), only_wide=True),
    Column("new", lambda record: text.count(record.get("new_features")), only_wide=True),
    Column("vectors", lambda record: text.times(record.get("ratio_vectors"))),
    Column("bytes", lambda record: text.times(record.get("ratio_total"))),
    Column("size", lambda record: text.size(record.get("bytes_compressed")), only_wide=True),
    Column("time", lambda record: text.duration(total_seconds(record)), only_wide=True),
)


def hours_table(records: Iterable[Record], width: int = WIDE) -> Table:
    """One line an hour.

    Args:
        records: the ledger's records, in any order.
        width: columns of the terminal; below `WIDE` the less needed figures are left out.
    """
    known = ordered(records)
    logged = width >= WIDER and any(served_text(record) for record in known)
    shown = [column for column in COLUMNS if (width >= WIDE or not column.only_wide)
             and (logged or column.heading != SERVED)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, int(width >= WIDE), 0, 0), header_style="dim")
    table.add_column("hour (UTC)", no_wrap=True)
    table.add_column("outcome", no_wrap=width >= WIDE, min_width=max(map(len, COLOURS)))
    for column in shown:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for record in known:
        table.add_row(str(hour_of(record)), _outcome(record), *(Text(column.cell(record)) for column in shown))
    return table


def summary_panel(records: Sequence[Record]) -> Panel:
    """The figures at a glance, over the last 24 hours."""
    summary = summarise(records)
    pooled, medians, latest = summary["against_original"], summary["medians"], summary["latest"]
    grid = _grid()
    grid.add_row("hours", _counts(summary["outcomes"]))
    for metric, name in (("auc", "AUC"), ("logloss", "log loss")):
        grid.add_row(name, Text(f"{text.decimal(pooled[f'{metric}_compressed'])} compressed, "
                                f"{text.decimal(pooled[f'{metric}_reference'])} original "
                                f"({text.signed(pooled[f'{metric}_difference'])})"))
    grid.add_row("vectors", Text(f"{text.times(medians['ratio_vectors'])} fewer, now {text.vectors(latest)}"))
    grid.add_row("bytes", Text(f"{text.times(medians['ratio_total'])} fewer, keys counted, now {text.stored(latest)}"))
    if newest := newest_served(records):
        grid.add_row("served", Text(f"{hour_of(newest)}: {served_text(newest)}"))
    grid.add_row("time", Text(f"{text.duration(medians['seconds'])} an hour (median)"))
    grid.add_row("published", Text(text.plain(summary["version"] or "nothing yet")))
    gated = text.plural(pooled["hours"], "hour")
    return _panel(grid, f"last 24 hours: {gated} gated, {text.count(pooled['rows'])} rows")


def status_panel(outlook: Outlook, fired: Sequence[Alarm]) -> Panel:
    """What is live, what the pipeline has to do, how the last hours ended, and what calls for a person.

    Args:
        outlook: where the pipeline stands.
        fired: the alarms that are set off.
    """
    grid = _grid()
    for line in standing(outlook):
        grid.add_row(line.label, Text(text.plain(line.said), style=TONES[line.tone]))
    if outcomes := last_outcomes(outlook):
        grid.add_row(f"last {len(outcomes)}", _strip(outcomes.values()))
        newest = report_record(outlook.rows[-1])
        grid.add_row("newest", Text(f"{hour_of(newest)} ") + _outcome(newest))
        if why := text.plain(explanation(newest)):
            grid.add_row("", Text(why, style="dim"))
    for alarm in fired:
        grid.add_row(Text("ALARM", style="bold red"), Text(f"{alarm.name}: {text.plain(alarm.message)}", style="red"))
    return _panel(grid, "saec")


def _outcome(record: Record) -> Text:
    """Outcome in its colour, and the reason."""
    outcome = text.plain(record.get("outcome") or "PENDING")
    said = Text(outcome, style=COLOURS.get(outcome, "dim"))
    return said.append(f" {text.plain(record['reason'])}", style="dim") if record.get("reason") else said


def _strip(outcomes: Iterable[str]) -> Text:
    """One sign an hour, oldest first."""
    return Text.assemble(*((LETTERS.get(outcome, SIGNS.get(outcome, "?")), COLOURS.get(outcome, "dim"))
                           for outcome in outcomes))


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
