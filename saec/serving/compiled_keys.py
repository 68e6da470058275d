"""Makes feature keys in compiled code: lays out a request's columns as one buffer of bytes for `kernel.c`.

Decisions: the buffer contains offsets, which the kernel checks against the buffer's length, so no request can lead it
out of the buffer. Long texts are shortened here, because that needs BLAKE2b. The kernel refuses inputs that it does not
support, and numpy then handles them or reports the error.

Shapes: B rows, F fields (crosses among them), S slots, U values of a column.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saec.data.features import Column
from saec.data.hashing import LONG_BYTES, Keys, SipKey, field_key, reserved_feature, shortened
from saec.data.schema import Schema
from saec.layout import single
from saec.serving.kernel import CROSS, FIELD, MOST_PARTS, Library

_KINDS = {"categorical": 0, "list": 1, "numeric": 2, "hour_of_day": 3, "day_of_week": 4}
_SINGLES = 5
_SIGNED, _UNSIGNED, _FLOATS, _TEXTS = range(4)
_TYPES: dict[np.dtype[Any], int] = {
    np.dtype(np.int64): _SIGNED,
    np.dtype(np.uint64): _UNSIGNED,
    np.dtype(np.float64): _FLOATS,
}
_KEPT = 16
"""Number of sets of shared fields that are remembered."""


@dataclass(frozen=True)
class Sharing:
    """Which fields have a value for each row of a request, and which have one for all rows."""

    own_F: NDArray[np.bool_]
    own_bytes: bytes
    before: bytes
    """For each field, the number of slots before it: of fields with a value for each row, and of shared fields."""
    own_slots: int
    shared_slots: int


class KeyEncoder:
    """The compiled `saec.data.features.FeatureEncoder`, with the same keys.

    It returns None for input that it does not support; numpy then makes the keys or says what is wrong.
    """

    def __init__(self, library: Library, schema: Schema) -> None:
        self._library, self._schema = library, schema
        names = [entry.name for entry in schema.fields]
        edges: list[float] = []
        fields = []
        for entry in schema.fields:
            key, null, empty = _keys_of(schema.hash_key, entry.name)
            singles = entry.kind == "numeric" and entry.type == "float"
            fields.append(
                FIELD.pack(
                    _SINGLES if singles else _KINDS[entry.kind],
                    entry.slots,
                    *key,
                    null,
                    empty,
                    entry.cap is not None,
                    entry.cap or 0,
                    len(entry.boundaries),
                    len(edges),
                )
            )
            edges += map(single, entry.boundaries) if singles else entry.boundaries
        crosses = [
            CROSS.pack(
                len(cross),
                *(names.index(part) for part in cross),
                *[0] * (MOST_PARTS - len(cross)),
                *field_key(schema.hash_key, "&".join(cross)),
            )
            for cross in schema.crosses
        ]
        self._rules = (
            b"".join(fields),
            len(fields),
            b"".join(crosses),
            len(crosses),
            struct.pack(f"<{len(edges)}d", *edges),
        )
        self._sources = [
            (entry, entry.source_column, field_key(schema.hash_key, entry.name)) for entry in schema.fields
        ]
        self._head = struct.Struct(f"<{8 * len(fields)}q")
        self._sharing = _sharings(schema)

    def encode_fields(self, columns: Mapping[str, Column], times_B: NDArray[np.int64], rows: int) -> list[Keys] | None:
        """Keys of each field, [rows, its slots] or [1, its slots], as `FeatureEncoder.encode_fields` gives them."""
        request = self.request(columns, times_B, rows)
        if request is None:
            return None
        buffer, sharing = request
        keys = np.empty(rows * sharing.own_slots + sharing.shared_slots, np.uint64)
        if self.keys(buffer, sharing, rows, keys.ctypes.data, len(keys)):
            return None
        slots_F = np.bincount(self._schema.slot_fields)
        counts_F = np.where(sharing.own_F, rows, 1)
        parts = np.split(keys, np.cumsum(counts_F * slots_F)[:-1])
        return [part.reshape(count, slots) for part, count, slots in zip(parts, counts_F, slots_F, strict=True)]

    def rows(self, columns: Mapping[str, Column], times_B: NDArray[np.int64]) -> int:
        """Number of rows of some columns."""
        _, name, _ = self._sources[0]
        if name is None:
            return len(times_B)
        column = columns[name]
        places = column.values if column.index is None else column.index
        return len(places if column.lengths_B is None else column.lengths_B)

    def keys(self, buffer: bytes, sharing: Sharing, rows: int, place: int, room: int) -> int:
        """Write the `room` keys of a request to memory; returns 0, or 1 if the request is refused."""
        refused: int = self._library.functions.saec_keys(
            *self._rules, sharing.own_bytes, sharing.before, buffer, len(buffer), rows, place, room
        )
        return refused

    def request(
        self, columns: Mapping[str, Column], times_B: NDArray[np.int64], rows: int
    ) -> tuple[bytes, Sharing] | None:
        """A request of B rows as one buffer, and which of its fields have B rows."""
        head: list[int] = []
        parts: list[bytes] = []
        seen: dict[str | None, tuple[int, ...]] = {}
        own, at = [], self._head.size
        for entry, name, key in self._sources:
            laid = seen.get(name)
            if laid is None:
                column = Column(times_B) if name is None else columns[name]
                if entry.type == "string" and name is not None:
                    laid, data, alike = _texts(column, key, at)
                else:
                    laid, data, alike = (*_numbers(column, at), True)
                if alike:
                    seen[name] = laid
                parts += data
                at += sum(map(len, data))
            count = laid[-1]
            if count not in (1, rows):
                return None
            own.append(count == rows)
            head += laid
        return b"".join((self._head.pack(*head), *parts)), self._sharing(bytes(own))


def _keys_of(secret: str, name: str) -> tuple[SipKey, int, int]:
    """Hash key of a field, and the keys of its reserved features."""
    return (field_key(secret, name), reserved_feature(secret, name, "null"), reserved_feature(secret, name, "empty"))


def _numbers(column: Column, at: int) -> tuple[tuple[int, ...], list[bytes]]:
    """Describe a column of numbers for the kernel; also return the bytes to put at a place of the buffer."""
    values_U = column.values if isinstance(column.values, np.ndarray) else np.asarray(column.values, np.int64)
    kind = _TYPES.get(values_U.dtype)
    if kind is None:
        kind = 2 if values_U.dtype.kind == "f" else 0
        values_U = values_U.astype(np.float64 if kind else np.int64)
    data = [values_U.tobytes()]
    return _placed(column, kind, at, len(values_U), -1, data, at + len(data[0])), data


def _texts(column: Column, key: SipKey, at: int) -> tuple[tuple[int, ...], list[bytes], bool]:
    """Describe a column of texts; also return whether it is the same for every field, which long texts are not."""
    texts = list(column.values)
    alike = max(map(len, texts), default=0) <= LONG_BYTES
    if not alike:
        key_2 = np.array(key, np.uint64)
        texts = [shortened(text, key_2) if len(text) > LONG_BYTES else text for text in texts]
    joined = b"".join(texts)
    ends = struct.pack(f"<{len(texts)}q", *accumulate(map(len, texts)))
    data = [ends, joined, bytes(-len(joined) % 8)]
    begin = at + len(ends)
    return _placed(column, _TEXTS, begin, len(texts), at, data, begin + len(joined) + len(data[2])), data, alike


def _placed(
    column: Column, kind: int, values: int, count: int, ends: int, data: list[bytes], at: int
) -> tuple[int, ...]:
    """The kernel's `Column`; index and lengths are appended to the data."""
    index = lengths = -1
    rows = places = count
    if column.index is not None:
        index, rows = at, len(column.index)
        places = rows
        data.append(column.index.astype(np.int64, copy=False).tobytes())
        at += 8 * rows
    if column.lengths_B is not None:
        lengths, rows = at, len(column.lengths_B)
        data.append(column.lengths_B.astype(np.int64, copy=False).tobytes())
    return kind, values, count, ends, index, places, lengths, rows


def _sharings(schema: Schema) -> Callable[[bytes], Sharing]:
    """Return a function that gives the `Sharing`; its argument is a mask's bytes, of the fields with a value a row."""
    names = [entry.name for entry in schema.fields]
    crosses = [[names.index(part) for part in cross] for cross in schema.crosses]
    slots_F = np.bincount(schema.slot_fields)

    def sharing(mask: bytes) -> Sharing:
        own = [bool(byte) for byte in mask]
        own_F = np.array(own + [any(own[part] for part in cross) for cross in crosses])
        before_F2 = np.stack([np.cumsum(slots) - slots for slots in (slots_F * own_F, slots_F * ~own_F)], axis=1)
        return Sharing(
            own_F,
            own_F.tobytes(),
            before_F2.astype(np.int64).tobytes(),
            int(slots_F[own_F].sum()),
            int(slots_F[~own_F].sum()),
        )

    return lru_cache(maxsize=_KEPT)(sharing)
