"""Converts Arrow tables to the columns of the feature encoder; imported on first use, because it needs pyarrow.

Shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as t
from numpy.typing import NDArray

from saec.data.arrow_types import as_wanted, refuse_unfit
from saec.data.columns import encoder_columns, has_nulls, times_ms
from saec.data.features import Column
from saec.data.schema import Schema
from saec.errors import InputError, nearest
from saec.serving.rows import check_names, on_both_sides

FEW_ROWS = 1_000
"""Maximum number of rows for which columns are converted value by value."""


def arrow_columns(
    rows: Any, schema: Schema, shared: Mapping[str, Any] | Any = None
) -> tuple[dict[str, Column], NDArray[np.int64]]:
    """The columns of all fields, and the times, of an Arrow table or of what pyarrow makes one of.

    Args:
        rows: B rows.
        schema: which columns there must be.
        shared: what all rows share, a dict or a table of one row; its columns, and times, have one row.

    Raises:
        InputError: reason schema, dtype or nulls, naming the column.
    """
    table = _table(rows)
    user = (
        _table({name: [value] for name, value in shared.items()} if isinstance(shared, Mapping) else shared)
        if shared is not None
        else None
    )
    if user is not None and len(user) != 1:
        raise InputError(f"what all rows share must be one row, got {len(user):,}", reason="schema")
    given: dict[str, pa.ChunkedArray] = {}
    for part in (table, user) if user is not None else (table,):
        check_names(part.column_names, schema)
        if twice := [name for name in part.column_names if part.column_names.count(name) > 1]:
            raise InputError(f"column {twice[0]!r} is there more than once; give it once", reason="schema")
        if both := sorted(given.keys() & set(part.column_names)):
            raise on_both_sides(both[0])
        given |= dict(zip(part.column_names, part.columns, strict=True))
    check_types(pa.schema([(name, column.type) for name, column in given.items()]), schema)
    held = {name: arrow_values(name, given[name], schema) for name in schema.readers if name in given}
    times_B = times_ms(held[schema.time_column]) if None in schema.readers.values() else np.zeros(1, np.int64)
    absent = {
        name: Column(
            np.zeros(0, np.int64) if field and field.type != "string" else [],
            *_nulls(field is not None and field.kind == "list", len(table) if user is None else 1),
        )
        for name, field in schema.readers.items()
        if name not in held
    }
    return _columns(held) | absent, times_B


def _columns(held: Mapping[str, pa.ChunkedArray]) -> dict[str, Column]:
    """Columns in their own form as the encoder's; few rows are quicker without a dictionary of distinct values."""
    found = {}
    for name, column in held.items():
        kind = column.type
        if not t.is_timestamp(kind):
            plain = len(column) <= FEW_ROWS and not column.null_count and column.num_chunks == 1
            if plain and (t.is_integer(kind) or t.is_float64(kind)):
                found[name] = Column(column.chunk(0).to_numpy())
            elif plain and (t.is_string(kind) or t.is_binary(kind)):
                found[name] = Column(column.chunk(0).cast(pa.binary()).to_pylist())
            else:
                found |= encoder_columns(pa.table({name: column}))
    return found


def arrow_values(name: str, column: pa.ChunkedArray, schema: Schema) -> pa.ChunkedArray:
    """A column in the form that it is encoded in.

    Raises:
        InputError: reason dtype or nulls, naming the column.
    """
    field, want = schema.readers[name], schema.wants[name]
    if t.is_dictionary(column.type) and any(chunk.dictionary.null_count for chunk in column.chunks):
        column = column.cast(column.type.value_type)  # a null among a dictionary's values is a null like any other
    found = as_wanted(name, column, [want], settings=False)
    if not (field and field.nullable) and has_nulls(found):
        raise InputError(f"column {name!r} has nulls; it must be {schema.columns[name]}", reason="nulls")
    return found


def arrow_column(name: str, values: Any, schema: Schema) -> tuple[dict[str, Column], NDArray[np.int64]]:
    """One column that speaks Arrow's protocol, as of `arrow_columns`; errors as there."""
    try:
        column = pa.chunked_array(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(
            f"column {name!r} is none that pyarrow can read ({str(error)[:100]}); give a list or an array",
            reason="dtype",
        ) from None
    held = arrow_values(name, column, schema)
    times_B = times_ms(held) if schema.readers[name] is None else np.zeros(1, np.int64)
    return encoder_columns(pa.table({name: held})), times_B


def check_types(found: pa.Schema, schema: Schema) -> None:
    """Refuse columns that are missing or of a type that is not taken (`saec.data.types`).

    Raises:
        InputError: reason schema or dtype, naming the column.
    """
    for name, field in schema.readers.items():
        if name in found.names:
            refuse_unfit(name, found.field(name).type, [schema.wants[name]], settings=False)
        elif not (field and field.nullable):
            raise InputError(
                f"there is no column {name!r}{nearest(name, found.names)}; the version wants it, of type "
                f"{schema.columns[name]}",
                reason="schema",
            )


def _table(rows: Any) -> pa.Table:
    """What speaks Arrow's protocol, as a table."""
    try:
        return pa.table(rows)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(
            f"rows that pyarrow makes no table of ({str(error)[:100]}); give columns of other types, or a "
            "list of dicts",
            reason="dtype",
        ) from None


def _nulls(lists: bool, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Index, and lengths of lists, of a column of nothing but nulls."""
    if lists:
        return np.zeros(0, np.int64), np.full(rows, -1)
    return np.full(rows, -1), None
