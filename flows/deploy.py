"""One machine's installation: a Prefect server with its UI, and a process that runs both flows.

    python -m flows.deploy --config configs/quickstart.yaml      # then http://127.0.0.1:4200

Decisions: a server that PREFECT_API_URL names, or that already answers on the port, is used; else one is started, on
this machine's loopback address alone, and ended with this command. Hourly runs are scheduled in UTC, where no hour is
skipped or doubled, five minutes past each hour. Nothing limits concurrent runs but the ledger's lease: a run that finds
another at work ends HELD at once, whereas Prefect's slots stay taken for minutes after a worker died. The schedule
stays active when this command ends: what is missed is done by the next run.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType

from flows.backfill import backfill
from flows.commands import config_option, settled
from flows.hourly import hourly
from flows.settings import HOST

SCHEDULE = "5 * * * *"
NAME = "saec"
PORT = 4200
START_SECONDS, STOP_SECONDS = 120.0, 20.0
RUNS_AT_ONCE = 3
"""Most runs that are started at once: one works and the others end HELD, but each is a process that imports torch, and
after an outage of a night the late runs would else all start in the same second."""


def deployments(config: Path) -> list[RunnerDeployment]:
    """Both flows as the server will know them: `hourly/saec` on its schedule, `backfill/saec` by hand."""
    schedule = Cron(SCHEDULE, timezone="UTC")
    common: dict[str, Any] = {
        "parameters": {"config": str(config.absolute())},
        "tags": ["saec"],
        "entrypoint_type": EntrypointType.MODULE_PATH,
    }
    return [
        RunnerDeployment.from_flow(hourly, NAME, schedule=schedule, **common),
        RunnerDeployment.from_flow(backfill, NAME, **common),
    ]


@contextmanager
def server(port: int = PORT) -> Iterator[str]:
    """The URL of a server's API: the one that is set or answers already, else one that runs until the end.

    Raises:
        click.ClickException: when the server ends or does not answer in time.
    """
    url = PREFECT_API_URL.value() or f"http://{HOST}:{port}/api"
    if PREFECT_API_URL.value() or _answers(url):
        yield url
        return
    arguments = ["server", "start", "--host", HOST, "--port", str(port)]
    process = subprocess.Popen(  # noqa: S603 - this interpreter's own Prefect
        [sys.executable, "-m", "prefect", *arguments], env=_server_environment(url), start_new_session=True
    )
    try:
        _wait(process, url)
        yield url
    finally:
        _stop(process)


def _server_environment(url: str) -> dict[str, str]:
    """The server's settings: the UI must be told its API's address, or it stays blank on any port but 4200."""
    return {"PREFECT_SERVER_UI_API_URL": url, "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": url.removesuffix("/api"),
            **os.environ}


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while not _answers(url):
        if process.poll() is not None:
            raise click.ClickException(f"the Prefect server ended with status {process.returncode}, see above")
        if time.monotonic() > deadline:
            raise click.ClickException(f"the Prefect server does not answer at {url} after {START_SECONDS:.0f} s")
        time.sleep(0.25)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server, after what Prefect still has to tell it: else this process would try for over a minute to."""
    if process.poll() is None:
        EventsWorker.drain_all(timeout=STOP_SECONDS)
        APILogWorker.drain_all(timeout=STOP_SECONDS)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    """Whether a server is ready, its database included."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@click.command()
@config_option
@click.option("--port", default=PORT, show_default=True, help="Port of the server that is started, on 127.0.0.1.")
def command(config: Path, port: int) -> None:
    """Serve the hourly and the backfill flow, with a server and its UI, until interrupted."""
    settled(config)
    with server(port) as url, temporary_settings({PREFECT_API_URL: url}):
        click.echo(f"Prefect UI: {url.removesuffix('/api')}")
        serve(*deployments(config), pause_on_shutdown=False, limit=RUNS_AT_ONCE)


if __name__ == "__main__":
    command()
