"""Reads and writes hours and the lease.

Decisions: SQLite in write-ahead mode by default, PostgreSQL by URL. Every write is one transaction that first locks the
lease's row and compares its fencing number, so a replaced run cannot change anything, however late it wakes up. Rows
are returned as frozen `HourRow` values; times are UTC; `record` is plain JSON in which NaN becomes null.

`Ledger.aside` is the ledger as the open backfill sees it: it reads the hours that the backfill has done, and the
existing ones otherwise; its writes never touch existing hours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Self, Unpack, cast

from sqlalchemy import ColumnElement, CursorResult, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, defer

from saec.errors import LeaseLost, LedgerError
from saec.failpoints import reached
from saec.hours import Hour
from saec.ledger.backfills import Backfills
from saec.ledger.rows import OUTCOMES, HourRow, Lease, Result
from saec.ledger.tables import (
    AsideRecord,
    HourRecord,
    LeaseRecord,
    PipelineRecord,
    finite,
    hour_row,
    open_engine,
    without_secrets,
)

HourTable = type[HourRecord]


class Ledger:
    """The ledger behind an SQLAlchemy URL; tables are made when it is first opened.

    >>> ledger = Ledger("sqlite://")
    >>> lease = ledger.acquire("doctest", seconds=60)
    >>> ledger.begin(lease, Hour.parse("2017-10-01T03"), config_digest="ab12").state
    'RUNNING'
    """

    def __init__(self, url: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open the ledger, creating the folder of a SQLite file and the tables where they are missing.

        Args:
            url: SQLAlchemy URL, `sqlite:///workspace/ledger.db` or `postgresql+psycopg://…`.
            clock: Gives the present moment in UTC.

        Raises:
            LedgerError: when it cannot be opened (no password is ever shown), or a newer saec wrote it.
        """
        self._clock = clock
        self._name = without_secrets(url)
        self._engine = open_engine(url)
        self._table: HourTable = HourRecord

    @cached_property
    def aside(self) -> Self:
        """The ledger as the open backfill sees it: its own hours before those as they stand."""
        seen = copy.copy(self)
        seen._table = cast("HourTable", AsideRecord)  # noqa: SLF001 - the columns are the same
        return seen

    @cached_property
    def backfills(self) -> Backfills:
        """Backfills that were asked for, and the hours of the open one."""
        return Backfills(self._reading, self._writing, self._clock)

    @cached_property
    def pipeline_id(self) -> str:
        """Eight hexadecimal digits that identify this pipeline, whatever its name and folders."""
        with self._reading() as session:
            return session.get_one(PipelineRecord, 1).id

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def acquire(self, owner: str, seconds: float, dead: int | None = None, above: int = 0) -> Lease:
        """Take the lease, if it is free or its holder let it expire.

        Args:
            owner: Who asks, unique to this run.
            seconds: How long the lease lasts unless renewed.
            dead: Fencing number of a holder that is known to have died, whose lease need not expire first.
            above: A fencing number that was given out before, which a ledger restored from a copy may not know of.

        Raises:
            LedgerError: reason "busy", naming the holder and when its lease expires.
        """
        with self._writing() as session:
            held = session.get_one(LeaseRecord, 1, with_for_update=True)
            if held.owner and held.expires_at > self._clock() and held.fence != dead:
                raise Lease(held.owner, held.fence, held.expires_at).in_use()
            fence, expires_at = max(held.fence, above) + 1, self._clock() + timedelta(seconds=seconds)
            lease = Lease(owner, fence, expires_at, bool(held.owner))
            held.owner, held.fence, held.expires_at = lease.owner, lease.fence, lease.expires_at
            held.wanted_until = None
            return lease

    def want(self, seconds: float) -> None:
        """Tell the holder of the lease that another run waits for it, for this many seconds from now."""
        with self._writing() as session:
            session.execute(update(LeaseRecord).values(wanted_until=self._clock() + timedelta(seconds=seconds)))

    def wanted(self) -> bool:
        """Whether another run waits for the lease."""
        with self._reading() as session:
            until = session.get_one(LeaseRecord, 1).wanted_until
            return until is not None and until > self._clock()

    def renew(self, lease: Lease, seconds: float) -> Lease:
        """Renew the lease for this many seconds from now.

        Raises:
            LeaseLost: when a newer lease was given out, as for every write.
        """
        with self._writing(lease) as session:
            expires_at = self._clock() + timedelta(seconds=seconds)
            session.execute(update(LeaseRecord).values(expires_at=expires_at))
            return Lease(lease.owner, lease.fence, expires_at)

    def release(self, lease: Lease) -> None:
        """Give back the lease, so that the next run need not wait for it to expire."""
        with self._writing(lease) as session:
            session.execute(update(LeaseRecord).values(owner="", expires_at=self._clock()))

    def check(self, lease: Lease) -> None:
        """Raise LeaseLost unless the lease is still the newest; to be called before a release is published."""
        with self._writing(lease):
            pass

    def holder(self) -> Lease | None:
        """The lease that is held now, None when it is free or expired."""
        with self._reading() as session:
            held = session.get_one(LeaseRecord, 1)
            if not held.owner or held.expires_at <= self._clock():
                return None
            return Lease(held.owner, held.fence, held.expires_at)

    def begin(self, lease: Lease, hour: Hour, config_digest: str) -> HourRow:
        """Start an attempt at an hour: its state becomes RUNNING and what an earlier attempt left is cleared.

        `stale_because` stays until the attempt is finished.
        """
        with self._writing(lease) as session:
            own = session.get(self._table, hour.index)
            earlier = own or session.get(HourRecord, hour.index)
            fresh = self._table(
                hour=hour.index,
                state="RUNNING",
                attempts=earlier.attempts + 1 if earlier else 1,
                stage="",
                fence=lease.fence,
                config_digest=config_digest,
                started_at=self._clock(),
                stale_because=earlier.stale_because if earlier else None,
            )
            if own:
                session.delete(own)
                session.flush()
            session.add(fresh)
            return hour_row(fresh)

    def stage(self, lease: Lease, hour: Hour, name: str) -> None:
        """Note the step that an attempt has reached."""
        with self._writing(lease) as session:
            noted = session.execute(update(self._table).where(self._table.hour == hour.index).values(stage=name))
            if not cast("CursorResult[Any]", noted).rowcount:
                self._required(session, hour)

    def finish(
        self, lease: Lease, hour: Hour, outcome: str, reason: str | None = None, **result: Unpack[Result]
    ) -> HourRow:
        """End an attempt at an hour; it is no longer stale.

        Args:
            lease: The run's lease.
            hour: An hour that was begun.
            outcome: One of OUTCOMES.
            reason: Slug beneath the outcome.
            **result: What the attempt left; in its `record`, numbers that are not finite become null.

        Raises:
            LeaseLost: when a newer run has taken over.
            LedgerError: on an unknown outcome, an hour not begun, or a record that is not plain JSON.
        """
        if outcome not in OUTCOMES:
            raise LedgerError(f"outcome of hour {hour} must be one of {', '.join(OUTCOMES)}, got {outcome!r}")
        record = finite(result.get("record"), f"record of hour {hour}")
        parent = result.get("parent")
        with self._writing(lease) as session:
            row = self._required(session, hour)
            row.state, row.reason, row.message, row.fence = outcome, reason, result.get("message"), lease.fence
            row.input_digest, row.delivery = result.get("input_digest"), result.get("delivery")
            row.checkpoint, row.version = result.get("checkpoint"), result.get("version")
            row.parent = parent.index if parent else None
            row.stale_because, row.record, row.finished_at = None, record, self._clock()
            row.seconds = (row.finished_at - row.started_at).total_seconds() if row.started_at else None
            return hour_row(row)

    def mark_stale(self, lease: Lease, after: Hour, because: str, *, including: bool = False) -> int:
        """Mark every later hour that trained as stale, because the chain it builds on has changed.

        Args:
            lease: The run's lease.
            after: The hour whose data or training changed.
            because: Why, for people; an hour that is stale already keeps its first cause.
            including: Whether to mark that hour itself too, however it ended (its data came late or changed).

        Returns:
            How many hours became stale.
        """
        later = (HourRecord.hour > after.index) & HourRecord.checkpoint.is_not(None)
        affected = later | (HourRecord.hour == after.index) if including else later
        with self._writing(lease) as session:
            hours = session.scalars(select(HourRecord).where(affected, HourRecord.stale_because.is_(None))).all()
            for row in hours:
                row.stale_because = because
            return len(hours)

    def judge_again(self, lease: Lease, hour: Hour, outcome: str, reason: str | None, message: str | None) -> None:
        """Change how a finished hour ended, when its version was released, or refused, only later."""
        with self._writing(lease) as session:
            row = self._required(session, hour)
            row.state, row.reason, row.message = outcome, reason, message

    def delivered(self, lease: Lease, hour: Hour, delivery: str, folded_into: Hour | None = None) -> None:
        """Record the current delivery of an hour.

        Args:
            lease: The run's lease.
            hour: An hour that was finished.
            delivery: Mark of what lies there.
            folded_into: The hour that learnt the rows which came late, when one did.
        """
        with self._writing(lease) as session:
            row = self._required(session, hour)
            row.delivery = delivery
            if folded_into is not None:
                row.message = f"rows that came late were learnt with hour {folded_into}"
                row.reason = "folded" if row.reason == "no-data" else row.reason

    def get(self, hour: Hour) -> HourRow | None:
        """The row of an hour; None if it was never begun."""
        rows = self.rows(hour, hour)
        return rows[0] if rows else None

    def rows(self, first: Hour | None = None, last: Hour | None = None, *, records: bool = True) -> list[HourRow]:
        """The hours from `first` to `last`, both included, that were ever begun, oldest first.

        Args:
            first: The oldest; as old as any when left out.
            last: The newest; as new as any when left out.
            records: Whether with their records, which take most of the time; else these are None.
        """
        return self._rows(
            lambda table: [
                *([table.hour >= first.index] if first is not None else []),
                *([table.hour <= last.index] if last is not None else []),
            ],
            records=records,
        )

    def latest_trained(self, before: Hour) -> HourRow | None:
        """The newest hour before `before` that left a checkpoint: the one to continue from."""
        trained = self._rows(lambda table: [table.hour < before.index, table.checkpoint.is_not(None)], newest=1)
        return trained[-1] if trained else None

    def trained(self, last: int) -> list[HourRow]:
        """The newest so many hours that left a checkpoint, oldest first."""
        return self._rows(lambda table: [table.checkpoint.is_not(None)], newest=last)

    def newest(self, last: int = 1) -> list[HourRow]:
        """The newest so many hours that were ever begun, oldest first."""
        return self._rows(lambda _: [], newest=last)

    def _rows(
        self,
        conditions: Callable[[HourTable], list[ColumnElement[bool]]],
        newest: int | None = None,
        *,
        records: bool = True,
    ) -> list[HourRow]:
        """The newest hours that meet all conditions, as this ledger sees them, oldest first."""

        def matching(session: Session, table: HourTable) -> list[HourRecord]:
            query = select(table).where(*conditions(table)).order_by(table.hour.desc()).limit(newest)
            if self._table is not table:
                query = query.where(table.hour.not_in(select(self._table.hour)))
            if not records:
                query = query.options(defer(table.record, raiseload=True))
            return list(session.scalars(query))

        with self._reading() as session:
            tables: list[HourTable] = [HourRecord] if self._table is HourRecord else [HourRecord, self._table]
            found = [row for table in tables for row in matching(session, table)]
            rows = sorted(found, key=lambda row: row.hour)[-(newest or len(found)) :]
            return [hour_row(row, record=records) for row in rows]

    def _required(self, session: Session, hour: Hour) -> HourRecord:
        """The row of an hour that was begun."""
        row = session.get(self._table, hour.index)
        if row is None:
            raise LedgerError(f"hour {hour} was not begun; call begin first")
        return row

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        """A session that sees one moment of the ledger."""
        with self._errors("read"), Session(self._engine) as session:
            yield session

    @contextmanager
    def _writing(self, lease: Lease | None = None) -> Iterator[Session]:
        """One transaction; with a lease, only if that is still the newest, which stays so until it commits."""
        engine = self._engine.execution_options(write=True)
        with self._errors("written"), Session(engine, expire_on_commit=False) as session, session.begin():
            if lease is not None:
                _check_lease(session, lease)
            yield session
            session.flush()
            reached("ledger.to-be-committed")
        reached("ledger.committed")

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn a database's error into a LedgerError without secrets."""
        try:
            yield
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
            raise LedgerError(f"ledger {self._name} cannot be {what}: {cause}") from None


def _check_lease(session: Session, lease: Lease) -> None:
    """Lock the lease's row and compare."""
    held = session.get_one(LeaseRecord, 1, with_for_update=True)
    if (held.fence, held.owner) != (lease.fence, lease.owner):
        raise LeaseLost(
            f"{lease.owner} no longer holds lease {lease.fence}: the ledger is now held by "
            f"{held.owner or 'nobody'} (lease {held.fence}); this run was replaced, stop it"
        )
