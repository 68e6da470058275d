"""With the locked dependencies, the scheduler really creates runs."""

import pytest

from tests.processes.conftest import did_hours, until

pytestmark = [pytest.mark.server, pytest.mark.timeout(1800)]


@pytest.mark.fault(74)
def test_a_scheduled_run_appears_and_completes(scheduled):
    """A run that the scheduler created, not the API, does an hour that is due, and ends under the outcome's name."""
    scheduled.arrive(3)
    scheduled.worker()
    until(scheduled.done, "the hours are done")
    (did,) = until(lambda: [run for run in scheduled.runs() if did_hours(run)], "a run has completed")
    assert (did["auto_scheduled"], did["state_name"]) == (True, "HELD"), "named after the worst of its hours"
    assert did["state"]["message"] == "1 published, 2 held"
