"""Splits any log into hourly Parquet files: streaming, rows in any order, in bounded memory.

Decisions: rows are buffered by hour. Once the buffers exceed `most_bytes`, they are all written, each hour to its own
file; at most `_OPEN` files are open, and an hour whose file was closed continues in a new part file. Memory is
therefore limited to one piece and the buffers. If times give only the hour, rows are spread evenly over it in order, as
in `saec import`, and the files record this. If a value does not fit its column's type, the type is widened and the pass
starts again, without asking the user.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as t

from saec.data.hourly_files import EVENT_TIME, emerging_folder, hour_file
from saec.data.lines import MOST_BROKEN, LeftOut
from saec.discover.log_files import Log
from saec.discover.times import TimeColumn
from saec.discover.types import Widened, typed
from saec.errors import InputError
from saec.hours import HOUR_MS, Hour

Progress = Callable[[int], None]
MOST_BYTES = 128 << 20
_OPEN = 400
_BAD_SHARE = 0.01
_NOTE = {"saec.times": "order of the rows within the hour that the source names, spread evenly over it"}


@dataclass(frozen=True)
class Plan:
    """How rows become those of hours."""

    types: dict[str, pa.DataType]
    """Columns of the log that are read, and their types."""
    names: dict[str, str]
    """What columns are called in the hourly files, where not as in the log."""
    dropped: frozenset[str]
    """Columns that are read for the time alone."""
    time: TimeColumn | None
    """How rows tell their time; None: they do not, and are spread over `span`."""
    time_name: str
    """What the time is called in the hourly files."""
    label: str
    """The label's column in the log."""
    clicked: frozenset[str] | None = None
    """Values of the label, as text, that are clicks; None when it is 0 and 1 or truth already."""
    span: tuple[Hour, int] | None = None
    """First hour and number of hours that rows without a time are spread over."""


@dataclass
class HourCount:
    """The contents of an hour."""

    rows: int = 0
    clicks: int = 0
    nulls: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Partitioned:
    """What was written."""

    hours: dict[Hour, HourCount]
    """Of each hour that has rows, oldest first."""
    plan: Plan
    """As it was followed: types may have grown."""
    without_time: int
    """Rows left out, for they say no time."""
    broken: int = 0
    """Lines left out, for they cannot be read."""

    @property
    def rows(self) -> int:
        """Rows written."""
        return sum(count.rows for count in self.hours.values())


def partition(
    log: Log,
    plan: Plan,
    out: Path,
    *,
    replace_files: bool = False,
    most_bytes: int = MOST_BYTES,
    on_rows: Progress | None = None,
) -> Partitioned:
    """Write a log as hourly files.

    Args:
        log: the files.
        plan: columns, types, time and label.
        out: folder for the hourly files; it appears when all of them are whole.
        replace_files: whether hourly files that `out` holds may be replaced.
        most_bytes: of rows that wait in memory to be written.
        on_rows: told of rows read so far.

    Raises:
        InputError: reason malformed (too many broken lines, too), timestamps (too many rows without a time) or empty.
        ConfigError: `out` may not be replaced.
    """
    while True:
        try:
            with emerging_folder(out, replace=replace_files) as staging:
                return _write(log, plan, staging, most_bytes, on_rows)
        except Widened as turn:
            plan = replace(plan, types=plan.types | {turn.name: turn.wider})


def _write(log: Log, plan: Plan, folder: Path, most_bytes: int, on_rows: Progress | None) -> Partitioned:
    """One pass."""
    files = _HourFiles(folder, most_bytes)
    total = sum(piece.num_rows for piece in _pieces(log, plan)) if plan.time is None else 0
    read, without = 0, 0
    left_out = log.left_out or LeftOut()
    left_out.clear()
    for piece in _pieces(log, plan):
        instants = _spread(plan.span, read, piece.num_rows, total) if plan.span else plan.time.instants(piece)  # type: ignore[union-attr]
        rows = _shaped(piece, plan, instants)
        timed = rows.filter(pc.is_valid(rows[plan.time_name])) if rows[plan.time_name].null_count else rows
        without += rows.num_rows - timed.num_rows
        read += piece.num_rows
        files.add(timed, plan)
        if on_rows:
            on_rows(read)
    if without > _BAD_SHARE * read:
        raise InputError(
            f"{without:,} of {read:,} rows of {log.source} have no time that can be read in column "
            f"{plan.time.name if plan.time else ''!r}; name another one with --time",
            reason="timestamps",
        )
    if left_out.too_many(read):
        raise InputError(
            f"{left_out.count:,} of {read + left_out.count:,} lines of {log.source} are broken, more than "
            f"--skip-broken leaves out ({MOST_BROKEN:.0%}); the first is {left_out.first}. Have the log written again",
            reason="malformed",
        )
    hours = files.close()
    if not hours:
        raise InputError(f"{log.source} holds no rows", reason="empty")
    if plan.time and plan.time.hourly:
        for hour, count in hours.items():
            _spread_hour(folder, hour, count.rows, plan.time_name)
    return Partitioned(hours, plan, without, left_out.count)


def _pieces(log: Log, plan: Plan) -> Iterator[pa.Table]:
    """All rows of the log with the types of the plan."""
    for file in log.files:
        for piece in log.pieces(file, plan.types):
            yield typed(piece, plan.types)


def _shaped(piece: pa.Table, plan: Plan, instants: pa.ChunkedArray) -> pa.Table:
    """Rows as they are written: the time first, the label as 0 and 1, columns by their names of the settings."""
    columns = {plan.time_name: instants.cast(EVENT_TIME)}
    for name in plan.types:
        if name in plan.dropped:
            continue
        column = piece[name]
        if name == plan.label:
            column = _label(column, plan.clicked)
        if t.is_floating(column.type):  # how pandas writes null
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        columns[plan.names.get(name, name)] = column
    return pa.table(columns)


def _label(column: pa.ChunkedArray, clicked: frozenset[str] | None) -> pa.ChunkedArray:
    """The label as 0 and 1."""
    if clicked is None:
        return column.cast(pa.int8())
    text = column.cast(pa.string())
    return pc.if_else(
        pc.is_valid(text),
        pc.is_in(pc.utf8_lower(text), value_set=pa.array(sorted(clicked))),
        pa.scalar(None, pa.bool_()),
    ).cast(pa.int8())


def _spread(span: tuple[Hour, int], first: int, rows: int, total: int) -> pa.ChunkedArray:
    """Times of rows spread evenly over hours, in their order."""
    start, hours = span
    passed = (np.arange(first, first + rows, dtype=np.int64) * (hours * HOUR_MS)) // max(total, 1)
    return pa.chunked_array([pa.array(start.start_ms + passed)]).cast(EVENT_TIME)


class _HourFiles:
    """The files of all hours, some of them open, and the rows that wait for them."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes
        self._waiting: dict[int, list[pa.Table]] = {}
        self._bytes = 0
        self._open: OrderedDict[int, pq.ParquetWriter] = OrderedDict()
        self._parts: dict[int, int] = {}
        self.counts: dict[int, HourCount] = {}

    def add(self, rows: pa.Table, plan: Plan) -> None:
        """Take rows of any hours."""
        if not rows.num_rows:
            return
        hour_B = rows[plan.time_name].cast(pa.int64()).to_numpy() // HOUR_MS
        if np.any(hour_B[1:] < hour_B[:-1]):
            order_B = np.argsort(hour_B, kind="stable")
            rows, hour_B = rows.take(pa.array(order_B)), hour_B[order_B]
        cuts = [0, *(np.flatnonzero(np.diff(hour_B)) + 1).tolist(), rows.num_rows]
        label = plan.names.get(plan.label, plan.label)
        for start, stop in pairwise(cuts):
            part = rows.slice(start, stop - start)
            self._count(int(hour_B[start]), part, label)
            self._waiting.setdefault(int(hour_B[start]), []).append(part)
        self._bytes += rows.nbytes
        if self._bytes > self._most:
            self._spill()

    def close(self) -> dict[Hour, HourCount]:
        """Write what waits, close all, and tell what there is."""
        self._spill()
        while self._open:
            self._open.popitem()[1].close()
        return {Hour(index): self.counts[index] for index in sorted(self.counts)}

    def _count(self, hour: int, rows: pa.Table, label: str) -> None:
        count = self.counts.setdefault(hour, HourCount())
        count.rows += rows.num_rows
        count.clicks += pc.sum(rows[label]).as_py() or 0
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            if column.null_count:
                count.nulls[name] = count.nulls.get(name, 0) + column.null_count

    def _spill(self) -> None:
        """Write all rows that wait."""
        for hour in sorted(self._waiting):
            rows = pa.concat_tables(self._waiting.pop(hour)).combine_chunks()
            self._writer(hour, rows.schema).write_table(rows)
        self._bytes = 0

    def _writer(self, hour: int, schema: pa.Schema) -> pq.ParquetWriter:
        """The open file of an hour; the one used longest ago gives way."""
        writer = self._open.pop(hour, None)
        if writer is None:
            if len(self._open) >= _OPEN:
                self._open.popitem(last=False)[1].close()
            part = self._parts[hour] = self._parts.get(hour, -1) + 1
            path = hour_file(self._folder, Hour(hour))
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = pq.ParquetWriter(
                path.with_name(f"part-{part}.parquet"), schema, compression="zstd", write_page_checksum=True
            )
        self._open[hour] = writer
        return writer


def _spread_hour(folder: Path, hour: Hour, rows: int, time_name: str) -> None:
    """Write an hour's files again with times spread evenly over the hour, in the order that rows came in."""
    first = hour_file(folder, hour)
    parts = sorted(first.parent.glob("part-*.parquet"), key=lambda path: int(path.stem.removeprefix("part-")))
    row = 0
    for path in parts:
        partial = path.with_name(f".{path.name}.partial")
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow.with_metadata(_NOTE)
            with pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    times = _spread((hour, 1), row, table.num_rows, rows)
                    place = table.column_names.index(time_name)
                    writer.write_table(table.set_column(place, time_name, times).cast(schema))
                    row += table.num_rows
        partial.replace(path)
