"""`saec init`: from a click log that nobody has described yet to the settings of a pipeline."""

# ruff: noqa: PLC0415 - Arrow takes a moment to import, so command bodies import what they need
from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saec.cli.session import DEFAULT_CONFIG, Session, example, shared_options
from saec.errors import ConfigError
from saec.hours import Hour

if TYPE_CHECKING:
    from saec.discover.draft import Draft


@click.command(epilog=example("saec init clicks.csv.gz"))
@click.argument("source")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The settings file to write.",
)
@click.option(
    "--workspace", help="Folder of the pipeline; workspace/NAME, after the settings or the source, when left out."
)
@click.option(
    "--partition",
    type=click.Path(path_type=Path, file_okay=False),
    help="Make hourly Parquet files in this folder; where the log needs it, they go to the workspace anyway.",
)
@click.option("--time", metavar="COLUMN", help="The column that tells when a row happened, if the choice was wrong.")
@click.option("--label", metavar="COLUMN", help="The column that says whether it was clicked, if the choice was wrong.")
@click.option("--zone", metavar="ZONE", help="Time zone of times that name none, as Europe/Berlin; UTC when left out.")
@click.option("--start", type=Hour.parse, metavar="HOUR", help="For rows without a time: the first hour (UTC).")
@click.option("--hours", type=click.IntRange(min=1), help="With --start: hours to spread rows over, in their order.")
@click.option("--replace", is_flag=True, help="Replace the settings file and hourly files that are there already.")
@shared_options
def init(
    session: Session,
    source: str,
    out: Path,
    workspace: str | None,
    start: Hour | None,
    hours: int | None,
    *,
    replace: bool,
    **named: Any,
) -> None:
    """Look at a click log and write the settings of a pipeline for it.

    SOURCE is a file, folder or URL of Parquet, CSV, TSV or JSON lines, plain, .gz or .zst; behind a web address, one
    file, which is fetched into the workspace. Time, label, fields, crosses
    and gate are chosen from the data; each choice stands in the settings with its reason. A log that is not laid out by
    hours becomes hourly Parquet files in the workspace. What to type next is said at the end.
    """
    from saec.cli.progress import Bar
    from saec.discover.download import download, is_web_address
    from saec.discover.draft import draft
    from saec.discover.head import Wishes
    from saec.discover.settings import settings_text
    from saec.durable import write_file

    if out.exists() and not replace:
        raise ConfigError(f"{out} is there already; name another with --out, or --replace it")
    if (start is None) != (hours is None):
        raise ConfigError("--start and --hours go together: rows are spread over so many hours from that one on")
    _check_zone(named["zone"])
    folder = workspace or f"workspace/{_name(source, out)}"
    wishes = Wishes(span=(start, hours) if start and hours else None, replace=replace, **named)
    if is_web_address(source):
        with Bar(session.notes, unit="bytes") as bar:
            source = str(download(source, Path(folder) / "download", lambda what, here: bar.show(here, what)))
    with Bar(session.notes, unit="rows") as bar:
        made = draft(source, Path(folder) / "data", wishes, on_progress=lambda what, rows: bar.show(rows, what))
    text = settings_text(made, folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, text.encode())
    session.config_path = out
    session.answer({"out": str(out), "next": [_next(session)], **plain(made)})
    _tell(session, made, out)


def plain(made: Draft) -> dict[str, Any]:
    """A draft for JSON."""
    return {
        "saw": str(made.log),
        "source": made.source,
        "time": made.time_name,
        "label": made.label_name,
        "hours": made.hours,
        "rows": made.rows,
        "click_rate": made.clicks,
        "first": str(made.first),
        "last": str(made.last),
        "columns": [asdict(column) for column in made.columns],
        "crosses": [[one, other] for one, other, _ in made.crosses],
        "partitioned": made.partitioned is not None,
        "notes": list(made.notes),
    }


def _tell(session: Session, made: Draft, out: Path) -> None:
    """What was seen, what was made of it, and what to type next."""
    from saec.discover.settings import hours_to_decide

    session.say(
        f"{made.log}: {made.hours:,} hours, {made.first} to {made.last}, {made.rows:,} rows, {made.clicks:.2%} clicked"
    )
    for note in made.notes:
        session.say(f"note: {note}")
    session.say(f"time: {made.time_name}; label: {made.label_name}")
    fields = [column.name for column in made.columns if column.role == "field"]
    session.say(f"fields: {', '.join(fields)}")
    if made.crosses:
        session.say(f"crosses: {', '.join(f'{one}&{other}' for one, other, _ in made.crosses)}")
    for column in made.columns:
        if column.role in ("row id", "left out"):
            session.say(f"{column.role}: {column.name} {column.why}", style="yellow" if column.auc else "")
    if made.hours <= (needed := hours_to_decide(made) + 1):
        session.say(
            f"note: the gate has rows enough to decide after about {needed} such hours; the log has {made.hours}",
            style="yellow",
        )
    session.say(f"settings: {out}")
    session.say(f"next: {_next(session)}", style="dim")


def _next(session: Session) -> str:
    """The command to type next."""
    return "saec run" if session.config_path == Path(DEFAULT_CONFIG) else session.command("run")


def _name(source: str, out: Path) -> str:
    """A name for the pipeline: that of the settings, else that of the source."""
    if out != Path(DEFAULT_CONFIG):
        return out.stem
    last = source.partition("?")[0].rstrip("/").rpartition("/")[2] or "saec"
    return re.sub(r"[^A-Za-z0-9_-]+", "_", last.partition(".")[0]).strip("_") or "saec"


def _check_zone(zone: str | None) -> None:
    """Refuse a zone that nobody knows."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        if zone:
            ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"--zone: there is no time zone {zone!r}; name one as Europe/Berlin or America/New_York"
        ) from None
