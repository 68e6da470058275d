"""The flows against Prefect's test server, on a small pipeline of which two hours are to come."""

import json
import multiprocessing
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client

from flows.backfill import backfill
from flows.commands import exit_code
from flows.events import pipeline_name
from flows.hourly import hourly
from flows.pages import overview_id
from flows.tasks import TASKS
from saec.errors import InputError
from saec.train import ranks

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("prefect_server", "after_site")]


def left(site) -> dict[str, str]:
    """sha256 of every file of versions, training state and hours' folders."""
    return {
        f"{below}/{name}": sha
        for below in ("store/versions", "checkpoints", "hours")
        for name, sha in site.digests(f"workspace/{below}").items()
    }


def runs_of(state) -> tuple[list, list, list]:
    """Subflow runs of a flow run in order, all task runs by name, the artifacts of those runs."""
    with get_client(sync_client=True) as client:
        tasks = client.request("POST", "/task_runs/filter", json={"limit": 200}).json()
        flows = client.request("POST", "/flow_runs/filter", json={"limit": 200}).json()
        artifacts = client.request("POST", "/artifacts/filter", json={"limit": 200}).json()
    parent = str(state.state_details.flow_run_id)
    called = {task["id"] for task in tasks if task["flow_run_id"] == parent}
    hours = sorted((run for run in flows if run["parent_task_run_id"] in called), key=lambda run: run["name"])
    ids = {run["id"] for run in hours} | {parent}
    inner = [task for task in tasks if task["flow_run_id"] in ids - {parent}]
    steps = sorted(inner, key=lambda task: task["start_time"])
    return hours, steps, [artifact for artifact in artifacts if artifact["flow_run_id"] in ids]


def overview(artifact) -> str:
    """What the overview says."""
    with get_client(sync_client=True) as client:
        return client.request("GET", f"/artifacts/{artifact}").json()["data"]


@pytest.mark.fault(34)
def test_hours_through_the_flow_are_the_same_to_the_byte(site, undisturbed, settings_file):
    """The hourly flow does both due hours in order, as subflow runs of six tasks, with the bytes of `Pipeline.run`."""
    state = hourly(config=settings_file, return_state=True)
    assert (state.name, state.message) == ("PUBLISHED", "2 published")
    assert exit_code(state) == 0
    assert [row.version for row in site.rows()] == [row.version for row in undisturbed.rows()]
    assert left(site) == left(undisturbed)
    hours, steps, artifacts = runs_of(state)
    assert [run["name"] for run in hours] == [f"hour {hour}" for hour in site.hours[5:]]
    assert [run["state_name"] for run in hours] == ["PUBLISHED", "PUBLISHED"]
    assert [sorted(run["tags"]) for run in hours] == [["PUBLISHED", "saec"]] * 2
    names = ("ingest", "train", "cluster", "retrain", "gate", "publish")
    assert [task["name"] for task in steps] == [f"{name} {hour}" for hour in site.hours[5:] for name in names]
    name = pipeline_name(site.config())
    pages = {f"{name}-hour-20260301t{hour}{page}" for hour in (17, 18) for page in ("", "-models")}
    assert {artifact["key"] for artifact in artifacts} - {f"{name}-overview"} == pages
    standing = overview_id(site.config())
    assert "**backlog**: nothing" in overview(standing)
    site.store.hold(actor="ann", reason="launch day", fence=100)
    assert exit_code(hourly(config=settings_file, return_state=True)) == 0, "nothing is due any more"
    assert overview_id(site.config()) == standing, "rewritten in place"
    assert "launch day" in overview(standing)


@pytest.mark.slow  # a process that imports torch
def test_a_run_may_train_over_ranks(site, settings_file):
    """As `saec run --ranks 2` does: its version says so; nothing is left of the other process."""
    state = hourly(config=settings_file, ranks=2, return_state=True)
    assert (state.name, state.message) == ("PUBLISHED", "2 published")
    version = site.folder / "workspace/store/versions" / site.live
    assert json.loads((version / "manifest.json").read_text())["ranks"] == 2
    assert ranks.current is None
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_quarantined_and_a_failed_hour(site, settings_file, monkeypatch):
    """A broken partition is QUARANTINED, a fault in a step FAILED; the run goes on, both have pages, and it exits 1."""
    site.file(site.hours[5]).write_bytes(b"not a Parquet file")
    monkeypatch.setattr(TASKS["train"], "fn", lambda plan, ingested: 1 / 0)
    state = hourly(config=settings_file, return_state=True)
    assert exit_code(state) == 1
    assert [(row.state, row.reason) for row in site.rows()[5:]] == [("QUARANTINED", "corrupt"), ("FAILED", "bug")]
    hours, _, artifacts = runs_of(state)
    assert [run["state_name"] for run in hours] == ["QUARANTINED", "Failed"]
    name = pipeline_name(site.config())
    assert {f"{name}-hour-20260301t17", f"{name}-hour-20260301t18"} <= {artifact["key"] for artifact in artifacts}


def test_a_busy_pipeline_is_no_failure(site, settings_file):
    """While another run holds the lease, a run ends HELD and says who is at work."""
    with site.pipeline() as pipeline, pipeline.leased():
        state = hourly(config=settings_file, return_state=True)
    assert (state.name, exit_code(state)) == ("HELD", 3)
    assert "in use by" in state.message
    assert len(site.rows()) == 5


def test_backfill_shows_its_plan_and_does_it(site, settings_file):
    """A dry run shows what would be done; the backfill does it, and leaves the live version alone."""
    first, last, live = str(site.hours[4]), str(site.hours[5]), site.live
    state = backfill(config=settings_file, first=first, last=last, action="dry run", return_state=True)
    assert (state.name, state.message, exit_code(state)) == ("Planned", "1 to do, 1 to skip", 0)
    assert len(site.rows()) == 5
    state = backfill(config=settings_file, first=first, last=last, return_state=True)
    assert (state.name, exit_code(state)) == ("KEPT", 0)
    assert state.message == f"backfill {first} to {last} (missing) is DONE: 1 kept"
    assert site.rows()[-1].reason == "not-promoted"
    assert site.live == live


def test_a_backfill_that_goes_live_says_so(site, settings_file):
    """Of hours done aside the newest is released at the end, and the run is named after that."""
    first, last = str(site.hours[3]), str(site.hours[4])
    site.redeliver(site.hours[3])
    state = backfill(config=settings_file, first=first, last=last, only="all", promote=True, return_state=True)
    assert (state.name, exit_code(state)) == ("PUBLISHED", 0)
    assert f"{site.live} is live" in state.message


@pytest.mark.case(17)
def test_what_was_said_before_the_swap_is_corrected(site, settings_file):
    """Runs and pages of hours done aside end as the ledger has them: the newest released, the one before swapped in.

    The backfill says that it released a version though some hour of it was held by its gate.
    """
    site.redeliver(site.hours[1])
    state = backfill(
        config=settings_file,
        first=str(site.hours[1]),
        last=str(site.hours[4]),
        only="all",
        promote=True,
        return_state=True,
    )
    rows = {row.hour: row for row in site.rows()}
    assert rows[site.hours[1]].state == "HELD"
    assert (state.name, exit_code(state)) == ("PUBLISHED", 0)
    assert f"{site.live} is live; " in state.message
    assert state.message.endswith(", 1 published, 1 held")
    hours, _, artifacts = runs_of(state)
    ends = {run["name"]: (run["state_name"], run["state"]["message"]) for run in hours}
    name, said = ends[f"hour {site.hours[4]}"]
    assert (name, "was released" in said) == ("PUBLISHED", True)
    name, said = ends[f"hour {site.hours[3]}"]
    assert (name, "was swapped in" in said) == ("KEPT", True)
    assert rows[site.hours[3]].message in said
    pages = {artifact["description"]: artifact["data"] for artifact in artifacts}
    assert "was released" in pages[f"Hour {site.hours[4]}: PUBLISHED"]


@pytest.mark.case(20)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"first": "1 Oct 2017", "last": "2017-10-01T05"}, "is not of the form 2017-10-01T03"),
        ({"first": "2026-02-30T05", "last": "2026-03-01T05"}, "does not exist"),
        ({"first": "2026-03-01T15", "last": "2026-03-01T13"}, "swap them"),
        ({"first": "2026-03-01T15"}, "name the first and the last hour"),
        ({"first": "1970-01-01T00", "last": "2026-03-01T13"}, "the first one that there is data of is 2026-03-01T12"),
        (
            {"first": "1970-01-01T00", "last": "2026-03-01T13", "action": "dry run"},
            "the first one that there is data of",
        ),
        ({"action": "resume"}, "no backfill is open"),
        ({"action": "pause"}, "no backfill is open"),
        ({"action": "cancel"}, "no backfill is open"),
    ],
)
def test_what_a_form_gets_wrong_is_refused(site, settings_file, given, said):
    """A slip is no failed run and no crash: the run ends REFUSED, in the words of the command line, exit code 2."""
    state = backfill(config=settings_file, **given, return_state=True)
    assert (state.name, state.is_completed(), exit_code(state)) == ("REFUSED", True, 2)
    assert said in state.message
    assert len(site.rows()) == 5


@pytest.mark.case(20)
def test_broken_settings_fail_in_words(settings_file):
    """The settings are not the form's: their fault fails the run, and its message is the one of every command."""
    settings_file.write_text("data: {sauce: here}")
    for state in (hourly(config=settings_file, return_state=True), backfill(config=settings_file, return_state=True)):
        assert (state.is_failed(), exit_code(state)) == (True, 1)
        assert "sauce" in state.message
        assert "encountered an exception" not in state.message


@pytest.mark.case(5)
def test_a_store_that_is_gone_fails_the_run(site, settings_file):
    """Where no hour is due any more, too; the overview says so first."""
    hourly(config=settings_file, return_state=True)
    shutil.rmtree(site.folder / "workspace" / "store")
    state = hourly(config=settings_file, return_state=True)
    assert (state.is_failed(), exit_code(state)) == (True, 1)
    assert "nothing is live, though 5 hours of the ledger are PUBLISHED" in state.message
    assert overview(overview_id(site.config())).startswith("# What was live is gone")


@pytest.mark.slow
def test_a_lost_lease_ends_the_run(site, settings_file, monkeypatch):
    """A run that was replaced stops: its flow run fails, and the hour is left to the run that took over."""

    def replaced(plan):
        monkeypatch.undo()
        with site.pipeline() as other:
            monkeypatch.setattr(other.ledger, "_clock", lambda: datetime.now(UTC) + timedelta(hours=1))
            other.ledger.acquire("the run that took over", seconds=60)
        raise InputError("whatever this run finds now is not its affair")

    monkeypatch.setattr(TASKS["ingest"], "fn", replaced)
    state = hourly(config=settings_file, return_state=True)
    assert state.is_failed()
    assert "no longer holds" in state.message
    assert [(row.hour, row.state) for row in site.rows()[5:]] == [(site.hours[5], "RUNNING")]
