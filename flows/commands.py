"""Shared by the flows' commands: the option for the configuration, and how a command ends.

Decisions: exit codes are those of `saec`: 0 done, 1 failed, 2 usage, 3 held or quarantined. The table at the end is
read from the ledger, the same as `saec report` prints.
"""

import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from prefect.client.schemas.objects import State
from prefect.settings import get_current_settings
from rich.console import Console

from saec.config import Config
from saec.errors import ConfigError
from saec.hours import Hour
from saec.ledger import Ledger, report_record
from saec.report.terminal import hours_table
from saec.settings_file import load_config

LAST_HOURS = 24
REFUSED = "REFUSED"
"""The state of a run that did nothing because the request was wrong."""

config_option = click.option(
    "--config", required=True, type=click.Path(path_type=Path), help="YAML file with the pipeline's settings."
)


def settled(path: Path) -> Config:
    """Read the configuration before Prefect is involved, and make the folder for Prefect's database."""
    try:
        config = load_config(path)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    get_current_settings().home.mkdir(parents=True, exist_ok=True)
    return config


def end(state: State[Any], config: Config, first: Hour | None = None, last: Hour | None = None) -> NoReturn:
    """Print the hours of a range (by default the last day's) and how the run ended, and leave with its exit code."""
    rows = Ledger(config.ledger_url).rows(first, last)
    console = Console()
    console.print(hours_table([report_record(row) for row in (rows if first else rows[-LAST_HOURS:])], console.width))
    console.print(f"{state.name}: {state.message}", markup=False, highlight=False)
    sys.exit(exit_code(state))


def exit_code(state: State[Any]) -> int:
    """0 done, 1 failed, 2 wrongly asked for, 3 held or quarantined."""
    if not state.is_completed():
        return 1
    if state.name == REFUSED:
        return 2
    return 3 if state.name in ("HELD", "QUARANTINED") else 0
