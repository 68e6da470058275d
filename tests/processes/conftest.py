"""Real processes: a Prefect server, workers, and hours of data that arrive one after another.

Decisions: an hour is due once its data is there, so a tick of the schedule takes seconds and not an hour. Every process
leads a group of its own, which is killed in the end; what it says is shown with the test that fails.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.settings import HOST, SETTINGS
from saec.hours import Hour
from saec.ledger import HourRow, Ledger

HOURS = 12
TICK = 8
"""Seconds between scheduled runs where a flow run's process starts in less than half of that; else twice its start."""
SECONDS = 600
"""So long is waited for anything: on a machine with much else to do all of this takes its time."""
HERE, ROOT = Path(__file__).parent, Path(__file__).parent.parent.parent

# As with an hourly schedule, only three runs are created ahead; so the ticks of an outage of the server never were.
SCHEDULER = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS": "3",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT1S",
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
}


def until(found: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """What is found in the end; anything false is not found yet."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        try:
            if value := found():
                sys.stdout.write(f"test: {what}, after {time.monotonic() - began:.1f} s\n")
                return value
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {seconds} s")


def start(*command: str, **environment: str) -> subprocess.Popen:
    """A process that leads a group of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = {"PYTHONPATH": f"{ROOT}:{HERE}"}
    return subprocess.Popen(
        command, cwd=ROOT, env=kept | SETTINGS | SCHEDULER | path | environment, start_new_session=True
    )


def kill(process: subprocess.Popen) -> None:
    """End a process and all that it started with kill -9."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def every(seconds: float) -> dict:
    """A schedule, as Prefect writes it."""
    return {"interval": seconds, "anchor_date": "2026-01-01T00:00:00Z"}


class Server:
    """A Prefect server, which may be killed and started again."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as listener:
            listener.bind((HOST, 0))
            self.port = listener.getsockname()[1]
        self.environment = {"PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://{HOST}:{self.port}/api"}
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(self.port)]
        self.process = start(*command, **self.environment)
        until(lambda: self.process.poll() is not None or self.ask("GET", "/ready"), "the server answers")

    def up(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it with kill -9."""
        if self.process:
            kill(self.process)

    def ask(self, method: str, path: str, body: dict | None = None) -> Any:
        """What the API answers; while its SQLite database is busy (503) it is asked again, as Prefect's client does."""
        request = urllib.request.Request(
            self.environment["PREFECT_API_URL"] + path,
            json.dumps(body).encode() if body else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        until_busy = time.monotonic() + SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as refused:
                if refused.code != 503 or time.monotonic() > until_busy:
                    raise
                time.sleep(0.5)


class Drill:
    """A pipeline whose hours arrive one by one, and the processes that work on it."""

    def __init__(self, whole: Any, folder: Path, server: Server, seconds: float) -> None:
        self.whole, self.server, self.folder, self.seconds = whole, server, folder, seconds
        self.site = type(whole)(folder)
        self.settings, self.cron_log = folder / "settings.yaml", folder / "cron.log"
        self.settings.write_text(yaml.safe_dump(self.site.config().model_dump(mode="json")))
        self.ledger = Ledger(self.site.config().ledger_url)
        self._coming = iter(whole.hours)
        self._processes: list[subprocess.Popen] = []

    def arrive(self, hours: int = 1) -> Hour:
        """The data of the next hours is there; returns the last of them."""
        for _ in range(hours):
            self.last = next(self._coming)
            self.site.file(self.last).parent.mkdir(parents=True)
            os.link(self.whole.file(self.last), self.site.file(self.last))
        return self.last

    def begin(self, hours: int) -> None:
        """The first hours come and are done, before any process is started."""
        self.site.advance(self.arrive(hours))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """A process of this interpreter, to be killed in the end."""
        self._processes.append(start(sys.executable, *arguments, **environment))
        return self._processes[-1]

    def worker(self, seconds: float | None = None, **conditions: str) -> subprocess.Popen:
        """A worker that serves the hourly flow every so many seconds, or as often as this machine can."""
        schedule = json.dumps(every(seconds or self.seconds))
        drill = {"DRILL_NAME": self.folder.name, "DRILL_SCHEDULE": schedule} | conditions
        return self.start(str(HERE / "drill.py"), str(self.settings), **self.server.environment, **drill)

    def tick(self, seconds: float) -> None:
        """Change the schedule, so that an outage of ten ticks takes less of a test's time."""
        deployment = self.server.ask("GET", f"/deployments/name/hourly/{self.folder.name}")
        path, change = f"/deployments/{deployment['id']}", {"schedules": [{"schedule": every(seconds)}]}
        until(lambda: self.server.ask("PATCH", path, change) is None, "the schedule is changed")

    def cron(self) -> subprocess.Popen:
        """What plain cron does: the command again and again."""
        command = f"{sys.executable} -m saec.cli.main run --config {self.settings} >> {self.cron_log} 2>&1"
        self._processes.append(start("bash", "-c", f"while true; do {command}; sleep 1; done"))
        return self._processes[-1]

    def wait_at(self, step: str | None) -> None:
        """Hours come to this step and no further; with None they go on."""
        path = self.folder / "wait-at"
        path.write_text(step or "")

    def go_on(self, hours: int) -> None:
        """Hours come, no step is waited at any more, and in the end all are done."""
        self.arrive(hours)
        self.wait_at(None)
        until(self.done, "all hours are done")

    def reached(self, hour: Hour, step: str) -> HourRow | None:
        """The hour's row, if a run is at this step of it."""
        row = self.ledger.get(hour)
        return row if row and (row.state, row.stage) == ("RUNNING", step) else None

    def at_work(self) -> int:
        """The process that holds the lease; 0 when it is free."""
        holder = self.ledger.holder()
        return int(holder.owner.rpartition(" ")[2]) if holder else 0

    def done(self) -> bool:
        """Whether every hour that has come is done, and the run that did it has ended."""
        row = self.ledger.get(self.last)
        return row is not None and row.state != "RUNNING" and self.ledger.holder() is None

    def check(self, *again: Hour) -> None:
        """Every hour was done once, in order, one at a time, with the bytes of a pipeline that nothing disturbed.

        Args:
            *again: hours whose first attempt was killed, so that they were begun twice.
        """
        rows, expected = self.ledger.rows(), [row for row in self.whole.rows() if row.hour <= self.last]
        assert [(row.hour, row.state, row.version) for row in rows] == [
            (row.hour, row.state, row.version) for row in expected
        ]
        assert [row.attempts for row in rows] == [2 if row.hour in again else 1 for row in rows]
        assert all(row.finished_at <= later.started_at for row, later in pairwise(rows)), "one at a time"
        published = [row.version for row in expected if row.state == "PUBLISHED"]
        releases = [release for release in self.site.store.releases() if release.action == "publish"]
        assert [release.version for release in releases] == published
        assert self.site.live == rows[-1].version
        for below in ("workspace/store/versions", "workspace/checkpoints"):
            undisturbed = self.whole.digests(below).items()
            assert self.site.digests(below) == {
                name: sha for name, sha in undisturbed if name[: len("20171001T03")] <= self.last.compact
            }

    def runs(self) -> list[dict]:
        """Every run of the schedule, by the time it was for."""
        query = {"deployments": {"name": {"any_": [self.folder.name]}}, "limit": 200}
        return sorted(self.server.ask("POST", "/flow_runs/filter", query), key=lambda run: run["expected_start_time"])

    def overdue(self) -> int:
        """How many runs should have started and have not; after 15 seconds Prefect calls them Late."""
        now = datetime.now(UTC)
        return sum(
            run["state_type"] == "SCHEDULED" and datetime.fromisoformat(run["expected_start_time"]) < now
            for run in self.runs()
        )

    def states(self) -> Counter[str]:
        """How many runs of the schedule are in each state, by the state's name."""
        return Counter(run["state_name"] for run in self.runs())

    def end(self) -> None:
        """Kill what was started, and take the schedule from the server."""
        for process in self._processes:
            kill(process)
        self.ledger.close()
        if self.server.up():
            for deployment in {run["deployment_id"] for run in self.runs()}:
                self.server.ask("DELETE", f"/deployments/{deployment}")


def did_hours(run: dict) -> bool:
    """Whether a flow run has ended after it did hours, rather than found none or another run at work."""
    return run["state_type"] == "COMPLETED" and "published" in run["state"]["message"]


@pytest.fixture(scope="session")
def whole(simulated, tmp_path_factory) -> Any:
    """Twelve hours, done without any fault; not to be changed."""
    site = type(simulated)(tmp_path_factory.mktemp("whole"))
    site.simulate(HOURS)
    site.advance(site.hours[-1])
    return site


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server for the session; started when it is first asked for."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def tick() -> float:
    """Seconds between scheduled runs: were they quicker than this machine starts one, they would pile up for good."""
    began = time.monotonic()
    start(sys.executable, "-c", "import flows.hourly").wait()
    return max(TICK, 2 * (time.monotonic() - began))


@pytest.fixture
def drill(whole, server, tick, tmp_path) -> Iterator[Drill]:
    """A pipeline without any data yet, and no process."""
    drill = Drill(whole, tmp_path, server, tick)
    yield drill
    drill.end()


@pytest.fixture
def scheduled(drill, server) -> Drill:
    """The same, with a server that is up."""
    if not server.up():
        server.start()
    return drill
