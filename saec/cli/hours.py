"""`saec run` and `saec backfill`: do the hours that are due, or a range of hours.

Decisions: an hour held only because --promote was missing did what was asked, so the exit code counts it as done. If
the files of a finished hour have changed, the hour is redone only with --replace.
"""

# ruff: noqa: PLC0415 - torch takes a second to import, so command bodies import what they need
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from saec.cli.ranks import over_ranks
from saec.cli.session import DONE, FAILED, HELD, USAGE, Session, example, shared_options, whoami
from saec.errors import ConfigError, HourHeld, InputError
from saec.hours import Hour
from saec.schedule.planner import Action, Only

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saec.ledger import Backfill, HourRow
    from saec.schedule.pipeline import Pipeline
    from saec.schedule.planner import PlannedHour


SHOWN = 200
"""Most lines of a plan on the screen."""


@dataclass(frozen=True)
class Ended:
    """What a command did."""

    rows: list[HourRow]
    """Hours that were done, as they ended."""
    note: str | None = None
    """A remark for the user."""


@click.command(epilog=example("saec run --hour 2026-01-01T05"))
@click.option("--hour", type=Hour.parse, metavar="HOUR", help="Do only this hour; default: all that are due.")
@click.option(
    "--replace",
    is_flag=True,
    help="With --hour: redo it, whether its rows have changed or not.",
)
@shared_options
@over_ranks
def run(session: Session, hour: Hour | None, *, replace: bool) -> int:
    """Do every hour that is due, oldest first, or one hour.

    Missed hours are made up for. The run waits for an hour whose files are late, then skips it. It is no error if
    nothing is due. data.late decides what happens to late data.
    """
    if replace and hour is None:
        raise ConfigError("--replace needs --hour: say which hour to redo")
    pipeline = _pipeline(session, "saec run")
    return _tell(session, _run_hour(session, pipeline, hour, replace=replace) if hour else _run_due(session, pipeline))


@click.command(epilog=example("saec backfill --from 2026-01-01T00 --to 2026-01-01T05 --dry-run"))
@click.option("--from", "first", type=Hour.parse, metavar="HOUR", help="The first hour (UTC).")
@click.option("--to", "last", type=Hour.parse, metavar="HOUR", help="The last hour, included.")
@click.option(
    "--only",
    type=click.Choice(get_args(Only)),
    default="missing",
    show_default=True,
    help="Which hours of the range to do.",
)
@click.option("--promote", is_flag=True, help="Release versions that pass; otherwise the live version never changes.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option(
    "--stop-on-failure/--keep-going",
    default=True,
    show_default=True,
    help="Whether a FAILED or QUARANTINED hour stops the backfill.",
)
@click.option("--replace", is_flag=True, help="Also redo frozen hours (older than retention).")
@click.option("--pause", "turn", flag_value="pause", help="Pause the open backfill after the current hour.")
@click.option("--resume", "turn", flag_value="resume", help="Continue the open backfill.")
@click.option("--cancel", "turn", flag_value="cancel", help="Abandon the open backfill.")
@shared_options
@over_ranks
def backfill(
    session: Session, first: Hour | None, last: Hour | None, turn: str | None, *, dry_run: bool, **wanted: Any
) -> int:
    """Do the hours of a range, or pause, resume or cancel the open backfill.

    A backfill uses the planner and the steps of a scheduled run. If later hours build on an hour that is redone, those
    in the range are redone aside and swapped in at the end; until then existing results are untouched. The same
    command, or --resume, continues a backfill that was stopped.
    """
    pipeline = _pipeline(session, "saec backfill")
    if turn:
        if first or last or dry_run:
            raise ConfigError(f"--{turn} applies to the open backfill; it takes no range and no --dry-run")
        return _turn(session, pipeline, turn)
    if first is None or last is None:
        raise ConfigError("name the range with --from HOUR and --to HOUR (UTC), or --resume the open backfill")
    if last < first:
        raise ConfigError(f"--to {last} is before --from {first}")
    from saec.schedule.progress import as_begun, ask, would_do

    _check_source(pipeline)
    asked = ask(first, last, pipeline.actor, **wanted)
    if dry_run:
        ahead = would_do(pipeline.config, pipeline.ledger, asked)
        return _tell_plan(session, ahead.plan, aside=as_begun(pipeline.ledger, ahead).aside)
    return _backfill(session, pipeline, asked)


def exit_code(rows: Sequence[HourRow]) -> int:
    """The exit code for the worst outcome among these hours."""
    if any(row.settings_at_fault for row in rows):
        return USAGE
    if any(row.state == "FAILED" for row in rows):
        return FAILED
    return HELD if any(row.state != "PUBLISHED" and row.reason != "not-promoted" for row in rows) else DONE


def _pipeline(session: Session, what: str) -> Pipeline:
    """The configured pipeline, acting for the user who types."""
    from saec.schedule.pipeline import Pipeline

    return Pipeline(session.config, actor=f"{what} by {whoami()}")


def _check_source(pipeline: Pipeline) -> None:
    """Refuse to plan hours if the source cannot contain any."""
    from saec.data.source_problem import check_source

    check_source(pipeline.config.data, known=any(row.input_digest for row in pipeline.ledger.newest()))


def _run_due(session: Session, pipeline: Pipeline) -> Ended:
    """Do every hour that is due."""
    from saec.cli.outlook import idle_line, look
    from saec.cli.progress import HourBar
    from saec.schedule.advance import advance

    due = sum(planned.pending for planned in pipeline.due())
    with HourBar(session.notes, total=due) as bar:
        rows = advance(pipeline, listener=bar)
    outlook = look(session)
    waiting = f"hour {outlook.waiting.hour} {outlook.waiting.why}" if outlook.waiting else None
    return Ended(rows, waiting if rows else idle_line(outlook))


def _run_hour(session: Session, pipeline: Pipeline, hour: Hour, *, replace: bool) -> Ended:
    """Do one hour, if it can be done and there is a reason to.

    Raises:
        HourHeld: when it is not over yet, or absent. InputError: reason "conflict", when it was done with other rows
        and `replace` is not set.
    """
    from saec.cli.progress import HourBar
    from saec.schedule.backfill import give_up, run_backfill
    from saec.schedule.progress import ask, look_ahead

    _check_source(pipeline)
    asked = ask(hour, hour, pipeline.actor, only="all", promote=True, replace=replace)
    [planned] = look_ahead(pipeline.config, pipeline.ledger, asked).plan
    if planned.action in ("wait", "skip"):
        raise HourHeld(f"nothing was done: hour {hour} {planned.why}")
    if not replace and (done := _unchanged(pipeline, hour)):
        return Ended(
            [], f"hour {hour} is {done.ending} already, with the same rows and settings; --replace does it again"
        )
    with HourBar(session.notes, total=1) as bar:
        ended, rows = run_backfill(pipeline, asked, listener=bar)
    if ended.open:
        give_up(pipeline)
        return Ended(rows, f"hour {hour} is unchanged" if ended.aside else None)
    return Ended(rows)


def _unchanged(pipeline: Pipeline, hour: Hour) -> HourRow | None:
    """The ledger's row of an hour that was done with today's rows and settings; None if it was not.

    Raises:
        InputError: when it was done but its partition has changed or can no longer be read, so that its result is not
            thrown away by mistake.
    """
    from saec.data.partitions import read_partition

    row = pipeline.ledger.get(hour)
    if row is None or row.input_digest is None:
        return None
    if read_partition(pipeline.config, hour).sha256 != row.input_digest:
        raise InputError(
            f"QUARANTINED(conflict): the files of hour {hour} have changed since it was done; it stays {row.state}. "
            "To redo it, pass --replace, or run saec backfill --only stale to redo the hours that build on it too",
            reason="conflict",
        )
    return None if row.stale_because or row.config_digest != pipeline.config.digest else row


def _backfill(session: Session, pipeline: Pipeline, asked: Backfill | None) -> int:
    """Begin or resume a backfill, showing how far it has come."""
    from saec.cli.progress import HourBar
    from saec.schedule.backfill import run_backfill

    with HourBar(session.notes, total=None) as bar:
        ended, rows = run_backfill(pipeline, asked, listener=bar)
    nothing = "nothing was done; --dry-run says why, hour by hour"
    said = f"{ended} is {ended.state}" + (f": {ended.message}" if ended.message else "")
    if ended.state == "STOPPED":
        said += f"; go on with {session.command('backfill --resume')}, or --cancel"
    return _tell(session, Ended(rows, said if rows or ended.message else nothing))


def _turn(session: Session, pipeline: Pipeline, turn: str) -> int:
    """Pause, resume or cancel the open backfill."""
    from saec.schedule.backfill import give_up
    from saec.schedule.lease import at_work

    if turn == "resume":
        return _backfill(session, pipeline, None)
    backfill = give_up(pipeline) if turn == "cancel" else pipeline.ledger.backfills.ask("pause")
    busy = backfill.open and at_work(pipeline.ledger, pipeline.config.workspace)
    said = f"it will {turn} after the hour at work" if busy else f"it is {backfill.state}, no run is at work on it"
    session.answer({"backfill": str(backfill), "state": backfill.state, "asked": backfill.asked})
    session.say(f"{backfill}: {said}")
    return DONE


def _tell(session: Session, ended: Ended) -> int:
    """Print the hours that were done, and what to do next."""
    from saec.cli.outlook import look, next_words
    from saec.ledger import report_record
    from saec.monitoring.alarms import alarms, broken
    from saec.report.summary import count_outcomes, report_rows
    from saec.report.terminal import hours_table
    from saec.report.text import plural

    records, outlook = [report_record(row) for row in ended.rows], look(session)
    words, gone = next_words(outlook), broken(alarms(outlook, session.config.alarms))
    session.answer(
        {
            "hours": report_rows(records),
            "outcomes": count_outcomes(records),
            "note": ended.note,
            "stale": list(map(str, outlook.stale)),
            "alarms": [alarm.message for alarm in gone],
            "next": session.command(words) if words else None,
        }
    )
    if records:
        session.screen.print(hours_table(records, session.screen.width))
    if ended.note:
        session.say(ended.note)
    for alarm in gone:
        session.say(f"ALARM {alarm.name}: {alarm.message}", "red")
    if outlook.stale:
        session.say(f"stale, as its data or an hour before it changed: {plural(len(outlook.stale), 'hour')}", "yellow")
    if words:
        session.say(f"next: {session.command(words)}", style="dim")
    return FAILED if gone else exit_code(ended.rows)


def _tell_plan(session: Session, plan: Sequence[PlannedHour], *, aside: bool) -> int:
    """Print what would be done."""
    from saec.report.text import duration
    from saec.schedule.progress import spans

    told = spans(plan)
    counts = {action: sum(planned.action == action for planned in plan) for action in get_args(Action)}
    timed = [planned.seconds for planned in plan if planned.seconds is not None]
    total: dict[str, Any] = {**counts, "seconds": sum(timed) if timed or not counts["do"] else None}
    session.answer({"plan": [{**vars(span), "hours": span.hours} for span in told], "total": total, "aside": aside})
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for heading in ("hour (UTC)", "action", "reason"):
        table.add_column(heading, no_wrap=heading != "reason")
    table.add_column("time", justify="right", no_wrap=True)
    for span in told[:SHOWN]:
        style = "dim" if span.action == "skip" else ""
        cells = (str(span), span.action, span.why, duration(span.seconds) if span.seconds else "")
        table.add_row(*(Text(cell, style=style) for cell in cells))
    session.screen.print(table)
    if len(told) > SHOWN:
        session.say(f"… and {len(told) - SHOWN:,} further lines, which --json shows")
    said = ", ".join(f"{count} to {action}" for action, count in counts.items())
    took = "no hour was timed yet" if total["seconds"] is None else f"about {duration(total['seconds'])} in all"
    session.say(f"{len(plan)} hours: {said}; {took}")
    if aside:
        session.say("later hours build on these: they are redone aside and swapped in together at the end")
    return DONE
