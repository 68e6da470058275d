"""Reads the column sizes from a Parquet footer without pyarrow.

pyarrow 26 crashes the whole process (an uncaught C++ exception) when it reads column chunks from a footer with damaged
size statistics. Limits must be checked before anything else touches the file, so the few numbers that this needs are
read here. The footer is one Thrift struct in the compact protocol; field numbers are those of parquet.thrift.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_VARINTS = (4, 5, 6)
_MAX_DEPTH = 32  # a sound footer is nested about eight deep
_MAX_VARINT_BITS = 70

_ROWS, _ROW_GROUPS = 3, 4  # of FileMetaData
_COLUMNS = 1  # of RowGroup
_META_DATA = 3  # of ColumnChunk
_TYPE, _ENCODINGS, _PATH, _VALUES, _UNCOMPRESSED = 1, 2, 3, 5, 6  # of ColumnMetaData
_BYTE_ARRAY = 6  # of Type


@dataclass(frozen=True)
class Chunk:
    """One column of one row group."""

    path: str
    """Dotted path of the leaf column."""
    values: int
    """Values, nulls included."""
    uncompressed_bytes: int
    """Size of its pages, unpacked."""
    is_string: bool
    """Whether it holds byte strings."""
    encodings: frozenset[int] = frozenset()
    """Encodings of its pages, by their numbers in parquet.thrift."""


@dataclass(frozen=True)
class Footer:
    """Rows of a file and the column chunks of all its row groups."""

    rows: int
    chunks: tuple[Chunk, ...]
    columns: int
    """Leaf columns of a row group."""
    groups: int = 1
    """Row groups."""


def read_footer(data: memoryview) -> Footer:
    """Read the footer of a whole Parquet file.

    Args:
        data: All bytes of the file, ending in the footer, its length and the magic.

    Raises:
        ValueError: when there is no such footer.
    """
    length = int.from_bytes(data[-8:-4], "little")
    if length > len(data) - 12:
        raise ValueError(f"its footer would have {length:,} bytes, the file has {len(data):,}")
    try:
        fields = _Compact(data[-8 - length : -8]).read_struct(0)
        groups = [[_chunk(column[_META_DATA]) for column in group[_COLUMNS]] for group in fields.get(_ROW_GROUPS, [])]
        rows = int(fields[_ROWS])
    except (IndexError, KeyError, TypeError, AttributeError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"its footer cannot be parsed ({type(error).__name__})") from None
    if rows < 0 or any(min(chunk.values, chunk.uncompressed_bytes) < 0 for group in groups for chunk in group):
        raise ValueError("its footer gives a negative size")
    return Footer(
        rows, tuple(chunk for group in groups for chunk in group), max(map(len, groups), default=0), len(groups)
    )


def _chunk(fields: dict[int, Any]) -> Chunk:
    """A column chunk from its ColumnMetaData."""
    path = ".".join(part.decode() for part in fields[_PATH])
    return Chunk(
        path,
        int(fields[_VALUES]),
        int(fields[_UNCOMPRESSED]),
        fields[_TYPE] == _BYTE_ARRAY,
        frozenset(map(int, fields[_ENCODINGS])),
    )


class _Compact:
    """Reader of the Thrift compact protocol; structs become dictionaries by field number."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0
        self._readers: dict[int, Callable[[], Any]] = {
            _BYTE: self._byte,
            **dict.fromkeys(_VARINTS, self._zigzag),
            _BINARY: lambda: self._take(self._varint()),
            _DOUBLE: lambda: struct.unpack("<d", self._take(8))[0],
        }

    def read_struct(self, depth: int) -> dict[int, Any]:
        """One struct, up to its stop byte."""
        if depth > _MAX_DEPTH:
            raise ValueError("its footer is nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self._zigzag()
            fields[number] = self._value(header & 0x0F, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        """One value of a field."""
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in self._readers:
            return self._readers[kind]()
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind == _STRUCT:
            return self.read_struct(depth + 1)
        raise ValueError(f"its footer has a value of unknown kind {kind}")

    def _list(self, depth: int) -> list[Any]:
        """One list; each element takes a byte at least, so its length is bounded by the footer's."""
        header = self._byte()
        count = header >> 4 if header >> 4 != 0x0F else self._varint()
        if count > len(self._data) - self._at:
            raise ValueError("its footer has a list longer than itself")
        kind = header & 0x0F
        if kind in (_TRUE, _FALSE):
            return [self._byte() == _TRUE for _ in range(count)]
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _zigzag(self) -> int:
        """A signed number; small ones of either sign are short."""
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _varint(self) -> int:
        """An unsigned number, seven bits a byte."""
        number = 0
        for shift in range(0, _MAX_VARINT_BITS, 7):
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise ValueError("its footer has a number of more than 64 bits")

    def _byte(self) -> int:
        """The next byte."""
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, size: int) -> bytes:
        """The next so many bytes."""
        if size > len(self._data) - self._at:
            raise ValueError("its footer has a string longer than itself")
        self._at += size
        return bytes(self._data[self._at - size : self._at])
