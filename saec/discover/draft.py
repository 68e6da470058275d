"""From a stranger's log to the settings of a pipeline: look, choose, lay out by hours where needed, look again.

Decisions: a first look at the beginnings of a few files says how rows tell their time and their label. Files that are
hourly already, and whose rows the pipeline reads as they are, stay where they are; everything else becomes hourly files
of its own. What columns are worth is then told from whole hours, the newest ones, so that values have the time to come
back. Nothing is asked: whatever was chosen can be named by an option, and stands in the settings with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t

from saec.data.columns import is_utc
from saec.discover.columns import ColumnSeen, Sample, codes, look_at
from saec.discover.hours import Layout, hourly_layout
from saec.discover.labels import Label, find_label
from saec.discover.log_files import Log, find_log
from saec.discover.partition import Partitioned, Plan, partition
from saec.discover.signal import Additive, crosses
from saec.discover.times import EVENT_TIME, TimeColumn, time_columns
from saec.discover.types import common_type, plain_type, text_type, typed
from saec.errors import ConfigError, InputError, nearest
from saec.hours import HOUR_MS, Hour

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
HEAD_FILES, HEAD_ROWS = 6, 100_000
SAMPLE_ROWS = 200_000
DEFAULT_LAYOUT = "date=%Y-%m-%d/hour=%H"
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Wishes:
    """What the caller knows better."""

    time: str | None = None
    label: str | None = None
    zone: str | None = None
    """Zone of times that name none."""
    span: tuple[Hour, int] | None = None
    """First hour and hours that rows without a time are spread over."""
    partition: Path | None = None
    """Folder for hourly files, wanted even where the log is hourly already."""
    replace: bool = False
    """Whether hourly files in that folder may be replaced."""


@dataclass(frozen=True)
class Draft:
    """What was seen of a log, and what is made of it."""

    log: Log
    source: str
    """What `data.source` is to be."""
    time_name: str
    label_name: str
    columns: tuple[ColumnSeen, ...]
    """In the order of the log."""
    crosses: tuple[tuple[str, str, float], ...]
    hours: int
    rows: int
    clicks: float
    """Share of rows that are clicked."""
    first: Hour
    last: Hour
    null_share: float
    """Largest share of nulls of a field in an hour."""
    sureness: float
    """How far from the bias, on the logit, the rows are that a simple model is surest of (a twentieth, either way)."""
    layout: str = DEFAULT_LAYOUT
    partitioned: Partitioned | None = None
    """What was written, where hourly files were made."""
    notes: tuple[str, ...] = ()
    """What else is to be said."""

    @property
    def hour_rows(self) -> float:
        """Rows of an hour, on average."""
        return self.rows / max(self.hours, 1)


@dataclass(frozen=True)
class _Head:
    """The first look."""

    rows: pa.Table
    types: dict[str, pa.DataType]
    flat: frozenset[str]
    """Columns that the files have themselves, not in a record."""
    hours: list[Hour] | None = None
    """Hour of each row by its path."""


def draft(source: str, out: Path, wishes: Wishes, on_progress: Progress | None = None) -> Draft:
    """Look at a log, make hourly files of it where needed, and say what the settings should be.

    Args:
        source: file, folder or URL.
        out: folder for the hourly files if the caller names none.
        wishes: what the caller knows better.
        on_progress: told what goes on, and rows so far.

    Raises:
        InputError: the log cannot be read.
        ConfigError: time or label cannot be told, or are not what was named.
    """
    log = find_log(source)
    layout = hourly_layout(file.below for file in log.files)
    head = _head(log, layout)
    time = None if wishes.span else _time(head, wishes)
    label = find_label(head.rows, wishes.label, {time.name} if time else set())
    notes = [f"{log.others:,} files of another kind are passed over"] * bool(log.others)
    why = next(_obstacles(log, layout, head, time, label, wishes), "")
    if why:
        plan = _plan(head, time, label, wishes)
        folder = wishes.partition or out
        done = partition(log, plan, folder, replace_files=wishes.replace,
                         on_rows=None if on_progress is None else lambda rows: on_progress("to hours", rows))
        notes.append(f"hourly files are written, for {why}")
        notes += _told_of_times(time, done)
        names = plan.time_name, plan.names.get(label.name, label.name)
        return replace(_drafted(find_log(str(folder)), str(folder), *names, done, notes), log=log)
    return _drafted(log, source, time.name if time else "", label.name, None, notes)


def _head(log: Log, layout: Layout | None) -> _Head:
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
        pieces = [piece for place in places for piece in [next(log.pieces(log.files[place], types), None)]
                  if piece is not None and piece.num_rows]
        pieces = [piece.slice(0, HEAD_ROWS // len(places)) for piece in pieces]
    rows = pa.concat_tables([typed(piece, types) for piece in pieces])
    whole_numbers = {name: pa.int64() for name, kind in types.items() if t.is_floating(kind) and _is_whole(rows[name])}
    return _Head(rows, types | whole_numbers, log.names(log.files[0]), hours or None)


def _is_whole(column: pa.ChunkedArray) -> bool:
    """Whether floats are whole numbers, which nulls have made floats of."""
    values = column.drop_null()
    values = values.filter(pc.is_finite(values))
    return bool(len(values) and column.null_count + len(column) - len(values) and pc.all(
        pc.equal(values, pc.floor(values))).as_py())


def _time(head: _Head, wishes: Wishes) -> TimeColumn:
    """The column that tells when rows happened."""
    found = time_columns(head.rows, wishes.zone)
    if wishes.time is not None:
        if wishes.time not in head.rows.column_names:
            raise ConfigError(f"--time: there is no column {wishes.time!r}{nearest(wishes.time, head.types)}; there "
                              f"are {', '.join(head.types)}")
        found = [column for column in found if column.name == wishes.time]
        if not found:
            shown = head.rows[wishes.time].slice(0, 3).to_pylist()
            raise ConfigError(f"--time: column {wishes.time!r} ({head.types[wishes.time]}) holds no times of 2000 to "
                              f"2040 in a notation that is known, or none finer than a day: {shown}")
    if not found:
        raise ConfigError(f"no column tells when its row happened; there are {', '.join(head.types)}. Name one with "
                          "--time, or have rows spread evenly, in their order, with --start HOUR --hours N")
    if head.hours is None:
        return found[0]
    by_path = np.array([hour.index for hour in head.hours])
    agreeing = [column for column in found if np.mean(_hours_of(column, head.rows) == by_path) > 0.99]
    return (agreeing or found)[0]


def _hours_of(column: TimeColumn, rows: pa.Table) -> np.ndarray:
    """Index of the hour of each row, -1 where there is none."""
    milliseconds = pc.fill_null(column.instants(rows).cast(pa.int64()), -HOUR_MS)
    return np.asarray(milliseconds.to_numpy() // HOUR_MS)


def _obstacles(log: Log, layout: Layout | None, head: _Head, time: TimeColumn | None, label: Label,
               wishes: Wishes) -> Iterator[str]:
    """Why the pipeline cannot read the log where it lies."""
    if wishes.partition:
        yield "--partition asks for them"
    if time is None:
        yield "rows do not say when they happened"
    elif layout is None:
        yield f"{'it is' if len(log.files) == 1 else 'they are'} not laid out by hours"
    elif log.kind != "parquet" or layout.pattern != DEFAULT_LAYOUT:
        yield f"files lie as {layout.pattern}, as {log.kind}"
    else:
        yield from _unreadable_times(head, time)
    if label.clicked is not None:
        yield f"column {label.name!r} is no 0 and 1"
    if records := [name for name in head.types if "." in name and name not in head.flat]:
        yield f"column {records[0].partition('.')[0]!r} holds records"
    floats = (column for column in head.rows.columns if t.is_floating(column.type))
    if any(pc.any(pc.is_nan(column)).as_py() for column in floats):
        yield "nulls are written as NaN"
    yield from (f"the name {name!r} cannot stand in settings" for name in (time.name if time else "_", label.name)
                if not NAME.fullmatch(name))


def _unreadable_times(head: _Head, time: TimeColumn) -> Iterator[str]:
    """What keeps the pipeline from reading the time of files that are laid out by hours."""
    if time.notation != "timestamp" or (time.zone and time.naive):
        yield f"column {time.name!r} holds no timestamps in UTC"
    elif not is_utc(head.types[time.name]):
        yield f"column {time.name!r} is of the zone {head.types[time.name].tz}"
    elif np.mean(_hours_of(time, head.rows) == [hour.index for hour in head.hours or []]) < 0.99:
        yield "folders are not the rows' own hours in UTC (a local zone?)"


def _plan(head: _Head, time: TimeColumn | None, label: Label, wishes: Wishes) -> Plan:
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
    return Plan(types, {name: plain for name, plain in names.items() if name != plain}, frozenset(time_columns_read),
                time, time_name, label.name, label.clicked, wishes.span)


def _kept(kind: pa.DataType) -> bool:
    """Whether a column can be written and used."""
    return not (t.is_struct(kind) or t.is_map(kind) or t.is_union(kind) or t.is_duration(kind) or t.is_time(kind)
                or (t.is_list(kind) and t.is_nested(kind.value_type)))


def _told_of_times(time: TimeColumn | None, done: Partitioned) -> list[str]:
    """What was made of the rows' times."""
    told = []
    if time is None:
        told.append("times are made up: rows are spread evenly in their order")
    elif time.hourly:
        told.append("times say no more than the hour: rows are spread evenly over it in their order")
    elif time.naive and time.zone is None:
        told.append(f"times of {time.name!r} name no zone and are taken for UTC (--zone says otherwise)")
    if done.without_time:
        told.append(f"{done.without_time:,} rows without a time are left out")
    return told


def _drafted(log: Log, source: str, time_name: str, label_name: str, done: Partitioned | None,
             notes: list[str]) -> Draft:
    """The second look, at whole hours, and what follows from it."""
    layout = hourly_layout(file.below for file in log.files)
    if layout is None:
        raise InputError(f"{source} is not laid out by hours", reason="layout")
    sample = _sample(log, layout, label_name)
    names = [name for name in sample.rows.column_names if name not in (time_name, label_name)]
    seen = {name: look_at(name, sample) if NAME.fullmatch(name) else ColumnSeen(
        name, str(sample.rows[name].type), "left out", "the name cannot stand in settings") for name in names}
    times = {column.name for column in time_columns(sample.rows.select(names))}
    for name in times & {name for name, column in seen.items() if column.role != "row id"}:
        seen[name] = replace(seen[name], role="left out", why="is another time")
    for name, twin in _twins({name: codes(sample.rows[name]) for name, column in seen.items()
                              if column.role == "field"}):
        seen[name] = replace(seen[name], role="left out", why=f"says the same as {twin}")
    nulls = {name for count in done.hours.values() for name in count.nulls} if done else log.with_nulls()
    if nulls:  # of the whole log, not of the sample
        seen = {name: _nullable(column) if name in nulls else column for name, column in seen.items()}
    fields = {name: codes(sample.rows[name]) for name, column in seen.items() if column.role == "field"}
    if not fields:
        raise ConfigError(f"no column of {source} can be a field: " + "; ".join(
            f"{column.name} {column.why}" for column in seen.values()))
    clock = {"hour_of_day": sample.hours_B % 24} if "hour_of_day" not in seen else {}
    model = Additive(fields | clock, sample.labels_B, sample.late_B)
    single = [name for name in fields if seen[name].settings.get("kind") != "list"]
    pairs = crosses(model, [*single, *clock])
    first, last = min(layout.hours.values()), max(layout.hours.values())
    ordered = tuple(seen[name] if name in seen else _own(sample, name, time_name) for name in sample.rows.column_names)
    hours, rows, clicks = _size(log, layout, sample, done)
    shares = _null_shares(sample, fields, done)
    return Draft(log, source, time_name, label_name, ordered, tuple(pairs), hours, rows, clicks, first, last,
                 max(shares, default=0.0), model.sureness, DEFAULT_LAYOUT, done, tuple(notes))


def _twins(fields: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """Columns whose values stand for those of an earlier column, one for one, and which one that is."""
    found: dict[bytes, str] = {}
    twins = []
    for name, codes_B in fields.items():
        _, first_V, place_B = np.unique(codes_B, return_index=True, return_inverse=True)
        appearance = np.argsort(np.argsort(first_V))[place_B].tobytes()
        if appearance in found:
            twins.append((name, found[appearance]))
        else:
            found[appearance] = name
    return twins


def _own(sample: Sample, name: str, time_name: str) -> ColumnSeen:
    """The time and the label."""
    kind = str(sample.rows[name].type)
    return ColumnSeen(name, kind, "time" if name == time_name else "label", "")


def _nullable(column: ColumnSeen) -> ColumnSeen:
    return replace(column, settings=column.settings | {"nullable": True}) if column.settings else column


def _sample(log: Log, layout: Layout, label_name: str) -> Sample:
    """The newest hours, up to `SAMPLE_ROWS` rows, six hours of them at least where rows of an hour may be cut."""
    by_hour: dict[Hour, list[pa.Table]] = {}
    rows = 0
    for file in sorted(log.files, key=lambda file: layout.hours[file.below], reverse=True):
        hour = layout.hours[file.below]
        if rows >= SAMPLE_ROWS and hour not in by_hour:
            break
        for piece in log.pieces(file):
            taken = sum(table.num_rows for table in by_hour.get(hour, ()))
            part = piece.slice(0, max(0, SAMPLE_ROWS // 6 - taken))
            if not part.num_rows:
                break
            by_hour.setdefault(hour, []).append(part)
            rows += part.num_rows
    hours = sorted(by_hour)
    table = pa.concat_tables([table for hour in hours for table in by_hour[hour]], promote_options="permissive")
    counts = [sum(table.num_rows for table in by_hour[hour]) for hour in hours]
    hours_B = np.repeat([hour.index for hour in hours], counts)
    known = pc.is_valid(table[label_name])
    table, hours_B = table.filter(known), hours_B[np.asarray(known.to_numpy())]
    labels_B = table[label_name].cast(pa.uint8()).to_numpy()
    return Sample(table.combine_chunks(), labels_B, hours_B)


def _size(log: Log, layout: Layout, sample: Sample, done: Partitioned | None) -> tuple[int, int, float]:
    """Hours, rows and click rate; rows are counted, the rate is that of the sample where not all was read."""
    if done:
        return len(done.hours), done.rows, sum(count.clicks for count in done.hours.values()) / done.rows
    return len(set(layout.hours.values())), log.count_rows(), float(sample.labels_B.mean())


def _null_shares(sample: Sample, fields: dict[str, np.ndarray], done: Partitioned | None) -> list[float]:
    """Of each field, the largest share of nulls in an hour."""
    if done:
        return [max(count.nulls.get(name, 0) / count.rows for count in done.hours.values()) for name in fields]
    shares = []
    for name in fields:
        null_B = np.asarray(sample.rows[name].is_null().to_numpy(), np.float64)
        shares.append(float(max(null_B[sample.hours_B == hour].mean() for hour in np.unique(sample.hours_B))))
    return shares


