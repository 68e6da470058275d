"""The first look at a log: reads the start of a few files, finds time and label, decides what to do with the files.

Decisions: files that are hourly already, and that the pipeline can read, stay where they are. Anything that prevents
this is an obstacle, and is given as the reason for writing hourly files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t
from numpy.typing import NDArray

from saec.discover.hours import Layout
from saec.discover.labels import Label
from saec.discover.log_files import Log
from saec.discover.partition import Plan
from saec.discover.times import EVENT_TIME, TimeColumn, time_columns
from saec.discover.types import common_type, plain_type, text_type, typed
from saec.errors import ConfigError, InputError, nearest
from saec.hours import HOUR_MS, Hour

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
HEAD_FILES, HEAD_ROWS = 6, 100_000
_CODECS = {"gzip": ".gz", "zstd": ".zst"}


@dataclass(frozen=True)
class Wishes:
    """The caller's choices, which override ours."""

    time: str | None = None
    label: str | None = None
    zone: str | None = None
    """Zone of times that name none."""
    span: tuple[Hour, int] | None = None
    """First hour and hours that rows without a time are spread over."""
    partition: Path | None = None
    """Folder for hourly files, wanted even where the log is hourly already."""
    skip_broken: bool = False
    """Whether lines of text that cannot be read are left out."""
    replace: bool = False
    """Whether hourly files in that folder may be replaced."""


@dataclass(frozen=True)
class Head:
    """The first look."""

    rows: pa.Table
    types: dict[str, pa.DataType]
    flat: frozenset[str]
    """Columns that the files have themselves, not in a record."""
    hours: list[Hour] | None = None
    """Hour of each row by its path."""


def head_of(log: Log, layout: Layout | None) -> Head:
    """The beginnings of a few files, spread over all of them, with the types that they agree on."""
    places = np.unique(np.linspace(0, len(log.files) - 1, HEAD_FILES).astype(int))
    pieces, hours = [], []
    for place in places:
        piece = next(log.pieces(log.files[place]), None)
        if piece is not None and piece.num_rows:
            piece = piece.slice(0, HEAD_ROWS // len(places))
            pieces.append(piece)
            hours += [layout.hours[log.files[place].below]] * piece.num_rows if layout else []
    if not pieces:
        raise InputError(f"{log.source} holds no rows", reason="empty")
    types: dict[str, pa.DataType] = {}
    for piece in pieces:
        for name, kind in zip(piece.schema.names, piece.schema.types, strict=True):
            types[name] = common_type(types[name], kind) if name in types else kind
    types = {name: plain_type(kind) for name, kind in types.items()}
    if log.kind == "csv":
        whole = pa.concat_tables(pieces, promote_options="permissive")
        types = {name: text_type(whole[name]) for name in types}
    elif log.kind == "jsonl":  # instants are kept as text: blocks need not agree on a notation
        types = {name: pa.string() if t.is_timestamp(kind) else kind for name, kind in types.items()}
        pieces = [
            piece
            for place in places
            for piece in [next(log.pieces(log.files[place], types), None)]
            if piece is not None and piece.num_rows
        ]
        pieces = [piece.slice(0, HEAD_ROWS // len(places)) for piece in pieces]
    rows = pa.concat_tables([typed(piece, types) for piece in pieces])
    whole_numbers = {name: pa.int64() for name, kind in types.items() if t.is_floating(kind) and _is_whole(rows[name])}
    return Head(rows, types | whole_numbers, log.names(log.files[0]), hours or None)


def _is_whole(column: pa.ChunkedArray) -> bool:
    """Whether floats are whole numbers, which nulls have made floats of."""
    values = column.drop_null()
    values = values.filter(pc.is_finite(values))
    return bool(
        len(values)
        and column.null_count + len(column) - len(values)
        and pc.all(pc.equal(values, pc.floor(values))).as_py()
    )


def time_of(head: Head, wishes: Wishes) -> TimeColumn:
    """The column that tells when rows happened."""
    found = time_columns(head.rows, wishes.zone)
    if wishes.time is not None:
        if wishes.time not in head.rows.column_names:
            raise ConfigError(
                f"--time: there is no column {wishes.time!r}{nearest(wishes.time, head.types)}; there "
                f"are {', '.join(head.types)}"
            )
        found = [column for column in found if column.name == wishes.time]
        if not found:
            shown = head.rows[wishes.time].slice(0, 3).to_pylist()
            raise ConfigError(
                f"--time: column {wishes.time!r} ({head.types[wishes.time]}) holds no times of 2000 to "
                f"2040 in a notation that is known, or none finer than a day: {shown}"
            )
    if not found:
        raise ConfigError(
            f"no column tells when its row happened; there are {', '.join(head.types)}. Name one with "
            "--time, or have rows spread evenly, in their order, with --start HOUR --hours N"
        )
    if head.hours is None:
        return found[0]
    by_path = np.array([hour.index for hour in head.hours])
    agreeing = [column for column in found if np.mean(_hours_of(column, head.rows) == by_path) > 0.99]
    return (agreeing or found)[0]


def _hours_of(column: TimeColumn, rows: pa.Table) -> NDArray[np.int64]:
    """Index of the hour of each row, -1 where there is none."""
    milliseconds = pc.fill_null(column.instants(rows).cast(pa.int64()), -HOUR_MS)
    return np.asarray(milliseconds.to_numpy() // HOUR_MS, np.int64)


def obstacles(
    log: Log, layout: Layout | None, head: Head, time: TimeColumn | None, label: Label, wishes: Wishes
) -> Iterator[str]:
    """Why the pipeline cannot read the log where it lies."""
    if wishes.partition:
        yield "--partition asks for them"
    if log.left_out is not None:
        yield "--skip-broken leaves lines out"
    if time is None:
        yield "rows do not say when they happened"
    elif layout is None:
        yield f"{'the file is' if len(log.files) == 1 else 'the files are'} not laid out by hours"
    elif (
        len(log.delimiter) != 1
        or log.codec not in (None, *_CODECS)
        or any(not file.below.endswith(_CODECS.get(log.codec or "", "")) for file in log.files)
    ):
        yield "the files' names do not say how they are compressed"
    else:
        yield from _unreadable_times(head, time)
    if label.clicked is not None:
        yield f"column {label.name!r} is no 0 and 1"
    if records := [name for name in head.types if "." in name and name not in head.flat]:
        yield f"column {records[0].partition('.')[0]!r} holds records"
    floats = (column for column in head.rows.columns if t.is_floating(column.type))
    if any(pc.any(pc.is_nan(column)).as_py() for column in floats):
        yield "nulls are written as NaN"
    yield from (
        f"the name {name!r} cannot stand in settings"
        for name in (time.name if time else "_", label.name)
        if not NAME.fullmatch(name)
    )


def _unreadable_times(head: Head, time: TimeColumn) -> Iterator[str]:
    """What keeps the pipeline from reading the time of files that are laid out by hours."""
    if time.hour or time.hourly:
        yield f"column {time.name!r} does not tell the time within the hour"
    elif time.zone and time.naive:
        yield f"column {time.name!r} is of the zone {time.zone}"
    elif np.mean(_hours_of(time, head.rows) == [hour.index for hour in head.hours or []]) < 0.99:
        yield "folders are not the rows' own hours in UTC (a local zone?)"


def plan_of(head: Head, time: TimeColumn | None, label: Label, wishes: Wishes) -> Plan:
    """How rows become hourly files."""
    names: dict[str, str] = {}
    for name in head.types:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_")[:62] or "column"
        plain = plain if NAME.fullmatch(plain) else f"_{plain}"[:62]
        while plain in names.values():
            plain = f"{plain[:60]}_2" if not plain.endswith("_2") else f"{plain[:58]}_2_2"
        names[name] = plain
    time_columns_read = time.columns if time else ()
    types = {name: kind for name, kind in head.types.items() if _kept(kind) or name in time_columns_read}
    time_name = EVENT_TIME
    if time and time.notation in ("timestamp", "text") and not time.hourly:
        time_name = names[time.name]
    taken = {names[name] for name in types if name not in time_columns_read}
    while time_name in taken:
        time_name = f"{time_name}_utc"
    return Plan(
        types,
        {name: plain for name, plain in names.items() if name != plain},
        frozenset(time_columns_read),
        time,
        time_name,
        label.name,
        label.clicked,
        wishes.span,
    )


def _kept(kind: pa.DataType) -> bool:
    """Whether a column can be written and used."""
    return not (
        t.is_struct(kind)
        or t.is_map(kind)
        or t.is_union(kind)
        or t.is_duration(kind)
        or t.is_time(kind)
        or (t.is_list(kind) and t.is_nested(kind.value_type))
    )
