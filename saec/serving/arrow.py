"""Arrow tables as the columns that the feature encoder takes; imported when somebody brings one, as it needs pyarrow.

Shapes: B rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saec.data.columns import encoder_columns, has_nulls, is_utc, times_ms, type_rule, value_type
from saec.data.features import Column
from saec.data.schema import Schema
from saec.errors import InputError, nearest
from saec.serving.rows import check_names


def arrow_columns(rows: Any, schema: Schema) -> tuple[dict[str, Column], NDArray[np.int64]]:
    """The columns of all fields, and the times, of an Arrow table or of what pyarrow makes one of.

    Raises:
        InputError: reason schema, dtype or nulls, naming the column.
    """
    table = pa.table(rows)
    check_names(table.column_names, schema)
    check_types(table.schema, schema)
    for name, field in schema.readers.items():
        if not (field and field.nullable) and name in table.column_names and has_nulls(table[name]):
            raise InputError(f"column {name!r} has nulls; it must be {schema.columns[name]}", reason="nulls")
    times_B = times_ms(table[schema.time_column]) if None in schema.readers.values() else np.zeros(1, np.int64)
    absent = {name: Column(np.zeros(0, np.int64) if field and field.type != "string" else [],
                           *_nulls(field is not None and field.kind == "list", len(table)))
              for name, field in schema.readers.items() if name not in table.column_names}
    return encoder_columns(table) | absent, times_B


def check_types(found: pa.Schema, schema: Schema) -> None:
    """Refuse columns that are missing or of another type than their field's contract wants.

    Raises:
        InputError: reason schema or dtype, naming the column.
    """
    for name, field in schema.readers.items():
        if name not in found.names:
            if field and field.nullable:
                continue
            raise InputError(f"there is no column {name!r}{nearest(name, found.names)}; the version wants it, of type "
                             f"{schema.columns[name]}", reason="schema")
        kind = value_type(found.field(name).type)
        fits = is_utc if field is None else type_rule(field)
        if not fits(kind):
            raise InputError(f"column {name!r} wants {schema.columns[name]}, found {kind}; nothing is cast",
                             reason="dtype")


def _nulls(lists: bool, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Index, and lengths of lists, of a column of nothing but nulls."""
    if lists:
        return np.zeros(0, np.int64), np.full(rows, -1)
    return np.full(rows, -1), None
