"""The server or the worker is down while ten hours come."""

import time

import pytest

from tests.processes.conftest import did_hours, kill, until

pytestmark = [pytest.mark.server, pytest.mark.timeout(1800)]
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
    scheduled.begin(2)
    # By default the client tries a request for a minute, and the worker gives up after three.
    worker = scheduled.worker(PREFECT_CLIENT_MAX_RETRIES="0")
    until(scheduled.runs, "the schedule is known")
    scheduled.server.kill()
    ten_ticks(scheduled)
    assert worker.wait(60) != 0, "a service manager sees that the worker has failed"
    assert len(scheduled.ledger.rows()) == 2
    scheduled.server.start()
    scheduled.worker()
    until(scheduled.done, "the missed hours are done")
    scheduled.check()


@pytest.mark.fault(14, 19)
def test_the_worker_is_down_for_ten_ticks(scheduled):
    """Runs are late; a new worker starts them a few at a time: one does all hours, the others find none left."""
    scheduled.begin(2)
    worker = scheduled.worker()
    until(scheduled.runs, "the schedule is known")
    kill(worker)
    scheduled.tick(OUTAGE_TICK)
    ten_ticks(scheduled)
    assert scheduled.overdue() >= 9
    scheduled.tick(AFTERWARDS)
    scheduled.worker(AFTERWARDS)
    until(scheduled.done, "the missed hours are done")
    until(lambda: not scheduled.overdue(), "no run is late any more")
    scheduled.check()
    assert [run["state"]["message"] for run in scheduled.runs() if did_hours(run)] == ["10 published"]
