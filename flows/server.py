"""Provides a Prefect server for as long as a command needs one.

Decisions: an existing server is used, because a second one would have its own schedule. A server started here listens
only on the loopback address and ends with the command.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import click
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL

from flows.settings import HOST

PORT = 4200
START_SECONDS, STOP_SECONDS = 120.0, 20.0


@contextmanager
def server(port: int = PORT, *, start: bool = True) -> Iterator[str]:
    """The URL of a server's API: the one that is set or answers already, else one that runs until the end.

    Raises:
        click.ClickException: when there is none and none may be started, or it ends or does not answer in time.
    """
    url = PREFECT_API_URL.value() or f"http://{HOST}:{port}/api"
    if PREFECT_API_URL.value() or _answers(url):
        yield url
        return
    if not start:
        raise click.ClickException(
            f"no Prefect server answers at {url}, and a work pool needs one that stays; "
            "start it (prefect server start) or name another in PREFECT_API_URL"
        )
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
    return {
        "PREFECT_SERVER_UI_API_URL": url,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": url.removesuffix("/api"),
        **os.environ,
    }


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
    """Stop the server once Prefect's pending messages are sent; else this process would retry for over a minute."""
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
