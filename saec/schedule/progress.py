"""What a backfill has done and would do, hour by hour: for its dry run, its bar, and whoever watches it.

Decisions: nothing is kept but the backfill's row and the hours it did; what is left is planned anew from these whenever
somebody asks, so a backfill that died tells the same as one at work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from saec.data.partitions import available_hours
from saec.ledger import Backfill
from saec.schedule.planner import Only, PlannedHour, backfill_hours, over_now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saec.config import Config
    from saec.hours import Hour
    from saec.ledger import HourRow, Ledger

FAILURES = ("FAILED", "QUARANTINED")


@dataclass(frozen=True)
class Progress:
    """How far a backfill has come."""

    backfill: Backfill
    plan: list[PlannedHour]
    """Every hour of the range, with what is yet to be done about it."""
    done: int
    """Hours that it has done."""

    @property
    def left(self) -> list[PlannedHour]:
        """Hours that are yet to be done."""
        return [planned for planned in self.plan if planned.pending]

    @property
    def seconds_left(self) -> float | None:
        """Estimated time for those; None when no hour was timed yet."""
        timed = [planned.seconds for planned in self.left if planned.seconds is not None]
        return sum(timed) if timed or not self.left else None


def look_ahead(config: Config, ledger: Ledger, asked: Backfill, now: Hour | None = None) -> Progress:
    """What a backfill has done and would do now; of one that is not open, what it would do if it began.

    Args:
        config: all settings.
        ledger: what was done.
        asked: what is wanted.
        now: the first hour that counts as not over yet; by the clock when left out.
    """
    newest = ledger.newest()
    last = max(asked.last, newest[-1].hour) if asked.follow and newest else asked.last
    rows, available = ledger.rows(asked.first), available_hours(config.data, asked.first, last)
    plan = backfill_hours(rows or newest, available, asked.first, last, now or over_now(config), config.data,
                          only=cast("Only", asked.only), replace_frozen=asked.replace)
    if not asked.fence:
        return Progress(asked, plan, 0)
    mine = {row.hour: row for row in own_work(ledger, asked, rows)}
    return Progress(asked, list(_as_it_stands(ledger, asked, plan, mine)), len(mine))


def ask(first: Hour, last: Hour, actor: str, **wanted: Any) -> Backfill:
    """What somebody wants of a backfill; the further arguments are fields of `Backfill`."""
    choices = {"only": "missing", "promote": False, "stop_on_failure": True, "replace": False, **wanted}
    return Backfill(first=first, last=last, actor=actor, aside=False, follow=False, **choices)


def as_begun(ledger: Ledger, wanted: Progress) -> Backfill:
    """A backfill as it would begin: aside, when a later hour has gone on from one that is to be done again."""
    trained, newest = ledger.trained(1), ledger.newest()
    aside = bool(wanted.left and trained and trained[-1].hour >= wanted.left[0].hour)
    return replace(wanted.backfill, aside=aside, follow=aside and wanted.backfill.last >= newest[-1].hour)


def own_work(ledger: Ledger, backfill: Backfill, rows: list[HourRow]) -> list[HourRow]:
    """The finished hours that a backfill has done itself, oldest first; those that may yet succeed are left out.

    Args:
        ledger: where hours done aside are.
        backfill: one that was begun.
        rows: the hours that stand, from its first one on.
    """
    own = ledger.backfills.aside() if backfill.aside else [row for row in rows if row.fence >= backfill.fence]
    settled = (row for row in own if row.state != "RUNNING")
    return [row for row in settled if row.state not in FAILURES or not backfill.stop_on_failure]


def _as_it_stands(
    ledger: Ledger, backfill: Backfill, plan: list[PlannedHour], mine: dict[Hour, HourRow]
) -> Iterator[PlannedHour]:
    """The plan of a backfill that was begun: what it has done is skipped, and so is what need not follow."""
    next_found = False
    for planned in plan:
        if planned.hour in mine:
            said = f"is done: {mine[planned.hour].ending}"
            yield PlannedHour(planned.hour, "skip", f"{said}, to be swapped in" if backfill.aside else said)
        elif planned.chained and not next_found and _same_past(ledger, planned.hour):
            yield PlannedHour(planned.hour, "skip", "stays: what it went on from came out as it was")
        else:
            next_found = next_found or planned.action != "skip"
            yield planned


def _same_past(ledger: Ledger, hour: Hour) -> bool:
    """Whether an hour finds its past on the branch as it was."""
    past = (view.latest_trained(hour) for view in (ledger, ledger.aside))
    return len({row.learnt if row else None for row in past}) == 1
