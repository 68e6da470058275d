"""Defines the ledger's tables, and opens and upgrades its database.

Decisions: SQLite writes begin with the write lock (BEGIN IMMEDIATE), so that reading the lease and writing under it is
one step; commits are fsynced (synchronous=FULL), because a fencing number that went back after a power loss would let
two runs write. The schema has a version: an older database is brought up to date when it is opened, in one transaction;
one of a newer saec is refused rather than misread. A database server that was reached once is waited for when it
restarts: a pooled connection is tried before it is used (`pool_pre_ping`), and opened again for half a minute.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    DateTime,
    Engine,
    Integer,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeDecorator

from saec.errors import LedgerError
from saec.hours import Hour
from saec.ledger.rows import HourRow
from saec.plain_json import plain_json

SCHEMA_VERSION = 3
_BUSY_SECONDS = 30
_ID_BYTES = 4
_RESTART_SECONDS = 30.0


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, with its time zone also on databases that keep none (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the zone back."""
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


class Table(MappedAsDataclass, DeclarativeBase):
    """Base of the ledger's tables."""

    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON(none_as_null=True), int: BigInteger}  # noqa: RUF012


class HourColumns(MappedAsDataclass, kw_only=True):
    """An hour; the fields are those of `saec.ledger.HourRow`, with hours as whole hours since 1970."""

    hour: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str]
    attempts: Mapped[int]
    fence: Mapped[int]
    stage: Mapped[str]
    reason: Mapped[str | None] = mapped_column(default=None)
    message: Mapped[str | None] = mapped_column(default=None)
    input_digest: Mapped[str | None] = mapped_column(default=None)
    delivery: Mapped[str | None] = mapped_column(default=None)
    config_digest: Mapped[str | None] = mapped_column(default=None)
    parent: Mapped[int | None] = mapped_column(default=None)
    checkpoint: Mapped[str | None] = mapped_column(default=None)
    version: Mapped[str | None] = mapped_column(default=None)
    stale_because: Mapped[str | None] = mapped_column(default=None)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    finished_at: Mapped[datetime | None] = mapped_column(default=None)
    seconds: Mapped[float | None] = mapped_column(default=None)
    record: Mapped[dict[str, Any] | None] = mapped_column(default=None)


class HourRecord(HourColumns, Table, kw_only=True):
    """An hour in force."""

    __tablename__ = "hours"


class AsideRecord(HourColumns, Table, kw_only=True):
    """An hour that the open backfill has done aside."""

    __tablename__ = "hours_aside"


class BackfillRecord(Table, kw_only=True):
    """A backfill; the fields are those of `saec.ledger.Backfill`. The last one is the only one that can be open."""

    __tablename__ = "backfills"

    key: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    first: Mapped[int]
    last: Mapped[int]
    only: Mapped[str]
    promote: Mapped[bool]
    stop_on_failure: Mapped[bool]
    replace: Mapped[bool]
    aside: Mapped[bool]
    follow: Mapped[bool]
    actor: Mapped[str]
    fence: Mapped[int]
    state: Mapped[str]
    asked: Mapped[str | None] = mapped_column(default=None)
    message: Mapped[str | None] = mapped_column(default=None)
    started_at: Mapped[datetime | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)


class LeaseRecord(Table, kw_only=True):
    """The lease, in the only row, which is always there; an empty owner means that it is free."""

    __tablename__ = "lease"

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str]
    fence: Mapped[int]
    expires_at: Mapped[datetime]
    wanted_until: Mapped[datetime | None] = mapped_column(default=None)


class PipelineRecord(Table, kw_only=True):
    """The pipeline's own id, in the only row: drawn when the ledger is made, and never changed."""

    __tablename__ = "pipeline"

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[str]


class SchemaRecord(Table, kw_only=True):
    """The version of these tables, in the only row."""

    __tablename__ = "schema_version"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


def hour_row(row: HourColumns, *, record: bool = True) -> HourRow:
    """The row as a value that outlives its session, without its record where that was not read."""
    values = {field.name: getattr(row, field.name) for field in fields(HourRow) if record or field.name != "record"}
    parent = None if row.parent is None else Hour(row.parent)
    return HourRow(**values | {"hour": Hour(row.hour), "parent": parent})


def open_engine(url: str) -> Engine:
    """Connect, create the tables where they are missing, and check their version.

    Raises:
        LedgerError: when any of that fails; the message never holds the URL's password.
    """
    name = without_secrets(url)
    try:
        parsed = make_url(url)
        engine = (
            _sqlite_engine(parsed)
            if parsed.get_backend_name() == "sqlite"
            else create_engine(parsed, pool_pre_ping=True)
        )
        try:
            _create_tables(engine)
        except (IntegrityError, ProgrammingError):  # another process was creating them at the same moment
            _create_tables(engine)
        if engine.dialect.name != "sqlite":
            event.listen(engine, "do_connect", _connect_again)
    except ImportError as error:
        raise LedgerError(
            f"the driver of ledger {name} is not installed: {error.name}; install saec[postgres]"
        ) from None
    except (SQLAlchemyError, OSError, ValueError) as error:
        cause = getattr(error, "orig", None) or (error if isinstance(error, OSError) else type(error).__name__)
        raise LedgerError(f"cannot open ledger {name}: {str(cause).splitlines()[0]}") from None
    return engine


def without_secrets(url: str) -> str:
    """The URL for messages: password starred out, query left off; nothing of a URL that cannot be parsed."""
    try:
        return make_url(url).set(query={}).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return "(a URL that is not of the form sqlite:///file or postgresql+psycopg://user:password@host/database)"


def finite(value: Any, what: str) -> Any:
    """The value as plain JSON, with every number that is not finite replaced by None.

    Raises:
        LedgerError: when it holds something that is not JSON.
    """
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise LedgerError(f"{what} is not plain JSON: {error}") from None
    return plain_json(value)


def is_there(url: str) -> bool:
    """Whether a ledger was ever made: whether the file is there, of a database server always."""
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        return True  # opening it will say what is wrong
    return parsed.get_backend_name() != "sqlite" or not parsed.database or Path(parsed.database).exists()


def _sqlite_engine(url: URL) -> Engine:
    """An engine whose transactions are SQLite's own, in write-ahead mode; of a file that can only be read, without."""
    path = Path(url.database) if url.database and url.database != ":memory:" else None
    if path and path.exists() and not all(os.access(place, os.W_OK) for place in (path, path.parent)):
        read_only = f"{path.absolute().as_uri()}?mode=ro&immutable=1"  # else SQLite makes files beside it, even to read
        engine = create_engine(
            "sqlite://", poolclass=NullPool, creator=lambda: sqlite3.connect(read_only, uri=True, isolation_level=None)
        )
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    """Turn off the driver's own transactions, and set what a connection needs."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """A transaction that will write takes the write lock at once: a later upgrade could fail or see old rows."""
    write = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _connect_again(dialect: Dialect, _record: object, arguments: list[Any], options: dict[str, Any]) -> DBAPIConnection:
    """Wait for a database that was there before and restarts."""
    deadline = time.monotonic() + _RESTART_SECONDS
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_RESTART_SECONDS / 100)


def _create_tables(engine: Engine) -> None:
    """Create what is missing and bring an older schema up to date, in one transaction; refuse a newer one."""
    if inspect(engine).has_table(SchemaRecord.__tablename__):
        with engine.connect() as connection:
            if _version(connection) == SCHEMA_VERSION:
                return
    with engine.execution_options(write=True).begin() as connection:
        Table.metadata.create_all(connection)
        found = _version(connection)
        if found is None:
            connection.execute(insert(SchemaRecord).values(version=SCHEMA_VERSION))
            connection.execute(insert(LeaseRecord).values(key=1, owner="", fence=0, expires_at=datetime.now(UTC)))
        elif found < SCHEMA_VERSION:
            for name, column in (("hours", "delivery"), ("lease", "wanted_until")) if found == 1 else ():
                kind = Table.metadata.tables[name].columns[column].type.compile(connection.dialect)
                connection.execute(text(f"ALTER TABLE {name} ADD COLUMN {column} {kind}"))
            connection.execute(update(SchemaRecord).values(version=SCHEMA_VERSION))
        if found is None or found < SCHEMA_VERSION:
            connection.execute(insert(PipelineRecord).values(key=1, id=secrets.token_hex(_ID_BYTES)))


def _version(connection: Connection) -> int | None:
    """The version of the tables that are there; None when they were only just made.

    Raises:
        LedgerError: when a newer saec made them.
    """
    found = connection.scalar(select(SchemaRecord.version))
    if found is not None and found > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger's tables are of version {found}, this saec knows version {SCHEMA_VERSION}; "
            "use the saec that wrote them, or another ledger",
            reason="schema-version",
        )
    return found
