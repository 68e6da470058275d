"""Merges the files of an hour into one table; each column gets the narrowest type that holds all its values.

Decisions: the files of an hour may differ in types, as hours may: a column is widened without loss (`saec.data.types`).
The types of a file without rows are ignored. Files with the same types, the usual case, are concatenated unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t

from saec.data.arrow_types import as_wanted, found_arrow
from saec.data.columns import is_list, list_lengths
from saec.data.types import TICKS, Want
from saec.errors import InputError
from saec.hours import Hour

Parts = Sequence[tuple[str, pa.Table]]
"""Files by name, with their wanted columns."""
_LARGEST = np.iinfo(np.int64).max


def merged_parts(parts: Parts, wants: Mapping[str, Sequence[Want]], hour: Hour) -> pa.Table:
    """The rows of all files, in their order.

    Args:
        parts: The hour's files, at least one.
        wants: What is wanted of each column.
        hour: Which hour, for messages.

    Raises:
        InputError: reason schema (not all have the same columns) or dtype (no type holds a column of all files), naming
            the hour, the column and two files.
    """
    parts = [part for part in parts if part[1].num_rows] or parts[:1]
    names = parts[0][1].column_names
    for file, table in parts:
        for name in sorted({*names} ^ {*table.column_names}):
            raise InputError(
                f"hour {hour}: only one of files {parts[0][0]} and {file} has column {name!r}; have them "
                "delivered again with the same columns",
                reason="schema",
            )
    columns = {name: _merged(name, parts, wants[name], hour) for name in names}
    return pa.table(columns).unify_dictionaries().combine_chunks()


def _merged(name: str, parts: Parts, wants: Sequence[Want], hour: Hour) -> pa.ChunkedArray:
    """One column of all files."""
    columns = [table[name] for _, table in parts]
    if any(column.type != columns[0].type for column in columns):
        columns = [
            as_wanted(name, column, wants, f"hour {hour}: file {file}: ", settings=True)
            for (file, _), column in zip(parts, columns, strict=True)
        ]
        arrays = [_whole(column) for column in columns]
        try:
            kind = _common(arrays)
        except ValueError as error:
            raise _no_type(name, parts, hour, str(error)) from None
        columns = [pa.chunked_array([_cast(array, kind)]) for array in arrays]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return column.unify_dictionaries().combine_chunks()


def _common(arrays: Sequence[pa.Array]) -> pa.DataType:
    """The type that holds all values of some arrays.

    Raises:
        ValueError: when there is none.
    """
    arrays = [array for array in arrays if array.null_count < len(array)] or arrays
    kinds = [array.type for array in arrays]
    sources = {found_arrow(kind).source for kind in kinds}
    if all(kind == kinds[0] for kind in kinds):
        return kinds[0]
    if sources == {"list"}:
        return pa.large_list(_common([pc.list_flatten(array) for array in arrays]))
    if sources == {"text"}:
        return pa.dictionary(pa.int32(), _common_text([_value_type(kind) for kind in kinds]))
    if sources == {"instant"}:
        return pa.timestamp(max((kind.unit for kind in kinds), key=TICKS.__getitem__), "UTC")
    if sources <= {"integer", "boolean"}:
        return _common_integer(arrays)
    if sources <= {"integer", "float", "boolean"}:
        return pa.float64()
    raise ValueError("no type holds both")


def _common_text(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """Bytes where one holds bytes, and large where one is large."""
    large = any(t.is_large_string(kind) or t.is_large_binary(kind) for kind in kinds)
    if any(t.is_binary(kind) or t.is_large_binary(kind) for kind in kinds):
        return pa.large_binary() if large else pa.binary()
    return pa.large_string() if large else pa.string()


def _common_integer(arrays: Sequence[pa.Array]) -> pa.DataType:
    """64 bits with a sign, or without one where only that holds all values."""
    numbers = [array for array in arrays if not t.is_boolean(array.type)]
    if all((pc.max(array).as_py() or 0) <= _LARGEST for array in numbers):
        return pa.int64()
    if any((pc.min(array).as_py() or 0) < 0 for array in numbers):
        raise ValueError(f"one has numbers below 0 and one above {_LARGEST}, which no integer of 64 bits holds both")
    return pa.uint64()


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same values as another type, which holds them."""
    if array.type == kind:
        return array
    if array.null_count == len(array):
        return pa.nulls(len(array), kind)
    if is_list(kind):
        offsets = np.concatenate([[0], np.cumsum(np.maximum(list_lengths(array), 0))])
        return pa.LargeListArray.from_arrays(
            pa.array(offsets), _cast(pc.list_flatten(array), kind.value_type), mask=array.is_null()
        )
    if t.is_dictionary(kind):
        codes = array if t.is_dictionary(array.type) else array.dictionary_encode()
        return pa.DictionaryArray.from_arrays(codes.indices, codes.dictionary.cast(kind.value_type))
    if t.is_timestamp(kind):
        return _finer(array, kind)
    if t.is_boolean(array.type):
        array = array.cast(pa.int8())
    return array.cast(kind, safe=not t.is_floating(kind))


def _finer(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Times in a finer unit; one that the finer unit cannot hold becomes the last that it can, outside every hour."""
    factor = TICKS[kind.unit] // TICKS[array.type.unit]
    ticks_B = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    bound = _LARGEST // factor
    finer_B = np.clip(ticks_B, -bound, bound) * factor
    return pa.array(finer_B, mask=array.is_null().to_numpy(zero_copy_only=False)).cast(kind)


def _value_type(kind: pa.DataType) -> pa.DataType:
    """The type of values, whether in a dictionary or not."""
    return kind.value_type if t.is_dictionary(kind) else kind


def _no_type(name: str, parts: Parts, hour: Hour, why: str) -> InputError:
    """A column whose files have nothing in common; names two of them."""
    first, first_table = parts[0]
    other, table = next((part for part in parts if part[1][name].type != first_table[name].type), parts[-1])
    return InputError(
        f"hour {hour}: column {name!r} is {first_table[name].type} in {first} and {table[name].type} in "
        f"{other}, and {why}; have them delivered with one type",
        reason="dtype",
    )
