"""Infers the types of a log's columns: numbers in text, common types of several files, and casts to them.

Decisions: a type covers all values seen, and widens when a later value does not fit (`Widened`): int to float to
string. Numbers with leading zeros are codes and stay text. In number columns NA, NULL and the like are null; in text
columns fewer words are, because NA is also Namibia.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t

_NULL_WORDS = ("NULL", "null", "\\N")
_NO_NUMBERS = (*_NULL_WORDS, "NA", "N/A", "NaN", "nan", "None", "none", "-")
_WHOLE = r"^\s*[+-]?(0|[1-9]\d{0,17})\s*$"
_WHOLE_AS_FLOAT = r"^\s*[+-]?(0|[1-9]\d{0,14})(\.0+)?\s*$"
_NUMBER = r"^\s*[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"
_TRUTH = r"(?i)^\s*(true|false)\s*$"


class Widened(Exception):
    """A value does not fit the type of its column so far."""

    def __init__(self, name: str, wider: pa.DataType) -> None:
        super().__init__(f"column {name!r} needs {wider}")
        self.name, self.wider = name, wider


def is_text(kind: pa.DataType) -> bool:
    """Whether values are text, or bytes that are taken for it."""
    return any(
        test(kind)
        for test in (t.is_string, t.is_large_string, t.is_string_view, t.is_binary, t.is_large_binary, t.is_binary_view)
    )


def text_type(column: pa.ChunkedArray) -> pa.DataType:
    """The type of what a text column's values say.

    >>> [str(text_type(pa.chunked_array([values]))) for values in (["1", "NA"], ["1.5", "2"], ["007", "12"], ["a"])]
    ['int64', 'double', 'string', 'string']
    """
    known = _known(column, _NO_NUMBERS)
    for kind, pattern in (
        (pa.int64(), _WHOLE),
        (pa.int64(), _WHOLE_AS_FLOAT),
        (pa.float64(), _NUMBER),
        (pa.bool_(), _TRUTH),
    ):
        if known.null_count < len(known) and pc.all(pc.match_substring_regex(known, pattern)).as_py():
            return kind
    return pa.string()


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The narrowest type that holds the values of both; text where nothing else does."""
    try:
        schemas = (pa.schema({"column": kind}) for kind in (one, other))
        return pa.unify_schemas(list(schemas), promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column of a new file is written in: no dictionaries, views, half floats or null types."""
    if t.is_dictionary(kind):
        return plain_type(kind.value_type)
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind) or t.is_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    if t.is_decimal(kind):
        return pa.int64() if kind.scale <= 0 and kind.precision <= 18 else pa.float64()
    if t.is_null(kind) or is_text(kind):
        return pa.string()
    return pa.float32() if t.is_float16(kind) else kind


def typed(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The columns that have a type, cast to it; those that are absent as nulls.

    Raises:
        Widened: when a value does not fit.
    """
    columns = []
    for name, kind in types.items():
        if name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, kind))
            continue
        columns.append(_cast(name, table[name], kind))
    return pa.table(columns, names=list(types))


def _cast(name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """One column as another type."""
    if column.type == kind and not is_text(kind):
        return column
    try:
        if is_text(column.type) and not is_text(kind) and not t.is_timestamp(kind):
            return _read(column, kind)
        if is_text(kind) and is_text(column.type):
            return _known(column, _NULL_WORDS).cast(kind)
        return column.cast(kind)
    except pa.ArrowException:
        wider = pa.float64() if t.is_integer(kind) and not t.is_floating(column.type) else pa.string()
        if t.is_integer(kind) and not is_text(column.type):
            wider = common_type(kind, plain_type(column.type))
        raise Widened(name, pa.string() if wider == kind else wider) from None


def _read(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Numbers or truth values that stand as text."""
    known = pc.utf8_trim_whitespace(_known(column, _NO_NUMBERS))
    if t.is_boolean(kind):
        return pc.utf8_lower(known).cast(pa.bool_())
    if t.is_integer(kind):
        if not pc.all(pc.match_substring_regex(known, _WHOLE_AS_FLOAT + "|" + _WHOLE)).as_py():
            raise pa.ArrowInvalid("no whole number")
        known = pc.replace_substring_regex(known, r"^\+|\.0+$", "")
    elif not pc.all(pc.match_substring_regex(known, _NUMBER)).as_py():
        raise pa.ArrowInvalid("no number")
    return known.cast(kind)


def _known(column: pa.ChunkedArray, nulls: tuple[str, ...]) -> pa.ChunkedArray:
    """Text with null in place of the words for it."""
    column = column if t.is_string(column.type) else column.cast(pa.string())
    unknown = pc.is_in(column, value_set=pa.array(nulls))
    return pc.if_else(unknown, pa.scalar(None, pa.string()), column)
