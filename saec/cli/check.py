"""`saec check`: checks the settings against a sample of hours."""

# ruff: noqa: PLC0415 - Arrow takes a moment to import, so command bodies import what they need
from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

import click

from saec.cli.session import DONE, HELD, USAGE, Session, example, shared_options

if TYPE_CHECKING:
    from saec.discover.check import Checked, Problem


@click.command(epilog=example("saec check --config configs/shop.yaml"))
@click.option(
    "--hours",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Number of hours to look at, spread evenly.",
)
@shared_options
def check(session: Session, hours: int) -> int:
    """Check the settings against a sample of hours and list all problems at once.

    Each problem comes with the line of YAML that fixes it. Nothing is run and nothing is written. Exit code 2 if every
    hour has a problem, because then the settings are at fault; 3 if only some hours have one.
    """
    from saec.discover.check import check_config

    checked = check_config(session.config, hours)
    code = exit_code(checked)
    session.answer(
        {
            "hours": [str(hour) for hour in checked.hours],
            "available": checked.available,
            "problems": [
                {**asdict(problem), "hours": [str(hour) for hour in problem.hours]} for problem in checked.problems
            ],
            "next": session.command("run") if code == DONE else None,
        }
    )
    _tell(session, checked)
    if code == DONE:
        session.say(f"next: {session.command('run')}", style="dim")
    return code


def exit_code(checked: Checked) -> int:
    """2 if every hour has a problem, 3 if only some have one."""
    if any(problem.everywhere for problem in checked.problems):
        return USAGE
    return HELD if checked.problems else DONE


def _tell(session: Session, checked: Checked) -> None:
    """Print problems by group, each with its fix."""
    looked = f"{len(checked.hours)} of {checked.available:,} hours"
    if not checked.problems:
        session.say(f"{looked} looked at: no problems")
        return
    session.say(f"{looked} looked at, {len(checked.problems)} problems:")
    for (everywhere, group), problems in groupby(checked.problems, key=lambda one: (one.everywhere, one.group)):
        session.say(f"{group}, {'in every hour' if everywhere else 'in some hours'}", style="bold")
        for problem in problems:
            session.say(f"  {problem.said}{_where(problem)}")
            session.say(f"    fix: {problem.mend}", style="green")


def _where(problem: Problem) -> str:
    """The hours of a problem, unless all have it."""
    if problem.everywhere or not problem.hours:
        return ""
    return f" ({problem.hours[0]}" + (f" and {len(problem.hours) - 1} more)" if problem.hours[1:] else ")")
