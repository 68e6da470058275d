"""The lease between processes: one that died here is replaced at once, one elsewhere when its lease expires."""

import fcntl
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from saec.errors import LeaseLost, LedgerError, ReleaseConflict
from saec.ledger import Ledger
from saec.schedule.lease import at_work, held
from saec.store.model_store import open_store
from saec.store.releases import ReleaseLog


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'ledger.db'}"


def hold(folder: Path, seconds: float) -> None:
    """Hold the lease, in a process of its own."""
    with held(Ledger(url(folder)), open_store(folder / "store"), folder, "a run", 0.0):
        time.sleep(seconds)


@pytest.fixture
def run(tmp_path):
    """A process that holds the lease."""
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path, 60.0))
    process.start()
    ledger = Ledger(url(tmp_path))
    while ledger.holder() is None:
        time.sleep(0.02)
    yield process
    process.kill()
    process.join()


@pytest.fixture
def taken(tmp_path):
    """A function that takes the lease, and gives it back."""

    def take(patience: float = 0.0):
        with held(Ledger(url(tmp_path)), open_store(tmp_path / "store"), tmp_path, "another run", patience) as lease:
            return lease

    return take


@pytest.mark.fault(18)
def test_run_that_was_killed_here_is_replaced_at_once(run, taken, tmp_path):
    """While it lives it is at work and nobody else gets in; killed, it is not, and its lease is taken over."""
    ledger = Ledger(url(tmp_path))
    assert at_work(ledger, tmp_path).owner.startswith("a run on ")
    with pytest.raises(LedgerError, match="in use by a run on"):
        taken()
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    assert ledger.holder() is not None, "the ledger alone cannot know"
    assert at_work(ledger, tmp_path) is None
    lease = taken()
    assert (lease.fence, lease.taken_over) == (2, True)


@pytest.mark.fault(18)
def test_run_on_another_machine_is_waited_for(taken, tmp_path):
    """Whether a run elsewhere is alive cannot be told from here: it keeps its lease."""
    Ledger(url(tmp_path)).acquire("a run on elsewhere, process 7", 60)
    assert at_work(Ledger(url(tmp_path)), tmp_path) is not None
    with pytest.raises(LedgerError, match="elsewhere"):
        taken()


@pytest.mark.slow  # 150 leases
def test_runs_that_begin_and_end_at_once_never_take_each_other_for_dead(tmp_path):
    """Many ask again and again for a lease that is often free: who gets it keeps it until it gives it back."""
    leases = []

    def ask(_: int) -> None:
        for _ in range(25):
            with suppress(LedgerError), held(Ledger(url(tmp_path)), store, tmp_path, "a run", 0.0) as lease:
                leases.append(lease)

    store = open_store(tmp_path / "store")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    assert len(leases) > 6
    assert not any(lease.taken_over for lease in leases)


def test_lock_of_a_run_that_stands_still_is_not_waited_for_long(taken, tmp_path, monkeypatch):
    """A run without the lease that never lets go of the lock, stopped as it began, holds nobody up for ever."""
    monkeypatch.setattr("saec.schedule.lease.LOCK_SECONDS", 0.2)
    with (tmp_path / "run.lock").open("ab") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert taken().fence == 1


def test_patience_is_rewarded_when_the_lease_is_free(taken, tmp_path, monkeypatch):
    """Who has patience lets the holder know, and gets the lease when it expires; who has not hears "busy"."""
    monkeypatch.setattr("saec.schedule.lease.ASK_SECONDS", 0.05)
    ledger = Ledger(url(tmp_path))
    ledger.acquire("a run on elsewhere, process 7", 0.5)
    assert not ledger.wanted()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(taken, 30.0)
        while not ledger.wanted():
            assert not waiting.done(), "it waited, and nobody was told"
        lease = waiting.result()
    assert (lease.fence, lease.taken_over, ledger.wanted()) == (2, True, False)


def test_a_ledger_that_knows_less_than_the_release_log_starts_above_it(taken, tmp_path):
    """Restored from an older copy, it gives out a fencing number with which a release is possible at once."""
    open_store(tmp_path / "store").hold(actor="a run of before", reason="was released then", fence=7)
    assert taken().fence == 8


def test_replaced_run_cannot_release_although_nobody_else_has(taken, tmp_path):
    """Taking over writes the new fencing number into the release log: what the old run does next comes too late."""
    store = open_store(tmp_path / "store")
    before = store.hold(actor="a person", reason="to have a release", fence=0)
    Ledger(url(tmp_path)).acquire("a run on elsewhere, process 7", 0.0)
    assert taken().fence == 2
    last = store.live()
    assert (last.action, last.fence, last.version, last.held) == ("fence", 2, before.version, True)
    with pytest.raises(LeaseLost):
        store.unhold(actor="the old run", reason="late", fence=1)
    with pytest.raises(ReleaseConflict):
        ReleaseLog(store.objects).append(
            before,
            action="publish",
            version=None,
            held=False,
            actor="the old run",
            reason="later still",
            fence=1,
            previous=None,
        )
