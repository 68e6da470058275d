"""`saec status` and `saec report`: what is live, what is due, and how the hours went."""

# ruff: noqa: PLC0415 - torch takes a second to import, so command bodies import what they need
from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saec.cli.session import Session, example, shared_options
from saec.hours import Hour

if TYPE_CHECKING:
    from saec.cli.outlook import Outlook
    from saec.store.releases import Release

STRIP_HOURS = 24
_DAY = 86400


@click.command(epilog=example("saec status --json"))
@shared_options
def status(session: Session) -> None:
    """Show what is live, due, stale or held, and what to do.

    Says how old the live version is, how the last 24 hours ended, who is at work, and which command to type next.
    """
    from saec.cli.outlook import idle_line, look, next_words
    from saec.ledger import report_record
    from saec.report.terminal import status_panel

    outlook, now = look(session), datetime.now(UTC)
    words = next_words(outlook)
    session.answer({**_standing(outlook, now), "next": session.command(words) if words else None})
    live = outlook.live
    session.screen.print(status_panel(
        [report_record(row) for row in outlook.rows],
        live=f"{live.version}, for {_age(live, now)} ({live.action}, {live.actor})" if live and live.version else None,
        hold=f"{live.actor}: {live.reason}" if live and live.held else None,
        running=_running(outlook),
        due=[str(planned.hour) for planned in outlook.due],
        stale=list(map(str, outlook.stale)),
    ))
    if not outlook.due and not outlook.lease:
        session.say(idle_line(outlook))
    if words:
        session.say(f"next: {session.command(words)}")


@click.command(epilog=example("saec report --from 2026-01-01T00 --out workspace/report.html"))
@click.option("--from", "first", type=Hour.parse, metavar="HOUR", help="The first hour; the oldest when left out.")
@click.option("--to", "last", type=Hour.parse, metavar="HOUR", help="The last hour; the newest when left out.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False),
              help="Also write it: as one HTML page, or as a table if the name ends in .csv or .parquet.")
@shared_options
def report(session: Session, first: Hour | None, last: Hour | None, out: Path | None) -> None:
    """Show how the hours went.

    Outcomes, AUC and log loss of the original, the compressed model and the champion, ratios, sizes and times: as a
    table and a summary, as JSON rows, as one HTML page, or as a table for a notebook.
    """
    from saec.ledger import report_record
    from saec.report.summary import report_rows
    from saec.report.terminal import hours_table, summary_panel

    records = [report_record(row) for row in session.ledger.rows(first, last)]
    if out:
        _write(session, records, out)  # first: with --json a name that is refused must be the only answer
    session.answer(report_rows(records))
    if records:
        session.screen.print(hours_table(records, session.screen.width), summary_panel(records))
    else:
        session.say(f"the ledger has no such hours; do some with {session.command('run')}")
    if out:
        session.say(f"report: {out}")


def _standing(outlook: Outlook, now: datetime) -> dict[str, Any]:
    """The JSON answer of `saec status`."""
    live, lease, unfinished = outlook.live, outlook.lease, outlook.unfinished
    newest = outlook.rows[-1] if outlook.rows else None
    estimates = [planned.seconds for planned in outlook.due if planned.seconds is not None]
    return {
        "live": {**live.model_dump(include={"version", "previous", "action", "actor", "reason", "at"}),
                 "age_seconds": round(_seconds_old(live, now))} if live and live.version else None,
        "held": {"actor": live.actor, "reason": live.reason, "at": live.at} if live and live.held else None,
        "running": {"owner": lease.owner, "expires_at": lease.expires_at.isoformat(),
                    "hour": str(unfinished.hour) if unfinished else None,
                    "step": unfinished.stage if unfinished else None} if lease else None,
        "backlog": {"hours": [str(planned.hour) for planned in outlook.due],
                    "seconds": sum(estimates) if estimates else None},
        "waiting": {"hour": str(outlook.waiting.hour), "why": outlook.waiting.why} if outlook.waiting else None,
        "stale": [str(hour) for hour in outlook.stale],
        "newest": {"hour": str(newest.hour), "outcome": newest.state, "reason": newest.reason,
                   "message": newest.message} if newest else None,
        "last_hours": [{"hour": str(row.hour), "outcome": row.state, "reason": row.reason}
                       for row in outlook.rows[-STRIP_HOURS:]],
    }


def _running(outlook: Outlook) -> str | None:
    """Who is at work and how far, or what a run left that died."""
    at = f"hour {outlook.unfinished.hour}, {outlook.unfinished.stage or 'begun'}" if outlook.unfinished else ""
    if outlook.lease:
        return f"{at or 'between hours'} ({outlook.lease.owner}, lease until {outlook.lease.expires_at:%H:%M:%S} UTC)"
    return f"nothing; {at} was left by a run that ended early" if at else None


def _seconds_old(live: Release, now: datetime) -> float:
    return (now - datetime.fromisoformat(live.at)).total_seconds()


def _age(live: Release, now: datetime) -> str:
    """How long ago the live version became live."""
    from saec.report.text import duration, plural

    seconds = max(0.0, _seconds_old(live, now))
    return duration(seconds) if seconds < 2 * _DAY else plural(int(seconds // _DAY), "day")


def _write(session: Session, records: list[dict[str, Any]], out: Path) -> None:
    """Write the report as the ending of its name says, whole or not at all."""
    from saec.durable import write_file

    if out.suffix == ".html":
        from saec.report.page import render_report

        live = session.store.live()
        page = render_report(records, f"Saec report: {session.config_path.stem}", live.version if live else None)
        data = page.encode()
    else:
        from saec.report.table import encode_table

        data = encode_table(records, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, data)
