"""A schedule in a zone whose clocks change: hours are UTC, so none is lost or done twice."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from prefect.server.schemas.schedules import CronSchedule

from saec.data.simulate import Simulation, simulate_hours
from saec.hours import Hour, hour_range

SWITCHES = {
    "New York, autumn": ("America/New_York", Hour.parse("2026-11-01T06"), "skipped"),
    "New York, spring": ("America/New_York", Hour.parse("2026-03-08T07"), "there"),
    "Berlin, autumn": ("Europe/Berlin", Hour.parse("2026-10-25T01"), "skipped"),
    "Berlin, spring": ("Europe/Berlin", Hour.parse("2026-03-29T01"), "there"),
    "UTC, no switch": ("UTC", Hour.parse("2026-03-29T01"), "there"),
}


def ticks(zone: str, first: Hour, last: Hour) -> list[datetime]:
    """When Prefect's own scheduler would run `5 * * * *` in these hours."""
    schedule = CronSchedule(cron="5 * * * *", timezone=zone)
    dates = asyncio.run(schedule.get_dates(n=100, start=first.start, end=(last + 1).start))
    return [date.astimezone(UTC) for date in dates]


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("zone", "switch", "tick_of_the_switch"),
    [
        pytest.param(*case, id=name, marks=[] if name == "Berlin, autumn" else pytest.mark.slow)  # six hours each
        for name, case in SWITCHES.items()
    ],
)
def test_no_hour_is_lost_or_doubled(zone, switch, tick_of_the_switch, simulated, tmp_path):
    """Each hour is done once, in order, by the first tick after its end; in autumn by the one after the skipped one."""
    site, first, last = type(simulated)(tmp_path), switch - 3, switch + 2
    rows = Simulation(seed=3, rows_per_hour=200, users=50, items=30)
    done: list[Hour] = []
    scheduled = ticks(zone, first + 1, last + 1)
    for tick in scheduled:
        now = Hour.of(tick)
        for ended in hour_range(done[-1] + 1 if done else first, now - 1):
            simulate_hours(rows, ended, 1, tmp_path / "data")
        done += [row.hour for row in site.advance(now - 1)]
        assert done[-1] == now - 1
    assert done == list(hour_range(first, last))
    assert [row.attempts for row in site.rows()] == [1] * 6
    there = switch.start + timedelta(minutes=5) in scheduled
    assert there == (tick_of_the_switch == "there"), "Prefect skips the hour that the clock shows twice"
