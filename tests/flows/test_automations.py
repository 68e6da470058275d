"""The Prefect automations of a pipeline."""

import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.automations import Automation, ChangeFlowRunState, DoNothing, Posture, SendNotification
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import events
from flows.automations import automations, install_automations
from flows.deploy import server
from flows.events import tell_hour
from saec.errors import ConfigError
from saec.ledger import HourRow


@pytest.fixture(autouse=True)
def own_id(monkeypatch):
    """Every pipeline's id, so that no ledger is made."""
    monkeypatch.setattr(events, "_id", lambda _url: "1a2b3c4d")


NAMES = {
    "saec: a run without a sign of life",
    "saec workspace-1a2b3c4d: what it stands on is gone",
    "saec workspace-1a2b3c4d: no hour finished",
    "saec workspace-1a2b3c4d: an hour FAILED",
    "saec workspace-1a2b3c4d: nothing published for hours",
    "saec workspace-1a2b3c4d: the live model is old",
    "saec workspace-1a2b3c4d: what is live is shown worse",
    "saec workspace-1a2b3c4d: the disk is nearly full",
}


def named(config, notification: Any = None) -> dict[str, Any]:
    """The automations by the last words of their names."""
    return {wanted.name.partition(": ")[2]: wanted for wanted in automations(config, notification)}


def test_thresholds_are_the_settings(simulated):
    """The clocks run as long as `alarms` says, from the last event that they wait for or from the deployment."""
    found = named(simulated.config(alarms={"hours": 3}))
    quiet, old = found["no hour finished"].trigger, found["the live model is old"].trigger
    assert (quiet.within, quiet.expect) == (timedelta(minutes=75), {"saec.hour.*"})
    assert (old.within, old.expect) == (timedelta(hours=6), {"saec.hour.published"})
    for trigger in (quiet, old):
        assert trigger.posture == Posture.Proactive
        assert trigger.after == trigger.expect | {"saec.pipeline.deployed"}


def test_without_a_block_nobody_is_notified(simulated):
    """The default only shows; a zombie is crashed in any case."""
    found = named(simulated.config())
    assert {
        type(action) for name, wanted in found.items() if "sign of life" not in name for action in wanted.actions
    } == {DoNothing}
    assert [type(action) for action in found["a run without a sign of life"].actions] == [ChangeFlowRunState]


def test_with_a_block_every_automation_notifies(simulated):
    """The message says what happened and what to look at."""
    block = uuid4()
    for wanted in automations(simulated.config(), block):
        assert isinstance(notice := wanted.actions[-1], SendNotification)
        assert notice.block_document_id == block
        assert wanted.description in notice.body


def test_a_run_that_ends_under_any_name_is_no_zombie(simulated):
    """Runs end in states called PUBLISHED or HELD, and Prefect names the event after the state."""
    assert named(simulated.config())["a run without a sign of life"].trigger.expect == {"prefect.flow-run.*"}


def fired(name: str) -> list[dict]:
    """Events that tell that an automation fired."""
    with get_client(sync_client=True) as client:
        body = {
            "filter": {
                "event": {"name": ["prefect.automation.triggered"]},
                "resource": {"labels": {"prefect.resource.name": name}},
            }
        }
        return client.request("POST", "/events/filter", json=body).json()["events"]


@pytest.fixture
def real_server(tmp_path, monkeypatch) -> Iterator[str]:
    """A server with all its services, whose database is gone afterwards."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with server(port) as url, temporary_settings({PREFECT_API_URL: url}):
        yield url


@pytest.mark.fault(5)
@pytest.mark.server
@pytest.mark.usefixtures("real_server")
def test_installed_twice_and_set_off(simulated, monkeypatch):
    """Installing again leaves what is as wanted, keeps a pause, and mends the rest; a FAILED hour fires its own."""
    config = simulated.config()
    install_automations(config)
    first = {name: Automation.read(name=name) for name in NAMES}
    first["saec workspace-1a2b3c4d: the disk is nearly full"].disable()
    install_automations(simulated.config(alarms={"hours": 4}))
    second = {name: Automation.read(name=name) for name in NAMES}
    written: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(SyncPrefectClient, "update_automation", lambda *_: written.append("update"))
        patched.setattr(SyncPrefectClient, "create_automation", lambda *_: written.append("create"))
        install_automations(simulated.config(alarms={"hours": 4}))
    assert written == [], "what is as wanted is left alone"
    assert {name: found.id for name, found in first.items()} == {name: found.id for name, found in second.items()}
    assert second["saec workspace-1a2b3c4d: no hour finished"].trigger.within == timedelta(minutes=100)
    assert not second["saec workspace-1a2b3c4d: the disk is nearly full"].enabled
    with get_client(sync_client=True) as client:
        told = {found["name"] for found in client.request("POST", "/automations/filter", json={}).json()}
    others = {name for name in told if name.startswith("saec workspace-") and "1a2b3c4d" not in name}
    assert told - others == NAMES, "other tests share the server"
    with pytest.raises(ConfigError, match="slack-webhook/nobody"):
        install_automations(simulated.config(alarms={"notify": "slack-webhook/nobody"}))
    tell_hour(config, HourRow(simulated.hours[0], "FAILED", attempts=1, fence=1, reason="oom", message="no memory"))
    deadline = time.monotonic() + 30
    while not fired("saec workspace-1a2b3c4d: an hour FAILED") and time.monotonic() < deadline:
        time.sleep(0.25)
    assert len(fired("saec workspace-1a2b3c4d: an hour FAILED")) == 1
    assert not fired("saec workspace-1a2b3c4d: no hour finished")
