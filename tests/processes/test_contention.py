"""More than one run at a time: one works, the others see it and end."""

import time

import pytest

from tests.processes.conftest import until

pytestmark = [pytest.mark.server, pytest.mark.timeout(1800)]


def busy(drill) -> list[dict]:
    """Scheduled runs that found another run at work."""
    return [run for run in drill.runs() if run["state_name"] == "HELD" and "in use by" in run["state"]["message"]]


@pytest.mark.fault(17)
def test_an_hour_longer_than_its_period(scheduled):
    """While an hour takes longer than the schedule's period the next runs end HELD; then all goes on, none is late."""
    scheduled.worker()
    scheduled.wait_at("gate")
    hour = scheduled.arrive(3) - 2
    until(lambda: scheduled.reached(hour, "gate"), "the first hour is being gated")
    until(lambda: len(busy(scheduled)) >= 2, "two runs have found it at work")
    scheduled.go_on(2)
    until(lambda: not scheduled.overdue() and scheduled.states()["Running"] <= 1, "no runs have piled up")
    scheduled.check()


@pytest.mark.fault(10)
def test_two_workers_and_cron_at_once(scheduled):
    """Two workers on one schedule and `saec run` in a loop: one of them does an hour, the others find it at work."""
    scheduled.worker()
    scheduled.worker()
    scheduled.wait_at("gate")
    hour = scheduled.arrive()
    until(lambda: scheduled.reached(hour, "gate"), "the first hour is being gated")
    cron = scheduled.cron()
    until(lambda: busy(scheduled), "a run of the schedule has found it at work")
    until(lambda: "in use by hourly flow" in scheduled.cron_log.read_text(), "so has saec run")
    scheduled.wait_at(None)
    for _ in range(7):
        scheduled.arrive()
        time.sleep(1)
    until(scheduled.done, "all hours are done")
    assert cron.poll() is None
    scheduled.check()
