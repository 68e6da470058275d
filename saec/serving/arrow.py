"""Arrow tables as the columns that the feature encoder takes; imported when somebody brings one, as it needs pyarrow.

Shapes: B rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saec.data.arrow_types import as_wanted, refuse_unfit
from saec.data.columns import encoder_columns, has_nulls, times_ms
from saec.data.features import Column
from saec.data.schema import Schema
from saec.errors import InputError, nearest
from saec.serving.rows import check_names


def arrow_columns(rows: Any, schema: Schema) -> tuple[dict[str, Column], NDArray[np.int64]]:
    """The columns of all fields, and the times, of an Arrow table or of what pyarrow makes one of.

    Raises:
        InputError: reason schema, dtype or nulls, naming the column.
    """
    table = _table(rows)
    check_names(table.column_names, schema)
    check_types(table.schema, schema)
    held = {name: arrow_values(name, table[name], schema) for name in schema.readers if name in table.column_names}
    times_B = times_ms(held[schema.time_column]) if None in schema.readers.values() else np.zeros(1, np.int64)
    absent = {name: Column(np.zeros(0, np.int64) if field and field.type != "string" else [],
                           *_nulls(field is not None and field.kind == "list", len(table)))
              for name, field in schema.readers.items() if name not in held}
    return encoder_columns(pa.table(held)) | absent, times_B


def arrow_values(name: str, column: pa.ChunkedArray, schema: Schema) -> pa.ChunkedArray:
    """A column in the form that it is encoded in.

    Raises:
        InputError: reason dtype or nulls, naming the column.
    """
    field, want = schema.readers[name], schema.wants[name]
    found = as_wanted(name, column, [want], settings=False)
    if not (field and field.nullable) and has_nulls(found):
        raise InputError(f"column {name!r} has nulls; it must be {schema.columns[name]}", reason="nulls")
    return found


def arrow_column(name: str, values: Any, schema: Schema) -> tuple[dict[str, Column], NDArray[np.int64]]:
    """One column that speaks Arrow's protocol, as of `arrow_columns`; errors as there."""
    try:
        column = pa.chunked_array(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"column {name!r} is none that pyarrow can read ({str(error)[:100]}); give a list or an array",
                         reason="dtype") from None
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
            raise InputError(f"there is no column {name!r}{nearest(name, found.names)}; the version wants it, of type "
                             f"{schema.columns[name]}", reason="schema")


def _table(rows: Any) -> pa.Table:
    """What speaks Arrow's protocol, as a table."""
    try:
        return pa.table(rows)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"rows that pyarrow makes no table of ({str(error)[:100]}); give columns of other types, or a "
                         "list of dicts", reason="dtype") from None


def _nulls(lists: bool, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Index, and lengths of lists, of a column of nothing but nulls."""
    if lists:
        return np.zeros(0, np.int64), np.full(rows, -1)
    return np.full(rows, -1), None
