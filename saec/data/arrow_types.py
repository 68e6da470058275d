"""Checks Arrow columns against the type rules (`saec.data.types`) and converts them to the forms that `saec.data` uses.

Decisions: columns in a plain form are passed on without a copy. `own_form` converts all other forms to one: string
views, odd dictionaries, decimals, list views and so on. List views are rebuilt from their lengths and values, because
pyarrow 26 casts list views with nulls to wrong lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t

from saec.data.columns import is_string, list_lengths
from saec.data.types import Found, Want, microseconds, taken, text_moment, way_on
from saec.errors import InputError
from saec.hours import milliseconds

NO_TIME = -(2**62)
"""Ticks for a text that is not a time: outside every hour."""
_PLAIN = (t.is_integer, t.is_float32, t.is_float64, t.is_boolean, t.is_timestamp)
_ODD_TEXTS = (t.is_string_view, t.is_binary_view, t.is_fixed_size_binary)
_LISTS = (t.is_list, t.is_large_list, t.is_fixed_size_list, t.is_list_view, t.is_large_list_view)
_SOURCES = (
    (t.is_integer, "integer"),
    (t.is_floating, "float"),
    (t.is_decimal, "decimal"),
    (t.is_boolean, "boolean"),
    (t.is_timestamp, "instant"),
    (t.is_date, "date"),
    (t.is_null, "null"),
)
_NULLS = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "label": pa.int8(),
    "time": pa.timestamp("us", "UTC"),
    "id": pa.string(),
}


@lru_cache(maxsize=256)
def found_arrow(kind: pa.DataType) -> Found:
    """The source type (`saec.data.types.SOURCES`) of an Arrow type.

    >>> found_arrow(pa.dictionary(pa.int8(), pa.string_view())).source
    'text'
    """
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        value = found_arrow(kind.value_type)
        return Found(value.source, str(kind), value.inner)
    if any(test(kind) for test in _LISTS):
        return Found("list", str(kind), found_arrow(kind.value_type))
    if is_string(kind) or any(test(kind) for test in _ODD_TEXTS):
        return Found("text", str(kind))
    return Found(next((source for test, source in _SOURCES if test(kind)), "other"), str(kind))


def refuse_unfit(name: str, kind: pa.DataType, wants: Sequence[Want], where: str = "", *, settings: bool) -> None:
    """Refuse a column whose type the setting does not accept.

    Args:
        name: the column.
        kind: its type.
        wants: what is wanted of it.
        where: its hour or file, put in front of the message.
        settings: as of `saec.data.types.way_on`.

    Raises:
        InputError: reason dtype, naming the column and what to do.
    """
    found = found_arrow(kind)
    for want in wants:
        if not taken(found, want):
            raise InputError(
                f"{where}column {name!r} wants {want}, found {found.shown}; nothing is cast: "
                f"{way_on(found, want, settings=settings)}",
                reason="dtype",
            )


def as_wanted(
    name: str, column: pa.ChunkedArray, wants: Sequence[Want], where: str = "", *, settings: bool
) -> pa.ChunkedArray:
    """A column in a plain form: times as timestamps, and a type for columns of only nulls.

    Args:
        name: its name.
        column: its values.
        wants: what is wanted of it.
        where: its hour or file, put in front of messages.
        settings: whether it is of an hour's files: then a text that is not a time is a fault of its row, not of the
            whole.

    Raises:
        InputError: reason dtype, when a type or a value is not taken.
    """
    refuse_unfit(name, column.type, wants, where, settings=settings)
    kinds = {want.kind for want in wants}
    try:
        if t.is_null(column.type):
            kind = _NULLS[wants[0].kind]
            return column.cast(pa.list_(kind) if wants[0].lists else kind)
        if "time" in kinds:
            return pa.chunked_array([_instants(own_form(column), wants[0].unit, lenient=settings)])
        if is_own_form(column.type):
            return column
        return pa.chunked_array([own_form(column, kinds)])
    except (pa.ArrowInvalid, ValueError) as error:
        raise InputError(
            f"{where}column {name!r} wants {wants[0]}, found {column.type} with a value that is none "
            f"({str(error)[:80]}); nothing is cast",
            reason="dtype",
        ) from None


@lru_cache(maxsize=256)
def is_own_form(kind: pa.DataType) -> bool:
    """Whether a type is in the plain form that `saec.data` uses."""
    if t.is_list(kind) or t.is_large_list(kind):
        return is_own_form(kind.value_type)
    if t.is_dictionary(kind):
        return bool(t.is_int32(kind.index_type) and is_string(kind.value_type))
    return is_string(kind) or any(test(kind) for test in _PLAIN)


def own_form(values: pa.Array | pa.ChunkedArray, kinds: AbstractSet[str] = frozenset()) -> pa.Array:
    """The same values as one array of a plain type.

    Args:
        values: of any source that is taken.
        kinds: what is wanted of them, which decides how decimals and nulls are held.

    Raises:
        pa.ArrowInvalid: when a decimal does not fit.
    """
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):  # too many bytes for one array of its type
        array = pa.concat_arrays([chunk.cast(_wide(chunk.type)) for chunk in array.chunks])
    kind = array.type
    if is_own_form(kind):
        return array
    if t.is_run_end_encoded(kind):
        return own_form(pc.run_end_decode(array), kinds)
    if t.is_dictionary(kind):
        return _dictionary(array, kinds)
    if found_arrow(kind).source == "list":
        offsets = np.concatenate([[0], np.cumsum(np.maximum(list_lengths(array), 0))])
        inner = own_form(pc.list_flatten(array), kinds)
        return pa.LargeListArray.from_arrays(pa.array(offsets), inner, mask=array.is_null())
    return _decimals(array, kinds) if t.is_decimal(kind) else array.cast(_plain(kind, kinds))


def _dictionary(array: pa.Array, kinds: AbstractSet[str]) -> pa.Array:
    """Of text a plain dictionary, of anything else the values."""
    if found_arrow(array.type.value_type).source != "text":
        return own_form(array.dictionary_decode(), kinds)
    return pa.DictionaryArray.from_arrays(array.indices.cast(pa.int32()), own_form(array.dictionary))


def _plain(kind: pa.DataType, kinds: AbstractSet[str]) -> pa.DataType:
    """The plain type that holds all values of an odd one."""
    if t.is_null(kind):
        return _NULLS[next(iter(kinds), "id")]
    if t.is_string_view(kind):
        return pa.large_string()
    if t.is_binary_view(kind) or t.is_fixed_size_binary(kind):
        return pa.large_binary()
    return pa.string() if t.is_date(kind) else pa.float32()  # a date is only ever part of a row's id


def _wide(kind: pa.DataType) -> pa.DataType:
    """The large form of a type of text."""
    return {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(kind, kind)


def _decimals(array: pa.Array, kinds: AbstractSet[str]) -> pa.Array:
    """Decimals as integers, floats or text; floats via text, because pyarrow's cast gives 19.990000000000002."""
    if "id" in kinds:
        return array.cast(pa.string())
    if "int" in kinds:
        if t.is_decimal32(array.type) or t.is_decimal64(array.type):  # pyarrow 26 finds all of these out of bounds
            array = array.cast(pa.decimal128(array.type.precision, array.type.scale))
        return array.cast(pa.int64())  # refuses what has decimal places or does not fit
    return array.cast(pa.string()).cast(pa.float64())


def _instants(array: pa.Array, unit: str | None, *, lenient: bool) -> pa.Array:
    """Times as timestamps of UTC or of no zone, which is the same."""
    kind = array.type
    if t.is_timestamp(kind):
        return array if kind.tz in (None, "UTC") else array.cast(pa.int64()).cast(pa.timestamp(kind.unit, "UTC"))
    if t.is_integer(kind):
        return array.cast(pa.int64()).cast(pa.timestamp(unit, "UTC"))
    if t.is_floating(kind):
        values_B = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        bad_B = ~np.isfinite(values_B)
        return pa.array(microseconds(np.where(bad_B, 0.0, values_B), str(unit)), mask=bad_B).cast(_NULLS["time"])
    texts = array if t.is_dictionary(kind) else array.dictionary_encode()
    moments = pa.array(
        [_text_us(text, lenient) for text in texts.dictionary.cast(pa.large_binary()).to_pylist()], pa.int64()
    )
    if lenient and len(moments) and pc.all(pc.equal(moments, NO_TIME)).as_py():
        raise ValueError("not one is ISO 8601, such as 2026-11-21T10:20:30Z")
    return moments.take(texts.indices).cast(_NULLS["time"])


def _text_us(text: bytes, lenient: bool) -> int:
    """Microseconds since the epoch, rounded down."""
    try:
        moment = text_moment(text.decode())
        return milliseconds(moment) * 1_000 + moment.microsecond % 1_000
    except ValueError:
        if lenient:
            return NO_TIME
        raise ValueError("it is no ISO 8601 time, such as 2026-11-21T10:20:30Z") from None
