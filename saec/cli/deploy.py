"""`saec deploy`: hand the pipeline to Prefect.

The library imports neither Prefect nor the flows, so they run as a process of their own.
"""

from __future__ import annotations

import subprocess
import sys

import click

from saec.cli.session import DONE, FAILED, Session, example, shared_options

STDERR = 2
"""The descriptor that the flows' output goes to where standard output is for the answer."""


@click.command(context_settings={"ignore_unknown_options": True},
               epilog=example("saec deploy --config configs/globo.yaml"))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@shared_options
def deploy(session: Session, arguments: tuple[str, ...]) -> int:
    """Serve the hourly schedule and Prefect's UI, until stopped.

    Further ARGUMENTS go to `python -m flows.deploy` as they are.
    """
    _ = session.config  # what is wrong with the settings is said here, at once
    command = [sys.executable, "-m", "flows.deploy", "--config", str(session.config_path), *arguments]
    ended = subprocess.run(command, check=False, stdout=STDERR if session.as_json else None)  # noqa: S603
    session.answer({"command": command, "exit": ended.returncode})
    return DONE if ended.returncode == 0 else FAILED
