"""Converts rows in any supported form to the columns of the feature encoder.

Decisions: the type rules are those of `saec.data.types`, for rows as for an hour's files. A column missing from a
request is null, which the column must allow. A column that speaks Arrow's protocol (of pandas, polars) is taken as
Arrow where there is pyarrow. Messages name the column and what was found by its type alone, never by its value.

Shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saec.data.features import Column, opaque_bytes
from saec.data.schema import Field, Schema
from saec.data.types import Found, Want, field_want, found_dtype, found_type, instant_ms, shown, taken, way_on
from saec.errors import InputError, nearest

Rows = Sequence[Mapping[str, Any]] | Mapping[str, Any] | Any
"""Dicts, a dict of columns, or something with Arrow's protocol."""
Times = NDArray[np.int64]

_ARROW = ("__arrow_c_stream__", "__arrow_c_array__")
_DAYS = np.dtype("datetime64[D]")
_PLAIN = {"int": {int}, "float": {float}, "bool": {bool}, "string": {str}}
_NUMBERS = "iufb"  # kinds of numpy's dtypes that are encoded as they are


def columns_of(rows: Rows, schema: Schema, shared: Mapping[str, Any] | None = None) -> tuple[dict[str, Column], Times]:
    """The columns of all fields, and the times of the rows.

    Args:
        rows: B rows; see `saec.serving.Model.score`.
        schema: which columns there must be.
        shared: values that all rows share, an Arrow table of one row beside one of candidates; their columns, and
            times, have one row.

    Raises:
        InputError: reason schema, dtype or nulls, naming the column.
    """
    if isinstance(rows, Mapping) and shared is None:
        check_names(rows.keys(), schema)
        return _converted(rows, _count(rows), schema)
    if any(hasattr(rows, name) for name in _ARROW):
        from saec.serving.arrow import arrow_columns  # noqa: PLC0415 - whoever has an Arrow object has pyarrow

        return arrow_columns(rows, schema, shared)
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        wanted = "rows must be a list of dicts, a dict of columns or an Arrow table"
        raise InputError(
            f"{wanted if shared is None else 'candidates must be a list of dicts or an Arrow table'}, got "
            f"{type(rows).__name__}",
            reason="schema",
        )
    names = _names(rows) if len(rows) else schema.columns.keys() - (shared or {}).keys()  # of no rows, all columns
    check_names(names | (shared or {}).keys(), schema)
    given = {name: [row.get(name) for row in rows] for name in names}
    if shared is None:
        return _converted(given, len(rows), schema)
    if twice := sorted(map(str, names & shared.keys())):
        raise on_both_sides(twice[0])
    return _converted(given | {name: [value] for name, value in shared.items()}, 1, schema)


def on_both_sides(name: str) -> InputError:
    """The error for a column that both user and candidates have."""
    return InputError(f"column {name[:64]!r} is given for all rows and for single ones; give it once", reason="schema")


def _names(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """The columns that some rows have."""
    if wrong := sorted(kind.__name__ for kind in set(map(type, rows)) if not issubclass(kind, Mapping)):
        raise InputError(f"a row must be a dict of columns, got {wrong[0]}", reason="schema")
    return set(chain.from_iterable(rows))


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
        arrow = type(values) is not list and any(hasattr(values, protocol) for protocol in _ARROW)
        held = _as_arrow(name, values, schema) if arrow else None
        if held is not None and field is None:
            times_B = held[1]
        elif held is not None:
            columns[name] = held[0][name]
        elif field is None:
            times_B = _times(name, values, schema.wants[name])
        elif field.kind == "list":
            columns[name] = _list_column(field, name, values)
        else:
            columns[name] = _column(field, name, values, schema.wants[name])
    return columns, times_B


def _as_arrow(name: str, values: Any, schema: Schema) -> tuple[dict[str, Column], Times] | None:
    """A column that speaks Arrow's protocol; None where there is no pyarrow to hear it."""
    try:
        from saec.serving.arrow import arrow_column  # noqa: PLC0415 - serving needs numpy alone
    except ModuleNotFoundError:
        return None
    return arrow_column(name, values, schema)


def _column(field: Field, name: str, values: Any, want: Want) -> Column:
    """Plain values: an array of numbers that are taken as it is, anything else one by one."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in _NUMBERS:
        found = found_dtype(values.dtype)
        if not taken(found, want):
            raise _wrong(name, want, [found])
        return Column(values)
    values = _listed(values)
    types = set(map(type, values))
    if types == _PLAIN[field.type]:  # nearly all columns of a request; the rest would find nothing to do
        return Column(_CONVERSIONS[field.type](values, name))
    if any(issubclass(kind, np.generic) for kind in types):
        values = [_plain(value) for value in values]
        types = set(map(type, values))
    index_B = None
    if type(None) in types:
        if not field.nullable:
            raise InputError(
                f"column {name!r} is missing or null in some rows; it must be {field.type}", reason="nulls"
            )
        there_B = np.array([value is not None for value in values], bool)
        index_B = np.where(there_B, np.cumsum(there_B) - 1, -1)
        values = [value for value in values if value is not None]
    if wrong := [found for found in map(found_type, types) if not taken(found, replace(want, lists=False))]:
        raise _wrong(name, want, wrong)
    if Decimal in types:
        values = [_plain_number(value, name, want) if isinstance(value, Decimal) else value for value in values]
    return Column(_CONVERSIONS[field.type](values, name), index_B)


def _list_column(field: Field, name: str, values: Any) -> Column:
    """Lists of values: all values end to end, and how many each row has."""
    want = field_want(field)
    values = [list(value) if isinstance(value, np.ndarray) else value for value in _listed(values)]
    if wrong := [found_type(kind) for kind in {type(value) for value in values} - {list, tuple, type(None)}]:
        raise _wrong(name, want, wrong)
    if not field.nullable and any(value is None for value in values):
        raise InputError(
            f"column {name!r} is missing or null in some rows; it must be a list of {field.type}", reason="nulls"
        )
    lengths_B = np.array([-1 if value is None else len(value) for value in values], np.int64)
    inner = _column(field, name, list(chain.from_iterable(value for value in values if value is not None)), want)
    return Column(inner.values, inner.index, lengths_B)


def _plain_number(value: Decimal, name: str, want: Want) -> int | float:
    """A decimal as a number: an integer only where it is written without decimal places."""
    if want.kind == "float":
        return float(value)
    if not value.is_finite() or int(value.as_tuple().exponent) < 0:
        raise InputError(
            f"column {name!r} wants {want}, found Decimal with decimal places; nothing is cast", reason="dtype"
        )
    return int(value)


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


def _times(name: str, values: Any, want: Want) -> Times:
    """Milliseconds since the epoch, rounded down, of what is taken as a time; without a zone it is UTC."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "M" and values.dtype != _DAYS:
        if np.isnat(values).any():
            raise _no_time(name)
        return values.astype("datetime64[ms]").astype(np.int64)
    values = [_plain(value) for value in _listed(values)]
    found = [found_type(kind) for kind in set(map(type, values))]
    if any(kind.source == "null" for kind in found):
        raise _no_time(name)
    if wrong := [kind for kind in found if not taken(kind, want)]:
        raise _wrong(name, want, wrong)
    try:
        return np.array([instant_ms(value, want.unit) for value in values], np.int64)
    except (ValueError, OverflowError, TypeError):
        if any(value != value for value in values):  # noqa: PLR0124 - pandas' NaT, a datetime too, is like NaN
            raise _no_time(name) from None
        raise InputError(
            f"column {name!r} has a value that is no time; give one such as 2026-11-21T10:20:30Z", reason="dtype"
        ) from None


def _listed(values: Any) -> list[Any]:
    """The values of a column one by one."""
    if isinstance(values, np.ndarray):
        found: list[Any] = values.tolist() if values.dtype.kind != "M" else list(values)
        return found
    return list(values)


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own; instants to the microsecond, since those to the nanosecond become integers."""
    if isinstance(value, np.datetime64) and value.dtype != _DAYS:
        value = value.astype("datetime64[us]")
    return value.item() if isinstance(value, np.generic) and value.dtype.kind != "m" else value


def _no_time(name: str) -> InputError:
    return InputError(
        f"column {name!r} is missing or null in some rows, and fields are derived from it", reason="nulls"
    )


def _wrong(name: str, want: Want, found: Sequence[Found]) -> InputError:
    return InputError(
        f"column {name!r} wants {want}, found {shown(found)}; nothing is cast: "
        f"{way_on(found[0], want, settings=False)}",
        reason="dtype",
    )


def check_names(names: Iterable[Any], schema: Schema) -> None:
    """Refuse a column that no field reads, before anything is made of its values."""
    if unknown := sorted(str(name)[:64] for name in names if name not in schema.columns):
        hint = nearest(unknown[0], schema.columns) or "; leave it out"
        raise InputError(f"no field of the version reads column {unknown[0]!r}{hint}", reason="schema")
