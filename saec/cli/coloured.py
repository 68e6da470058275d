"""Colours the help: headings, options and commands, if the output is a terminal.

Decisions: click's own formatter, with a style for three kinds of text, is enough, so no further package is needed.
click drops colours if the output is not a terminal; `NO_COLOR` drops them everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import click


class _Formatter(click.HelpFormatter):
    """Click's formatter, in colour."""

    def write_heading(self, heading: str) -> None:
        """A section's name, bold."""
        super().write_heading(_styled(heading, bold=True))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The first line, its word bold."""
        super().write_usage(prog, args, _styled(prefix or "Usage:", bold=True) + " ")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Options or commands in cyan, with what they do."""
        super().write_dl([(_styled(name, fg="cyan"), said) for name, said in rows], col_max, col_spacing)


class Coloured(click.Context):
    """A context whose help is in colour."""

    formatter_class = _Formatter


def coloured(command: click.Command) -> click.Command:
    """The command, its help and that of the commands below it in colour."""
    command.context_class = Coloured
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        coloured(below)
    return command


def _styled(text: str, **style: Any) -> str:
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)
