"""`saec deploy`: hand the pipeline to Prefect.

The library imports neither Prefect nor the flows, so this process becomes theirs: a signal then reaches them at once,
and no server outlives the command.
"""

from __future__ import annotations

import os
import sys

import click

from saec.cli.session import Session, example, shared_options

STDERR = 2
"""The descriptor that the flows' output goes to where standard output is for the answer."""


@click.command(
    context_settings={"ignore_unknown_options": True}, epilog=example("saec deploy --config configs/globo.yaml")
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@shared_options
def deploy(session: Session, arguments: tuple[str, ...]) -> None:
    """Serve the hourly schedule and Prefect's UI, until stopped.

    Further ARGUMENTS go to `python -m flows.deploy` as they are: --cron "20 * * * *", --timezone, --name, --port, and
    --work-pool NAME, which registers the pipeline there for workers and ends.
    """
    _ = session.config  # what is wrong with the settings is said here, at once
    command = [sys.executable, "-m", "flows.deploy", "--config", str(session.config_path), *arguments]
    session.answer({"command": command})
    sys.stdout.flush()
    if session.as_json:
        os.dup2(STDERR, sys.stdout.fileno())
    os.execv(command[0], command)  # noqa: S606 - this interpreter, no shell
