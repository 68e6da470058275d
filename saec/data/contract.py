"""The contract on an hour's columns, read off the configuration: which there must be, and of which type.

Decisions: which Arrow types will do for a field's type is told in `saec.data.columns`; a list field wants a list of
those.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.types as t

from saec.config import Config
from saec.data.columns import TypeRule, is_utc, type_rule, value_type
from saec.data.partitions import Partition, wanted_columns
from saec.errors import InputError, nearest

_SHOWN = 5  # names in a message: enough to recognise the feed


def check_contract(partition: Partition, config: Config) -> None:
    """Refuse an hour whose columns are not those of the configuration.

    Raises:
        InputError: reason schema (a column is missing or too many) or dtype, naming the hour and the column.
    """
    present = partition.table.schema.names
    others = [*partition.extra_columns, *present]
    for name in wanted_columns(config):
        if name not in present:
            raise InputError(f"hour {partition.hour}: column {name!r} is missing{nearest(name, others)}; found "
                             f"{_some(others)}. Have the hour delivered again, or name the column under fields: in the "
                             "configuration", reason="schema")
    if partition.extra_columns and not config.data.ignore_extra_columns:
        raise InputError(f"hour {partition.hour}: no setting names column {_some(partition.extra_columns)}; set "
                         "data.ignore_extra_columns: true if that is as it should be", reason="schema")
    for name, wanted, rule in _rules(config):
        found = value_type(partition.table.schema.field(name).type)
        if not rule(found):
            raise InputError(f"hour {partition.hour}: column {name!r} wants {wanted}, found {found}; nothing is cast. "
                             "Have the hour delivered again, or change the field's type", reason="dtype")


def _rules(config: Config) -> Iterator[tuple[str, str, TypeRule]]:
    """Column, what is wanted of it in words, and as a test; for every column with a contract."""
    yield config.data.time_column, "a timestamp in UTC or without zone", is_utc
    yield config.data.label_column, "int or bool", lambda kind: t.is_integer(kind) or t.is_boolean(kind)
    for name in config.data.row_id_columns:
        yield name, "plain values", lambda kind: not t.is_nested(kind)
    for field in config.fields:
        if field.source_column:
            yield field.source_column, f"{'a list of ' * (field.kind == 'list')}{field.type}", type_rule(field)


def _some(names: list[str] | tuple[str, ...]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(repr(name[:80]) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
