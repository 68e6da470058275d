"""The contract on an hour's columns, read off the configuration: which there must be, and of which type.

Decisions: nothing is cast in silence. Any integer width will do for `int`, any float width for `float`, text or binary
(also dictionary-encoded) for `string`, a list of those for a list field; a timestamp may have any unit, and the zone
UTC or none, which is read as UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.types as t

from saec.config import Config
from saec.data.partitions import Partition, wanted_columns
from saec.errors import InputError, nearest

_UTC = (None, "UTC", "Etc/UTC", "+00:00", "Z")
_SHOWN = 5  # names in a message: enough to recognise the feed

TypeRule = Callable[[pa.DataType], bool]


def _is_string(kind: pa.DataType) -> bool:
    """Whether values are byte strings."""
    return any(test(kind) for test in (t.is_string, t.is_large_string, t.is_binary, t.is_large_binary))


def _is_utc(kind: pa.DataType) -> bool:
    """Whether values are timestamps of the zone UTC, or of none."""
    return bool(t.is_timestamp(kind) and kind.tz in _UTC)


_VALUES: dict[str, TypeRule] = {"int": t.is_integer, "float": t.is_floating, "bool": t.is_boolean, "string": _is_string}


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
        found = _value_type(partition.table.schema.field(name).type)
        if not rule(found):
            raise InputError(f"hour {partition.hour}: column {name!r} wants {wanted}, found {found}; nothing is cast. "
                             "Have the hour delivered again, or change the field's type", reason="dtype")


def check_scoring(schema: pa.Schema, config: Config, where: str) -> list[str]:
    """The columns that scoring reads: the fields', and the time's where a field is derived from it.

    Args:
        schema: Columns of the rows to score.
        config: What a version's schema tells.
        where: What messages call the rows ("file rows.parquet").

    Raises:
        InputError: reason schema (a column is missing) or dtype, naming the column.
    """
    needed = [field.source_column or config.data.time_column for field in config.fields]
    for name, wanted, rule in _rules(config):
        if name not in needed:
            continue
        if name not in schema.names:
            raise InputError(f"{where} has no column {name!r}{nearest(name, schema.names)}; the version wants it, of "
                             f"type {wanted}", reason="schema")
        found = _value_type(schema.field(name).type)
        if not rule(found):
            raise InputError(f"{where}: column {name!r} wants {wanted}, found {found}; nothing is cast", reason="dtype")
    return list(dict.fromkeys(needed))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return bool(t.is_list(kind) or t.is_large_list(kind))


def _rules(config: Config) -> Iterator[tuple[str, str, TypeRule]]:
    """Column, what is wanted of it in words, and as a test; for every column with a contract."""
    yield config.data.time_column, "a timestamp in UTC or without zone", _is_utc
    yield config.data.label_column, "int or bool", lambda kind: t.is_integer(kind) or t.is_boolean(kind)
    for name in config.data.row_id_columns:
        yield name, "plain values", lambda kind: not t.is_nested(kind)
    for field in config.fields:
        if field.source_column and field.kind == "list":
            yield field.source_column, f"a list of {field.type}", _list_of(_VALUES[field.type])
        elif field.source_column:
            yield field.source_column, field.type, _VALUES[field.type]


def _list_of(rule: TypeRule) -> TypeRule:
    """The rule that wants lists of what another rule wants."""
    return lambda kind: is_list(kind) and rule(_value_type(kind.value_type))


def _value_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, whether dictionary-encoded or not."""
    return kind.value_type if t.is_dictionary(kind) else kind


def _some(names: list[str] | tuple[str, ...]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(repr(name[:80]) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
