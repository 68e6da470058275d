"""Clocks go back and forth in three zones: no hour is missing or done twice.

Decisions: the ticks are those that Prefect's own schedule gives for `5 * * * *` in the zone, over two days around the
switch; the planner is run at exactly these, on a real ledger, and what it says is due is noted as done. Lord Howe
Island moves its clocks by half an hour. How many hours a plain cron, which does one hour a tick, would have missed or
doubled in the same ticks is reported beside it.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime

from benchmarks.record import Figures
from flows import settings
from saec.config import DataConfig
from saec.hours import Hour, hour_range
from saec.ledger import Ledger
from saec.schedule.planner import due_hours

AROUND = 24
"""Hours before and after a switch."""
SWITCHES = {
    "New York, spring": ("America/New_York", "2026-03-08T07"),
    "New York, autumn": ("America/New_York", "2026-11-01T06"),
    "Berlin, spring": ("Europe/Berlin", "2026-03-29T01"),
    "Berlin, autumn": ("Europe/Berlin", "2026-10-25T01"),
    "Lord Howe, spring": ("Australia/Lord_Howe", "2026-10-03T15"),
    "Lord Howe, autumn": ("Australia/Lord_Howe", "2026-04-04T15"),
}
RULES = DataConfig(source="", time_column="time", label_column="label")


def ticks(zone: str, first: Hour, last: Hour) -> list[datetime]:
    """When Prefect's scheduler starts a run in these hours."""
    settings.apply(os.environ)
    from prefect.server.schemas.schedules import CronSchedule  # noqa: PLC0415 - its settings come first

    schedule = CronSchedule(cron="5 * * * *", timezone=zone)
    dates = asyncio.run(schedule.get_dates(n=500, start=first.start, end=(last + 1).start))
    return [date.astimezone(UTC) for date in dates]


def done(moments: list[datetime], hours: list[Hour]) -> list[Hour]:
    """The hours that the planner has done by runs at these moments, in order."""
    ledger = Ledger("sqlite://")
    lease = ledger.acquire("figure 7", seconds=3600)
    finished = []
    for moment in moments:
        now = Hour.of(moment)
        for planned in due_hours(ledger.newest(24), [hour for hour in hours if hour < now], now, RULES, moment):
            ledger.begin(lease, planned.hour, "")
            ledger.finish(lease, planned.hour, "PUBLISHED", checkpoint="x")
            finished.append(planned.hour)
    ledger.close()
    return finished


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Every zone, every switch."""
    wrong = plain = 0
    for name, (zone, at) in SWITCHES.items():
        switch = Hour.parse(at)
        hours = list(hour_range(switch - AROUND, switch + AROUND))
        moments = ticks(zone, hours[0] + 1, hours[-1] + 1)
        found = done(moments, hours)
        by_ticks = [Hour.of(moment) - 1 for moment in moments]
        plain += len(set(hours) ^ set(by_ticks)) + len(by_ticks) - len(set(by_ticks))
        wrong += found != hours
        print(f"  {name}: {len(hours)} hours, {len(moments)} ticks, {len(found)} done")
    figures.add(
        f"7. switches with an hour missing, doubled or out of order, of {len(SWITCHES)}",
        wrong,
        "switches",
        "= 0",
        holds=wrong == 0,
    )
    figures.add("7. hours that one hour a tick would have missed or doubled", plain, "hours")
