"""`saec run` and `saec backfill`: do hours, those that are due or those of a range.

Decisions: what is to be done is planned under the lease, so that two runs never plan the same hours; an hour held only
because it was run without --promote did what was asked and counts as done in the exit code.
"""

# ruff: noqa: PLC0415 - torch takes a second to import, so command bodies import what they need
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from saec.cli.session import DONE, FAILED, HELD, Session, example, shared_options, whoami
from saec.errors import ConfigError, HourHeld
from saec.hours import Hour
from saec.planner import Action, Only

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saec.ledger import HourRow, Lease
    from saec.pipeline import Pipeline
    from saec.planner import PlannedHour


@dataclass(frozen=True)
class Ended:
    """What a command did."""

    rows: list[HourRow]
    """Hours that were done, as they ended."""
    note: str | None = None
    """What else is to be said."""


@click.command(epilog=example("saec run --hour 2026-01-01T05"))
@click.option("--hour", type=Hour.parse, metavar="HOUR", help="Do this hour only; all that are due when left out.")
@click.option("--again", is_flag=True, help="With --hour: do it even if it was done with the same rows and settings.")
@shared_options
def run(session: Session, hour: Hour | None, *, again: bool) -> int:
    """Do every hour that is due, oldest first, or one hour.

    Missed hours are made up for; an hour whose files are late is waited for, then stepped over. Nothing due is fine.
    """
    if again and hour is None:
        raise ConfigError("--again goes with --hour: say which hour to do again")
    pipeline = _pipeline(session, "saec run")
    with pipeline.leased() as lease:
        ended = _run_hour(session, pipeline, lease, hour, again=again) if hour else _run_due(session, pipeline, lease)
    return _tell(session, ended)


@click.command(epilog=example("saec backfill --from 2026-01-01T00 --to 2026-01-01T05 --dry-run"))
@click.option("--from", "first", type=Hour.parse, metavar="HOUR", required=True, help="The first hour (UTC).")
@click.option("--to", "last", type=Hour.parse, metavar="HOUR", required=True, help="The last hour, included.")
@click.option("--only", type=click.Choice(get_args(Only)), default="missing", show_default=True,
              help="Which hours of the range.")
@click.option("--promote", is_flag=True, help="Release versions that pass; without it the live model never moves.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--stop-on-failure/--keep-going", default=True, show_default=True,
              help="Whether an hour that is FAILED or QUARANTINED ends the backfill.")
@shared_options
def backfill(
    session: Session, first: Hour, last: Hour, only: Only, *, promote: bool, dry_run: bool, stop_on_failure: bool
) -> int:
    """Do the hours of a range.

    The same planner and the same steps as a scheduled run. A backfill that was stopped is taken up again by the same
    command.
    """
    if last < first:
        raise ConfigError(f"--to {last} is before --from {first}")
    pipeline = _pipeline(session, "saec backfill")
    if dry_run:
        return _tell_plan(session, pipeline.backfill(first, last, only))
    with pipeline.leased() as lease:
        plan = pipeline.backfill(first, last, only)
        ended = _do(session, pipeline, lease, plan, promote=promote, stop_on_failure=stop_on_failure)
    return _tell(session, ended if ended.rows else Ended([], "nothing was done; --dry-run says why, hour by hour"))


def exit_code(rows: Sequence[HourRow]) -> int:
    """The exit code of the worst way that one of these hours ended."""
    if any(row.state == "FAILED" for row in rows):
        return FAILED
    return HELD if any(row.state != "PUBLISHED" and row.reason != "not-promoted" for row in rows) else DONE


def _pipeline(session: Session, what: str) -> Pipeline:
    """The configured pipeline, acting for the user who types."""
    from saec.pipeline import Pipeline

    return Pipeline(session.config, actor=f"{what} by {whoami()}")


def _run_due(session: Session, pipeline: Pipeline, lease: Lease) -> Ended:
    """Do every hour that is due."""
    from saec.cli.outlook import idle_line, look

    plan = pipeline.due()
    waiting = [f"hour {planned.hour} {planned.why}" for planned in plan if planned.action == "wait"]
    ended = _do(session, pipeline, lease, plan)
    return Ended(ended.rows, "; ".join(waiting) if ended.rows else idle_line(look(session)))


def _run_hour(session: Session, pipeline: Pipeline, lease: Lease, hour: Hour, *, again: bool) -> Ended:
    """Do one hour, if anything can be done about it and is worth doing.

    Raises:
        HourHeld: when it is not over yet, or absent.
    """
    [planned] = pipeline.backfill(hour, hour, only="all")
    if planned.action in ("wait", "skip"):
        raise HourHeld(f"nothing was done: hour {hour} {planned.why}")
    if not again and (done := _unchanged(pipeline, hour)):
        state = f"{done.state}({done.reason})" if done.reason else done.state
        return Ended([], f"hour {hour} is {state} already, with the same rows and settings; --again does it again")
    return _do(session, pipeline, lease, [planned])


def _unchanged(pipeline: Pipeline, hour: Hour) -> HourRow | None:
    """What the ledger says of an hour that was done with the rows and settings of today; None if it was not.

    Raises:
        InputError: when it was done and its partition cannot be read any more, so that its result is not thrown away.
    """
    from saec.data.partitions import read_partition

    row = pipeline.ledger.get(hour)
    if row is None or row.input_digest is None or row.stale_because or row.config_digest != pipeline.config.digest:
        return None
    return row if read_partition(pipeline.config, hour).sha256 == row.input_digest else None


def _do(session: Session, pipeline: Pipeline, lease: Lease, plan: Sequence[PlannedHour], **how: bool) -> Ended:
    """Do planned hours, showing how far it has come."""
    from saec.cli.progress import HourBar
    from saec.ledger import report_record
    from saec.report.text import plural

    total = sum(planned.action in ("do", "step-over") for planned in plan)
    with HourBar(session.notes, total=total) as bar:
        rows = pipeline.run(
            lease, plan, on_step=bar.on_step, on_hour=lambda row: bar.on_record(report_record(row)), **how
        )
    left = total - len(rows)
    stopped = f"stopped after hour {rows[-1].hour}, {plural(left, 'hour')} left; --keep-going goes on" if left else None
    return Ended(rows, stopped)


def _tell(session: Session, ended: Ended) -> int:
    """Answer with the hours that were done, and say what to do next."""
    from saec.cli.outlook import look, next_words
    from saec.ledger import report_record
    from saec.report.summary import count_outcomes, report_rows
    from saec.report.terminal import hours_table
    from saec.report.text import plural

    records, outlook = [report_record(row) for row in ended.rows], look(session)
    words = next_words(outlook)
    session.answer({"hours": report_rows(records), "outcomes": count_outcomes(records), "note": ended.note,
                    "stale": list(map(str, outlook.stale)), "next": session.command(words) if words else None})
    if records:
        session.screen.print(hours_table(records, session.screen.width))
    if ended.note:
        session.say(ended.note)
    if outlook.stale:
        session.say(f"stale, as what it went on from was done again: {plural(len(outlook.stale), 'hour')}", "yellow")
    if words:
        session.say(f"next: {session.command(words)}", style="dim")
    return exit_code(ended.rows)


def _tell_plan(session: Session, plan: Sequence[PlannedHour]) -> int:
    """Answer with what would be done."""
    from saec.report.text import duration

    counts = {action: sum(planned.action == action for planned in plan) for action in get_args(Action)}
    timed = [planned.seconds for planned in plan if planned.seconds is not None]
    total: dict[str, Any] = {**counts, "seconds": sum(timed) if timed or not counts["do"] else None}
    session.answer({"plan": [{**vars(planned), "hour": str(planned.hour)} for planned in plan], "total": total})
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for heading in ("hour (UTC)", "action", "reason"):
        table.add_column(heading, no_wrap=heading != "reason")
    table.add_column("time", justify="right", no_wrap=True)
    for planned in plan:
        style = "dim" if planned.action == "skip" else ""
        cells = (str(planned.hour), planned.action, planned.why, duration(planned.seconds) if planned.seconds else "")
        table.add_row(*(Text(cell, style=style) for cell in cells))
    session.screen.print(table)
    said = ", ".join(f"{count} to {action}" for action, count in counts.items())
    took = "no hour was timed yet" if total["seconds"] is None else f"about {duration(total['seconds'])} in all"
    session.say(f"{len(plan)} hours: {said}; {took}")
    return DONE
