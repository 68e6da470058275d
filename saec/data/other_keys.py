"""Makes keys of an hour's rows by the schema of another model, because the live version may be older than the settings.

A version's keys follow its own schema. If the settings have changed since, each model that scores an hour's rows gets
keys made by its own schema from the raw rows, as the model server makes them. Decisions: rows that a server would
refuse (a non-nullable column is missing, or has another type) cannot be scored here either, and the log says so. A
missing nullable column is null, as in a request.

Shapes: B rows, S slots of the other schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from saec.data.arrow_types import as_wanted
from saec.data.columns import encoder_columns, times_ms
from saec.data.features import Column, FeatureEncoder
from saec.data.partitions import wanted_columns
from saec.data.types import field_want
from saec.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saec.config import Config
    from saec.data.hashing import Keys
    from saec.data.schema import Field, Schema


def other_columns(config: Config, schemas: Iterable[Schema]) -> dict[str, Field | None]:
    """Columns that these schemas read and the settings do not name, each with the field that reads it."""
    wanted = wanted_columns(config)
    return {name: field for schema in schemas for name, field in schema.readers.items() if name not in wanted}


def keys_by(schema: Schema, table: pa.Table, times_B: NDArray[np.int64], time_column: str) -> Keys:
    """The key matrix (B, S) of some rows by another schema.

    Args:
        schema: of the other model.
        table: the rows, with all columns that it reads and that are there.
        times_B: times of the rows, milliseconds since the epoch.
        time_column: the column that these were read from.

    Raises:
        InputError: when a model of this schema could not answer such rows, and why.
    """
    columns: dict[str, Column] = {}
    for name, field in schema.readers.items():
        if field is not None:
            columns[name] = _column(field, table)
        elif name != time_column:
            times_B = _times(name, schema, table)
    return FeatureEncoder(schema).encode(columns, times_B)


def _column(field: Field, table: pa.Table) -> Column:
    """The column of a field; of nulls where it may be null and is not there."""
    name = field.source_column or field.name
    if name not in table.column_names:
        if not field.nullable:
            raise InputError(f"column {name!r} is not there", reason="schema")
        none_B = np.full(table.num_rows, -1)
        values: list[bytes] | NDArray[np.int64] = [] if field.type == "string" else np.zeros(0, np.int64)
        return Column(values, none_B[:0], none_B) if field.kind == "list" else Column(values, none_B)
    found = as_wanted(name, table[name], [field_want(field)], settings=True)
    return encoder_columns(pa.table({name: found}))[name]


def _times(name: str, schema: Schema, table: pa.Table) -> NDArray[np.int64]:
    """Times from another column than that of the settings."""
    if name not in table.column_names:
        raise InputError(f"column {name!r}, its time, is not there", reason="schema")
    return times_ms(as_wanted(name, table[name], [schema.wants[name]], settings=True))
