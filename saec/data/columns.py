"""Converts Arrow columns to the distinct values and index that the feature encoder takes.

The encoder itself uses only numpy, so that serving needs no Arrow. Columns must be in a plain form
(`saec.data.arrow_types`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t
from numpy.typing import NDArray

from saec.data.features import Column
from saec.data.types import TICKS


def is_string(kind: pa.DataType) -> bool:
    """Whether values are byte strings, in a plain form."""
    return any(test(kind) for test in (t.is_string, t.is_large_string, t.is_binary, t.is_large_binary))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return bool(t.is_list(kind) or t.is_large_list(kind))


def encoder_columns(table: pa.Table) -> dict[str, Column]:
    """All columns of a table but its timestamps.

    >>> encoder_columns(pa.table({"os": [7, 7, None, 9]}))["os"].index.tolist()
    [0, 0, -1, 1]
    """
    return {
        name: _column(table[name].combine_chunks())
        for name in table.column_names
        if not t.is_timestamp(table.schema.field(name).type)
    }


def value_codes(array: pa.Array) -> tuple[pa.Array, NDArray[np.int32]]:
    """Distinct values of an array, and for each place which one it holds; -1 is null."""
    encoded = array if t.is_dictionary(array.type) else array.dictionary_encode()
    return encoded.dictionary, pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)


def list_lengths(array: pa.Array) -> NDArray[np.int64]:
    """Length of each list; -1 is null in place of a list."""
    return np.asarray(pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False), np.int64)


def times_ms(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Timestamps without nulls as whole milliseconds since the epoch, rounded down."""
    ticks = TICKS[column.type.unit]
    values_B: NDArray[np.int64] = numbers(column)
    return values_B * (1_000 // ticks) if ticks < 1_000 else values_B // (ticks // 1_000)


def numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    """Numbers or the ticks of timestamps; null becomes 0, which other rules have already caught."""
    kind = pa.int64() if t.is_timestamp(column.type) else column.type
    return np.asarray(pc.fill_null(column.cast(kind), 0).to_numpy())


def has_nulls(column: pa.ChunkedArray) -> bool:
    """Whether a value is null; of lists, also a value in them."""
    return bool(column.null_count or (is_list(column.type) and pc.list_flatten(column).null_count))


def own_values(array: pa.Array) -> pa.Array:
    """The same values with dictionaries cut down to those that occur, which after a filter can be far fewer."""
    if is_list(array.type):
        offsets = pa.array(np.concatenate([[0], np.cumsum(np.maximum(list_lengths(array), 0))]))
        return pa.LargeListArray.from_arrays(offsets, own_values(pc.list_flatten(array)), mask=array.is_null())
    if not t.is_dictionary(array.type):
        return array
    used = array.indices.drop_null().unique()
    return pa.DictionaryArray.from_arrays(pc.index_in(array.indices, used), array.dictionary.take(used))


def _column(array: pa.Array) -> Column:
    """One column; of lists, their values end to end."""
    if is_list(array.type):
        values, index = value_codes(pc.list_flatten(array))
        return Column(_numpy_values(values), index, list_lengths(array))
    values, index = value_codes(array)
    return Column(_numpy_values(values), index)


def _numpy_values(values: pa.Array) -> NDArray[np.generic] | Sequence[bytes]:
    """Numbers as an array; strings as bytes, never decoded."""
    if t.is_primitive(values.type):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    binary: list[bytes] = values.cast(pa.large_binary()).to_pylist()
    return binary
