"""Reports what a backfill has done and will do, hour by hour, for dry runs, progress bars and status.

Decisions: only the backfill's row and the hours it did are stored; the remaining work is planned again from these on
every request, so a backfill that died gives the same answer as a running one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from saec.data.partitions import available_hours
from saec.errors import ConfigError
from saec.ledger import Backfill
from saec.schedule.planner import Only, PlannedHour, backfill_hours, over_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from saec.config import Config
    from saec.hours import Hour
    from saec.ledger import HourRow, Ledger
    from saec.schedule.planner import Action

FAILURES = ("FAILED", "QUARANTINED")


@dataclass(frozen=True)
class Progress:
    """The progress of a backfill."""

    backfill: Backfill
    plan: list[PlannedHour]
    """Every hour of the range, with what is still to be done for it."""
    done: int
    """Hours that it has done."""

    @property
    def left(self) -> list[PlannedHour]:
        """Hours that are still to be done."""
        return [planned for planned in self.plan if planned.pending]

    @property
    def seconds_left(self) -> float | None:
        """Estimated time for those; None when no hour was timed yet."""
        timed = [planned.seconds for planned in self.left if planned.seconds is not None]
        return sum(timed) if timed or not self.left else None


@dataclass(frozen=True)
class Span:
    """Consecutive hours of a plan for which the same is planned for the same reason."""

    hour: Hour
    """The first of them."""
    last: Hour
    action: Action
    why: str
    seconds: float | None
    """Estimated duration of all of them."""

    @property
    def hours(self) -> int:
        """How many hours they are."""
        return self.last.index - self.hour.index + 1

    def __str__(self) -> str:
        """The hours for people."""
        return str(self.hour) if self.hours == 1 else f"{self.hour} to {self.last} ({self.hours:,})"


def spans(plan: Iterable[PlannedHour]) -> list[Span]:
    """A plan, oldest first, with consecutive hours joined if the same is planned for them for the same reason."""
    found: list[Span] = []
    for planned in plan:
        before = found[-1] if found else None
        if before and (before.last + 1, before.action, before.why) == (planned.hour, planned.action, planned.why):
            seconds = None if planned.seconds is None else (before.seconds or 0.0) + planned.seconds
            found[-1] = replace(before, last=planned.hour, seconds=seconds)
        else:
            found.append(Span(planned.hour, planned.hour, planned.action, planned.why, planned.seconds))
    return found


def would_do(config: Config, ledger: Ledger, asked: Backfill, now: Hour | None = None) -> Progress:
    """The plan of a backfill that is not open; arguments as for `look_ahead`.

    Raises:
        ConfigError: when the range begins before the first known hour. That is a typo, which would fill the ledger with
            absent hours.
    """
    if not any(row.reason != "no-data" for row in ledger.rows(last=asked.first)):
        first = next(iter(available_hours(config.data)), None)
        if first is None:
            raise ConfigError(f"data.source, {config.data.source}, holds no hour, so there is nothing to do")
        if asked.first < first:
            raise ConfigError(
                f"the range begins with hour {asked.first}, and the first one that there is data of is "
                f"{first}; begin with that, or have the older ones delivered first"
            )
    return look_ahead(config, ledger, asked, now)


def look_ahead(config: Config, ledger: Ledger, asked: Backfill, now: Hour | None = None) -> Progress:
    """What a backfill has done and would do now; if it is not open, what it would do if it began.

    However far the range goes, the plan ends with the first hour after the newest known one.

    Args:
        config: all settings.
        ledger: what was done.
        asked: what is wanted.
        now: the first hour that counts as not over yet; by the clock when left out.
    """
    newest = ledger.newest()
    last = max(asked.last, newest[-1].hour) if asked.follow and newest else asked.last
    beyond = not newest or newest[-1].hour < last  # then what comes later says whether an absent hour is only late
    rows = ledger.rows(asked.first, records=False)
    available = available_hours(config.data, asked.first, None if beyond else last)
    known = max([*available, *(row.hour for row in rows[-1:])], default=asked.first - 1)
    end = min(last, known + 1)
    plan = backfill_hours(
        rows or newest,
        {hour: mark for hour, mark in available.items() if hour <= last},
        asked.first,
        end,
        now or over_now(config),
        config,
        only=cast("Only", asked.only),
        replace_frozen=asked.replace,
    )
    if end > known and plan[-1].action == "step-over":
        plan[-1] = PlannedHour(end, "wait", "has no partition, nor has any later hour")
    if not asked.fence:
        return Progress(asked, plan, 0)
    mine = {row.hour: row for row in own_work(ledger, asked, rows)}
    return Progress(asked, list(_as_it_stands(ledger, asked, plan, mine)), len(mine))


def ask(first: Hour, last: Hour, actor: str, **wanted: Any) -> Backfill:
    """A request for a backfill; the further arguments are fields of `Backfill`."""
    choices = {"only": "missing", "promote": False, "stop_on_failure": True, "replace": False, **wanted}
    return Backfill(first=first, last=last, actor=actor, aside=False, follow=False, **choices)


def as_begun(ledger: Ledger, wanted: Progress) -> Backfill:
    """A backfill as it would begin: aside, if a later hour builds on one that will be redone."""
    trained, newest = ledger.trained(1), ledger.newest()
    aside = bool(wanted.left and trained and trained[-1].hour >= wanted.left[0].hour)
    return replace(wanted.backfill, aside=aside, follow=aside and wanted.backfill.last >= newest[-1].hour)


def own_work(ledger: Ledger, backfill: Backfill, rows: list[HourRow]) -> list[HourRow]:
    """The finished hours that a backfill has done itself, oldest first, without those that may still succeed.

    Args:
        ledger: where hours done aside are.
        backfill: one that was begun.
        rows: the hours of the ledger, from the backfill's first hour on.
    """
    own = ledger.backfills.aside() if backfill.aside else [row for row in rows if row.fence >= backfill.fence]
    settled = (row for row in own if row.state != "RUNNING")
    return [row for row in settled if row.state not in FAILURES or not backfill.stop_on_failure]


def _as_it_stands(
    ledger: Ledger, backfill: Backfill, plan: list[PlannedHour], mine: dict[Hour, HourRow]
) -> Iterator[PlannedHour]:
    """The plan of a backfill that was begun: hours it has done, and hours that need not be redone, are skipped."""
    next_found = False
    for planned in plan:
        if planned.hour in mine:
            said = f"is done: {mine[planned.hour].ending}"
            yield PlannedHour(planned.hour, "skip", f"{said}, to be swapped in" if backfill.aside else said)
        elif planned.chained and not next_found and _same_past(ledger, planned.hour):
            yield PlannedHour(planned.hour, "skip", "stays: the hours that it builds on came out unchanged")
        else:
            next_found = next_found or planned.action != "skip"
            yield planned


def _same_past(ledger: Ledger, hour: Hour) -> bool:
    """Whether the hours that an hour builds on came out unchanged on the branch."""
    past = (view.latest_trained(hour) for view in (ledger, ledger.aside))
    return len({row.learnt if row else None for row in past}) == 1
