"""kill -9 in the middle of an hour, and a process that wakes up after it was given up."""

import os
import signal

import pytest

from tests.processes.conftest import kill, until

pytestmark = [pytest.mark.server, pytest.mark.timeout(1800)]
LEASE = {"DRILL_LEASE": "6"}
"""So long until a run may take over from one that gives no sign of life."""


@pytest.fixture
def caught(scheduled):
    """A pipeline whose third hour has come to a step and no further; returns the hour, the step's process, the worker.

    Two hours are done, and all the others have come too.
    """

    def caught_at(step: str):
        scheduled.begin(2)
        scheduled.wait_at(step)
        worker = scheduled.worker(**LEASE)
        hour = scheduled.arrive()
        until(lambda: scheduled.reached(hour, step), f"an hour has reached {step}")
        return hour, scheduled.at_work(), worker

    return caught_at


@pytest.mark.fault(5)
def test_worker_and_flow_are_killed(scheduled, caught):
    """The next worker's run waits for the lease to expire, does the hour again and all that came meanwhile."""
    hour, _, worker = caught("gate")
    kill(worker)
    scheduled.arrive(2)
    scheduled.wait_at(None)
    scheduled.worker(**LEASE)
    until(scheduled.done, "all hours are done")
    scheduled.check(hour)


@pytest.mark.fault(1, 5)
def test_only_the_flow_is_killed(scheduled, caught):
    """The worker reports the run as crashed, and a later one does the hour again."""
    hour, process, _ = caught("retrain")
    os.kill(process, signal.SIGKILL)
    scheduled.go_on(2)
    scheduled.check(hour)
    until(lambda: scheduled.states()["Crashed"] == 1, "the killed run is known to have crashed")


@pytest.mark.fault(6)
def test_a_run_that_was_given_up_cannot_publish(scheduled, caught):
    """A process that stands still as it is about to publish is replaced; woken up, it finds its lease gone and ends."""
    hour, zombie, _ = caught("publish")
    os.kill(zombie, signal.SIGSTOP)
    scheduled.go_on(2)
    os.kill(zombie, signal.SIGCONT)
    until(lambda: scheduled.states()["Failed"] == 1, "the zombie has ended")
    (ended,) = [run for run in scheduled.runs() if run["state_name"] == "Failed"]
    assert "was replaced" in ended["state"]["message"]
    scheduled.check(hour)
