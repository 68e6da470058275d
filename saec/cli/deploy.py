"""`saec deploy`: runs the pipeline under Prefect.

The library imports neither Prefect nor the flows, so this process is replaced by theirs. A signal then reaches them at
once, and no server outlives the command.
"""

from __future__ import annotations

import os
import sys

import click

from saec.cli.session import Session, example, shared_options

STDERR = 2
"""File descriptor for the flows' output if standard output is reserved for the JSON answer."""


@click.command(
    context_settings={"ignore_unknown_options": True}, epilog=example("saec deploy --config configs/globo.yaml")
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@shared_options
def deploy(session: Session, arguments: tuple[str, ...]) -> None:
    """Serve the hourly schedule and Prefect's UI until stopped.

    Further ARGUMENTS are passed to `python -m flows.deploy`: --cron "20 * * * *", --timezone, --name, --port,
    --ranks N, which trains every run in N processes, and --work-pool NAME, which registers the pipeline for the workers
    of that pool and exits.
    """
    _ = session.config  # reports problems with the settings at once
    command = [sys.executable, "-m", "flows.deploy", "--config", str(session.config_path), *arguments]
    session.answer({"command": command})
    sys.stdout.flush()
    if session.as_json:
        os.dup2(STDERR, sys.stdout.fileno())
    os.execv(command[0], command)  # noqa: S606 - this interpreter, no shell
