"""Decides which hours are due, and in what order, for scheduled runs and backfills alike.

Decisions: hours are done oldest first, one at a time, because each builds on the one before. A scheduled run does every
hour since the newest one in the ledger, whatever was down in the meantime. The planner waits for an absent hour until
its deadline, then skips it as HELD(no-data). Hours after the newest partition are not due, because there is nothing to
do for them. Scheduled runs retry a failed hour after growing pauses; after `MOST_ATTEMPTS` the next hour continues
without it. An hour that failed because of the settings is neither delayed nor left behind: the first run after the fix
retries it.

A backfill does the requested hours and all hours of its range that build on them, because these would otherwise rest on
replaced results. Hours older than `retention` are frozen: what was learnt from them stays, unless it is replaced by
name.

Between hours with a partition or a ledger row, a gap longer than `LONGEST_GAP` is skipped, so that a stray partition of
1970 does not fill the ledger with half a million absent hours. A plan is therefore as long as the data, whatever the
range.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Literal

from saec.hours import Hour, hour_range

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from saec.config import Config, DataConfig
    from saec.ledger import HourRow, Ledger

Only = Literal["missing", "failed", "stale", "all"]
Action = Literal["do", "step-over", "wait", "skip"]
MOST_ATTEMPTS = 3
"""Attempts at an hour that scheduled runs make; a backfill may always try again."""
ESTIMATED_FROM = 24
"""Number of newest hours whose times give the estimate for the next one."""
LONGEST_GAP = 31 * 24
"""Maximum number of consecutive absent hours that are skipped one by one; a longer gap is not a delay of the feed."""
PAUSE = timedelta(minutes=5)
"""Pause after a first failed attempt; each further one doubles it."""


@dataclass(frozen=True)
class PlannedHour:
    """The planned action for an hour."""

    hour: Hour
    action: Action
    """Do it, end it as HELD(no-data), stop and wait for its partition, or skip it."""
    why: str
    """The reason, for people."""
    seconds: float | None = None
    """Estimated duration; None when no hour was timed yet or nothing is to be done."""
    chained: bool = False
    """Whether it is redone only because an hour that it builds on is redone."""

    @property
    def pending(self) -> bool:
        """Whether it can be done now."""
        return self.action in ("do", "step-over")


def due_now(config: Config, ledger: Ledger, now: Hour | None = None) -> list[PlannedHour]:
    """What a scheduled run would do now.

    Args:
        config: all settings.
        ledger: what was done.
        now: the first hour that counts as not over yet; by the clock, and with pauses, when left out.
    """
    from saec.data.partitions import available_hours  # noqa: PLC0415 - only who asks need wait for Arrow to load

    moment = datetime.now(UTC)
    rows = ledger.newest(ESTIMATED_FROM)
    available = available_hours(config.data, rows[-1].hour if rows else None)
    return due_hours(rows, available, now or over_now(config), config.data, None if now else moment)


def over_now(config: Config) -> Hour:
    """The first hour that counts as not over yet, by the clock, the lag of producers and the delay of clicks."""
    return Hour.now(timedelta(minutes=config.data.due_after)) - config.data.click_delay


def due_hours(
    rows: Sequence[HourRow],
    available: Collection[Hour],
    now: Hour,
    rules: DataConfig,
    moment: datetime | None = None,
) -> list[PlannedHour]:
    """The hours a scheduled run has to do.

    Args:
        rows: the ledger's last day or more, oldest first.
        available: hours whose partition is there.
        now: the first hour that counts as not over yet.
        rules: how long an absent hour is waited for.
        moment: now, to pause after a failed attempt; None does not pause.
    """
    closed = sorted(hour for hour in available if hour < now)
    if not closed:
        return []
    first = closed[0]
    if rows:
        newest = rows[-1]
        failed = newest.state == "FAILED" and newest.attempts < MOST_ATTEMPTS
        again = newest.state == "RUNNING" or failed or newest.settings_at_fault
        first = newest.hour if again else newest.hour + 1
        if again and moment and (pause := _paused(newest, moment)):
            return [pause]
    present, seconds = set(closed), _estimate(rows)
    plan = [_planned(hour, "is due", present, now, rules, seconds) for hour in _hours(first, closed[-1], present)]
    waiting = next((place for place, planned in enumerate(plan) if planned.action == "wait"), len(plan))
    return plan[: waiting + 1]


def _paused(failed: HourRow, moment: datetime) -> PlannedHour | None:
    """The hour to wait for, if it failed too recently to be retried."""
    if failed.state != "FAILED" or failed.settings_at_fault or failed.finished_at is None:
        return None
    until = failed.finished_at + PAUSE * 2 ** (failed.attempts - 1)
    if moment >= until:
        return None
    return PlannedHour(
        failed.hour,
        "wait",
        f"is FAILED({failed.reason}) after attempt {failed.attempts} of "
        f"{MOST_ATTEMPTS}; the next one is made from {until:%Y-%m-%dT%H:%M:%SZ} on",
    )


def backfill_hours(
    rows: Sequence[HourRow],
    available: Collection[Hour],
    first: Hour,
    last: Hour,
    now: Hour,
    config: Config,
    *,
    only: Only,
    replace_frozen: bool = False,
) -> list[PlannedHour]:
    """Every hour of a range except those in gaps longer than `LONGEST_GAP`, with what a backfill does about it.

    Args:
        rows: the ledger from the range's first hour on or longer, oldest first.
        available: hours whose partition is there.
        first: the range's first hour.
        last: the range's last hour, included.
        now: the first hour that counts as not over yet.
        config: how long an absent hour is waited for, and when one is frozen.
        only: which hours.
        replace_frozen: whether frozen hours are done too.
    """
    known, present, seconds = {row.hour: row for row in rows}, set(available), _estimate(rows)
    thawed = rows[-1].hour - config.retention if rows and not replace_frozen else first
    plan: list[PlannedHour] = []
    waited: Hour | None = None
    redone: Hour | None = None
    for hour in _hours(first, last, present | known.keys()):
        row = known.get(hour)
        wanted, why = _wanted(row, hour in present, only)
        frozen = (
            f"is frozen: more than {config.retention} hours older than the newest; --replace redoes it anyway"
            if hour < thawed and row and row.checkpoint
            else ""
        )
        planned = PlannedHour(hour, "skip", f"{why}, and {frozen}" if wanted and frozen else why)
        if wanted and not frozen:
            planned = _planned(hour, why, present, now, config.data, seconds)
        elif redone and row and row.checkpoint:
            planned = _chained(hour, redone, frozen or ("" if hour in present else "its partition is absent"), seconds)
        if waited and planned.action != "skip" and hour < now:
            planned = PlannedHour(hour, "wait", f"comes after hour {waited}, for which the pipeline waits")
        waited = waited or (hour if planned.action == "wait" else None)
        redone = redone or (hour if planned.action == "do" else None)
        plan.append(planned)
    return plan


def _hours(first: Hour, last: Hour, known: Collection[Hour]) -> Iterator[Hour]:
    """The hours of a range, oldest first, without gaps longer than `LONGEST_GAP` in which nothing is known."""
    at = first
    for stop in [*sorted(hour for hour in known if first <= hour <= last), last]:
        yield from hour_range(at if stop.index - at.index <= LONGEST_GAP else stop, stop)
        at = stop + 1


def _chained(hour: Hour, redone: Hour, obstacle: str, seconds: float | None) -> PlannedHour:
    """The action for an hour that builds on a redone one; if it cannot follow, the range ends."""
    why = f"builds on hour {redone}, which is redone"
    if obstacle:
        return PlannedHour(hour, "wait", f"{why}, but {obstacle}")
    return PlannedHour(hour, "do", why, seconds, chained=True)


def _wanted(row: HourRow | None, present: bool, only: Only) -> tuple[bool, str]:
    """Whether a backfill of this kind includes the hour, and why (not)."""
    if row is None:
        return only in ("missing", "all"), "was never done"
    state = f"is {row.ending}"
    if row.state == "RUNNING":
        return only != "stale", "was begun and not finished"
    if not present and (row.checkpoint or row.reason == "no-data"):
        return False, f"{state}, and its partition is absent: its row stays"
    if row.stale_because and only in ("stale", "all"):
        return True, f"is stale: {row.stale_because}"
    if row.reason == "no-data":
        return only in ("missing", "all"), "came late"
    return only == "all" or (only == "failed" and row.state in ("FAILED", "QUARANTINED")), state


def _planned(
    hour: Hour, why: str, present: Collection[Hour], now: Hour, rules: DataConfig, seconds: float | None
) -> PlannedHour:
    """The action for a requested hour, given what is possible now."""
    if hour >= now:
        return PlannedHour(hour, "wait", "is not over yet")
    if hour in present:
        return PlannedHour(hour, "do", why, seconds)
    if now.index - hour.index > rules.absent_after:
        return PlannedHour(hour, "step-over", "its partition is absent and its deadline has passed")
    return PlannedHour(
        hour, "wait", f"its partition is absent; the pipeline waits until {hour + rules.absent_after + 1}"
    )


def _estimate(rows: Sequence[HourRow]) -> float | None:
    """Seconds an hour is likely to take: the median of the last day's hours that trained."""
    timed = [row.seconds for row in rows if row.checkpoint and row.seconds is not None]
    return median(timed[-ESTIMATED_FROM:]) if timed else None
