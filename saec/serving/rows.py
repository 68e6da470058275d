"""Rows as people and programs have them, as the columns that the feature encoder takes.

Decisions: the contract of the fields holds here as it does for an hour's rows: nothing is cast in silence, so a text is
no number and 3.0 no integer; only a whole number will do where floats are wanted, since JSON writes 3.0 as 3. What a
request leaves out is null, which a column must allow. Messages name the column and what was found by its type alone,
never by its value.

Shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saec.data.features import Column, opaque_bytes
from saec.data.schema import Field, Schema
from saec.errors import InputError, nearest
from saec.hours import milliseconds

Rows = Sequence[Mapping[str, Any]] | Mapping[str, Any] | Any
"""Dicts, a dict of columns, or something with Arrow's protocol."""
Times = NDArray[np.int64]

_ARROW = ("__arrow_c_stream__", "__arrow_c_array__")
_ARRAY_KINDS = {"int": "iu", "float": "fiu", "bool": "b"}
_VALUE_TYPES: dict[str, set[type]] = {"int": {int}, "float": {float, int}, "bool": {bool}, "string": {str, bytes}}


def columns_of(rows: Rows, schema: Schema, shared: Mapping[str, Any] | None = None) -> tuple[dict[str, Column], Times]:
    """The columns of all fields, and the times of the rows.

    Args:
        rows: B rows; see `saec.serving.Model.score`.
        schema: which columns there must be.
        shared: values that all rows share; their columns, and times, have one row.

    Raises:
        InputError: reason schema, dtype or nulls, naming the column.
    """
    if isinstance(rows, Mapping) and shared is None:
        check_names(rows.keys(), schema)
        return _converted(rows, _count(rows), schema)
    if shared is None and any(hasattr(rows, name) for name in _ARROW):
        from saec.serving.arrow import arrow_columns  # noqa: PLC0415 - whoever has an Arrow object has pyarrow

        return arrow_columns(rows, schema)
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        wanted = "rows must be a list of dicts, a dict of columns or an Arrow table"
        raise InputError(f"{wanted if shared is None else 'candidates must be a list of dicts'}, got "
                         f"{type(rows).__name__}", reason="schema")
    names = _names(rows) if len(rows) else schema.columns.keys() - (shared or {}).keys()  # of no rows, all columns
    check_names(names | (shared or {}).keys(), schema)
    given = {name: [row.get(name) for row in rows] for name in names}
    if shared is None:
        return _converted(given, len(rows), schema)
    if twice := sorted(map(str, names & shared.keys())):
        raise InputError(f"column {twice[0][:64]!r} is given for all rows and for single ones; give it once",
                         reason="schema")
    return _converted(given | {name: [value] for name, value in shared.items()}, 1, schema)


def _names(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """The columns that some rows have; most often all have the same, in the same order."""
    try:
        return set(chain.from_iterable({tuple(row.keys()) for row in rows}))
    except AttributeError:
        wrong = next(row for row in rows if not isinstance(row, Mapping))
        raise InputError(f"a row must be a dict of columns, got {type(wrong).__name__}", reason="schema") from None


def _count(columns: Mapping[str, Any]) -> int:
    """How many rows some columns have."""
    counts: dict[str, int] = {}
    for name, values in columns.items():
        listed = hasattr(values, "__len__") and getattr(values, "ndim", 1) > 0
        if isinstance(values, str | bytes | Mapping) or not listed:
            raise InputError(f"column {name!r} must be a list or an array, got {type(values).__name__}", reason="dtype")
        counts[name] = len(values)
    if len(set(counts.values())) != 1:
        raise InputError(f"all columns must have as many rows, got {counts or 'no column'}"[:500], reason="schema")
    return next(iter(counts.values()))


def _converted(given: Mapping[str, Any], count: int, schema: Schema) -> tuple[dict[str, Column], Times]:
    """Columns of values as the encoder's; where one is left out, `count` nulls."""
    columns: dict[str, Column] = {}
    times_B = np.zeros(1, np.int64)
    for name, field in schema.readers.items():
        if name not in given and not (field and field.nullable):
            raise InputError(f"column {name!r} is missing; it must be {schema.columns[name]}", reason="schema")
        values = given.get(name, [None] * count)
        if field is None:
            times_B = _times(name, values)
        elif field.kind == "list":
            columns[name] = _list_column(field, name, values)
        else:
            columns[name] = _column(field, name, values)
    return columns, times_B


def _column(field: Field, name: str, values: Any) -> Column:
    """Plain values: an array of the right kind as it is, anything else one by one."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in _ARRAY_KINDS.get(field.type, ""):
        return Column(values)
    values = _listed(values)
    types = set(map(type, values))
    if any(issubclass(kind, np.generic) for kind in types):
        values = [value.item() if isinstance(value, np.generic) else value for value in values]
        types = set(map(type, values))
    index_B = None
    if type(None) in types:
        if not field.nullable:
            raise InputError(f"column {name!r} is missing or null in some rows; it must be {field.type}",
                             reason="nulls")
        there_B = np.array([value is not None for value in values], bool)
        index_B = np.where(there_B, np.cumsum(there_B) - 1, -1)
        values = [value for value in values if value is not None]
    if wrong := types - _VALUE_TYPES[field.type] - {type(None)}:
        raise _wrong(name, field.type, wrong)
    return Column(_CONVERSIONS[field.type](values, name), index_B)


def _list_column(field: Field, name: str, values: Any) -> Column:
    """Lists of values: all values end to end, and how many each row has."""
    values = [list(value) if isinstance(value, np.ndarray) else value for value in _listed(values)]
    if wrong := {type(value) for value in values} - {list, tuple, type(None)}:
        raise _wrong(name, f"list of {field.type}", wrong)
    if not field.nullable and any(value is None for value in values):
        raise InputError(f"column {name!r} is missing or null in some rows; it must be a list of {field.type}",
                         reason="nulls")
    lengths_B = np.array([-1 if value is None else len(value) for value in values], np.int64)
    inner = _column(field, name, list(chain.from_iterable(value for value in values if value is not None)))
    return Column(inner.values, inner.index, lengths_B)


def _integers(values: list[int], name: str) -> NDArray[np.generic]:
    for kind in (np.int64, np.uint64):
        try:
            return np.array(values, kind)
        except OverflowError:
            continue
    raise InputError(f"column {name!r} has integers of more than 64 bits; it must be int", reason="dtype")


def _floats(values: list[float], name: str) -> NDArray[np.generic]:
    try:
        return np.array(values, np.float64)
    except OverflowError:
        raise InputError(f"column {name!r} has integers beyond any float; it must be float", reason="dtype") from None


_CONVERSIONS: dict[str, Callable[[list[Any], str], NDArray[np.generic] | list[bytes]]] = {
    "int": _integers,
    "float": _floats,
    "bool": lambda values, _: np.array(values, bool),
    "string": lambda values, _: [value if isinstance(value, bytes) else opaque_bytes(value) for value in values],
}


def _times(name: str, values: Any) -> Times:
    """Milliseconds since the epoch, rounded down, of datetimes and ISO 8601 texts; those without a zone are UTC."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        if np.isnat(values).any():
            raise _no_time(name)
        return values.astype("datetime64[ms]").astype(np.int64)
    moments = []
    for value in _listed(values):
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            raise InputError(f"column {name!r} has a text that is no ISO 8601 time, such as 2026-11-21T10:20:30Z",
                             reason="dtype") from None
        if moment is None:
            raise _no_time(name)
        if not isinstance(moment, datetime):
            raise _wrong(name, "datetime or ISO 8601 text", {type(value)})
        moments.append(moment)
    try:
        return np.array([milliseconds(moment) for moment in moments], np.int64)
    except (TypeError, ValueError):  # pandas' NaT is a datetime too
        raise _no_time(name) from None


def _listed(values: Any) -> list[Any]:
    """The values of a column one by one."""
    if isinstance(values, np.ndarray):
        found: list[Any] = values.tolist() if values.dtype.kind != "M" else list(values)
        return found
    return list(values)


def _no_time(name: str) -> InputError:
    return InputError(f"column {name!r} is missing or null in some rows, and fields are derived from it",
                      reason="nulls")


def _wrong(name: str, wanted: str, types: Iterable[type]) -> InputError:
    found = ", ".join(sorted(kind.__name__ for kind in types))
    return InputError(f"column {name!r} wants {wanted}, found {found}; nothing is cast", reason="dtype")


def check_names(names: Iterable[Any], schema: Schema) -> None:
    """Refuse a column that no field reads, before anything is made of its values."""
    if unknown := sorted(str(name)[:64] for name in names if name not in schema.columns):
        raise InputError(f"no field of the version reads column {unknown[0]!r}{nearest(unknown[0], schema.columns)}; "
                         "leave it out", reason="schema")
