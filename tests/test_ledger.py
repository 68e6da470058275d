"""The ledger: what happened to every hour, and the lease that lets one run at a time write it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta

import pytest

from saec.errors import LeaseLost, LedgerError
from saec.hours import Hour
from saec.ledger import OUTCOMES, Ledger
from saec.ledger.tables import HourRecord

HOUR = Hour.parse("2017-10-01T03")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = datetime(2017, 10, 1, 5, tzinfo=UTC)

    def __call__(self):
        return self.now

    def move(self, seconds):
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def url(tmp_path):
    """A SQLite file in a folder that does not exist yet; SAEC_TEST_LEDGER names another, empty, database."""
    return os.environ.get("SAEC_TEST_LEDGER") or f"sqlite:///{tmp_path / 'workspace' / 'ledger.db'}"


@pytest.fixture
def ledger(url, clock):
    ledger = Ledger(url, clock)
    yield ledger
    if "SAEC_TEST_LEDGER" in os.environ:
        from saec.ledger.tables import Table  # noqa: PLC0415

        Table.metadata.drop_all(ledger._engine)
    ledger.close()


@pytest.fixture
def lease(ledger):
    return ledger.acquire("run 1", seconds=60)


def trained(ledger, lease, hour, **result):
    """Record an hour that was published and left a checkpoint."""
    ledger.begin(lease, hour, "config")
    return ledger.finish(lease, hour, "PUBLISHED", **{"checkpoint": f"after-{hour}", **result})


def test_an_hour_from_beginning_to_end(ledger, lease, clock):
    """Every field that a run reports comes back, as a frozen value, after the ledger is opened again too."""
    assert ledger.get(HOUR) is None
    begun = ledger.begin(lease, HOUR, "config")
    assert (begun.state, begun.attempts, begun.fence, begun.stage, begun.started_at) == ("RUNNING", 1, 1, "", clock.now)
    ledger.stage(lease, HOUR, "train")
    assert ledger.get(HOUR).stage == "train"
    clock.move(2.5)
    row = ledger.finish(
        lease,
        HOUR,
        "PUBLISHED",
        "passed",
        message="better",
        input_digest="in",
        parent=HOUR - 1,
        checkpoint="after",
        version="v",
        record={"auc": 0.7},
    )
    assert (row.hour, row.state, row.reason, row.message, row.stage) == (HOUR, "PUBLISHED", "passed", "better", "train")
    assert (row.input_digest, row.config_digest, row.parent, row.checkpoint, row.version) == (
        "in",
        "config",
        HOUR - 1,
        "after",
        "v",
    )
    assert (row.finished_at, row.seconds, row.record) == (clock.now, 2.5, {"auc": 0.7})
    assert ledger.get(HOUR) == row
    assert row.started_at.tzinfo is not None
    with pytest.raises(FrozenInstanceError):
        row.state = "FAILED"


def test_the_ledger_outlives_its_process(tmp_path):
    """What was written is there when the file is opened again, with the fencing number."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    first = Ledger(url)
    row = trained(first, first.acquire("run 1", seconds=0), HOUR)
    first.close()
    again = Ledger(url)
    assert again.get(HOUR) == row
    assert again.acquire("run 2", seconds=60).fence == 2


def test_a_new_attempt_clears_what_the_last_one_left(ledger, lease):
    """Beginning again counts the attempt and forgets the outcome, so that nothing old is taken for new."""
    trained(ledger, lease, HOUR, version="v", record={"auc": 0.7})
    again = ledger.begin(lease, HOUR, "other config")
    assert (again.state, again.attempts, again.config_digest) == ("RUNNING", 2, "other config")
    assert (again.checkpoint, again.version, again.record, again.finished_at) == (None, None, None, None)
    assert ledger.get(HOUR) == again


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_is_kept(ledger, lease, outcome):
    """Each way for an hour to end is kept with its reason."""
    ledger.begin(lease, HOUR, "config")
    assert ledger.finish(lease, HOUR, outcome, "why").state == outcome
    assert ledger.get(HOUR).reason == "why"


def test_unknown_outcomes_and_hours_are_refused(ledger, lease):
    """An outcome must be one of the four, an hour must have been begun."""
    with pytest.raises(LedgerError, match="must be one of PUBLISHED, HELD"):
        ledger.finish(lease, HOUR, "DONE")
    for write in (lambda: ledger.finish(lease, HOUR, "HELD"), lambda: ledger.stage(lease, HOUR, "train")):
        with pytest.raises(LedgerError, match="2017-10-01T03 was not begun"):
            write()


def test_numbers_that_are_not_finite_become_null(ledger, lease):
    """NaN and infinity are not JSON; other things that are not are refused, naming the hour."""
    nan, infinity = float("nan"), float("inf")
    row = trained(ledger, lease, HOUR, record={"auc": nan, "by": [1.5, infinity, {"x": (-infinity, 2)}], "n": 3})
    assert ledger.get(HOUR).record == row.record == {"auc": None, "by": [1.5, None, {"x": [None, 2]}], "n": 3}
    with pytest.raises(LedgerError, match="record of hour 2017-10-01T03 is not plain JSON"):
        trained(ledger, lease, HOUR, record={"x": object()})


def test_rows_come_in_the_order_of_hours(ledger, lease):
    """Both ends of a range are included; without ends all rows come."""
    for offset in (2, 0, 3, 1):
        ledger.begin(lease, HOUR + offset, "config")
    assert [row.hour - HOUR.index for row in ledger.rows()] == [Hour(0), Hour(1), Hour(2), Hour(3)]
    assert [row.hour for row in ledger.rows(HOUR + 1, HOUR + 2)] == [HOUR + 1, HOUR + 2]
    assert [row.hour for row in ledger.rows(first=HOUR + 3)] == [HOUR + 3]
    assert ledger.rows(last=HOUR - 1) == []


def test_rows_may_do_without_records(ledger, lease):
    """A look over many hours need not read what each is told by; all else is there."""
    trained(ledger, lease, HOUR, record={"challenger": "name"})
    (whole,), (bare,) = ledger.rows(), ledger.rows(records=False)
    assert whole.record == {"challenger": "name"}
    assert bare == replace(whole, record=None)


def test_the_chain_goes_on_from_the_latest_trained_hour(ledger, lease):
    """Hours that trained nothing, are running, or are not earlier are stepped over."""
    assert ledger.latest_trained(HOUR) is None
    trained(ledger, lease, HOUR)
    ledger.begin(lease, HOUR + 1, "config")
    ledger.finish(lease, HOUR + 1, "HELD", "no-data")
    ledger.begin(lease, HOUR + 2, "config")
    trained(ledger, lease, HOUR + 3)
    assert ledger.latest_trained(HOUR + 3).hour == HOUR
    assert ledger.latest_trained(HOUR + 4).hour == HOUR + 3
    assert [row.hour for row in ledger.trained(1)] == [HOUR + 3]
    assert [row.hour for row in ledger.trained(5)] == [HOUR, HOUR + 3]
    assert ledger.latest_trained(HOUR) is None


def test_a_changed_hour_makes_the_later_ones_stale(ledger, lease):
    """Later trained hours are marked with the first cause; a new attempt that ends is no longer stale."""
    for offset in range(4):
        trained(ledger, lease, HOUR + offset)
    ledger.begin(lease, HOUR + 4, "config")
    ledger.finish(lease, HOUR + 4, "HELD", "no-data")
    assert ledger.mark_stale(lease, HOUR + 1, "late data") == 2
    assert ledger.mark_stale(lease, HOUR, "replaced", including=True) == 2
    assert [row.stale_because for row in ledger.rows()] == ["replaced", "replaced", "late data", "late data", None]
    assert ledger.mark_stale(lease, HOUR + 4, "late data", including=True) == 1
    assert ledger.begin(lease, HOUR + 1, "config").stale_because == "replaced"
    assert ledger.finish(lease, HOUR + 1, "PUBLISHED").stale_because is None


@pytest.mark.fault(18)
def test_a_lease_is_held_until_released_or_expired(ledger, clock):
    """While it is held others are told by whom and until when; each new lease has a higher fencing number."""
    first = ledger.acquire("run 1", seconds=60)
    assert ledger.holder() == first
    with pytest.raises(LedgerError, match=r"in use by run 1 until 2017-10-01T05:01:00Z") as caught:
        ledger.acquire("run 2", seconds=60)
    assert caught.value.reason == "busy"
    clock.move(59)
    renewed = ledger.renew(first, seconds=60)
    assert renewed.fence == first.fence
    clock.move(59)
    with pytest.raises(LedgerError, match="in use"):
        ledger.acquire("run 2", seconds=60)
    ledger.release(renewed)
    assert ledger.holder() is None
    assert ledger.acquire("run 2", seconds=60).fence == first.fence + 1
    clock.move(61)
    assert ledger.holder() is None
    assert ledger.acquire("run 3", seconds=60).fence == first.fence + 2


def test_a_run_that_was_replaced_cannot_write(ledger, clock):
    """Once its expired lease was taken over, every write of the old run is refused and changes nothing."""
    old = ledger.acquire("run 1", seconds=60)
    trained(ledger, old, HOUR)
    clock.move(61)
    ledger.stage(old, HOUR, "publish")  # expired but not replaced: nobody else can have written
    new = ledger.acquire("run 2", seconds=60)
    rows = ledger.rows()
    writes = [
        lambda: ledger.begin(old, HOUR, "config"),
        lambda: ledger.stage(old, HOUR, "train"),
        lambda: ledger.finish(old, HOUR, "FAILED"),
        lambda: ledger.mark_stale(old, HOUR - 1, "late data"),
        lambda: ledger.delivered(old, HOUR, "mark"),
        lambda: ledger.renew(old, 60),
        lambda: ledger.release(old),
        lambda: ledger.check(old),
    ]
    for write in writes:
        with pytest.raises(LeaseLost, match="run 1 no longer holds lease 1: the ledger is now held by run 2"):
            write()
    assert ledger.rows() == rows
    ledger.check(new)
    ledger.release(new)
    with pytest.raises(LeaseLost, match="held by nobody"):
        ledger.begin(new, HOUR, "config")


def test_one_of_eight_threads_gets_the_lease(url, ledger):
    """Of eight that ask at once one is given the lease; the others are told who has it."""
    barrier, results = threading.Barrier(8), []

    def ask(name):
        barrier.wait()
        try:
            results.append(ledger.acquire(name, seconds=60).owner)
        except LedgerError as error:
            results.append(error.reason)

    threads = [threading.Thread(target=ask, args=(f"run {index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("busy") == 7
    assert ledger.holder().owner in results


TAKE_TURNS = """
import sys
from saec.errors import LedgerError
from saec.hours import Hour
from saec.ledger import Ledger

ledger, done = Ledger(sys.argv[1]), 0
while done < 10:
    try:
        lease = ledger.acquire(sys.argv[2], seconds=60)
    except LedgerError as error:
        assert error.reason == "busy", error
        continue
    ledger.begin(lease, Hour.parse(sys.argv[3]), "config")
    ledger.release(lease)
    print(lease.fence)
    done += 1
"""


@pytest.mark.slow  # three processes that fight for a lease thirty times; eight threads do so above
def test_processes_take_turns(tmp_path):
    """Three processes that open a new ledger at once and fight for its lease: every fencing number is given once."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE_TURNS, url, f"process {index}", str(HOUR)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(3)
    ]
    said = [process.communicate(timeout=60) for process in processes]
    assert [errors for _, errors in said] == [""] * 3
    assert sorted(int(fence) for output, _ in said for fence in output.split()) == list(range(1, 31))
    assert Ledger(url).get(HOUR).attempts == 30


@pytest.mark.fault(18)
def test_a_killed_run_blocks_nobody_longer_than_its_lease(tmp_path):
    """A process killed in the middle of an hour leaves it RUNNING; when its lease expires the next run begins again."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    script = (
        "import os, signal, sys; from saec.hours import Hour; from saec.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1]); lease = ledger.acquire('killed', seconds=0.01)\n"
        "ledger.begin(lease, Hour.parse('2017-10-01T03'), 'config'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, url], check=False)
    ledger = Ledger(url, clock=lambda: datetime.now(UTC) + timedelta(seconds=1))
    assert ledger.get(HOUR).state == "RUNNING"
    assert ledger.begin(ledger.acquire("next", seconds=60), HOUR, "config").attempts == 2


def test_a_newer_ledger_is_refused(tmp_path):
    """Tables of a later version are not misread: the message names both versions."""
    path = tmp_path / "ledger.db"
    Ledger(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("update schema_version set version = 4")
    with pytest.raises(LedgerError, match="of version 4, this saec knows version 3") as caught:
        Ledger(f"sqlite:///{path}")
    assert caught.value.reason == "schema-version"


@pytest.mark.parametrize(
    "url",
    [
        "postgres//ann:canary-secret@host/db",
        "postgresql://ann:canary-secret@host:port/db",
        "nosuch://ann:canary-secret@host/db",
        "sqlite:////proc/no/such?password=canary-secret",
        "postgresql+psycopg://ann:canary-secret@127.0.0.1:9/db?password=canary-secret",
    ],
)
def test_no_password_is_ever_shown(url):
    """However a URL is unusable, neither the message nor its chained causes hold the password."""
    with pytest.raises(LedgerError) as caught:
        Ledger(url)
    assert "canary-secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_file_that_is_no_database_is_a_ledger_error(tmp_path):
    """Other bytes in the ledger's place are named, not overwritten."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match=r"cannot open ledger .*ledger\.db: file is not a database"):
        Ledger(f"sqlite:///{path}")
    assert path.read_bytes() == b"not a database" * 100


def test_readers_and_the_writer_do_not_wait_for_each_other(ledger, lease, url):
    """While a run writes, a report can be read, and while a report is being read, a run can write."""
    trained(ledger, lease, HOUR)
    report = Ledger(url)
    with ledger._writing(lease):
        assert report.get(HOUR).state == "PUBLISHED"
    with report._reading() as session:
        assert session.get(HourRecord, HOUR.index).attempts == 1
        trained(ledger, lease, HOUR)
    assert report.get(HOUR).attempts == 2


def test_an_older_ledger_is_brought_up_to_date(tmp_path):
    """Tables of version 1 get what is missing, keep their hours, and are opened as usual from then on."""
    path = tmp_path / "ledger.db"
    first = Ledger(f"sqlite:///{path}")
    trained(first, first.acquire("run 1", seconds=0), HOUR)
    first.close()
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "alter table hours drop column delivery; alter table lease drop column wanted_until; "
            "drop table hours_aside; drop table pipeline; "
            "drop table backfills; update schema_version set version = 1"
        )
    ids = set()
    for _ in range(2):
        ledger = Ledger(f"sqlite:///{path}")
        assert [(row.hour, row.checkpoint, row.delivery) for row in ledger.rows()] == [(HOUR, f"after-{HOUR}", None)]
        ids.add(ledger.pipeline_id)
        ledger.close()
    assert len(ids) == 1


@pytest.mark.case(18)
def test_a_ledger_of_version_2_gets_an_id(tmp_path):
    """Drawn once, when it is first opened."""
    path = tmp_path / "ledger.db"
    Ledger(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.executescript("drop table pipeline; update schema_version set version = 2")
    first, second = Ledger(f"sqlite:///{path}"), Ledger(f"sqlite:///{path}")
    assert first.pipeline_id == second.pipeline_id
    assert len(first.pipeline_id) == 8
