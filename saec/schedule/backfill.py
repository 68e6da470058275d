"""Does a backfill: a range of hours, on request or as a replay of late data; it can be stopped at any moment.

Decisions: one backfill is open at a time. It is a row of the ledger, so it can be paused, resumed after a crash or
cancelled from anywhere. If later hours build on an hour that is redone, all of them are done aside, on a separate
branch, and swapped in together at the end; until then the existing hours, the live version and the report do not
change. Between two hours the lease is handed to a waiting scheduled run, so the newest hour never waits for an old one.
Hours that became due in the meantime are redone on the branch if the range reached the newest hour. An hour whose
predecessors came out unchanged is not redone.
"""

from __future__ import annotations

import time
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from saec.errors import StoreError
from saec.failpoints import reached
from saec.schedule.lease import at_work
from saec.schedule.pipeline import NOBODY
from saec.schedule.progress import FAILURES, as_begun, look_ahead, own_work, would_do

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saec.hours import Hour
    from saec.ledger import Backfill, HourRow, Lease, Ledger
    from saec.schedule.pipeline import Listener, Pipeline
    from saec.schedule.planner import PlannedHour

PATIENCE = 24 * 3600.0
"""Seconds that a backfill waits to get the lease back from a scheduled run."""
AT_ONCE = 100
"""Consecutive absent hours that are skipped without planning again in between."""
_HANDOVER = 15.0


def begin(pipeline: Pipeline, lease: Lease, asked: Backfill, now: Hour | None = None) -> Backfill:
    """Open a backfill, or return the open one with the same request.

    Raises:
        LedgerError: reason "open-backfill", when another one is open.
        ConfigError: when the range begins before the first hour that there is data of.
    """
    current = pipeline.ledger.backfills.current()
    if current and _words(current) == _words(asked):
        return current
    wanted = would_do(pipeline.config, pipeline.ledger, asked, now)
    return pipeline.ledger.backfills.start(lease, as_begun(pipeline.ledger, wanted))


def run_backfill(
    pipeline: Pipeline,
    asked: Backfill | None = None,
    *,
    now: Hour | None = None,
    listener: Listener = NOBODY,
) -> tuple[Backfill, list[HourRow]]:
    """Do a backfill until it is done, stopped, paused or cancelled.

    Args:
        pipeline: the pipeline.
        asked: what is wanted; the one that is open when left out.
        now: the first hour that counts as not over yet; by the clock when left out.
        listener: told how it goes.

    Returns:
        The backfill's state, and the rows of the hours done by this call.

    Raises:
        LedgerError: reason busy, open-backfill or no-backfill.
    """
    rows: list[HourRow] = []
    patience = 0.0
    while True:
        with pipeline.leased(patience) as lease:
            current = pipeline.ledger.backfills.current()
            if current and current.asked == "cancel":  # the run that should have cancelled it died first
                return _Work(pipeline, lease, current).cancel(), rows
            if asked:
                begin(pipeline, lease, asked, now)
                reached("backfill.opened")
            work = _Work(pipeline, lease, pipeline.ledger.backfills.turn(lease, "RUNNING"), now)
            rows += work.hours(listener)
            if not work.wanted:
                return work.backfill, _as_they_ended(pipeline.ledger, rows)
        _hand_over(pipeline.ledger)
        asked, patience = None, PATIENCE


def give_up(pipeline: Pipeline) -> Backfill:
    """Cancel the open backfill: at once if no run is working on it, otherwise after the current hour.

    Raises:
        LedgerError: reason "no-backfill", when none is open.
    """
    asked = pipeline.ledger.backfills.ask("cancel")
    if asked.state == "RUNNING" and at_work(pipeline.ledger, pipeline.config.workspace):
        return asked
    with pipeline.leased(PATIENCE) as lease:
        return _Work(pipeline, lease, asked).cancel()


class _Work:
    """A running backfill under one lease."""

    def __init__(self, pipeline: Pipeline, lease: Lease, backfill: Backfill, now: Hour | None = None) -> None:
        self.pipeline, self.lease, self.backfill, self.now = pipeline, lease, backfill, now
        self.wanted = False
        """Whether it stopped because a scheduled run wants the lease."""

    def hours(self, listener: Listener) -> Iterator[HourRow]:
        """Do hours until something ends it."""
        ledger = self.pipeline.ledger
        while True:
            asked = ledger.backfills.current()
            if asked and asked.asked:
                self.backfill = self.cancel() if asked.asked == "cancel" else self._turn("PAUSED", "paused on request")
                return
            if ledger.wanted():
                self.wanted = True
                return
            progress = look_ahead(self.pipeline.config, ledger, self.backfill, self.now)
            listener.on_plan(progress.done, len(progress.left), progress.seconds_left)
            todo = [planned for planned in progress.plan if planned.action != "skip"]
            if not todo or todo[0].action == "wait":
                self.backfill = self._finish(todo[0] if todo else None)
                return
            absent = list(takewhile(lambda planned: planned.action == "step-over", todo[:AT_ONCE]))
            for row in self.pipeline.run(
                self.lease,
                absent or todo[:1],
                promote=self.backfill.promote,
                aside=self.backfill.aside,
                listener=listener,
            ):
                yield row
                if row.state in FAILURES and self.backfill.stop_on_failure:
                    self.backfill = self._turn("STOPPED", f"hour {row.hour} is {row.ending}: {row.message}")
                    return

    def cancel(self) -> Backfill:
        """Discard what was done aside; other hours are unchanged."""
        self.pipeline.ledger.backfills.drop(self.lease)
        self.pipeline.workspace.drop_aside()
        return self._turn(
            "CANCELLED",
            "cancelled; existing hours are unchanged"
            if self.backfill.aside
            else "cancelled; the hours it has done stay",
        )

    def _finish(self, waits: PlannedHour | None) -> Backfill:
        """Swap in what was done aside, and release the newest version if promotion was asked for."""
        said = [f"ended before hour {waits.hour}, which {waits.why}"] if waits else []
        if self.backfill.aside:
            self.backfill, hours = self.pipeline.ledger.backfills.swap_in(self.lease)
            reached("backfill.hours-swapped-in")
            said += [f"hours {hours[0]} to {hours[-1]} were swapped in ({len(hours)})"] if hours else []
        self.pipeline.workspace.swap_in()
        reached("backfill.folders-swapped-in")
        if self.backfill.promote:
            said += self._promote()
            reached("backfill.promoted")
        return self._turn("DONE", "; ".join(said) or None)

    def _promote(self) -> list[str]:
        """Release the newest version if it was kept only because it was made aside, and say so.

        Only the newest is released: if a run died after releasing it, an older one must not be released in its place.
        """
        ledger, backfill, lease = self.pipeline.ledger, self.backfill, self.lease
        own = own_work(ledger, backfill, ledger.rows(backfill.first, backfill.last))
        newest = next((row for row in reversed(own) if row.version), None)
        if newest is None or newest.version is None or newest.reason != "not-promoted":
            return []
        hour, version = newest.hour, newest.version
        ledger.check(lease)
        try:
            release = self.pipeline.workspace.store().publish(
                version, actor=backfill.actor, reason=f"{backfill} was swapped in", fence=lease.fence
            )
        except StoreError as error:
            if error.reason not in ("held", "superseded"):
                raise
            ledger.judge_again(lease, hour, "HELD", error.reason, str(error))
            return [str(error)]
        ledger.judge_again(lease, hour, "PUBLISHED", None, f"was released when its {backfill} was swapped in")
        return [f"{release.version} is live"]

    def _turn(self, state: Any, message: str | None = None) -> Backfill:
        return self.pipeline.ledger.backfills.turn(self.lease, state, message)


def _as_they_ended(ledger: Ledger, rows: list[HourRow]) -> list[HourRow]:
    """The rows of the hours that were done, read again: swapping in may have changed how they ended."""
    known = {row.hour: row for row in ledger.aside.rows(rows[0].hour, rows[-1].hour)} if rows else {}
    return [known[row.hour] if known[row.hour].fence == row.fence else row for row in rows]


def _words(backfill: Backfill) -> tuple[object, ...]:
    """What identifies a backfill."""
    return (backfill.first, backfill.last, backfill.only, backfill.promote, backfill.replace)


def _hand_over(ledger: Ledger) -> None:
    """Wait until the scheduled run that wants the lease has taken it, but not for ever: it may have died."""
    deadline = time.monotonic() + _HANDOVER
    while ledger.wanted() and not ledger.holder() and time.monotonic() < deadline:
        time.sleep(0.2)
