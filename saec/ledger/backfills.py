"""Stores the open backfill, and the hours it has done aside until they are swapped in.

Decisions: only one backfill is open at a time, so one table `hours_aside` holds its hours. A person's request (pause,
cancel) is a column that the running backfill reads between hours; making a request takes no lease. Swapping in is one
transaction: readers see all of the old hours or all of the new ones.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import delete, inspect, select
from sqlalchemy.orm import Session

from saec.errors import LedgerError
from saec.hours import Hour
from saec.ledger.rows import Backfill, BackfillState, HourRow, Lease
from saec.ledger.tables import AsideRecord, BackfillRecord, HourRecord, hour_row

_HOURS = ("first", "last")


class Backfills:
    """The backfills of a ledger; `Ledger.backfills`."""

    def __init__(
        self,
        reading: Callable[[], AbstractContextManager[Session]],
        writing: Callable[[Lease | None], AbstractContextManager[Session]],
        clock: Callable[[], datetime],
    ) -> None:
        self._reading, self._writing, self._clock = reading, writing, clock

    def last(self) -> Backfill | None:
        """The backfill that was asked for last, None before the first."""
        with self._reading() as session:
            row = _last(session)
            return _backfill(row) if row else None

    def current(self) -> Backfill | None:
        """The backfill that is open."""
        found = self.last()
        return found if found and found.open else None

    def start(self, lease: Lease, wanted: Backfill) -> Backfill:
        """Open a backfill.

        Raises:
            LedgerError: reason "open-backfill", when another one is.
        """
        with self._writing(lease) as session:
            before = _last(session)
            if before and _backfill(before).open:
                raise LedgerError(
                    f"{_backfill(before)} is open, {before.state.lower()}; go on with it (saec backfill "
                    "--resume) or cancel it (saec backfill --cancel) first",
                    reason="open-backfill",
                )
            values = {field.name: getattr(wanted, field.name) for field in fields(Backfill)}
            row = BackfillRecord(
                **values
                | {
                    **{name: values[name].index for name in _HOURS},
                    "fence": lease.fence,
                    "state": "RUNNING",
                    "started_at": self._clock(),
                }
            )
            session.add(row)
            return _backfill(row)

    def turn(self, lease: Lease, state: BackfillState, message: str | None = None) -> Backfill:
        """Set the state of the open backfill, which also answers a pending request."""
        with self._writing(lease) as session:
            row = _open(session)
            row.state, row.message, row.asked = state, message, None
            row.ended_at = None if state == "RUNNING" else self._clock()
            return _backfill(row)

    def ask(self, what: Literal["pause", "cancel"]) -> Backfill:
        """Ask the open backfill to pause or cancel after the current hour.

        Raises:
            LedgerError: reason "no-backfill", when none is open.
        """
        with self._writing(None) as session:
            row = _open(session)
            row.asked = what
            return _backfill(row)

    def swap_in(self, lease: Lease) -> tuple[Backfill, list[Hour]]:
        """Replace the existing hours with those done aside, and mark later hours that built on the old ones as stale.

        Returns:
            The open backfill, of which nothing is aside any more, and the hours that were swapped in, oldest first.
        """
        with self._writing(lease) as session:
            backfill = _open(session)
            backfill.aside = backfill.follow = False
            aside = list(session.scalars(select(AsideRecord).order_by(AsideRecord.hour)))
            if not aside:
                return _backfill(backfill), []
            backfill.last = max(backfill.last, aside[-1].hour)
            first, last = Hour(aside[0].hour), Hour(aside[-1].hour)
            before = _left(session, last)
            for row in aside:
                stands = session.get(HourRecord, row.hour)
                if stands and stands.state == "RUNNING":
                    before = None  # a run that died over it may have left anything to later ones
                if stands and stands.version == row.version and row.reason == "not-promoted":
                    row.state, row.reason, row.message = stands.state, stands.reason, stands.message
                elif row.reason == "not-promoted":
                    row.message = "The version passed and was swapped in; " + (
                        "of a backfill only the newest is released."
                        if backfill.promote
                        else "its release was not asked for."
                    )
                session.execute(delete(HourRecord).where(HourRecord.hour == row.hour))
                session.add(HourRecord(**_values(row)))
                session.delete(row)
            session.flush()
            if before != _left(session, last):
                later = (HourRecord.hour > last.index) & HourRecord.checkpoint.is_not(None)
                for stale in session.scalars(select(HourRecord).where(later, HourRecord.stale_because.is_(None))):
                    stale.stale_because = (
                        f"hours {first} to {last} were done again after it"
                        if first != last
                        else (f"hour {first} was done again after it")
                    )
            return _backfill(backfill), [Hour(row.hour) for row in aside]

    def drop(self, lease: Lease) -> None:
        """Forget the hours done aside."""
        with self._writing(lease) as session:
            session.execute(delete(AsideRecord))

    def aside(self) -> list[HourRow]:
        """Hours that were done aside and finished, oldest first."""
        with self._reading() as session:
            query = select(AsideRecord).where(AsideRecord.state != "RUNNING").order_by(AsideRecord.hour)
            return [hour_row(row) for row in session.scalars(query)]


def _last(session: Session) -> BackfillRecord | None:
    return session.scalar(select(BackfillRecord).order_by(BackfillRecord.key.desc()).limit(1))


def _open(session: Session) -> BackfillRecord:
    """The open backfill's record."""
    row = _last(session)
    if row is None or not _backfill(row).open:
        raise LedgerError("no backfill is open; start one: saec backfill --from HOUR --to HOUR", reason="no-backfill")
    return row


def _left(session: Session, last: Hour) -> tuple[Any, ...] | None:
    """The training state that the hours up to one leave to later ones."""
    trained = (HourRecord.hour <= last.index) & HourRecord.checkpoint.is_not(None)
    row = session.scalar(select(HourRecord).where(trained).order_by(HourRecord.hour.desc()).limit(1))
    return (row.checkpoint, (row.record or {}).get("challenger")) if row else None


def _values(row: AsideRecord) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in inspect(AsideRecord).column_attrs}


def _backfill(row: BackfillRecord) -> Backfill:
    """The record as a value that outlives its session."""
    values = {field.name: getattr(row, field.name) for field in fields(Backfill)}
    return Backfill(**values | {name: Hour(values[name]) for name in _HOURS})
