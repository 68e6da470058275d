"""The flows against Prefect's test server, on a small pipeline of which two hours are to come."""

from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client

from flows.backfill import backfill
from flows.commands import exit_code
from flows.hourly import hourly
from flows.pages import overview_id
from flows.tasks import TASKS
from saec.errors import InputError

pytestmark = pytest.mark.usefixtures("prefect_server", "after_site")


def left(site) -> dict[str, str]:
    """sha256 of every file of versions, training state and hours' folders."""
    return {f"{below}/{name}": sha for below in ("store/versions", "checkpoints", "hours")
            for name, sha in site.digests(f"workspace/{below}").items()}


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
    state = hourly(settings_file, return_state=True)
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
    pages = {f"workspace-hour-20260301t{hour}{page}" for hour in (17, 18) for page in ("", "-models")}
    assert {artifact["key"] for artifact in artifacts} - {"workspace-overview"} == pages
    standing = overview_id(site.config())
    assert "**backlog**: nothing" in overview(standing)
    site.store.hold(actor="ann", reason="launch day", fence=100)
    assert exit_code(hourly(settings_file, return_state=True)) == 0, "nothing is due any more"
    assert overview_id(site.config()) == standing, "rewritten in place"
    assert "launch day" in overview(standing)


@pytest.mark.slow
def test_a_quarantined_and_a_failed_hour(site, settings_file, monkeypatch):
    """A broken partition is QUARANTINED, a fault in a step FAILED; the run goes on, both have pages, and it exits 1."""
    site.file(site.hours[5]).write_bytes(b"not a Parquet file")
    monkeypatch.setattr(TASKS["train"], "fn", lambda plan, ingested: 1 / 0)
    state = hourly(settings_file, return_state=True)
    assert exit_code(state) == 1
    assert [(row.state, row.reason) for row in site.rows()[5:]] == [("QUARANTINED", "corrupt"), ("FAILED", "bug")]
    hours, _, artifacts = runs_of(state)
    assert [run["state_name"] for run in hours] == ["QUARANTINED", "Failed"]
    assert {"workspace-hour-20260301t17", "workspace-hour-20260301t18"} <= {artifact["key"] for artifact in artifacts}


def test_a_busy_pipeline_is_no_failure(site, settings_file):
    """While another run holds the lease, a run ends HELD and says who is at work."""
    with site.pipeline() as pipeline, pipeline.leased():
        state = hourly(settings_file, return_state=True)
    assert (state.name, exit_code(state)) == ("HELD", 3)
    assert "in use by" in state.message
    assert len(site.rows()) == 5


def test_backfill_shows_its_plan_and_does_it(site, settings_file):
    """A dry run shows what would be done; the backfill does it, and leaves the live version alone."""
    first, last, live = str(site.hours[4]), str(site.hours[5]), site.live
    state = backfill(settings_file, first=first, last=last, action="dry run", return_state=True)
    assert (state.name, state.message, exit_code(state)) == ("Planned", "1 to do, 1 to skip", 0)
    assert len(site.rows()) == 5
    state = backfill(settings_file, first=first, last=last, return_state=True)
    assert (state.name, exit_code(state)) == ("KEPT", 0)
    assert state.message == f"backfill {first} to {last} (missing) is DONE: 1 kept"
    assert site.rows()[-1].reason == "not-promoted"
    assert site.live == live


def test_a_backfill_that_goes_live_says_so(site, settings_file):
    """Of hours done aside the newest is released at the end, and the run is named after that."""
    first, last = str(site.hours[3]), str(site.hours[4])
    site.redeliver(site.hours[3])
    state = backfill(settings_file, first=first, last=last, only="all", promote=True, return_state=True)
    assert (state.name, exit_code(state)) == ("PUBLISHED", 0)
    assert f"{site.live} is live" in state.message


@pytest.mark.case(17)
def test_what_was_said_before_the_swap_is_corrected(site, settings_file):
    """Runs and pages of hours done aside end as the ledger has them: the newest released, the one before swapped in.

    The backfill says that it released a version though some hour of it was held by its gate.
    """
    site.redeliver(site.hours[1])
    state = backfill(settings_file, first=str(site.hours[1]), last=str(site.hours[4]), only="all", promote=True,
                     return_state=True)
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


def test_what_a_form_gets_wrong_is_refused(settings_file):
    """An hour in another form never starts a run; a range the wrong way round fails by its message."""
    with pytest.raises(Exception, match="pattern"):
        backfill(settings_file, first="1 Oct 2017", last="2017-10-01T05")
    state = backfill(settings_file, first="2017-10-01T05", last="2017-10-01T03", return_state=True)
    assert state.is_failed()
    assert "swap them" in state.message


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
    state = hourly(settings_file, return_state=True)
    assert state.is_failed()
    assert "no longer holds" in state.message
    assert [(row.hour, row.state) for row in site.rows()[5:]] == [(site.hours[5], "RUNNING")]
