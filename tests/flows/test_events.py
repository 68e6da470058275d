"""Events of a pipeline, with Prefect's sending replaced by a list."""

import pytest

from flows import events
from saec.config import AlarmsConfig
from saec.hours import Hour
from saec.ledger import HourRow
from saec.monitoring.alarms import alarms

HOUR = Hour.parse("2017-10-01T03")


@pytest.fixture(autouse=True)
def own_id(monkeypatch):
    """Every pipeline's id, so that no ledger is made."""
    monkeypatch.setattr(events, "_id", lambda _url: "1a2b3c4d")


@pytest.fixture
def sent(monkeypatch) -> list[tuple[str, dict]]:
    """Every event that was sent."""
    made: list[tuple[str, dict]] = []
    monkeypatch.setattr(events, "emit_event", lambda event, **known: made.append((event, known)))
    return made


@pytest.mark.parametrize("state", ["PUBLISHED", "HELD", "QUARANTINED", "FAILED"])
def test_an_hour_is_told_by_its_outcome(sent, simulated, state):
    """The event is named after the outcome; it is about the pipeline, the hour is related, the message for people."""
    events.tell_hour(simulated.config(), HourRow(HOUR, state, attempts=2, fence=1, reason="why", message="said\nthus"))
    ((event, known),) = sent
    assert event == f"saec.hour.{state.lower()}"
    assert known["resource"]["prefect.resource.id"] == "saec.pipeline.1a2b3c4d"
    assert known["related"][0]["prefect.resource.id"] == "saec.hour.20171001T03"
    assert known["payload"]["message"] == f"hour 2017-10-01T03 {state}(why): said thus"
    assert known["payload"]["attempts"] == 2


def test_alarms_that_prefect_cannot_know(sent, simulated, troubled):
    """A stalled gate, a worse live version and a low disk have events of their own; the others follow from hours."""
    events.tell_alarms(simulated.config(), alarms(troubled, AlarmsConfig()))
    assert [event for event, _ in sent] == [
        "saec.pipeline.lost",
        "saec.publishing.stalled",
        "saec.live.worse",
        "saec.disk.low",
    ]
    assert sent[3][1]["payload"]["message"].startswith("2.50 GB free where the workspace is, wanted 5; first: saec ")


def test_an_event_that_cannot_be_sent_disturbs_nobody(monkeypatch, simulated, caplog):
    """It is logged, and the hour goes on."""
    monkeypatch.setattr(events, "emit_event", lambda *_, **__: 1 / 0)
    events.tell_hour(simulated.config(), HourRow(HOUR, "PUBLISHED", attempts=1, fence=1))
    assert "event saec.hour.published cannot be sent" in caplog.text
