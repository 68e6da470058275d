"""Outlooks made by hand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from saec.hours import Hour
from saec.ledger import HourRow, Lease
from saec.monitoring.outlook import Outlook
from saec.planner import PlannedHour
from saec.store.releases import Release

FIRST = Hour.parse("2017-10-01T00")
NOW = datetime(2017, 10, 1, 12, 30, tzinfo=UTC)


def row(index: int, state: str = "PUBLISHED", **known) -> HourRow:
    """An hour of the ledger, which ended six minutes after it was over."""
    hour = FIRST + index
    return HourRow(hour, state, attempts=1, fence=1, finished_at=hour.start + timedelta(hours=1, minutes=6), **known)


def release(**known) -> Release:
    """A release."""
    given = {"sequence": 3, "action": "publish", "version": "20171001T11-abc", "held": False, "actor": "saec run",
             "reason": "PASS", "at": "2017-10-01T12:06:00+00:00", "previous": None, "fence": 1}
    return Release(**given | known)


@pytest.fixture
def outlook() -> Callable[..., Outlook]:
    """Makes an outlook: twelve hours published, the last of them live, nothing due; some of it changed."""
    def make(**changed) -> Outlook:
        known = {
            "now": NOW, "rows": [row(index) for index in range(12)], "due": [], "waiting": None, "has_data": True,
            "lease": None, "live": release(), "live_since": NOW - timedelta(minutes=24), "disk_free": 50_000_000_000,
        }
        return Outlook(**known | changed)
    return make


@pytest.fixture
def troubled(outlook) -> Outlook:
    """Six hours that published nothing, the last FAILED; three due, one awaited, one stale; a full disk; a hold."""
    rows = [row(0, version="20171001T00-abc"), row(1, "HELD", reason="worse", stale_because="hour 0 was done again")]
    rows += [row(index, "HELD", reason="worse") for index in range(2, 6)]
    rows += [row(6, "FAILED", reason="oom", message="no memory left")]
    return outlook(
        rows=rows, due=[PlannedHour(FIRST + index, "do", "is due", 60.0) for index in range(7, 10)],
        waiting=PlannedHour(FIRST + 10, "wait", "its partition is absent; waited for until 2017-10-01T13"),
        lease=Lease("hourly flow on host, process 7", 4, NOW + timedelta(seconds=90)),
        live=release(version="20171001T00-abc", held=True, action="hold", actor="ann", reason="launch day"),
        live_since=NOW - timedelta(hours=13), disk_free=2_500_000_000,
    )
