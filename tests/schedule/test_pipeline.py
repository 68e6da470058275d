"""The pipeline: leases, outcomes, rollback and retention."""

import errno
import json
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import torch

from saec import steps
from saec.errors import (
    HourAbsent,
    HourHeld,
    InputError,
    LeaseLost,
    LedgerError,
    ReleaseConflict,
    StoreError,
    TrainingError,
)
from saec.ledger import Ledger, report_record
from saec.schedule.lease import LEASE_SECONDS
from saec.steps import Run
from saec.workspace import Workspace
from tests.conftest import STEPS, instead

LAST, NEXT = 4, 5
"""Of the hours of a site: the last one done, and the one to be done next."""


def ends(rows) -> list[tuple[str, str | None]]:
    return [(row.state, row.reason) for row in rows]


def raising(error: BaseException) -> Run:
    """Steps of which the third breaks."""

    def cluster(*_):
        raise error

    return instead(cluster=cluster)


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (HourHeld("nothing to learn", reason="empty"), "HELD", "empty"),
        (HourAbsent("not there"), "HELD", "no-data"),
        (InputError("damaged", reason="corrupt"), "QUARANTINED", "corrupt"),
        (TrainingError("loss is nan"), "FAILED", "diverged"),
        pytest.param(StoreError("bucket is gone"), "FAILED", "store", marks=pytest.mark.slow),
        pytest.param(ReleaseConflict("another was first"), "FAILED", "conflict", marks=pytest.mark.slow),
        pytest.param(MemoryError(), "FAILED", "oom", marks=pytest.mark.fault(8)),
        pytest.param(OSError(errno.ENOMEM, "Cannot allocate memory"), "FAILED", "oom", marks=pytest.mark.fault(8)),
        (OSError(errno.ENOSPC, "No space left on device"), "FAILED", "disk-full"),
        pytest.param(OSError(errno.EDQUOT, "Quota exceeded"), "FAILED", "disk-full", marks=pytest.mark.slow),
        (PermissionError(errno.EACCES, "Permission denied", "/store"), "FAILED", "permission"),
        pytest.param(OSError(errno.EROFS, "Read-only file system"), "FAILED", "permission", marks=pytest.mark.slow),
        (OSError(errno.EIO, "Input/output error"), "FAILED", "io"),
        pytest.param(OSError("no number"), "FAILED", "io", marks=pytest.mark.slow),
        (ZeroDivisionError("ours"), "FAILED", "bug"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_error_is_an_outcome(site, error, outcome, reason):
    """Whatever breaks in an hour, the hour ends with a reason and its message, and the live version is as it was."""
    serving = site.serving()
    (row,) = site.advance(site.hours[NEXT], run_step=raising(error))
    assert (row.state, row.reason, row.message) == (outcome, reason, str(error))
    assert (row.checkpoint, row.version, row.stage) == (None, None, "cluster")
    assert row.parent == site.hours[LAST]
    assert site.serving() == serving
    folder = site.folder / "workspace" / "hours" / site.hours[NEXT].compact
    assert {path.name for path in folder.iterdir()} <= set(steps.KEPT_FILES), "what it had on disk is freed"


def test_broken_store_is_an_outcome_too(site):
    """A release log that cannot be read FAILs the hour, though that is looked at before its first step."""
    newest = max((site.folder / "workspace" / "store" / "releases").iterdir())
    newest.write_text("{", encoding="utf-8")
    with site.pipeline() as pipeline, pipeline.leased() as lease:
        row = pipeline.do(lease, site.hours[NEXT])
    assert (row.state, row.reason) == ("FAILED", "integrity")
    assert newest.name in row.message


@pytest.mark.fault(26)
@pytest.mark.fault(67)
def test_damaged_champion_is_replaced_by_the_last_sound_version(site, caplog):
    """Where the live version's files are damaged, the hour is judged against the one before, and said so loudly."""
    damaged, sound = site.live, site.rows()[3].version
    path = site.folder / "workspace" / "store" / "versions" / damaged / "network.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (row,) = site.advance(site.hours[NEXT])
    assert (row.state, site.live) == ("PUBLISHED", row.version)
    assert site.store.manifest(row.version)["parents"]["champion"] == sound
    assert f"version {damaged} cannot be the champion" in caplog.text


@pytest.mark.fault(4)
def test_interrupted_run_gives_the_lease_back(site):
    """Being told to stop is no outcome: the hour stays RUNNING, the lease is free at once."""
    with pytest.raises(KeyboardInterrupt):
        site.advance(site.hours[NEXT], run_step=raising(KeyboardInterrupt()))
    assert site.rows()[-1].state == "RUNNING"
    assert ends(site.advance(site.hours[NEXT])) == [("PUBLISHED", None)]


@pytest.mark.slow  # three hours; schedule/test_planner.py holds what is tried again
def test_failed_hour_is_retried_by_the_next_runs(site):
    """Three scheduled attempts, then the schedule goes on with the hour after; that goes on from the last trained."""
    for attempt in (1, 2, 3):
        (row,) = site.advance(site.hours[NEXT], run_step=raising(OSError(errno.EIO, "Input/output error")))
        assert row.attempts == attempt
    assert site.advance(site.hours[NEXT]) == []
    (after,) = site.advance(site.hours[NEXT + 1])
    assert (after.hour, after.state, after.parent) == (site.hours[NEXT + 1], "PUBLISHED", site.hours[LAST])


@pytest.mark.fault(10, 17)
def test_second_run_is_told_who_is_busy(site):
    """While a run holds the lease a second one gets LedgerError(busy) that names it."""
    with (
        site.pipeline() as first,
        first.leased(),
        site.pipeline() as second,
        pytest.raises(LedgerError, match=r"in use by saec run on .*process") as caught,
        second.leased(),
    ):
        pass
    assert caught.value.reason == "busy"


def test_a_ledger_restored_from_a_copy_can_release(site, tmp_path):
    """A copy knows of fewer leases than were released under since; the next run's fencing number is above theirs."""
    copy = tmp_path / "ledger.db"
    with closing(sqlite3.connect(site.folder / "workspace" / "ledger.db")) as ledger:
        ledger.execute("VACUUM INTO ?", [str(copy)])
    for _ in range(3):
        with site.pipeline() as pipeline, pipeline.leased() as lease:
            site.store.fence(actor="a later run", reason="a test", fence=lease.fence)
    copy.replace(site.folder / "workspace" / "ledger.db")
    assert [row.state for row in site.advance(site.hours[NEXT])] == ["PUBLISHED"]
    assert site.store.live().fence > lease.fence


def take_over(site) -> None:
    """Another run takes the lease, after the first has not renewed it for long enough."""
    later = datetime.now(UTC) + timedelta(seconds=2 * LEASE_SECONDS)
    ledger = Ledger(site.config().ledger_url, clock=lambda: later)
    ledger.release(ledger.acquire("another run", 60))
    ledger.close()


@pytest.mark.fault(8)
def test_torch_without_memory_is_out_of_memory(site):
    """Torch raises an error of its own when memory runs out; FAILED(oom) for it too, live as before."""
    live = site.serving()

    def cluster(*_):
        torch.empty(1 << 55, dtype=torch.uint8)

    (row,) = site.advance(site.hours[NEXT], run_step=instead(cluster=cluster))
    assert ends([row]) == [("FAILED", "oom")]
    assert site.serving() == live


@pytest.mark.fault(6)
@pytest.mark.parametrize("during", ["ingest", *(pytest.param(step, marks=pytest.mark.slow) for step in STEPS[1:-1])])
def test_run_that_lost_its_lease_can_neither_write_nor_publish(site, undisturbed, during):
    """A run replaced during any step stops with LeaseLost: ledger and live version stay; the next run does the hour."""

    def replaced(*args):
        take_over(site)
        return getattr(steps, during)(*args)

    serving = site.serving()
    with pytest.raises(LeaseLost):
        site.advance(site.hours[NEXT], run_step=instead(**{during: replaced}))
    row = site.rows()[-1]
    assert (row.hour, row.state, row.stage) == (site.hours[NEXT], "RUNNING", during)
    assert site.serving() == serving
    site.advance(site.hours[NEXT])
    assert site.rows()[-1].version == undisturbed.rows()[NEXT].version


def test_run_replaced_while_publishing_cannot_follow_the_new_one(site):
    """Once the run that took over has released, the old one's publish is refused by its fencing number."""

    def late(plan, *args):
        take_over(site)
        fence = plan.fence + 1
        site.store.hold(actor="another run", reason="took over", fence=fence)
        site.store.unhold(actor="another run", reason="took over", fence=fence)
        return steps.publish(plan, *args)

    live = site.live
    with pytest.raises(LeaseLost):
        site.advance(site.hours[NEXT], run_step=instead(publish=late))
    assert site.live == live


def test_lease_is_renewed_while_a_step_takes_long(site, monkeypatch):
    """The lease outlives its time as long as the run lives."""
    monkeypatch.setattr("saec.schedule.lease.LEASE_SECONDS", 0.4)

    def slow(plan):
        time.sleep(0.8)
        with site.pipeline() as other, pytest.raises(LedgerError, match="in use"), other.leased():
            pass
        return steps.ingest(plan)

    assert ends(site.advance(site.hours[NEXT], run_step=instead(ingest=slow))) == [("PUBLISHED", None)]


def test_orphans_of_killed_runs_are_removed(site):
    """What a killed run left in the store's staging, and versions without a manifest, are gone after the next run."""
    store = site.folder / "workspace" / "store"
    unfinished = store / "versions" / f"{site.hours[NEXT].compact}-0123456789ab"
    unfinished.mkdir()
    (unfinished / "network.safetensors").write_bytes(b"half")
    site.advance(site.hours[NEXT])
    assert not unfinished.exists()


def test_hour_stands_when_old_files_cannot_be_removed(site, monkeypatch, caplog):
    """Retention that fails after an hour is a warning: the hour is PUBLISHED and the run goes on."""

    def refused(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("saec.workspace.Workspace.retain", refused)
    assert ends(site.advance(site.hours[NEXT])) == [("PUBLISHED", None)]
    assert "was not removed: [Errno 5]" in caplog.text


@pytest.mark.fault(68)
def test_rollback_holds_until_released(site):
    """After a rollback the next hours train and are kept, HELD(held), until the hold ends; training lost nothing."""
    target = site.rows()[2].version
    site.store.rollback(target, actor="a person", reason="complaints")
    (held,) = site.advance(site.hours[NEXT])
    assert (held.state, held.reason) == ("HELD", "held")
    assert held.version in site.store.versions()
    assert "a person" in held.message
    assert site.live == target
    site.store.unhold(actor="a person", reason="understood")
    (row,) = site.advance(site.hours[NEXT + 1])
    assert (row.state, row.parent) == ("PUBLISHED", held.hour)
    assert site.live == row.version


@pytest.mark.slow  # two hours; store/test_retention.py holds what is kept
def test_retention_keeps_what_is_needed(site, undisturbed):
    """Old versions, checkpoints and folders go; what is live, was live before, or is gone on from, stays."""
    config = site.config(retention=2)
    target = site.rows()[2].version
    site.store.rollback(target, actor="a person", reason="complaints")
    rows = site.advance(site.hours[-1], config=config)
    assert ends(rows) == [("HELD", "held")] * 2
    last, before = site.rows()[LAST], site.rows()[3]
    assert site.store.versions() == [target, last.version, *(row.version for row in rows)]
    assert before.version not in site.store.versions()
    folders = sorted(path.name for path in (site.folder / "workspace" / "hours").iterdir())
    assert folders == [hour.compact for hour in site.hours[NEXT:]]
    challengers = sorted(path.stem for path in (site.folder / "workspace" / "checkpoints").glob("*-challenger-*"))
    assert challengers == [row.record["challenger"] for row in rows]
    assert [row.checkpoint for row in rows] == [row.checkpoint for row in undisturbed.rows()[NEXT:]]
    Workspace._resident = None
    Workspace(config).original(rows[-1].checkpoint)


@pytest.mark.fault(35)
def test_absent_hour_is_waited_for_then_stepped_over(site):
    """Before its deadline an absent hour stops the run; after it, it is HELD(no-data) and the next hour goes on."""
    site.file(site.hours[NEXT]).unlink()
    serving = site.serving()
    assert site.advance(site.hours[NEXT + 1]) == []
    assert len(site.rows()) == NEXT
    with site.pipeline() as pipeline, pipeline.leased() as lease:
        absent, after = pipeline.run(lease, pipeline.due(site.hours[NEXT] + 3))
    assert (absent.state, absent.reason, absent.checkpoint) == ("HELD", "no-data", None)
    assert str(site.hours[NEXT]) in absent.message
    assert "saec backfill --only missing" in absent.message
    assert (after.state, after.parent) == ("PUBLISHED", site.hours[LAST])
    assert serving.items() <= site.digests().items()


def test_report_record_has_the_outcome_and_the_figures(undisturbed, site):
    """What the report shows: the hour's own record and how it ended; an hour without a record shows only that."""
    row = undisturbed.rows()[-1]
    record = report_record(row)
    assert json.loads(json.dumps(record)) == record
    assert {
        "hour",
        "outcome",
        "reason",
        "version",
        "rows",
        "auc_original",
        "auc_compressed",
        "auc_champion",
        "logloss_original",
        "logloss_compressed",
        "logloss_champion",
        "vectors_original",
        "vectors_compressed",
        "bytes_original",
        "bytes_compressed",
        "ratio_vectors",
        "ratio_embedding",
        "ratio_total",
        "ratio_version",
        "seconds",
    } <= record.keys()
    assert (record["hour"], record["outcome"], record["version"]) == (str(row.hour), "PUBLISHED", row.version)
    site.file(site.hours[NEXT]).write_bytes(b"PAR1")
    (refused,) = site.advance(site.hours[NEXT])
    assert report_record(refused) == {
        "hour": str(refused.hour),
        "outcome": "QUARANTINED",
        "reason": "truncated",
        "message": refused.message,
        "version": None,
        "stale_because": None,
    }


def test_ratios_are_those_of_the_files(undisturbed):
    """The bytes a report shows are those, on disk, of the files that score; rows to check them by are beside them."""
    for row in undisturbed.rows()[2:]:
        folder = undisturbed.store.open(row.version)
        names = ("index", "codebooks", *(["original_codebooks"] if row.record["share_of_original"] else []))
        sizes = {name: (folder / f"{name}.safetensors").stat().st_size for name in names}
        assert row.record["bytes_compressed"] == sum(sizes.values())
        assert row.record["ratio_total"] == pytest.approx(row.record["bytes_original"] / sum(sizes.values()))
        beside = ("manifest.json", "recorded.safetensors")
        on_disk = sum(path.stat().st_size for path in folder.iterdir() if path.name not in beside)
        assert sum(row.record["sizes"].values()) == on_disk
        version = sum(path.stat().st_size for path in folder.iterdir())
        assert version <= row.record["bytes_version"] <= version + 2048
        assert row.record["ratio_version"] == row.record["bytes_version_original"] / row.record["bytes_version"]


@pytest.mark.fault(3)
def test_a_run_removes_what_killed_ones_left(site):
    """Half-written checkpoints and metrics go, and so do staging folders and versions without a manifest."""
    workspace, store = site.folder / "workspace", site.folder / "workspace" / "store"
    left = [
        workspace / "checkpoints" / ".x.safetensors.0a.tmp",
        workspace / ".metrics.prom.1b.tmp",
        store / ".staging" / "dead" / "codes.bin",
        store / "versions" / "20260301T20-0123456789ab" / "codes.bin",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    site.advance(site.hours[NEXT])
    assert [path for path in left if path.exists()] == []
