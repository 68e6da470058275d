"""With the locked dependencies, the scheduler really creates runs."""

import pytest

from tests.processes.conftest import until

pytestmark = [pytest.mark.server, pytest.mark.timeout(200)]


@pytest.mark.fault(74)
def test_a_scheduled_run_appears_and_completes(scheduled):
    """A run that the scheduler created, not the API, does an hour that is due, and ends under the outcome's name."""
    last = scheduled.arrive(3)
    scheduled.worker()
    until(lambda: scheduled.done(last), "the hours are done")
    ended = until(lambda: [run for run in scheduled.runs() if run["state_type"] == "COMPLETED"], "a run has completed")
    assert ended[0]["auto_scheduled"]
    assert ended[0]["state_name"] == "HELD", "the first hours are held, for the original has yet to learn something"
    assert [row.state for row in scheduled.ledger.rows()] == ["HELD", "HELD", "PUBLISHED"]
