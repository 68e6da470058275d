"""Checks that an hour has the columns that the configuration requires, with accepted types.

Decisions: the type rules are in `saec.data.types`.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as t

from saec.config import Config
from saec.data.arrow_types import as_wanted
from saec.data.partitions import Partition, wanted_columns
from saec.data.types import TICKS, column_wants
from saec.errors import InputError, nearest
from saec.hours import HOUR_MS

_SHOWN = 5  # names in a message: enough to recognise the feed


def wanted_table(partition: Partition, config: Config) -> pa.Table:
    """The wanted columns of an hour, each in a plain form; refuses columns that do not match the configuration.

    Raises:
        InputError: reason schema (a column is missing or too many) or dtype, naming the hour and the column.
    """
    present = partition.table.schema.names
    others = [*partition.extra_columns, *present]
    for name in wanted_columns(config):
        if name not in present:
            raise InputError(
                f"hour {partition.hour}: column {name!r} is missing{nearest(name, others)}; found "
                f"{_some(others)}. Have the hour delivered again, or name the column under fields: in the "
                "configuration",
                reason="schema",
            )
    if partition.extra_columns and not config.data.ignore_extra_columns:
        raise InputError(
            f"hour {partition.hour}: no setting names column {_some(partition.extra_columns)}; set "
            "data.ignore_extra_columns: true if that is as it should be",
            reason="schema",
        )
    where = f"hour {partition.hour}: "
    _refuse_times_without_unit(partition, config)
    return pa.table(
        {
            name: as_wanted(name, partition.table[name], wants, where, settings=True)
            for name, wants in column_wants(config).items()
        }
    )


def _refuse_times_without_unit(partition: Partition, config: Config) -> None:
    """Refuse numeric times without a unit, and suggest the unit that puts the first of them into the hour."""
    name, column = config.data.time_column, partition.table[config.data.time_column]
    if config.data.time_unit is not None or not t.is_integer(column.type) or column.null_count == len(column):
        return
    first, start = column.drop_null()[0].as_py(), partition.hour.start_ms
    for unit, ticks in TICKS.items():
        if start <= first * 1_000 // ticks < start + HOUR_MS:
            raise InputError(
                f"hour {partition.hour}: column {name!r} wants a timestamp, found {column.type}; nothing "
                f"is cast: set data.time_unit: {unit}, which puts its first value into the hour",
                reason="dtype",
            )


def _some(names: list[str] | tuple[str, ...]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(repr(name[:80]) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
