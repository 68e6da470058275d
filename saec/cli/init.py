"""`saec init`: inspects a click log and writes the settings of a pipeline for it."""

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
    "--workspace", help="Folder of the pipeline; default: workspace/NAME, with the name of the settings or the source."
)
@click.option(
    "--partition",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write hourly Parquet files to this folder; default: the workspace, if the log needs them.",
)
@click.option("--time", metavar="COLUMN", help="The column with the time of a row, if the choice was wrong.")
@click.option("--label", metavar="COLUMN", help="The column with the label (clicked or not), if the choice was wrong.")
@click.option("--zone", metavar="ZONE", help="Time zone of times without one, such as Europe/Berlin; default: UTC.")
@click.option("--start", type=Hour.parse, metavar="HOUR", help="For rows without a time: the first hour (UTC).")
@click.option(
    "--hours", type=click.IntRange(min=1), help="With --start: number of hours to spread the rows over, in order."
)
@click.option(
    "--skip-broken",
    is_flag=True,
    help="Leave out lines of CSV and JSON that cannot be read, at most one in a hundred; the summary counts them.",
)
@click.option("--replace", is_flag=True, help="Replace the settings file and hourly files if they exist.")
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
    """Inspect a click log and write the settings of a pipeline for it.

    SOURCE is a file, folder or URL of Parquet, CSV, TSV or JSON lines, plain, .gz or .zst. A web address must be a
    single file; it is downloaded into the workspace. Time, label, fields, crosses and gate are chosen from the data,
    and the settings give the reason for each choice. A log that is not laid out by hours becomes hourly Parquet files
    in the workspace. The last line says what to run next.
    """
    from saec.cli.progress import Bar
    from saec.discover.download import download, is_web_address
    from saec.discover.draft import draft
    from saec.discover.head import Wishes
    from saec.discover.settings import settings_text
    from saec.durable import write_file

    if out.exists() and not replace:
        raise ConfigError(f"{out} exists already; name another with --out, or pass --replace")
    if (start is None) != (hours is None):
        raise ConfigError("--start and --hours go together: rows are spread over --hours hours from --start on")
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
        "broken_lines": made.partitioned.broken if made.partitioned else 0,
        "notes": list(made.notes),
    }


def _tell(session: Session, made: Draft, out: Path) -> None:
    """Print what was found, what was chosen, and what to run next."""
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
    """The next command."""
    return "saec run" if session.config_path == Path(DEFAULT_CONFIG) else session.command("run")


def _name(source: str, out: Path) -> str:
    """The pipeline's name: that of the settings file, else that of the source."""
    if out != Path(DEFAULT_CONFIG):
        return out.stem
    last = source.partition("?")[0].rstrip("/").rpartition("/")[2] or "saec"
    return re.sub(r"[^A-Za-z0-9_-]+", "_", last.partition(".")[0]).strip("_") or "saec"


def _check_zone(zone: str | None) -> None:
    """Refuse an unknown time zone."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        if zone:
            ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"--zone: there is no time zone {zone!r}; use a name such as Europe/Berlin or America/New_York"
        ) from None
