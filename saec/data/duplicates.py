"""Resolves rows with the same id: decides which one is learnt, and with which label.

    same label                  one row is kept, the earliest; the others are duplicates and no fault
    both labels, click-wins     the earliest row, with a click: an impression and its click in a log that is not joined
    both labels, set-aside      none of them
    both labels, refuse         the hour is quarantined

Decisions: a click wins by default, because label 0 only means that no click has been seen yet, while label 1 means that
one has. The features are those of the earliest row, because they describe what was shown. A click's row may lack
features of the impression, or belong to a later hour: it then only adds the click to the impression's row, if there is
one. The result does not depend on the order of the rows: among rows of the same time the impression is kept, and among
several impressions a hash of all values decides.

Shapes: B rows of the delivery, N rows looked at, E rows that share their id with another, G ids that several rows have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t
from numpy.typing import NDArray

from saec.data.columns import encoder_columns, is_list, list_lengths, numbers, value_codes
from saec.data.features import Column
from saec.data.hashing import Keys, SipKey, field_key, hash_bytes, hash_words

_CONTENT = field_key("", "content of a row")


@dataclass(frozen=True)
class Distinct:
    """One row of each id."""

    rows_B: NDArray[np.int64]
    """Positions of the rows that are kept, ascending."""
    clicked: NDArray[np.int64]
    """Of these, positions of those whose id has rows of both labels."""
    contradicting: NDArray[np.int64]
    """Positions of all rows of such ids."""
    loose: NDArray[np.int64]
    """Positions of rows of clicks that are no good for themselves and whose id has a good row."""


def distinct_rows(
    table: pa.Table,
    names: list[str],
    labels_B: NDArray[np.int64],
    good_B: NDArray[np.int64],
    loose_B: NDArray[np.int64],
    time_column: str,
) -> Distinct:
    """Find the rows of each id.

    Args:
        table: all rows of the delivery.
        names: columns that identify a row.
        labels_B: of all rows.
        good_B: positions of those that may be kept, ascending.
        loose_B: positions of rows of clicks that may not, but may tell of a click.
        time_column: the time of a row.
    """
    rows_N = np.concatenate([good_B, loose_B])
    keys = pa.table({name: _groupable(column) for name, column in _columns(table, names, rows_N)})
    keys = keys.append_column("@row", pa.array(np.arange(len(rows_N))))
    groups = keys.group_by(names, use_threads=False)
    first = np.sort(groups.aggregate([("@row", "min")])["@row_min"].to_numpy())
    if len(first) == len(rows_N):
        return Distinct(good_B, loose_B[:0], loose_B[:0], loose_B[:0])
    found = groups.aggregate([("@row", "list")])["@row_list"].combine_chunks()
    shared = found.filter(pc.greater(pc.list_value_length(found), 1))
    rows_E = rows_N[pc.list_flatten(shared).to_numpy()]
    group_E = pc.list_parent_indices(shared).to_numpy()
    return _kept(table, labels_B, rows_E, group_E, rows_N[first], good_B, time_column)


def _kept(
    table: pa.Table,
    labels_B: NDArray[np.int64],
    rows_E: NDArray[np.int64],
    group_E: NDArray[np.int64],
    first: NDArray[np.int64],
    good_B: NDArray[np.int64],
    time_column: str,
) -> Distinct:
    """Of ids that several rows have, the row that is kept."""
    good_E = np.isin(rows_E, good_B)
    part = table.take(pa.array(rows_E))
    order = np.lexsort((_content(part), labels_B[rows_E], numbers(part[time_column]), ~good_E, group_E))
    rows_E, group_E, good_E = rows_E[order], group_E[order], good_E[order]
    starts_G = np.flatnonzero(np.diff(group_E, prepend=-1))
    labels_E = labels_B[rows_E]
    highest_G, lowest_G = (rule.reduceat(labels_E, starts_G) for rule in (np.maximum, np.minimum))
    own_G = good_E[starts_G]
    both_G = own_G & (highest_G != lowest_G)
    lengths_G = np.diff(starts_G, append=len(rows_E))
    alone = np.setdiff1d(first[np.isin(first, good_B)], rows_E)
    return Distinct(
        np.sort(np.concatenate([alone, rows_E[starts_G[own_G]]])),
        rows_E[starts_G[both_G]],
        rows_E[np.repeat(both_G, lengths_G)],
        rows_E[np.repeat(own_G, lengths_G) & ~good_E],
    )


def _columns(table: pa.Table, names: list[str], rows_N: NDArray[np.int64]) -> list[tuple[str, pa.ChunkedArray]]:
    """Some columns of some rows."""
    whole = len(rows_N) == table.num_rows and bool((rows_N == np.arange(len(rows_N))).all())
    part = table.select(names) if whole else table.select(names).take(pa.array(rows_N))
    return list(zip(part.column_names, part.columns, strict=True))


def _groupable(column: pa.ChunkedArray) -> pa.Array:
    """A column that rows can be grouped by: codes for strings, the bytes of their values' codes for lists."""
    array = column.combine_chunks()
    if not is_list(array.type):
        return array if t.is_primitive(array.type) else pa.array(value_codes(array)[1])
    codes_E = value_codes(pc.list_flatten(array))[1]
    ends_B = np.cumsum(np.maximum(list_lengths(array), 0)) * codes_E.itemsize
    buffers = [None, pa.py_buffer(np.concatenate([[0], ends_B])), pa.py_buffer(codes_E)]
    bytes_B = pa.Array.from_buffers(pa.large_binary(), len(array), buffers)
    return pc.if_else(array.is_null(), pa.scalar(None, pa.large_binary()), bytes_B)


def _content(table: pa.Table) -> Keys:
    """A hash of all values of each row, which depends on nothing else."""
    plain = [column.cast(pa.string()) if t.is_decimal(column.type) else column for column in table.columns]
    columns = encoder_columns(pa.table(plain, table.column_names))
    words = [
        _words(columns[name], _CONTENT) if name in columns else numbers(table[name]).view(np.uint64)
        for name in sorted(table.column_names)
    ]
    return hash_words(np.column_stack(words), _CONTENT)


def _words(column: Column, key: SipKey) -> Keys:
    """64 bits that stand for a column's value in each row."""
    values = column.values
    if isinstance(values, np.ndarray):
        wide = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
        found_U = hash_words(wide.view(np.uint64)[:, None], key)
    else:
        found_U = hash_bytes(values, key)
    found = found_U if column.index is None else np.append(found_U, np.uint64(1))[column.index]
    if column.lengths_B is None:
        return found
    held_B = np.maximum(column.lengths_B, 0)
    places = np.arange(len(found)) - np.repeat(np.cumsum(held_B) - held_B, held_B)
    placed = hash_words(np.column_stack([found, places.astype(np.uint64)]), key)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(placed, dtype=np.uint64)])
    ends_B = np.cumsum(held_B)
    words_B: Keys = sums[ends_B] - sums[ends_B - held_B] + column.lengths_B.view(np.uint64)
    return words_B
