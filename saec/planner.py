"""Which hours are due, and in what order: the same rules for a scheduled run and for a backfill by hand.

Decisions: hours are done oldest first, one at a time, since each goes on from the one before. A scheduled run does
every hour since the newest one in the ledger, whatever was down meanwhile. An absent hour is waited for until its
deadline, then stepped over as HELD(no-data); hours after the newest partition there is are not due, for nothing can be
done about them. A failed hour is tried again by the next scheduled run, as long as no later hour has gone on without
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from saec.hours import hour_range

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from saec.hours import Hour
    from saec.ledger import HourRow

Only = Literal["missing", "failed", "stale", "all"]
Action = Literal["do", "step-over", "wait", "skip"]
MOST_ATTEMPTS = 3
"""Attempts at an hour that scheduled runs make; a backfill may always try again."""


@dataclass(frozen=True)
class PlannedHour:
    """What is to become of an hour."""

    hour: Hour
    action: Action
    """Do it, step over it as HELD(no-data), stop and wait for its partition, or skip it."""
    why: str
    """The reason, for people."""
    seconds: float | None = None
    """Estimated duration; None when no hour was timed yet or nothing is to be done."""


def due_hours(rows: Sequence[HourRow], available: Collection[Hour], now: Hour, absent_after: int) -> list[PlannedHour]:
    """The hours a scheduled run has to do.

    Args:
        rows: the ledger, oldest first.
        available: hours whose partition is there.
        now: the hour that the clock is in; earlier ones are over.
        absent_after: hours after its end that an absent hour is waited for.
    """
    closed = sorted(hour for hour in available if hour < now)
    if not closed:
        return []
    first = closed[0]
    if rows:
        newest = rows[-1]
        again = newest.state == "RUNNING" or (newest.state == "FAILED" and newest.attempts < MOST_ATTEMPTS)
        first = newest.hour if again else newest.hour + 1
    present, seconds = set(closed), _estimate(rows)
    plan = [_planned(hour, "is due", present, now, absent_after, seconds) for hour in hour_range(first, closed[-1])]
    waiting = next((place for place, planned in enumerate(plan) if planned.action == "wait"), len(plan))
    return plan[: waiting + 1]


def backfill_hours(
    rows: Sequence[HourRow],
    available: Collection[Hour],
    first: Hour,
    last: Hour,
    now: Hour,
    *,
    only: Only,
    absent_after: int,
) -> list[PlannedHour]:
    """Every hour of a range with what a backfill does about it."""
    known, present, seconds = {row.hour: row for row in rows}, set(available), _estimate(rows)
    plan: list[PlannedHour] = []
    waited: Hour | None = None
    for hour in hour_range(first, last):
        wanted, why = _wanted(known.get(hour), hour in present, only)
        planned = PlannedHour(hour, "skip", why)
        if wanted:
            planned = _planned(hour, why, present, now, absent_after, seconds)
        if planned.action == "wait":
            waited = waited or hour
        elif planned.action != "skip" and waited:
            planned = PlannedHour(hour, "wait", f"comes after hour {waited}, which is waited for")
        plan.append(planned)
    return plan


def _wanted(row: HourRow | None, present: bool, only: Only) -> tuple[bool, str]:
    """Whether a backfill of this kind is about the hour, and why (not)."""
    if row is None:
        return only in ("missing", "all"), "was never done"
    state = f"is {row.state}" + (f"({row.reason})" if row.reason else "")
    if row.state == "RUNNING":
        return only in ("missing", "failed", "all"), "was begun and not finished"
    if not present and (row.checkpoint or row.reason == "no-data"):
        return False, f"{state}, and its partition is absent: what is known of it stays"
    if row.reason == "no-data":
        return only in ("missing", "all"), "came late"
    if row.stale_because:
        return only in ("stale", "all"), f"is stale: {row.stale_because}"
    return only == "all" or (only == "failed" and row.state in ("FAILED", "QUARANTINED")), state


def _planned(
    hour: Hour, why: str, present: Collection[Hour], now: Hour, absent_after: int, seconds: float | None
) -> PlannedHour:
    """What can be done now about an hour that is wanted."""
    if hour >= now:
        return PlannedHour(hour, "wait", "is not over yet")
    if hour in present:
        return PlannedHour(hour, "do", why, seconds)
    if now.index - hour.index > absent_after:
        return PlannedHour(hour, "step-over", "its partition is absent and its deadline has passed")
    return PlannedHour(hour, "wait", f"its partition is absent; waited for until {hour + absent_after + 1}")


def _estimate(rows: Sequence[HourRow]) -> float | None:
    """Seconds an hour is likely to take: the median of the last day's hours that trained."""
    timed = [row.seconds for row in rows if row.checkpoint and row.seconds is not None]
    return median(timed[-24:]) if timed else None
