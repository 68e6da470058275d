"""Checks a configuration against a sample of hours before anything runs, and reports all problems with their fixes.

Decisions: the sample is spread evenly over all hours. A problem in every hour is a fault of the settings or of the
feed; a problem in some hours is a fault of those hours. A fix is a line of YAML made from the data found, or an
instruction if no line can help. Nothing is written.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as t
import yaml

from saec.config import Config, FieldConfig
from saec.data.arrow_types import as_wanted
from saec.data.checks import check_hour
from saec.data.partitions import Partition, available_hours, read_partition, wanted_columns
from saec.data.source_problem import UNDER_DATA, source_problem
from saec.data.types import TICKS, column_wants
from saec.discover.columns import proposed
from saec.errors import HourHeld, InputError
from saec.hours import HOUR_MS, Hour

GROUPS = ("source", "files", "columns", "types", "nulls", "rows")
"""Kinds of problems, in the order in which to fix them."""
SAMPLED = 8


@dataclass(frozen=True)
class Problem:
    """One problem and its fix."""

    group: str
    """One of `GROUPS`."""
    column: str
    """The column that it is about; empty where it is about none."""
    said: str
    mend: str
    """The line of YAML, or what to do."""
    hours: tuple[Hour, ...] = ()
    """Hours of the sample that have it."""
    everywhere: bool = True
    """Whether all hours of the sample with rows have it."""


@dataclass(frozen=True)
class Checked:
    """What a check found."""

    hours: tuple[Hour, ...]
    """The sample."""
    available: int
    """Hours there are."""
    problems: tuple[Problem, ...]
    """By group, those of every hour first."""


def check_config(config: Config, most: int = SAMPLED) -> Checked:
    """Check a configuration against a sample of the available hours.

    Args:
        config: all settings.
        most: how many hours are read.
    """
    available = sorted(available_hours(config.data))
    if not available:
        return Checked((), 0, (_no_hours(config),))
    hours = sample(available, most)
    return Checked(tuple(hours), len(available), tuple(check_hours(config, hours)))


def sample(hours: Sequence[Hour], most: int = SAMPLED) -> list[Hour]:
    """Some hours, the first and the last among them, evenly from all."""
    most = min(most, len(hours))
    return sorted({hours[round(place * (len(hours) - 1) / max(most - 1, 1))] for place in range(most)})


def check_hours(config: Config, hours: Sequence[Hour]) -> list[Problem]:
    """What is wrong with some hours, every problem once."""
    found: dict[tuple[str, str], list[tuple[Hour, Problem]]] = {}
    with_rows = 0
    for hour in hours:
        problems = list(_problems(config, hour))
        with_rows += problems != [_EMPTY]
        for problem in problems:
            if problem is not _EMPTY:
                found.setdefault((problem.group, problem.column), []).append((hour, problem))
    merged = [
        Problem(
            group,
            column,
            seen[0][1].said,
            seen[-1][1].mend,
            tuple(hour for hour, _ in seen),
            everywhere=len(seen) == with_rows,
        )
        for (group, column), seen in found.items()
    ]
    return sorted(merged, key=lambda problem: (not problem.everywhere, GROUPS.index(problem.group)))


def settings_at_fault(config: Config, hour: Hour) -> list[Problem]:
    """What is wrong with an hour and with every other one of a sample; nothing when it is that hour's own fault."""
    hours = sorted({*sample(sorted(available_hours(config.data)), SAMPLED // 2), hour})
    return [problem for problem in check_hours(config, hours) if problem.everywhere]


_EMPTY = Problem("files", "", "", "")
"""The problem of an hour without rows."""


def _no_hours(config: Config) -> Problem:
    """No hour was found: report what is there instead."""
    problem = source_problem(config.data) or f"data.source {config.data.source} exists, but is empty so far"
    said, _, lines = problem.partition(UNDER_DATA)
    if not lines and "saec init" in said:  # which lays the log out by hours, where no line can help
        return Problem("source", "", said, f"type: saec init {config.data.source}")
    mend = "; ".join(line.strip() for line in lines.splitlines()) or "source: FOLDER"
    return Problem("source", "", said.removesuffix(" "), f"{mend}   # under data:")


def _problems(config: Config, hour: Hour) -> Iterator[Problem]:
    """What is wrong with one hour."""
    try:
        partition = read_partition(config, hour)
    except HourHeld:
        yield _EMPTY
        return
    except InputError as error:
        yield Problem("files", "", _bare(error, hour), "have the hour delivered again, or fix what the message names")
        return
    if not partition.table.num_rows:
        yield _EMPTY
        return
    faults = [*_columns(config, partition), *_types(config, partition)]
    if not faults:
        faults = [*_nulls(config, partition)]
    if not faults:
        try:
            check_hour(partition, config)
        except InputError as error:
            faults = [Problem("rows", "", _bare(error, hour), _rows_mend(config, error))]
        except HourHeld as error:
            faults = [Problem("rows", "", _bare(error, hour), "have the hour delivered again")]
    yield from faults


def _columns(config: Config, partition: Partition) -> Iterator[Problem]:
    """Columns that are missing, and those that no setting names."""
    present = partition.table.schema.names
    for name in wanted_columns(config):
        if name not in present:
            others = [*partition.extra_columns, *(other for other in present if other not in wanted_columns(config))]
            near = difflib.get_close_matches(name, others, n=1)
            yield Problem("columns", name, f"column {name!r} is missing", _missing_mend(config, name, near))
    if partition.extra_columns and not config.data.ignore_extra_columns:
        shown = ", ".join(partition.extra_columns[:8]) + ", …" * (len(partition.extra_columns) > 8)
        yield Problem("columns", "", f"no setting names column {shown}", "ignore_extra_columns: true   # under data:")


def _missing_mend(config: Config, name: str, near: list[str]) -> str:
    """The line for a column that is not there."""
    if name == config.data.time_column:
        return f"time_column: {near[0] if near else 'COLUMN'}   # under data:"
    if name == config.data.label_column:
        return f"label_column: {near[0] if near else 'COLUMN'}   # under data:"
    field = next((field for field in config.fields if field.source_column == name), None)
    if field is None:
        return f"row_id_columns: [{', '.join(near)}]   # under data:"
    if near:
        return _field_line({**_given(field), "column": near[0]})
    return f"remove the line of the field {field.name!r}, or have its column delivered"


def _types(config: Config, partition: Partition) -> Iterator[Problem]:
    """Columns whose values are not of the type that the settings want."""
    for name, wants in column_wants(config).items():
        if name not in partition.table.schema.names:
            continue
        column = partition.table[name]
        if (unit := _unit(config, name, column, partition.hour)) is not None:
            yield Problem(
                "types", name, f"column {name!r} holds numbers, not timestamps", f"time_unit: {unit}   # under data:"
            )
            continue
        try:
            as_wanted(name, column, wants, settings=True)
        except InputError as error:
            yield Problem("types", name, str(error), _types_mend(config, name, column))


def _unit(config: Config, name: str, column: pa.ChunkedArray, hour: Hour) -> str | None:
    """The unit in which numbers of the time's column lie in the hour, where no setting says it."""
    known = column.drop_null() if t.is_integer(column.type) else []
    if name != config.data.time_column or config.data.time_unit is not None or not len(known):
        return None
    first = known[0].as_py()
    return next(
        (unit for unit, ticks in TICKS.items() if hour.start_ms <= first * 1_000 // ticks < hour.start_ms + HOUR_MS),
        None,
    )


def _types_mend(config: Config, name: str, column: pa.ChunkedArray) -> str:
    """The line for a column of another type: the field as its values would have it."""
    field = next((field for field in config.fields if field.source_column == name), None)
    if field is None:
        return f"name another column than {name} under data:, or have it delivered so"
    settings = proposed(field.name, column)
    if settings is None:
        return f"remove the line of the field {field.name!r}: no field is read from {column.type}"
    renamed = {"column": field.column} if field.column else {}
    return _field_line({**settings, **renamed})


def _nulls(config: Config, partition: Partition) -> Iterator[Problem]:
    """Columns with more nulls than the settings allow."""
    data = config.data
    for name in wanted_columns(config):
        column = partition.table[name]
        share = column.null_count / len(column)
        field = next((field for field in config.fields if field.source_column == name), None)
        if field and not field.nullable and share > data.max_bad_share:
            yield Problem(
                "nulls",
                name,
                f"column {name!r} is null in {share:.1%} of the rows, and not nullable",
                _field_line({**_given(field), "nullable": True}),
            )
        elif field and field.nullable and share > field.most_nulls:
            limit = math.ceil(50 * (1 + share)) / 100
            yield Problem(
                "nulls",
                name,
                f"column {name!r} is null in {share:.1%} of the rows, over the {field.most_nulls:.0%} that it may be",
                _field_line({**_given(field), "nullable": limit}),
            )


def _rows_mend(config: Config, error: InputError) -> str:
    """What to do about rows that break a rule."""
    if error.reason == "timestamps":
        return (
            f"name the rows' own time in UTC as time_column, or type: saec init {config.data.source} --partition "
            "FOLDER --zone ZONE"
        )
    if error.reason == "labels":
        return "label_column: COLUMN   # under data:, one of 0 and 1"
    return "have the rows delivered again, or raise data.max_bad_share"


def _given(field: FieldConfig) -> dict[str, Any]:
    """A field as it stands in the settings: what is not default."""
    given: dict[str, Any] = field.model_dump(exclude_defaults=True)
    return given


def _field_line(settings: dict[str, Any]) -> str:
    """A field's line."""
    line: str = yaml.safe_dump(settings, default_flow_style=True, sort_keys=False, width=10_000)
    return f"- {line.strip()}   # under fields:"


def _bare(error: Exception, hour: Hour) -> str:
    """A message without the hour, which is told beside it."""
    return str(error).removeprefix(f"hour {hour}: ")
