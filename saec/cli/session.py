"""Gives all commands what they share: options, output, JSON answer and exit codes.

Decisions: a command is a function that returns its exit code (None is 0). With --json, standard output has exactly one
JSON value and text for people goes to standard error. Progress and remarks always go to standard error. Text from
outside (messages, file names) is printed as text, never as markup. Command bodies import heavy modules themselves.
"""

# ruff: noqa: PLC0415 - torch takes a second to import, so command bodies import what they need
from __future__ import annotations

import functools
import getpass
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from saec.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saec.config import Config
    from saec.ledger import Ledger
    from saec.store.model_store import ModelStore

DONE, FAILED, USAGE, HELD, STOPPED = 0, 1, 2, 3, 130
"""Exit codes: done; failed; wrong usage or settings; held or quarantined; stopped by Ctrl-C."""
DEFAULT_CONFIG = "saec.yaml"
"""Settings that `saec init` writes and every command reads by default, if they exist; otherwise `_EXAMPLE`."""
_EXAMPLE = "configs/quickstart.yaml"


class Session:
    """One running command: its settings and where it prints."""

    def __init__(self, config_path: Path, *, as_json: bool) -> None:
        """Make a session; the settings are read when first needed."""
        self.config_path = config_path
        self.as_json = as_json
        self.screen = Console(stderr=as_json, highlight=False)
        self.notes = Console(stderr=True, highlight=False)

    @functools.cached_property
    def config(self) -> Config:
        """All settings."""
        from saec.settings_file import load_config

        return load_config(self.config_path)

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The configured ledger; before the first run an empty one in memory, because reading must create nothing."""
        from saec.ledger import Ledger, is_there

        return Ledger(self.config.ledger_url if is_there(self.config.ledger_url) else "sqlite://")

    @functools.cached_property
    def store(self) -> ModelStore:
        """The configured model store."""
        from saec.store.model_store import open_store

        return open_store(self.config.store_url)

    def live(self) -> str:
        """The live version.

        Raises:
            StoreError: reason "no-version", when nothing was published yet.
        """
        live = self.store.live()
        if live is None or live.version is None:
            raise StoreError(f"no version is live yet; publish one with {self.command('run')}", reason="no-version")
        return live.version

    def say(self, text: str, style: str = "") -> None:
        """Print text for people, without wrapping lines."""
        self.screen.print(Text(printable(text), style=style), soft_wrap=True)

    def command(self, words: str) -> str:
        """A command for the user to run, with this session's configuration."""
        return f"saec {words} --config {self.config_path}"

    def answer(self, value: Any) -> None:
        """Print the JSON answer if --json was given; hours are written as text."""
        if self.as_json:
            click.echo(json.dumps(value, indent=2, default=str))


def printable(text: str) -> str:
    r"""The text without control characters, so that every line prints as it is.

    >>> printable("two\nlines\x1b[31m")
    'two\nlines�[31m'
    """
    return "\n".join("".join(letter if letter.isprintable() else "�" for letter in line) for line in text.split("\n"))


def example(line: str) -> str:
    r"""The last line of a command's help, marked (\b) so that click does not wrap it."""
    return f"\b\nExample: {line}"


def default_config() -> Path:
    """The settings file to use if none is named."""
    return Path(DEFAULT_CONFIG if Path(DEFAULT_CONFIG).exists() else _EXAMPLE)


def whoami() -> str:
    """The current user, for release logs and leases; by number in a container without user names."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def shared_options(body: Callable[..., int | None]) -> Callable[..., int]:
    """Give a command the common options, and the session as first argument."""

    @click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=default_config,
        envvar="SAEC_CONFIG",
        show_default=f"{DEFAULT_CONFIG} if it is here, else {_EXAMPLE}",
        show_envvar=True,
        help="Settings of the pipeline.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON on standard output, errors too.")
    @click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
    @functools.wraps(body)
    def run(config_path: Path, *, as_json: bool, debug: bool, **given: Any) -> int:  # noqa: ARG001 - SaecGroup sees it
        return body(Session(config_path, as_json=as_json), **given) or DONE

    return run
