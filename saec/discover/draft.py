"""Drafts the settings of a pipeline for an unknown log: inspects it, chooses, splits it by hours if needed.

Decisions: a first look at the start of a few files finds the time and the label. Files that are hourly already, and
that the pipeline can read, stay where they are; everything else is written as new hourly files. The worth of columns is
then measured on whole hours, the newest ones, so that values have time to come back. The command asks no questions:
options override every choice, and the settings give its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from numpy.typing import NDArray

from saec.config import Config
from saec.constants import MOST_NULLS
from saec.data.checks import check_hour
from saec.data.lines import LeftOut
from saec.data.partitions import available_hours, read_partition
from saec.discover.columns import ColumnSeen, Sample, codes, look_at
from saec.discover.head import NAME, Wishes, head_of, obstacles, plan_of, time_of
from saec.discover.hours import Layout, hourly_layout
from saec.discover.labels import find_label
from saec.discover.log_files import Log, find_log
from saec.discover.partition import Partitioned, Plan, partition
from saec.discover.settings import settings_text
from saec.discover.signal import Additive, crosses
from saec.discover.times import TimeColumn, time_columns
from saec.discover.types import typed
from saec.errors import ConfigError, HourHeld, InputError
from saec.hours import Hour

SAMPLE_ROWS = 200_000
_ROOMY = 0.7
"""Share of what a nullable field may lack from which on its limit is set by hand."""
Progress = Callable[[str, int], None]
Types = dict[str, pa.DataType]


@dataclass(frozen=True)
class Draft:
    """The findings on a log, and the choices made."""

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
    sureness: float
    """How far from the bias, on the logit, the rows are that a simple model is surest of (a twentieth, either way)."""
    layout: str
    """As `data.layout`."""
    time_unit: str | None = None
    """As `data.time_unit`."""
    partitioned: Partitioned | None = None
    """What was written, where hourly files were made."""
    notes: tuple[str, ...] = ()
    """What else is to be said."""

    @property
    def hour_rows(self) -> float:
        """Rows of an hour, on average."""
        return self.rows / max(self.hours, 1)


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
    if wishes.skip_broken and log.kind != "parquet":
        log = replace(log, left_out=LeftOut())
    layout = hourly_layout([file.below for file in log.files])
    head = head_of(log, layout)
    time = None if wishes.span else time_of(head, wishes)
    label = find_label(head.rows, wishes.label, {time.name} if time else set())
    notes = [f"{log.others:,} files of another kind are passed over"] * bool(log.others)
    why = next(obstacles(log, layout, head, time, label, wishes), "")
    if not why:
        made = _drafted(log, source, (time.name if time else "", label.name), head.types, None, notes)
        made = replace(made, time_unit=time.unit if time else None)
        why = _refused(made)
    if why:
        plan = plan_of(head, time, label, wishes)
        folder = wishes.partition or out
        done = partition(
            log,
            plan,
            folder,
            replace_files=wishes.replace,
            on_rows=None if on_progress is None else lambda rows: on_progress("to hours", rows),
        )
        notes.append(f"hourly files are written, because {why}")
        notes += [*_told_of_times(time, done), *_told_of_names(time, plan), *_told_of_lines(log, done)]
        names = plan.time_name, plan.names.get(label.name, label.name)
        return replace(_drafted(find_log(str(folder)), str(folder), names, None, done, notes), log=log)
    return made


def _refused(made: Draft) -> str:
    """What the pipeline finds wrong with the log in its present layout, in a few hours; empty if nothing."""
    config = Config.model_validate(yaml.safe_load(settings_text(made, "workspace")))
    hours = sorted(available_hours(config.data))
    if len(hours) != made.hours:
        return f"of {made.hours:,} hours {len(hours):,} are found"
    for place in sorted({0, len(hours) // 2, len(hours) - 1}):
        try:
            check_hour(read_partition(config, hours[place]), config)
        except InputError as error:
            return f"as they lie, {str(error).partition('; ')[0]}"
        except HourHeld:  # an empty hour is none of the settings' faults
            continue
    return ""


def _told_of_times(time: TimeColumn | None, done: Partitioned) -> list[str]:
    """Notes on the rows' times."""
    told = []
    if time is None:
        told.append("times are made up: rows are spread evenly in their order")
    elif time.hourly:
        told.append("times say no more than the hour: rows are spread evenly over it in their order")
    elif time.naive and time.zone is None:
        told.append(f"times of {time.name!r} name no time zone and are read as UTC (--zone changes that)")
    if done.without_time:
        told.append(f"{done.without_time:,} rows without a time are left out")
    return told


def _told_of_names(time: TimeColumn | None, plan: Plan) -> list[str]:
    """A note on columns that have other names in the hourly files."""
    renamed = {name: new for name, new in plan.names.items() if name in plan.types and name not in plan.dropped}
    if time and len(time.columns) == 1 and time.name != plan.time_name:
        renamed[time.name] = plan.time_name
    told = ", ".join(f"{name!r} is {new}" for name, new in renamed.items())
    return [f"columns have other names in the hourly files and in the settings: {told}"] if told else []


def _told_of_lines(log: Log, done: Partitioned) -> list[str]:
    """A note on lines that were left out."""
    if log.left_out is None:
        return []
    told = f"{done.broken:,} of {done.rows + done.without_time + done.broken:,} lines are broken and left out"
    return [f"{told}, the first is {log.left_out.first}" if done.broken else "no line is broken, so none is left out"]


def _drafted(
    log: Log, source: str, names: tuple[str, str], types: Types | None, done: Partitioned | None, notes: list[str]
) -> Draft:
    """The second look, at whole hours, and what follows from it."""
    layout = hourly_layout([file.below for file in log.files])
    if layout is None:
        raise InputError(f"{source} is not laid out by hours", reason="layout")
    time_name, label_name = names
    sample = _sample(log, layout, label_name, types)
    others = [name for name in sample.rows.column_names if name not in (time_name, label_name)]
    seen = {
        name: look_at(name, sample)
        if NAME.fullmatch(name)
        else ColumnSeen(name, str(sample.rows[name].type), "left out", "the name cannot stand in settings")
        for name in others
    }
    times = {column.name for column in time_columns(sample.rows.select(others))}
    for name in times & {name for name, column in seen.items() if column.role != "row id"}:
        seen[name] = replace(seen[name], role="left out", why="is another time")
    for name, twin in _twins(
        {name: codes(sample.rows[name]) for name, column in seen.items() if column.role == "field"}
    ):
        seen[name] = replace(seen[name], role="left out", why=f"has the same values as {twin}, renamed")
    nulls = {name for count in done.hours.values() for name in count.nulls} if done else log.with_nulls()
    if nulls:  # of the whole log, not of the sample
        seen = {name: _nullable(column) if name in nulls else column for name, column in seen.items()}
    fields = {name: codes(sample.rows[name]) for name, column in seen.items() if column.role == "field"}
    if not fields:
        raise ConfigError(
            f"no column of {source} can be a field: "
            + "; ".join(f"{column.name} {column.why}" for column in seen.values())
        )
    clock = {"hour_of_day": sample.hours_B % 24} if "hour_of_day" not in seen else {}
    models = [Additive(fields | clock, sample.labels_B, *fold) for fold in sample.folds]
    single = [name for name in fields if seen[name].settings.get("kind") != "list"]
    pairs = crosses(models, [*single, *clock])
    first, last = min(layout.hours.values()), max(layout.hours.values())
    for name, share in _null_shares(sample, fields, done).items():
        if share > _ROOMY * MOST_NULLS:
            limit = math.ceil(100 * (share + (1 - share) / 2)) / 100
            seen[name] = replace(seen[name], settings=seen[name].settings | {"nullable": limit})
    ordered = tuple(seen[name] if name in seen else _own(sample, name, time_name) for name in sample.rows.column_names)
    hours, rows, clicks = _size(log, layout, sample, done)
    return Draft(
        log,
        source,
        time_name,
        label_name,
        ordered,
        tuple(pairs),
        hours,
        rows,
        clicks,
        first,
        last,
        max(model.sureness for model in models),
        layout.pattern,
        partitioned=done,
        notes=tuple(notes),
    )


def _twins(fields: dict[str, NDArray[np.int64]]) -> list[tuple[str, str]]:
    """Columns whose values map one to one to those of an earlier column, and which one."""
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


def _sample(log: Log, layout: Layout, label_name: str, types: Types | None) -> Sample:
    """The newest hours, up to `SAMPLE_ROWS` rows, six hours of them at least where rows of an hour may be cut."""
    by_hour: dict[Hour, list[pa.Table]] = {}
    rows = 0
    for file in sorted(log.files, key=lambda file: layout.hours[file.below], reverse=True):
        hour = layout.hours[file.below]
        if rows >= SAMPLE_ROWS and hour not in by_hour:
            break
        for read in log.pieces(file, types):
            piece = typed(read, types) if types else read
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


def _null_shares(sample: Sample, fields: dict[str, NDArray[np.int64]], done: Partitioned | None) -> dict[str, float]:
    """Of each field, the largest share of nulls in an hour."""
    if done:
        return {name: max(count.nulls.get(name, 0) / count.rows for count in done.hours.values()) for name in fields}
    shares = {}
    for name in fields:
        null_B = np.asarray(sample.rows[name].is_null().to_numpy(), np.float64)
        shares[name] = float(max(null_B[sample.hours_B == hour].mean() for hour in np.unique(sample.hours_B)))
    return shares
