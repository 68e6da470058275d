"""One machine's installation, started as a user starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from flows.deploy import deployments

SECONDS = 100


@pytest.fixture
def port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(found: Callable[[], Any]) -> Any:
    """What is found in the end."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if (value := found()) is not None:
                return value
        except OSError:
            pass
        time.sleep(0.25)
    raise TimeoutError


def test_deployments_without_a_server(tmp_path):
    """`hourly` runs five past each UTC hour, `backfill` by hand; both are told where the settings are."""
    hourly, backfill = deployments(tmp_path / "settings.yaml")
    assert (hourly.entrypoint, backfill.entrypoint) == ("flows.hourly.hourly", "flows.backfill.backfill")
    (schedule,) = hourly.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("5 * * * *", "UTC")
    assert not backfill.schedules
    assert hourly.parameters == backfill.parameters == {"config": str(tmp_path / "settings.yaml")}


@pytest.mark.server
@pytest.mark.timeout(300)
def test_a_scheduled_pipeline_on_one_machine(root, site, settings_file, port, tmp_path):
    """One command serves both flows beside a server on loopback; a run made by API completes; SIGTERM ends it all."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.deploy", "--config", str(settings_file), "--port", str(port)],
        cwd=root, env=environment | {"PREFECT_HOME": str(tmp_path / "prefect")},
    )

    def ask(path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{port}/api{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=10))

    def both():
        found = {item["entrypoint"]: item for item in ask("/deployments/filter", {})}
        return found if len(found) == 2 else None

    try:
        served = until(both)
        hourly = served["flows.hourly.hourly"]
        assert [item["schedule"]["cron"] for item in hourly["schedules"]] == ["5 * * * *"]
        assert served["flows.backfill.backfill"]["schedules"] == []
        scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        planned = until(lambda: ask("/flow_runs/filter", scheduled) or None)
        assert {run["deployment_id"] for run in planned} == {hourly["id"]}, "the scheduler creates runs"
        run = ask(f"/deployments/{hourly['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})
        ended = until(lambda: next((found for found in [ask(f"/flow_runs/{run['id']}")]
                                    if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED")), None))
        assert (ended["state_type"], ended["state_name"]) == ("COMPLETED", "PUBLISHED"), ended["state"]["message"]
        assert [row.state for row in site.rows()[5:]] == ["PUBLISHED", "PUBLISHED"]
        assert not (tmp_path / "prefect" / "storage").exists(), "no result was kept"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    with pytest.raises(OSError, match="refused"):
        ask("/health")
