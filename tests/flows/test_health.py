"""The health check, with the server's answers made up; against a real server: test_standard_installation.py."""

import json
import urllib.error
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from flows import health
from flows.health import Server, Unhealthy, check, command

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
LATE = timedelta(minutes=5)


class MadeUp(Server):
    """A server that knows these deployments and whose runs are due at these minutes from now."""

    def __init__(self, *minutes: float, name: str = "shop", paused: bool = False, active: tuple[bool, ...] = (True,)):
        super().__init__("http://127.0.0.1:1/api")
        object.__setattr__(self, "due", [NOW + timedelta(minutes=minute) for minute in minutes])
        object.__setattr__(
            self,
            "deployed",
            [
                {
                    "id": "1",
                    "name": name,
                    "paused": paused,
                    "work_pool_name": "saec",
                    "schedules": [{"active": one} for one in active],
                }
            ]
            if name
            else [],
        )

    def found(self, what, **wanted):
        if what == "deployments":
            names = wanted["deployments"].get("name", {"any_": ["shop"]})["any_"]
            return [item for item in self.deployed if item["name"] in names]
        window = wanted["flow_runs"]["expected_start_time"]
        after = datetime.fromisoformat(window.get("after_", NOW.min.replace(tzinfo=UTC).isoformat()))
        before = datetime.fromisoformat(window.get("before_", NOW.max.replace(tzinfo=UTC).isoformat()))
        return [{"expected_start_time": due.isoformat()} for due in sorted(self.due) if after <= due <= before][:1]


@pytest.mark.parametrize("name", [None, "shop"])
def test_runs_ahead_and_none_waiting(name):
    """A schedule with runs ahead is healthy, also when one is due and has waited less than the bound."""
    assert list(check(MadeUp(-4, 35, 95), name, LATE, NOW)) == ["hourly/shop runs next at 2026-03-29T02:05:00+00:00"]


@pytest.mark.parametrize(
    ("server", "name", "said"),
    [
        (
            MadeUp(-6, 35),
            "shop",
            r"was due at 2026-03-29T01:24:00\+00:00 and nobody took it; look at the worker of saec",
        ),
        (MadeUp(), "shop", "no run ahead: the server's scheduler is not at work"),
        (MadeUp(-1), None, "no run ahead: the server's scheduler is not at work"),
        (MadeUp(35, active=(False,)), None, "no active schedule"),
        (MadeUp(35, active=()), "shop", "no active schedule"),
        (MadeUp(35, paused=True), "shop", "no active schedule"),
        (MadeUp(35), "news", "hourly/news is not deployed; run saec deploy"),
    ],
)
def test_what_is_unhealthy(server, name, said):
    """Nothing scheduled, a paused or lost schedule, a run that nobody takes, a pipeline that was never deployed."""
    with pytest.raises(Unhealthy, match=said):
        list(check(server, name, LATE, NOW))


def test_the_server_alone_is_not_asked_for_workers():
    """Without a name a run that waits is the worker's affair, and a server with no pipeline yet is healthy."""
    assert list(check(MadeUp(-600, 35), None, LATE, NOW))
    assert list(check(MadeUp(name=""), None, LATE, NOW)) == []


def test_the_command_says_it_in_one_line(monkeypatch):
    """Exit code 0 or 1 and one line; --config stands for the deployment that is named after it."""
    run = CliRunner().invoke
    monkeypatch.setattr(health, "Server", lambda url, auth: MadeUp(name=""))
    assert (run(command, []).exit_code, run(command, []).output) == (0, "healthy: no pipeline is deployed yet\n")
    refused = run(command, ["--config", "configs/shop.yaml"])
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert refused.output.startswith("unhealthy: hourly/shop is not deployed")


def test_a_server_that_is_not_there_or_refuses(monkeypatch):
    """No answer and a refused password are unhealthy, and the line says which."""
    with pytest.raises(Unhealthy, match="no Prefect server at"):
        Server("http://127.0.0.1:9/api").pipelines(None)

    def refuse(request, **_):
        assert request.headers["Authorization"] == "Basic YTpi"
        raise urllib.error.HTTPError(request.full_url, 401, "Unauthorized", None, None)

    monkeypatch.setattr(health.urllib.request, "urlopen", refuse)
    with pytest.raises(Unhealthy, match="401 Unauthorized; set PREFECT_API_AUTH_STRING"):
        Server("http://127.0.0.1:9/api", "a:b").pipelines(None)


def test_what_the_server_is_asked(monkeypatch):
    """Deployments by tag and name of flow, runs by deployment, state and time: the wire form that Prefect takes."""
    asked = []

    class Answer:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self):
            return b"[]"

    def note(request, **_):
        asked.append((request.full_url, json.loads(request.data)))
        return Answer()

    monkeypatch.setattr(health.urllib.request, "urlopen", note)
    server = Server("http://127.0.0.1:9/api")
    assert server.pipelines(None) == []
    assert server.scheduled({"id": "7"}, before=NOW) == []
    assert [url.rpartition("/api/")[2] for url, _ in asked] == ["deployments/filter", "flow_runs/filter"]
    assert asked[0][1]["flows"] == {"name": {"any_": ["hourly"]}}
    assert asked[1][1]["flow_runs"]["expected_start_time"] == {"before_": "2026-03-29T01:30:00+00:00"}
