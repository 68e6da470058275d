"""Hours are reported to an OpenLineage receiver as the specification requires, and never wait for it."""

import json
import logging
from dataclasses import replace

import pytest

from saec.ledger import HourRow
from saec.mirrors.lineage import KEY, PRODUCER, Lineage
from saec.workspace import Workspace
from tests.mirrors.conftest import FIRST

pytest.importorskip("openlineage", reason="hours are told by the extra mirrors")


@pytest.fixture
def lineage(settings, ledger, receiver):
    """What tells it of the hours of a pipeline."""
    config = settings(openlineage=receiver.url)
    return Lineage(config, ledger, Workspace(config))


BEGUN = HourRow(FIRST, "RUNNING", attempts=1, fence=4)
BEFORE = HourRow(
    FIRST - 1, "PUBLISHED", attempts=1, fence=4, checkpoint="original-a", record={"challenger": "challenger-a"}
)


def ended(state="PUBLISHED", **known):
    """The hour as it ended."""
    record = {"rows": 1000, "challenger": "challenger-b"}
    return replace(
        BEGUN, **{"state": state, "input_digest": "d" * 64, "checkpoint": "original-b", "record": record, **known}
    )


def named(datasets):
    """The last part of each dataset's name."""
    return [dataset["name"].rpartition("/")[2] for dataset in datasets]


def test_an_hour_begins_and_completes(lineage, receiver, release, settings, ledger):
    """Both events are of one run and one job; data and training state go in, version and training state come out."""
    version = release(0)
    lineage.begun(BEGUN, BEFORE)
    lineage.ended(ended(version=version), BEFORE)
    start, end = receiver.events
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"]
    assert (end["job"]["namespace"], end["job"]["name"]) == (settings().pipeline_name(ledger.pipeline_id), "hour")
    assert end["producer"] == PRODUCER
    assert end["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2017-10-01T03:00:00.000Z"
    assert end["run"]["facets"]["nominalTime"]["nominalEndTime"] == "2017-10-01T04:00:00.000Z"
    data, *states = end["inputs"]
    assert (named([data]), named(states)) == (["shop"], ["original-a", "challenger-a"])
    assert data["facets"]["version"]["datasetVersion"] == "d" * 64
    assert data["inputFacets"]["inputStatistics"]["rowCount"] == 1000
    columns = {column["name"]: column["type"] for column in data["facets"]["schema"]["fields"]}
    assert columns == {"time": "timestamp", "clicked": "int", "user": "int", "tags": "list of int"}
    made, *states = end["outputs"]
    assert (made["facets"]["version"]["datasetVersion"], named([made])) == (version, ["versions"])
    assert (
        made["outputFacets"]["outputStatistics"] | {"size": 100, "fileCount": 1}
        == (made["outputFacets"]["outputStatistics"])
    )
    assert named(states) == ["original-b", "challenger-b"]
    assert start.get("outputs", []) == []


@pytest.mark.parametrize(
    ("state", "reason", "kind"),
    [
        ("HELD", "worse-auc", "COMPLETE"),
        ("QUARANTINED", "schema", "FAIL"),
        ("FAILED", "diverged", "FAIL"),
    ],
)
def test_every_ending_is_told(lineage, receiver, state, reason, kind):
    """What is held has completed; what broke has failed, with its message; the outcome is a tag."""
    lineage.ended(ended(state, reason=reason, message="because", checkpoint=None, record=None), None)
    [event] = receiver.events
    facets = event["run"]["facets"]
    assert event["eventType"] == kind
    assert {tag["key"]: tag["value"] for tag in facets["tags"]["tags"]} == {"outcome": state, "reason": reason}
    assert ("errorMessage" in facets) == (kind == "FAIL")
    if kind == "FAIL":
        assert facets["errorMessage"]["message"] == f"{state}({reason}): because"
        assert event.get("outputs", []) == []


def test_an_attempt_is_a_run_of_its_own(lineage, receiver):
    """The next attempt at the hour has another id; one that lost its lease is aborted under its own."""
    lineage.begun(BEGUN, None)
    lineage.aborted(BEGUN, None)
    lineage.begun(replace(BEGUN, attempts=2), None)
    first, aborted, second = (event["run"]["runId"] for event in receiver.events)
    assert first == aborted != second
    assert receiver.events[1]["eventType"] == "ABORT"


def test_no_secret_is_told_or_logged(settings, ledger, receiver, monkeypatch, caplog):
    """A login in the source's URL or in a message stays here; the key goes in the header and nowhere else."""
    monkeypatch.setenv(KEY, "canary-key")
    config = settings(openlineage=receiver.url)
    data = config.data.model_copy(update={"source": "s3://ann:canary-pw@bucket/clicks"})
    lineage = Lineage(config.model_copy(update={"data": data}), ledger, Workspace(config))
    receiver.answer = 500
    with caplog.at_level(logging.DEBUG):
        lineage.ended(ended("FAILED", reason="io", message="cannot read s3://ann:canary-pw@bucket/clicks"), None)
    assert {(event["inputs"][0]["namespace"], event["inputs"][0]["name"]) for event in receiver.events} == {
        ("s3://bucket", "clicks")
    }
    assert "canary" not in json.dumps(receiver.events)
    assert set(receiver.keys) == {"Bearer canary-key"}
    assert "telling OpenLineage of hour 2017-10-01T03 was not possible" in caplog.text
    assert "canary" not in caplog.text


def test_a_receiver_that_is_away_is_a_warning(settings, ledger, receiver, caplog):
    """Refused connections never reach the hour."""
    receiver.server.shutdown()
    receiver.server.server_close()
    config = settings(openlineage=receiver.url)
    Lineage(config, ledger, Workspace(config)).begun(BEGUN, None)
    assert "which goes on" in caplog.text


def test_without_the_setting_nothing_is_told(settings, ledger, receiver):
    """Off is off."""
    config = settings()
    Lineage(config, ledger, Workspace(config)).begun(BEGUN, None)
    assert receiver.events == []
