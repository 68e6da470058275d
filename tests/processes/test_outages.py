"""The server or the worker is down while ten hours come."""

import time

import pytest

from tests.processes.conftest import kill, until

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
OUTAGE_TICK, AFTERWARDS = 2, 30
"""Seconds between ticks while nothing runs that would need them, and while the hours are made up for."""


def ten_ticks(scheduled) -> None:
    """An hour comes with each tick."""
    for _ in range(10):
        scheduled.arrive()
        time.sleep(OUTAGE_TICK)


@pytest.mark.fault(13)
def test_the_server_is_down_for_ten_ticks(scheduled):
    """The worker gives up; both are started again, and the hours of which Prefect has no run are done all the same."""
    # Without this Prefect's client tries each request for a minute, and the worker gives up after some minutes.
    worker = scheduled.worker(PREFECT_CLIENT_MAX_RETRIES="0")
    last = scheduled.arrive(2)
    until(lambda: scheduled.done(last), "two hours are done")
    scheduled.server.kill()
    ten_ticks(scheduled)
    assert worker.wait(60) != 0, "a service manager sees that the worker has failed"
    assert len(scheduled.ledger.rows()) == 2
    scheduled.server.start()
    scheduled.worker()
    last = scheduled.arrive(2)
    until(lambda: scheduled.done(last), "the missed hours are done")
    scheduled.check()


@pytest.mark.fault(14, 19)
def test_the_worker_is_down_for_ten_ticks(scheduled):
    """Ten runs are late; a new worker starts them a few at a time: one does all hours, the others find none left."""
    worker = scheduled.worker()
    last = scheduled.arrive(2)
    until(lambda: scheduled.done(last), "two hours are done")
    kill(worker)
    scheduled.tick(OUTAGE_TICK)
    ten_ticks(scheduled)
    until(lambda: scheduled.states()["Late"] >= 10, "ten runs are late")
    last = scheduled.arrive(2)
    scheduled.worker(AFTERWARDS)
    until(lambda: scheduled.done(last), "the missed hours are done")
    until(lambda: not scheduled.states()["Late"], "no run is late any more")
    scheduled.check()
    did = [run["state"]["message"] for run in scheduled.runs() if "published" in (run["state"]["message"] or "")]
    assert did == ["12 published"], scheduled.states()
