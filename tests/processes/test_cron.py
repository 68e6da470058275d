"""Plain cron, without Prefect."""

import time

import pytest

from tests.processes.conftest import until


@pytest.mark.fault(34)
@pytest.mark.server
@pytest.mark.timeout(1800)
def test_plain_cron_does_the_same(drill):
    """`saec run` again and again does hours as they come, one or several at a time, with the same bytes."""
    drill.cron()
    for hours in (1, 3, 1, 4):
        drill.arrive(hours)
        time.sleep(2)
    until(drill.done, "all hours are done")
    drill.check()
