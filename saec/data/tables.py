"""Reads Delta Lake and Iceberg tables instead of hourly files: hours from file statistics, rows by their time.

Decisions: a table must provide its files with the times they span, and the rows of an hour; each kind has its own
module and its own library, an extra. A read uses one version, which is recorded; `@N` after `data.source` reads an
earlier one (time travel). A table has no order, and its files may be rewritten: rows are sorted by time, then by
values, so that the same rows give the same bytes. Files of a table never change, so an hour's mark is the names of the
files that may contain its rows. Changed rows are detected row by row, as with files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t

from saec.config import DataConfig
from saec.data.part_files import PartFile
from saec.data.types import TICKS
from saec.errors import ConfigError, InputError
from saec.hours import Hour, hour_range

_KINDS = {
    "delta": ("saec.data.delta_tables", "DeltaLakeTable", "deltalake"),
    "iceberg": ("saec.data.iceberg_tables", "IcebergTable", "pyiceberg"),
}
"""Module, class and library of each kind of table."""
Moment = datetime | int | None
"""A time as the table's statistics give it: an instant, a number in `data.time_unit`, or unknown."""


@dataclass(frozen=True)
class TableFile:
    """A file of a table."""

    name: str
    """Its path as the table names it, never used twice."""
    bytes: int
    rows: int
    first: Moment
    """The earliest time in it."""
    last: Moment
    """The latest one."""


class Table(Protocol):
    """One version of a table."""

    version: int
    """Delta's version or Iceberg's snapshot."""
    schema: pa.Schema

    def files(self) -> list[TableFile]:
        """All files, with the times that they span."""

    def batches(self, columns: Sequence[str], first: Moment, last: Moment) -> Iterator[pa.RecordBatch]:
        """Rows with times from `first` on and before `last`."""


def place_of(source: str) -> str:
    """The source without the version of a table that is read.

    >>> place_of("iceberg://CATALOG/clicks@12"), place_of("clicks@12")
    ('iceberg://CATALOG/clicks', 'clicks@12')
    """
    return _parted(source)[0]


def _parted(source: str) -> tuple[str, int | None]:
    """Where a table is, and which version of it is read; a folder of files may be called anything."""
    place, _, version = source.rpartition("@")
    return (place, int(version)) if version.isdecimal() and _kind(place) else (source, None)


def _kind(source: str) -> str | None:
    """Which kind of table is at a place."""
    kind, plus, _ = source.partition("+")
    if plus and kind in _KINDS:
        return kind
    if source.startswith("iceberg://"):
        return "iceberg"
    if "://" not in source and (Path(source) / "_delta_log").is_dir():
        return "delta"
    return "iceberg" if "://" not in source and any(Path(source).glob("metadata/*.metadata.json")) else None


def open_table(data: DataConfig) -> Table | None:
    """The table of a source, at the version wanted; None where the source is one of files.

    Raises:
        ConfigError: when its library is not installed, there is no such table or version, or its time column will not
            do.
    """
    source, version = _parted(data.source)
    kind = _kind(source)
    if kind is None:
        return None
    module, name, library = _KINDS[kind]
    try:
        import_module(library)
    except ImportError:
        raise ConfigError(
            f"data.source is a table of kind {kind}, which needs the library {library}: pip install 'saec[{kind}]'"
        ) from None
    table: Table = getattr(import_module(module), name)(source.removeprefix(f"{kind}+"), data, version)
    _check_time(table, data)
    return table


def table_hours(table: Table, data: DataConfig, first: Hour | None, last: Hour | None) -> dict[Hour, str]:
    """Hours that a table's files may hold rows of, each with a mark of those files."""
    found: dict[Hour, list[str]] = {}
    for file in table.files():
        low, high = _hour(file.first, data), _hour(file.last, data)
        if low and high:
            for hour in hour_range(max(low, first or low), min(high, last or high)):
                found.setdefault(hour, []).append(file.name)
    return {hour: hashlib.sha256("\n".join(sorted(found[hour])).encode()).hexdigest() for hour in sorted(found)}


def table_rows(
    table: Table, data: DataConfig, hour: Hour, wanted: Sequence[str]
) -> tuple[pa.Table, tuple[PartFile, ...]]:
    """Rows of an hour, and the files that may hold some.

    Raises:
        InputError: reason too-large.
    """
    names = [name for name in wanted if name in table.schema.names]
    batches, rows, size = [], 0, 0
    for batch in table.batches(names, _moment(table, data, hour), _moment(table, data, hour + 1)):
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows > data.max_rows or size > data.most_bytes:
            raise InputError(
                f"hour {hour} of version {table.version} is too large: over max_rows {data.max_rows:,} or "
                f"{data.most_bytes:,} bytes. Raise data.max_rows if the hour is sound",
                reason="too-large",
            )
        batches.append(batch)
    schema = pa.schema([table.schema.field(name) for name in names])
    rows_table = pa.Table.from_batches(batches).select(names) if batches else schema.empty_table()
    plain = [name for name in names if not t.is_nested(schema.field(name).type)]
    order = sorted(plain, key=lambda name: name != data.time_column)
    rows_table = rows_table.sort_by([(name, "ascending") for name in order])
    columns = {name: _encoded(rows_table[name]) for name in names}
    files = tuple(
        PartFile(file.name, file.bytes, hashlib.sha256(file.name.encode()).hexdigest(), file.rows)
        for file in sorted(table.files(), key=lambda file: file.name)
        if _spans(file, hour, data)
    )
    return pa.table(columns), files


def _spans(file: TableFile, hour: Hour, data: DataConfig) -> bool:
    """Whether a file may hold rows of an hour."""
    low, high = _hour(file.first, data), _hour(file.last, data)
    return low is not None and high is not None and low <= hour <= high


def _hour(moment: Moment, data: DataConfig) -> Hour | None:
    """The hour of a time; a time without a zone is UTC."""
    if moment is None:
        return None
    if isinstance(moment, datetime):
        return Hour.of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return Hour(moment // (3600 * TICKS[data.time_unit or "s"]))


def _moment(table: Table, data: DataConfig, hour: Hour) -> Moment:
    """The first instant of an hour, as the table's time column holds it."""
    kind = table.schema.field(data.time_column).type
    if t.is_integer(kind):
        return hour.index * 3600 * TICKS[data.time_unit or "s"]
    return hour.start if kind.tz else hour.start.replace(tzinfo=None)


def _check_time(table: Table, data: DataConfig) -> None:
    """Refuse a table whose rows cannot be told apart by hours."""
    if data.time_column not in table.schema.names:
        raise ConfigError(
            f"the table of data.source has no column {data.time_column!r} (data.time_column); it has "
            f"{', '.join(table.schema.names[:20])}"
        )
    kind = table.schema.field(data.time_column).type
    if not t.is_timestamp(kind) and not (t.is_integer(kind) and data.time_unit):
        raise ConfigError(
            f"column {data.time_column!r} of the table is {kind}: wanted a timestamp, or integers and "
            "their data.time_unit"
        )


def _encoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as dictionaries, as of files."""
    kind = column.type
    if t.is_string_view(kind) or t.is_large_string(kind):
        column = column.cast(pa.large_string())
    return pc.dictionary_encode(column) if t.is_string(column.type) or t.is_large_string(column.type) else column
