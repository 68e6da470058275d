"""The rules of type conversion, the same for an hour's files, `saec score` and requests over HTTP.

The values of a column have one of the types in `SOURCES`, whether they come from Arrow, pandas, polars, numpy, Python
or JSON. The settings require one of the types in `WANTED`. `RULES` lists the pairs that are converted; any other pair
is refused with a message that names the column and says what to do. docs/types.md is generated from here, and
`tests/test_types.py` tests every pair through every entrance.

Decisions: types are widened without loss and never narrowed, so 3.0 is not an integer and "7" is not a number. A
timestamp is an instant whatever its zone; without a zone it is UTC. In a field of floats, numbers and bucket boundaries
count as the nearest 32-bit float (`saec.data.features.single`), so the precision of producer and client does not
matter. A label is judged by its value: 0 or 1 in any type.

Only numpy and the standard library are imported, because serving reads this table too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saec.hours import milliseconds

if TYPE_CHECKING:
    from saec.config import Config, FieldConfig
    from saec.data.schema import Field

SOURCES = {
    "integer": "integers of 8 to 64 bits, signed or not",
    "float": "floats of 16, 32 or 64 bits",
    "decimal": "decimals of any width; Python's `Decimal`",
    "boolean": "booleans",
    "text": "strings and bytes, plain, large, views or of fixed size; dictionaries, Categorical and Enum of them",
    "instant": "timestamps of any unit, of any zone or none; `datetime`, `datetime64`",
    "date": "dates without a time of day",
    "null": "columns with only nulls; JSON `null` and missing members",
    "list": "lists: plain, large, views or of fixed size; arrays",
    "other": "times of day, durations, structs, maps, unions, objects and whatever else there is",
}
"""The types of values, and what each includes. Dictionaries and run-end encoding count as the type of their values."""

WANTED = {
    "int": "a field of `type: int`",
    "float": "a field of `type: float`",
    "bool": "a field of `type: bool`",
    "string": "a field of `type: string`",
    "time": "`data.time_column`",
    "label": "`data.label_column`",
    "id": "`data.row_id_columns`",
}
"""The uses of a column that require a type."""

_NULL = "null"
_TICKS = "with `data.time_unit`, as the number of units since 1970"
RULES: dict[str, dict[str, str]] = {
    "integer": {
        "int": "by value; unsigned ones of 2⁶³ and more by their 64 bits",
        "float": "by value",
        "time": _TICKS,
        "label": "0 or 1",
        "id": "by value",
    },
    "float": {"float": "by value", "time": f"{_TICKS}, to the microsecond", "label": "0 or 1", "id": "by value"},
    "decimal": {
        "int": "by value, without decimal places and within 64 bits",
        "float": "by value",
        "time": f"{_TICKS}, to the microsecond",
        "label": "0 or 1",
        "id": "as text",
    },
    "boolean": {"bool": "by value", "label": "0 or 1", "id": "by value"},
    "text": {"string": "by its bytes", "time": "ISO 8601, with a time of day", "id": "by its bytes"},
    "instant": {"time": "by value", "id": "by value"},
    "date": {"id": "as text"},
    "null": dict.fromkeys(WANTED, "as nulls"),
    "list": {},
    "other": {},
}
"""For each type what it can be converted to, and how; any other pair is refused. A field of `kind: list` accepts a list
if its type accepts the list's values."""

TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Ticks per second for each unit of time."""
_EXAMPLES = {
    "int": "integers",
    "float": "numbers",
    "bool": "booleans",
    "string": "text",
    "time": "a timestamp, or ISO 8601 text such as 2026-11-21T10:20:30Z",
}
_SETTINGS = {
    "integer": "type: int",
    "float": "kind: numeric, type: float",
    "decimal": "kind: numeric, type: float",
    "boolean": "type: bool",
    "text": "type: string",
}
_IN_LISTS = {"integer": "type: int", "boolean": "type: bool", "text": "type: string"}
_PYTHON = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "float"),
    (Decimal, "decimal"),
    ((str, bytes), "text"),
    (datetime, "instant"),
    (date, "date"),
    ((list, tuple), "list"),
)
_DTYPES = {"i": "integer", "u": "integer", "f": "float", "b": "boolean", "U": "text", "S": "text", "M": "instant"}
_ODD = (bytearray, time, timedelta)
_LARGEST = 9.0e18  # below 2**63, so that a time out of all bounds stays one and does not wrap around


@dataclass(frozen=True)
class Want:
    """What is wanted of a column, by one setting."""

    kind: str
    """One of `WANTED`; of lists, of their values."""
    lists: bool = False
    """Whether lists of it are wanted."""
    unit: str | None = None
    """`data.time_unit`, of a time."""
    field: str = ""
    """Name of the field, where it is one's."""

    def __str__(self) -> str:
        if self.kind == "time":
            return "a timestamp" if self.unit is None else f"a timestamp, or {self.unit} since 1970"
        return {"label": "0 or 1", "id": "plain values"}.get(self.kind, f"{'a list of ' * self.lists}{self.kind}")


@dataclass(frozen=True)
class Found:
    """How a column's values come."""

    source: str
    """One of `SOURCES`."""
    shown: str
    """The type by its own name, for messages."""
    inner: Found | None = None
    """Of lists, their values."""


def taken(found: Found, want: Want) -> bool:
    """Whether values that come so will do.

    >>> taken(Found("integer", "int8"), Want("float")), taken(Found("float", "double"), Want("int"))
    (True, False)
    """
    if found.source == _NULL:
        return True
    if want.lists:
        return found.inner is not None and found.inner.source != "list" and taken(found.inner, Want(want.kind))
    if want.kind == "time" and "time_unit" in RULES[found.source].get("time", ""):
        return want.unit is not None
    return want.kind in RULES[found.source]


def way_on(found: Found, want: Want, *, settings: bool) -> str:
    """What to do about values that are not taken.

    Args:
        found: how they come.
        want: what was wanted.
        settings: whether who reads it has the settings (an hour's files), or only the rows (a request).
    """
    if want.kind == "time" and "time_unit" in RULES[found.source].get("time", ""):
        return (
            "say in data.time_unit whether they are s, ms, us or ns since 1970"
            if settings
            else "give a timestamp or ISO 8601 text; the version was trained without data.time_unit"
        )
    if want.kind == "time":
        why = "a date has no hour: " * (found.source == "date")
        return why + ("name a column of timestamps in data.time_column" if settings else f"give {_EXAMPLES['time']}")
    if not settings:
        hint = "; a missing value is None, not NaN" * (found.source == "float" and want.kind != "float")
        return f"give {'lists of ' * want.lists}{_EXAMPLES[want.kind]}{hint}"
    if want.kind == "label":
        return "write 0 and 1 as integers, booleans or floats, or name another column in data.label_column"
    if want.kind == "id":
        return "write it as integers or text, or name other columns in data.row_id_columns"
    return _field_way_on(found, want)


def _field_way_on(found: Found, want: Want) -> str:
    """What to do about a field's column: the settings that take it as it is, or how to write it."""
    value, known = (found.inner, _IN_LISTS) if found.inner is not None else (found, _SETTINGS)
    if value.source not in known:
        return f"write it as {'lists of ' * (want.lists or value is not found)}integers or text, or leave the field out"
    whole = "kind: list, " if value is not found else "kind: categorical, " if want.lists else ""
    if whole and known[value.source].startswith("kind"):
        whole = ""
    as_is = f"give field {want.field!r} {whole}{known[value.source]}"
    return f"write it as {'lists of ' * want.lists}{_EXAMPLES[want.kind]}, or {as_is}"


def field_want(field: FieldConfig | Field) -> Want:
    """What a field wants of its column."""
    return Want(field.type, field.kind == "list", field=field.name)


def column_wants(config: Config) -> dict[str, list[Want]]:
    """What the settings want of each column that they name, in the order in which columns are read."""
    data = config.data
    wants: dict[str, list[Want]] = {data.time_column: [Want("time", unit=data.time_unit)]}
    wants.setdefault(data.label_column, []).append(Want("label"))
    for field in config.fields:
        if field.source_column:
            wants.setdefault(field.source_column, []).append(field_want(field))
    for name in data.weight_columns:
        wants.setdefault(name, []).append(Want("float"))
    for name in data.row_id_columns:
        wants.setdefault(name, []).append(Want("id"))
    return wants


def found_dtype(kind: np.dtype[Any]) -> Found:
    """How a numpy array's values come; those of objects are to be looked at one by one."""
    return Found(_DTYPES.get(kind.kind, "other"), str(kind))


def found_type(kind: type) -> Found:
    """How a Python value comes.

    >>> found_type(bool).source, found_type(datetime).source, found_type(dict).source
    ('boolean', 'instant', 'other')
    """
    if kind is type(None):
        return Found(_NULL, "null")
    if issubclass(kind, np.ndarray):
        return Found("list", "ndarray")
    source = next((source for kinds, source in _PYTHON if issubclass(kind, kinds)), "other")
    return Found("other" if issubclass(kind, _ODD) else source, kind.__name__)


def text_moment(text: str) -> datetime:
    """The instant that a text names.

    Raises:
        ValueError: when it is not of ISO 8601, or names a day without a time of it.
    """
    if ":" not in text and "T" not in text:
        raise ValueError("a date has no hour")
    return datetime.fromisoformat(text)


def instant_ms(value: Any, unit: str | None) -> int:
    """Milliseconds since the epoch, rounded down, of a Python value of a source that is taken as a time.

    Raises:
        ValueError: when it is none, as a text that is not of ISO 8601 or a time beyond all bounds.
    """
    if isinstance(value, str | bytes):
        return milliseconds(text_moment(value.decode() if isinstance(value, bytes) else value))
    if isinstance(value, datetime):
        return milliseconds(value)
    if unit is None:
        raise ValueError("numbers have no unit")
    if isinstance(value, int):
        found = value * 1_000 // TICKS[unit]
        if not -(2**63) <= found < 2**63:
            raise ValueError("it is beyond all bounds")
        return found
    if not np.isfinite(float(value)):
        raise ValueError("it is not finite")
    return int(microseconds(np.array([float(value)]), unit)[0]) // 1_000


def microseconds(values_B: NDArray[np.float64], unit: str) -> NDArray[np.int64]:
    """Microseconds since the epoch of finite times as floats, to the nearest; those beyond all bounds stay so."""
    return np.rint(np.clip(values_B * 1e6 / TICKS[unit], -_LARGEST, _LARGEST)).astype(np.int64)


def shown(sources: Iterable[Found]) -> str:
    """Types by their own names, each once."""
    return ", ".join(sorted({found.shown for found in sources}))
