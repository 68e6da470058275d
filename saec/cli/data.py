"""`saec simulate` and `saec import`: make hourly files to run on."""

# ruff: noqa: PLC0415 - torch takes a second to import, so command bodies import what they need
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saec.cli.session import Session, example, shared_options
from saec.errors import ConfigError
from saec.hours import Hour

if TYPE_CHECKING:
    from collections.abc import Callable

    from saec.data.importers import Imported, Progress

FIRST_HOUR = "2026-01-01T00"


@click.command(epilog=example("saec simulate --hours 24 --rows-per-hour 50000"))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the hourly files; data.source when left out.")
@click.option("--hours", type=click.IntRange(min=1), default=6, show_default=True, help="Hours to simulate.")
@click.option(
    "--from",
    "first",
    type=Hour.parse,
    metavar="HOUR",
    default=FIRST_HOUR,
    show_default=True,
    help="The first hour (UTC).",
)
@click.option("--seed", type=int, show_default="1", help="Seed of all random draws, including the truth.")
@click.option("--rows-per-hour", type=int, show_default="20000", help="Mean rows per hour over a day.")
@click.option("--users", type=int, show_default="20000", help="Number of users alive at a time.")
@click.option("--items", type=int, show_default="2000", help="Number of items alive at a time.")
@click.option("--clusters", type=int, show_default="32", help="Planted clusters of each field.")
@click.option("--base-rate", type=float, show_default="0.2", help="Share of rows that are clicked.")
@click.option("--tail", type=float, show_default="1.0", help="Exponent of the power law of feature frequencies.")
@click.option("--new-share", type=float, show_default="0.05", help="Share of rows whose user (item) is born that hour.")
@click.option("--drift", type=float, show_default="0.2", help="Share of the clusters' effects that drifts over days.")
@shared_options
def simulate(session: Session, out: Path | None, hours: int, first: Hour, **dials: float | None) -> None:
    """Simulate hourly click data with a known truth.

    Clusters are planted, frequencies are heavy-tailed, effects drift and new features appear every hour. The true
    probabilities go to a folder `truth` beside the data. The same settings give the same bytes.
    """
    from saec.cli.progress import Bar
    from saec.data.simulate import Simulation, simulate_hours

    given: dict[str, Any] = {name: value for name, value in dials.items() if value is not None}
    folder = out or _data_folder(session)
    with Bar(session.notes, total=hours) as bar:
        done = simulate_hours(
            Simulation(**given),
            first,
            hours,
            folder,
            lambda hour: bar.show(hour.hour.index - first.index + 1, str(hour.hour)),
        )
    rows, clicks = sum(hour.rows for hour in done), sum(hour.clicks for hour in done)
    session.answer({"out": str(folder), "rows": rows, "clicks": clicks, "hours": [vars(hour) for hour in done]})
    session.say(f"{hours} hours from {first} in {folder}: {rows:,} rows, {clicks:,} clicks")
    session.say(f"next: {session.command('run')}", style="dim")


@click.group("import")
def import_group() -> None:
    """Import a public click log: avazu or criteo.

    Neither log has event times finer than an hour, so rows are spread evenly in file order; the files record this.
    """


_replace = click.option("--replace", is_flag=True, help="Replace hourly files that are already in OUT.")


@import_group.command(epilog=example("saec import avazu train.gz workspace/avazu/data --config configs/avazu.yaml"))
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@_replace
@shared_options
def avazu(session: Session, src: Path, out: Path, *, replace: bool) -> None:
    """Import the Avazu contest's training file SRC (CSV, gzipped CSV or Parquet) into hourly files in OUT."""
    from saec.cli.progress import Bar
    from saec.data.importers import import_avazu

    with Bar(session.notes, unit="rows") as bar:
        imported = import_avazu(src, out, replace=replace, on_progress=_shown(bar.show))
    _tell_import(session, imported, out)


@import_group.command(
    epilog=example("saec import criteo train.txt workspace/criteo/data --start 2014-01-01T00 --hours 168")
)
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--start", type=Hour.parse, metavar="HOUR", required=True, help="The first hour (UTC).")
@click.option("--hours", type=click.IntRange(min=1), required=True, help="Hours to spread the rows over.")
@_replace
@shared_options
def criteo(session: Session, src: Path, out: Path, start: Hour, hours: int, *, replace: bool) -> None:
    """Import a Criteo file SRC (tab-separated text, gzipped or not, or Parquet) into hourly files in OUT."""
    from saec.cli.progress import Bar
    from saec.data.importers import import_criteo

    with Bar(session.notes, unit="rows") as bar:
        imported = import_criteo(src, out, start, hours, replace=replace, on_progress=_shown(bar.show))
    _tell_import(session, imported, out)


def _data_folder(session: Session) -> Path:
    """The configured source, as a folder to write to."""
    source = session.config.data.source
    if "://" in source:
        raise ConfigError("data.source is a URL; name a local folder with --out")
    return Path(source)


def _shown(show: Callable[[float, str], None]) -> Progress:
    """Progress of an import, on a bar."""
    return lambda what, rows: show(rows, what)


def _tell_import(session: Session, imported: Imported, out: Path) -> None:
    """Answer of both imports."""
    session.answer({"out": str(out), **vars(imported)})
    session.say(f"{imported.hours:,} hours, {imported.first} to {imported.last}, in {out}: {imported.rows:,} rows")
