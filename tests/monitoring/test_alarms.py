"""The alarms: when the pipeline needs a person."""

from datetime import timedelta

import pytest

from saec.config import AlarmsConfig
from saec.ledger import HourRow
from saec.monitoring.alarms import ALARMS, alarms


def names(outlook, **thresholds) -> list[str]:
    """The alarms that are set off."""
    return [alarm.name for alarm in alarms(outlook, AlarmsConfig(**thresholds))]


def test_a_pipeline_in_order_sets_off_nothing(outlook):
    """Hours published in time, room on the disk."""
    assert names(outlook()) == []


def test_a_pipeline_before_its_first_hour_sets_off_nothing(outlook):
    """What was never there cannot be late."""
    assert names(outlook(rows=[], live=None, live_since=None)) == []


def test_everything_at_once(troubled):
    """Each alarm says what was found and wanted, and what to type."""
    found = {alarm.name: alarm for alarm in alarms(troubled, AlarmsConfig())}
    assert list(found) == list(ALARMS)
    assert found["quiet"].message == "no hour finished for 324 minutes, wanted one within 150"
    assert found["failed"].message == "hour 2017-10-01T06 is FAILED(oom): no memory left"
    assert found["failed"].command == "run --hour 2017-10-01T06"
    assert found["held"].message.startswith("6 hours in a row published nothing, the newest is FAILED(oom); wanted")
    assert found["held"].command == "report --from 2017-10-01T01"
    assert found["old"].message == "20171001T00-abc has been live for 13.0 hours, wanted a newer one within 12"
    assert (found["worse"].message, found["worse"].command) == ("it is shown worse", "report")
    assert found["disk"].message == "2.50 GB free where the workspace is, wanted 5"


@pytest.mark.parametrize(
    ("silent", "thresholds"),
    [
        ({"held", "old"}, {"hours": 7}),
        ({"held", "old"}, {"hours": 12}),
        ({"held", "old", "quiet"}, {"hours": 13}),
        ({"disk"}, {"disk_free_gb": 2.5}),
    ],
)
def test_a_threshold_that_is_not_passed_sets_off_no_alarm(troubled, silent, thresholds):
    """One number of hours moves three of them: 7 hours are 14 of the live version and 175 minutes of silence."""
    assert names(troubled, **thresholds) == [other for other in ALARMS if other not in silent]


def test_an_hour_at_work_interrupts_no_streak(outlook):
    """RUNNING is no outcome: it neither breaks a streak of held hours nor lengthens it."""
    held = list(outlook().rows[:2])
    streak = [HourRow(held[1].hour + index, "HELD", attempts=1, fence=1) for index in range(1, 4)]
    running = HourRow(held[1].hour + 4, "RUNNING", attempts=1, fence=1)
    assert names(outlook(rows=[*held, *streak, running]), hours=3)[-1:] == ["held"]
    assert names(outlook(rows=[*held, *streak, running]), hours=4)[-1:] != ["held"]


def test_a_failure_that_was_passed_over_is_history(outlook):
    """Only the newest hour's failure calls for a person."""
    rows = list(outlook().rows)
    rows[-2] = HourRow(rows[-2].hour, "FAILED", attempts=3, fence=1)
    assert names(outlook(rows=rows)) == []


def test_a_clock_that_went_back_sets_off_nothing(outlook):
    """A release from the future is not old."""
    seen = outlook()
    assert seen.live_seconds > 0
    assert outlook(live_since=seen.now + timedelta(hours=1)).live_seconds == 0
