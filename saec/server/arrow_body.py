"""Reads requests and writes answers as Arrow streams; imported with the first one, because it needs pyarrow.

    rows                 one stream, whose rows are to be scored
    user and candidates  two consecutive streams: one row that all candidates share, then the candidates
    answer               one stream with the column `score`; the schema's metadata name the version

Decisions: a stream is read by Arrow, which checks what it reads, and validated in full before a value is looked at.
What a few bytes can blow up is bounded first: compressed buffers are refused by the messages' heads, rows are counted
before they are decoded, and values count as what they are once decoded (a dictionary's value as often as it is named,
views as often as they point somewhere), against the limit of a body. Types, columns and values are judged by the model,
as those of JSON are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t
from numpy.typing import NDArray

from saec.server.asked import ID_LETTERS, Asked, Row, sound_id, too_large, too_many, unfit
from saec.server.refusals import Refusal

_BATCH, _DICTIONARY, _COMPRESSION = "record batch", "dictionary", 3
_FIXED = (
    t.is_integer,
    t.is_floating,
    t.is_boolean,
    t.is_timestamp,
    t.is_date,
    t.is_decimal,
    t.is_null,
    t.is_time,
    t.is_duration,
    t.is_fixed_size_binary,
)
_TEXTS = (t.is_string, t.is_large_string, t.is_binary, t.is_large_binary)
_VIEWS = (t.is_string_view, t.is_binary_view)
_IDS = (t.is_integer, t.is_string, t.is_large_string, t.is_string_view, t.is_null)
_LISTS = (t.is_list, t.is_large_list, t.is_fixed_size_list)


class ArrowAsked(Asked):
    """Rows to be scored, as tables."""

    def take_ids(self, names: Sequence[str], columns: AbstractSet[str]) -> list[Row]:
        """The row ids of each row, taken out of the tables where they are no columns of the model."""
        rows: pa.Table = self.rows
        found = [_ids(table, names) for table in (self.user, rows) if table is not None]
        if self.user is not None:
            self.user = _without(self.user, names, columns)
        self.rows = _without(rows, names, columns)
        if not names:
            return []
        *shared, own = found
        values = {name: [ids[0]] * len(rows) for table in shared for name, ids in table.items()} | own
        return [
            {name: ids[place] for name, ids in values.items() if ids[place] is not None} for place in range(len(rows))
        ]


def parse(body: bytes, max_rows: int, max_bytes: int) -> ArrowAsked:
    """Take a body apart.

    Args:
        body: one Arrow stream, or two.
        max_rows: most rows.
        max_bytes: most bytes that all values may take, decoded.

    Raises:
        Refusal: 400 when it is not Arrow, 413 for values that are too large, 422 when it does not ask for scores or
            asks for too many.
    """
    if not body:
        raise _no_arrow("the body is empty")
    try:
        tables = [*_tables(body, max_rows)]
        size = sum(_bytes(column) for table in tables for column in table.columns)
        *user, rows = map(_as_plain, tables) if size <= max_bytes else [pa.table({})]
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, struct.error) as error:
        raise _no_arrow(f"the body is no Arrow stream: {str(error)[:200]}") from None
    if size > max_bytes:
        raise too_large(max_bytes)
    if user and len(user[0]) != 1:
        raise unfit(f"the first of two streams must hold the user's one row, got {len(user[0]):,} rows")
    return ArrowAsked(rows, user[0] if user else None)


def answer(version: str, scores_B: NDArray[np.float64]) -> bytes:
    """Scores as a stream."""
    batch = pa.record_batch({"score": pa.array(scores_B)}, metadata={"version": version})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _tables(body: bytes, max_rows: int) -> Iterator[pa.Table]:
    """The table of each stream."""
    source, number, begun = pa.BufferReader(body), 0, 0
    while begun < len(body):
        number += 1
        if number > 2:
            raise unfit("the body has more than two streams; wanted that of the rows, or those of user and candidates")
        for message in pa.ipc.MessageReader.open_stream(source):
            if message.type in (_BATCH, _DICTIONARY) and _compressed(message):
                raise _no_arrow("its buffers are compressed; send them plain")
        ended = source.tell()
        yield _table(body[begun:ended], max_rows)
        begun = ended


def _table(stream: bytes, max_rows: int) -> pa.Table:
    """The rows of one stream, validated and counted."""
    batches, count = [], 0
    with pa.ipc.open_stream(stream) as reader:
        for name, column in zip(reader.schema.names, reader.schema, strict=True):  # names are UTF-8, or this fails
            if not _known(column.type):
                raise unfit(f"column {name[:64]!r} is of type {str(column.type)[:80]}, which no field takes")
        for batch in reader:
            count += batch.num_rows
            if count > max_rows:
                raise too_many("the stream", count, max_rows)
            batch.validate(full=True)
            batches.append(batch)
        return pa.Table.from_batches(batches, reader.schema)


def _as_plain(table: pa.Table) -> pa.Table:
    """A table whose texts are no views: where a null is, a view may hold anything, and Arrow's casts follow it."""
    for place, column in enumerate(table.columns):
        if (kind := _plain_type(column.type)) != column.type:
            plain = pa.chunked_array([_plain(chunk) for chunk in column.chunks], kind)
            table = table.set_column(place, table.column_names[place], plain)
    return table


def _plain(array: pa.Array) -> pa.Array:
    """An array with texts in place of views, and in lists also in place of dictionaries."""
    kind = array.type
    if kind == (plain := _plain_type(kind)):
        return array
    if t.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(array.indices, _plain(array.dictionary))
    if any(test(kind) for test in _LISTS):
        inner = array.values.dictionary_decode() if t.is_dictionary(kind.value_type) else array.values
        return type(array).from_arrays(array.offsets, _plain(inner), mask=array.is_null())
    return pa.array(array.to_pylist(), plain)  # looks at no null's view


@lru_cache(maxsize=256)
def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that an array has once it is plain."""
    if t.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _plain_type(kind.value_type))
    if t.is_list(kind) or t.is_large_list(kind):
        inner = kind.value_type.value_type if t.is_dictionary(kind.value_type) else kind.value_type
        return (pa.list_ if t.is_list(kind) else pa.large_list)(_plain_type(inner))
    views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    return views.get(kind, kind)


def _compressed(message: pa.ipc.Message) -> bool:
    """Whether a batch's buffers are compressed, by the flatbuffer of its message, which Arrow has verified."""
    head = message.metadata.to_pybytes()
    batch = _follow(head, _follow(head, 0), 2)
    if message.type == _DICTIONARY:
        batch = _follow(head, batch, 1)
    return _place(head, batch, _COMPRESSION) is not None


def _follow(head: bytes, table: int, field: int | None = None) -> int:
    """Where the table is that a field of a flatbuffer's table points to; without a field, the root."""
    place = table if field is None else _place(head, table, field)
    if place is None:
        raise ValueError("a message has no batch")
    pointed: int = struct.unpack_from("<I", head, place)[0]
    return place + pointed


def _place(head: bytes, table: int, field: int) -> int | None:
    """Where a field of a table lies, None where it is left out."""
    fields = table - struct.unpack_from("<i", head, table)[0]
    if 4 + 2 * field >= struct.unpack_from("<H", head, fields)[0]:
        return None
    offset: int = struct.unpack_from("<H", head, fields + 4 + 2 * field)[0]
    return table + offset if offset else None


@lru_cache(maxsize=256)
def _known(kind: pa.DataType) -> bool:
    """Whether values of a type can be measured; what is taken of them, the model says."""
    if t.is_dictionary(kind):
        return any(test(kind.value_type) for test in (*_FIXED, *_TEXTS, *_VIEWS))
    if any(test(kind) for test in _LISTS):
        inner = kind.value_type
        plain = not (t.is_dictionary(inner) or any(test(inner) for test in _VIEWS))
        return not t.is_nested(inner) and _known(inner) and (plain or not t.is_fixed_size_list(kind))
    return any(test(kind) for test in (*_FIXED, *_TEXTS, *_VIEWS))


def _bytes(column: pa.ChunkedArray) -> int:
    """Bytes that a column's values take once they are decoded."""
    if width := _plain_width(column.type):
        return width * len(column)
    return sum(_decoded(chunk) for chunk in column.chunks)


@lru_cache(maxsize=256)
def _plain_width(kind: pa.DataType) -> int:
    """Bytes of each value of a type whose values are all as long; else 0."""
    return _width(kind) if any(test(kind) for test in _FIXED) else 0


def _decoded(array: pa.Array) -> int:
    kind = array.type
    if t.is_dictionary(kind):
        sizes_V, places = _sizes(array.dictionary), array.indices.drop_null()
        return 8 * len(array) + int(sizes_V[places.to_numpy(zero_copy_only=False)].sum())
    if any(test(kind) for test in _LISTS):
        return 8 * len(array) + _decoded(array.values)
    return int(_sizes(array).sum()) if any(test(kind) for test in (*_TEXTS, *_VIEWS)) else _width(kind) * len(array)


def _sizes(array: pa.Array) -> NDArray[np.int64]:
    """Bytes of each value."""
    kind = array.type
    if any(test(kind) for test in _VIEWS):
        ended = array.offset + len(array)
        views = np.frombuffer(array.buffers()[1] or b"", np.int32, 4 * ended).reshape(-1, 4)
        lengths = views[array.offset : ended, 0].astype(np.int64)
        return np.where(array.is_valid().to_numpy(zero_copy_only=False), lengths, 0) + 1
    if any(test(kind) for test in _TEXTS):
        return np.asarray(pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False), np.int64) + 1
    return np.full(len(array), _width(kind))


def _width(kind: pa.DataType) -> int:
    """Bytes of one value; a null counts as one."""
    return 1 if t.is_null(kind) else -(-kind.bit_width // 8) or 1


def _ids(table: pa.Table, names: Sequence[str]) -> dict[str, list[Any]]:
    """The values of the columns that identify rows."""
    found = {}
    for name in names:
        if table.column_names.count(name) == 1:
            kind = table[name].type
            found[name] = table[name].to_pylist() if _may_identify(kind) else [kind] * len(table)
            if not all(value is None or sound_id(value) for value in found[name]):
                raise unfit(
                    f"{name} identifies the row and must be an integer or a string of at most {ID_LETTERS} "
                    f"letters, got a column of type {str(kind)[:80]} with other values"
                )
    return found


def _may_identify(kind: pa.DataType) -> bool:
    """Whether values of a type may be row ids."""
    return any(test(kind.value_type if t.is_dictionary(kind) else kind) for test in _IDS)


def _without(table: pa.Table, names: Sequence[str], columns: AbstractSet[str]) -> pa.Table:
    """A table without the columns that only identify rows."""
    gone = [name for name in names if name not in columns and name in table.column_names]
    return table.drop_columns(gone) if gone else table


def _no_arrow(message: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "arrow", message)
