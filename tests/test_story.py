"""The whole story: clicks are simulated, the hourly flow publishes, a server answers, labels come, the report knows.

The data is of a day long past, so the server's clock is set to it, and the flow is told what hour it is.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from prefect.client.orchestration import get_client

from flows.hourly import hourly
from flows.pages import page_key
from saec.cli.main import cli
from saec.gate.metrics import auc, logloss
from saec.hours import Hour

AT_THEN = """
import time
real, begun = time.time, time.time()
time.time = lambda: {start} + real() - begun
from saec.cli.main import main
main()
"""
"""The command `saec`, by another clock."""
FEATURES = ("user_id", "item_id", "item_tags", "site_domain", "device", "price")
UNSERVED = 50


class Server:
    """`saec serve` as a process of its own, whose clock stands at half past an hour."""

    def __init__(self, settings: Path, folder: Path, hour: Hour) -> None:
        log = folder / "server.log"
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    AT_THEN.format(start=hour.start.timestamp() + 1800),
                    "serve",
                    "--config",
                    str(settings),
                    "--port",
                    "0",
                    "--cache",
                    str(folder / "cache"),
                ],
                stdout=file,
                stderr=file,
                start_new_session=True,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
            )
        self.address = until(lambda: re.search(r"serving on (\S+)", log.read_text()))[1]
        until(self.version)

    def ask(self, path: str, body: Any = None) -> Any:
        """An answer, as JSON."""
        data, json_type = body and json.dumps(body).encode(), {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.address + path, data, json_type), timeout=10) as answer:
            return json.load(answer)

    def version(self) -> str | None:
        """The version that answers."""
        with contextlib.suppress(urllib.error.HTTPError):
            return self.ask("/v1/model")["version"]
        return None

    def score(self, rows: list[dict]) -> list[float]:
        """Scores over HTTP: all but the last hundred as plain rows, those as one user's candidates each."""
        scores: list[float] = []
        for start in range(0, len(rows) - 100, 100):
            part = rows[start : min(start + 100, len(rows) - 100)]
            scores += self.ask("/v1/score", {"rows": part})["scores"]
        for row in rows[-100:]:
            user = {name: row[name] for name in ("user_id", "device")}
            candidate = {name: value for name, value in row.items() if name not in user}
            scores += self.ask("/v1/score", {"user": user, "candidates": [candidate]})["scores"]
        return scores

    def stop(self) -> None:
        """Tell it to stop, as systemd or Docker would."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def until(found: Callable[[], Any], seconds: float = 20) -> Any:
    """What is found in the end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.05)
    raise TimeoutError(found)


@pytest.fixture
def settings(site) -> Path:
    """The pipeline's settings, which say where the server logs scored rows."""
    config = site.config(serving={"log": site.folder / "scored"})
    path = site.folder / "shop.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


@pytest.fixture
def serve(settings) -> Iterator[Callable[[Hour], Server]]:
    """Starts the server, and stops it at the end."""
    with contextlib.ExitStack() as stack:

        def start(hour: Hour) -> Server:
            server = Server(settings, settings.parent, hour)
            stack.callback(server.stop)
            return server

        yield start


@pytest.mark.server
@pytest.mark.usefixtures("prefect_server")
def test_what_was_served_is_in_the_next_hours_report(site, settings, serve, monkeypatch):
    """From clicks to a version, to answers over HTTP, to the next version and a report of what they were worth."""
    hour = site.hours[-1]
    arrived, later = site.file(hour), site.folder / "later.parquet"
    arrived.rename(later)  # what is clicked in the hour is not known yet
    monkeypatch.setattr(Hour, "now", lambda _lag=None: hour)
    assert hourly(config=settings, return_state=True).name == "PUBLISHED"
    first = site.live
    assert first is not None
    assert first.startswith((hour - 1).compact)

    server = serve(hour)
    assert server.version() == first
    shown = pq.read_table(later, partitioning=None)
    rows = [{name: row[name] for name in ("impression_id", *FEATURES)} for row in shown.to_pylist()[:-UNSERVED]]
    scores = np.array(server.score(rows))
    log = site.folder / "scored"
    until(lambda: sum(path.read_bytes().count(b"\n") for path in log.iterdir()) == len(rows))
    assert {path.name.partition(".")[0] for path in log.iterdir()} == {hour.compact}

    later.rename(arrived)
    monkeypatch.setattr(Hour, "now", lambda _lag=None: hour + 1)
    assert hourly(config=settings, return_state=True).name == "PUBLISHED"
    second = site.live
    assert second != first
    until(lambda: server.version() == second, seconds=2)
    assert server.ask("/v1/score", {"rows": rows[:1]})["version"] == second

    told = CliRunner().invoke(cli, ["report", "--config", str(settings), "--from", str(hour), "--json"])
    (known,) = json.loads(told.stdout)
    labels = shown["clicked"].to_numpy()[:-UNSERVED].astype(np.uint8)
    assert known["served_rows"] == len(rows)
    assert known["served_coverage"] == pytest.approx(len(rows) / len(shown))
    assert known["served_auc"] == auc(labels, scores)
    assert known["served_logloss"] == pytest.approx(logloss(labels, scores), abs=1e-12)
    assert list(known["served_versions"]) == [first]
    assert known["served_log"]["unreadable"] == known["served_log"]["unknown_versions"] == 0
    assert known["auc_served"] == pytest.approx(known["served_auc"], abs=0.02)
    with get_client(sync_client=True) as client:
        pages = client.request("POST", "/artifacts/filter", json={"limit": 200}).json()
    key = page_key(site.config(), hour)
    assert any(f"Logged: {len(rows):,} rows" in page["data"] for page in pages if page["key"] == key)
