"""The ledger: one row an hour, saying how far it came and how it ended, and one lease that lets a single run write.

Decisions: SQLite in write-ahead mode by default, PostgreSQL by URL; every write is one transaction that first locks the
lease's row and compares its fencing number, so a run that was replaced cannot change anything, however late it wakes
up. Rows leave as frozen `HourRow` values; times are UTC; `record` is plain JSON in which NaN becomes null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, Unpack

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from saec.errors import LeaseLost, LedgerError
from saec.hours import Hour
from saec.ledger_tables import HourRecord, LeaseRecord, finite, open_engine, without_secrets

OUTCOMES = ("PUBLISHED", "HELD", "QUARANTINED", "FAILED")
"""How an hour can end; until then its state is RUNNING."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write, until a newer lease is given out."""

    owner: str
    """Who holds it: host, process and run, for messages."""
    fence: int
    """Fencing number: higher than that of every lease before."""
    expires_at: datetime
    """When another run may take over, UTC."""


@dataclass(frozen=True, slots=True)
class HourRow:
    """What the ledger knows of an hour."""

    hour: Hour
    state: str
    """RUNNING or one of OUTCOMES."""
    attempts: int
    """How often the hour was begun."""
    fence: int
    """Fencing number of the lease it was last written under."""
    stage: str = ""
    """Step reached by the last attempt."""
    reason: str | None = None
    """Slug beneath the outcome, such as "no-data"."""
    message: str | None = None
    """The same for people."""
    input_digest: str | None = None
    """sha256 of the partition that was read."""
    config_digest: str | None = None
    """`Config.digest` of the last attempt."""
    parent: Hour | None = None
    """The trained hour that this one went on from; None for the first."""
    checkpoint: str | None = None
    """Name of the training state after the hour; None when it trained nothing."""
    version: str | None = None
    """Version committed for the hour."""
    stale_because: str | None = None
    """Why the hour's result no longer stands; None while it does."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    """Wall time of the last finished attempt."""
    record: dict[str, Any] | None = None
    """Everything the report shows of the hour."""


def report_record(row: HourRow) -> dict[str, Any]:
    """What the report shows of an hour: its record, and how it ended."""
    return {
        **(row.record or {}),
        "hour": str(row.hour),
        "outcome": row.state,
        "reason": row.reason,
        "message": row.message,
        "version": row.version,
        "stale_because": row.stale_because,
    }


class Result(TypedDict, total=False):
    """What an attempt at an hour left; the meaning of each field is that of `HourRow`, unset is None."""

    message: str | None
    input_digest: str | None
    parent: Hour | None
    checkpoint: str | None
    version: str | None
    record: dict[str, Any] | None


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

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def acquire(self, owner: str, seconds: float) -> Lease:
        """Take the lease, if it is free or its holder let it expire.

        Args:
            owner: Who asks, unique to this run.
            seconds: How long the lease lasts unless renewed.

        Raises:
            LedgerError: reason "busy", naming the holder and when its lease expires.
        """
        with self._writing() as session:
            held = session.get_one(LeaseRecord, 1, with_for_update=True)
            if held.owner and held.expires_at > self._clock():
                raise LedgerError(f"the ledger is in use by {held.owner} until {_text(held.expires_at)}; wait for that "
                                  "run to end (saec status)", reason="busy")
            held.owner, held.fence = owner, held.fence + 1
            held.expires_at = self._clock() + timedelta(seconds=seconds)
            return Lease(held.owner, held.fence, held.expires_at)

    def renew(self, lease: Lease, seconds: float) -> Lease:
        """Hold the lease for so many seconds from now.

        Raises:
            LeaseLost: when a newer lease was given out, as for every write.
        """
        with self._writing(lease) as session:
            expires_at = self._clock() + timedelta(seconds=seconds)
            session.execute(update(LeaseRecord).values(expires_at=expires_at))
            return Lease(lease.owner, lease.fence, expires_at)

    def release(self, lease: Lease) -> None:
        """Give the lease back, so that the next run need not wait for it to expire."""
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
            earlier = session.get(HourRecord, hour.index)
            fresh = HourRecord(hour=hour.index, state="RUNNING", attempts=earlier.attempts + 1 if earlier else 1,
                               stage="", fence=lease.fence, config_digest=config_digest, started_at=self._clock(),
                               stale_because=earlier.stale_because if earlier else None)
            if earlier:
                session.delete(earlier)
                session.flush()
            session.add(fresh)
            return _row(fresh)

    def stage(self, lease: Lease, hour: Hour, name: str) -> None:
        """Note the step that an attempt has reached."""
        with self._writing(lease) as session:
            _required(session, hour).stage = name

    def finish(self, lease: Lease, hour: Hour, outcome: str, reason: str | None = None,
               **result: Unpack[Result]) -> HourRow:
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
            row = _required(session, hour)
            row.state, row.reason, row.message, row.fence = outcome, reason, result.get("message"), lease.fence
            row.input_digest, row.checkpoint = result.get("input_digest"), result.get("checkpoint")
            row.version, row.parent = result.get("version"), parent.index if parent else None
            row.stale_because, row.record, row.finished_at = None, record, self._clock()
            row.seconds = (row.finished_at - row.started_at).total_seconds() if row.started_at else None
            return _row(row)

    def mark_stale(self, lease: Lease, after: Hour, because: str, *, including: bool = False) -> int:
        """Mark every later hour that trained, because the chain it went on from has changed.

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

    def clear(self, lease: Lease, hour: Hour) -> None:
        """Forget an hour: it counts as missing again."""
        with self._writing(lease) as session:
            row = session.get(HourRecord, hour.index)
            if row is not None:
                session.delete(row)

    def get(self, hour: Hour) -> HourRow | None:
        """What is known of an hour, None when it was never begun."""
        with self._reading() as session:
            row = session.get(HourRecord, hour.index)
            return _row(row) if row else None

    def rows(self, first: Hour | None = None, last: Hour | None = None) -> list[HourRow]:
        """The hours from `first` to `last`, both included, that were ever begun, oldest first."""
        query = select(HourRecord).order_by(HourRecord.hour)
        if first is not None:
            query = query.where(HourRecord.hour >= first.index)
        if last is not None:
            query = query.where(HourRecord.hour <= last.index)
        with self._reading() as session:
            return [_row(row) for row in session.scalars(query)]

    def latest_trained(self, before: Hour) -> HourRow | None:
        """The newest hour earlier than `before` that left a checkpoint: the one to go on from."""
        trained = (HourRecord.hour < before.index) & HourRecord.checkpoint.is_not(None)
        with self._reading() as session:
            row = session.scalar(select(HourRecord).where(trained).order_by(HourRecord.hour.desc()).limit(1))
            return _row(row) if row else None

    def trained(self, last: int) -> list[HourRow]:
        """The newest so many hours that left a checkpoint, oldest first."""
        query = select(HourRecord).where(HourRecord.checkpoint.is_not(None)).order_by(HourRecord.hour.desc())
        with self._reading() as session:
            return [_row(row) for row in session.scalars(query.limit(last))][::-1]

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
        raise LeaseLost(f"{lease.owner} no longer holds lease {lease.fence}: the ledger is now held by "
                        f"{held.owner or 'nobody'} (lease {held.fence}); this run was replaced, stop it")


def _required(session: Session, hour: Hour) -> HourRecord:
    """The row of an hour that was begun."""
    row = session.get(HourRecord, hour.index)
    if row is None:
        raise LedgerError(f"hour {hour} was not begun; call begin first")
    return row


def _row(row: HourRecord) -> HourRow:
    """The row as a value that outlives its session."""
    return HourRow(hour=Hour(row.hour), state=row.state, attempts=row.attempts, fence=row.fence, stage=row.stage,
                   reason=row.reason, message=row.message, input_digest=row.input_digest,
                   config_digest=row.config_digest, parent=None if row.parent is None else Hour(row.parent),
                   checkpoint=row.checkpoint, version=row.version, stale_because=row.stale_because,
                   started_at=row.started_at, finished_at=row.finished_at, seconds=row.seconds, record=row.record)


def _text(moment: datetime) -> str:
    """A moment for people."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
