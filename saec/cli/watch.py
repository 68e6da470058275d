"""`saec status`, `saec metrics` and `saec report`: show what is live, what is due, and how the hours went."""

# ruff: noqa: PLC0415 - torch takes a second to import, so command bodies import what they need
from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saec.cli.session import DONE, FAILED, Session, example, shared_options
from saec.hours import Hour

if TYPE_CHECKING:
    from saec.cli.outlook import Outlook
    from saec.monitoring.alarms import Alarm


@click.command(epilog=example("saec status --json"))
@shared_options
def status(session: Session) -> int:
    """Show what is live, due, stale or held, and what to do next.

    Shows how long the live version has been live and how old its data is, the AUC and log loss served in the last 24
    hours beside the original's, how the last 48 hours ended, who is at work, the active alarms, and the next command to
    run. Exits with 1 if data source, store or ledger is lost (alarm "lost").
    """
    from saec.cli.outlook import idle_line, look, next_words
    from saec.monitoring.alarms import alarms, broken
    from saec.report.terminal import status_panel

    outlook = look(session)
    words, fired = next_words(outlook), alarms(outlook, session.config.alarms)
    session.answer({**_standing(outlook, fired), "next": session.command(words) if words else None})
    session.screen.print(status_panel(outlook, fired))
    if not outlook.due and not outlook.lease:
        session.say(idle_line(outlook))
    for command in dict.fromkeys([*([words] if words else []), *(alarm.command for alarm in fired)]):
        session.say(f"next: {session.command(command)}")
    return FAILED if broken(fired) else DONE


@click.command(epilog=example("saec metrics"))
@shared_options
def metrics(session: Session) -> None:
    """Print the state of the pipeline as Prometheus metrics.

    Every run writes the same to metrics.prom in the workspace, for node_exporter's textfile collector.
    """
    from saec.cli.outlook import look
    from saec.monitoring.metrics import metrics_text

    text = metrics_text(session.config, look(session)).decode()
    session.answer({"metrics": text})
    if not session.as_json:
        click.echo(text, nl=False)


@click.command(epilog=example("saec report --from 2026-01-01T00 --out workspace/report.html"))
@click.option("--from", "first", type=Hour.parse, metavar="HOUR", help="The first hour; default: the oldest.")
@click.option("--to", "last", type=Hour.parse, metavar="HOUR", help="The last hour; default: the newest.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a file: one HTML page, or a table if the name ends in .csv or .parquet.",
)
@click.option("--summary", is_flag=True, help="Print only the summary: differences with intervals over these hours.")
@shared_options
def report(session: Session, first: Hour | None, last: Hour | None, out: Path | None, *, summary: bool) -> None:
    """Show how the hours went.

    The report starts with the served figures: AUC and log loss on all rows of each hour before they are learnt, for the
    live version, the version made from the hour before, and the original of that moment, with paired differences and
    95% intervals over the last 24 hours and over all hours of the report. The gate's figures, outcomes, ratios, sizes
    and times follow. The output is a table and a summary, JSON rows, one HTML page, or a table for a notebook.
    """
    from saec.ledger import report_record
    from saec.report.summary import plain_summary, report_rows
    from saec.report.terminal import hours_table, summary_panel

    records = [report_record(row) for row in session.ledger.rows(first, last)]
    if out:
        _write(session, records, out)  # first: with --json, a refused file name must be the only answer
    session.answer(plain_summary(records) if summary else report_rows(records))
    if records:
        session.screen.print(*([] if summary else [hours_table(records, session.screen.width)]), summary_panel(records))
    else:
        session.say(f"the ledger has no such hours; run some with {session.command('run')}")
    if out:
        session.say(f"report: {out}")


def _standing(outlook: Outlook, fired: list[Alarm]) -> dict[str, Any]:
    """The JSON answer of `saec status`."""
    from saec.report.strip import last_outcomes

    live, lease, unfinished = outlook.live, outlook.lease, outlook.unfinished
    newest = outlook.rows[-1] if outlook.rows else None
    reasons = {row.hour: row.reason for row in outlook.rows}
    return {
        "live": {
            **live.model_dump(include={"version", "previous", "action", "actor", "reason", "at"}),
            "age_seconds": round(outlook.live_seconds or 0.0),
            "data_until": outlook.data_until.isoformat() if outlook.data_until else None,
            "data_age_seconds": round(outlook.data_seconds or 0.0),
        }
        if live and live.version
        else None,
        "served": _served(outlook),
        "held": {"actor": live.actor, "reason": live.reason, "at": live.at} if live and live.held else None,
        "running": {
            "owner": lease.owner,
            "expires_at": lease.expires_at.isoformat(),
            "hour": str(unfinished.hour) if unfinished else None,
            "step": unfinished.stage if unfinished else None,
        }
        if lease
        else None,
        "next_hour": outlook.next_hour,
        "backlog": {"hours": [str(planned.hour) for planned in outlook.due], "seconds": outlook.backlog_seconds},
        "waiting": {"hour": str(outlook.waiting.hour), "why": outlook.waiting.why} if outlook.waiting else None,
        "backfill": {
            "asked": str(outlook.backfill.backfill),
            "state": outlook.backfill.backfill.state,
            "message": outlook.backfill.backfill.message,
            "done": outlook.backfill.done,
            "left": len(outlook.backfill.left),
            "seconds_left": outlook.backfill.seconds_left,
        }
        if outlook.backfill
        else None,
        "stale": [str(hour) for hour in outlook.stale],
        "unpublished": [str(row.hour) for row in outlook.unpublished],
        "newest": {
            "hour": str(newest.hour),
            "outcome": newest.state,
            "reason": newest.reason,
            "message": newest.message,
        }
        if newest
        else None,
        "last_hours": [
            {"hour": str(hour), "outcome": outcome, "reason": reasons.get(hour)}
            for hour, outcome in last_outcomes(outlook).items()
        ],
        "disk_free_bytes": outlook.disk_free,
        "alarms": [asdict(alarm) for alarm in fired],
    }


def _served(outlook: Outlook) -> dict[str, Any] | None:
    """The served figures: the newest hour that has them, and the pairs of models over the last 24 hours."""
    from saec.ledger import report_record
    from saec.monitoring.outlook import SERVED_HOURS
    from saec.plain_json import plain_json
    from saec.report.headline import METRICS, MODELS, newest_headline, plain_pairs

    newest = newest_headline([report_record(row) for row in outlook.rows])
    if newest is None:
        return None
    keys = (
        "hour",
        *(f"{metric}_{key}" for key in MODELS.values() for metric in METRICS),
        "ratio_total",
        "ratio_version",
    )
    return dict(
        plain_json(
            {
                **{key: newest.get(key) for key in keys},
                "last_hours": SERVED_HOURS,
                "differences": plain_pairs(outlook.served),
            }
        )
    )


def _write(session: Session, records: list[dict[str, Any]], out: Path) -> None:
    """Write the report atomically, in the format of its file ending."""
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
