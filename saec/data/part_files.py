"""One delivered Parquet file in memory: framed, digested, its footer read, then its columns decoded.

Decisions: the bytes that are digested are the bytes that are decoded. Page checksums are verified where the producer
wrote them (a file without them can be damaged in silence: pyarrow reads most single flipped bits back as other data).
Strings stay dictionary-encoded, so that a small file repeating one huge string stays small in memory, and because
hashing later wants the distinct values anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as t

from saec.data.footer import read_footer
from saec.errors import InputError

_MAGIC = b"PAR1"
_UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, KeyError)  # what pyarrow raises on bad bytes


@dataclass(frozen=True)
class PartFile:
    """One file of a partition: its name, size in bytes, sha256 (hex) and row count."""

    name: str
    bytes: int
    sha256: str
    rows: int


class DeliveredFile:
    """A part file whose footer has been read and whose pages have not."""

    def __init__(self, name: str, data: pa.Buffer, where: str) -> None:
        """Check the frame and read the footer.

        Args:
            name: File name within the hour.
            data: All its bytes.
            where: How messages name the file ("hour ...: file ...").

        Raises:
            InputError: reason truncated or corrupt.
        """
        self._data, self._where = data, where
        _check_frame(data, where)
        try:
            self.footer = read_footer(memoryview(data).cast("B"))
            fields = list(pq.read_schema(pa.BufferReader(data)))
            self.names = [field.name for field in fields]
            _ = [getattr(field.type, "tz", None) for field in fields]  # a damaged zone shows when it is decoded
        except MemoryError:
            raise  # a machine too small is no fault of the file
        except _UNREADABLE as error:
            raise self._corrupt(error) from None
        self.file = PartFile(name, data.size, hashlib.sha256(data).hexdigest(), self.footer.rows)

    @property
    def columns(self) -> int:
        """Columns of the file, wanted or not."""
        return self.footer.columns

    def read(self, wanted: Sequence[str]) -> pa.Table:
        """Decode those of the wanted columns that are there.

        Returns:
            Table with columns in the wanted order; strings as dictionaries, no metadata.

        Raises:
            InputError: reason corrupt, or schema when a column is there twice.
        """
        names = [name for name in wanted if name in self.names]
        for name in names:
            if self.names.count(name) > 1:
                raise InputError(f"{self._where} has column {name!r} more than once; "
                                 "have it delivered again with one", reason="schema")
        strings = list(dict.fromkeys(chunk.path for chunk in self.footer.chunks if chunk.is_string))
        try:
            file = pq.ParquetFile(pa.BufferReader(self._data), page_checksum_verification=True, read_dictionary=strings)
            table = file.read(columns=names).select(names).replace_schema_metadata()
            table.validate()
            _check_codes(table)
        except MemoryError:
            raise  # a machine too small is no fault of the file
        except _UNREADABLE as error:
            raise self._corrupt(error) from None
        if table.num_rows != self.file.rows:
            raise self._corrupt(f"its footer says {self.file.rows:,} rows, its pages hold {table.num_rows:,}")
        return table

    def decoded_bytes(self, wanted: Sequence[str]) -> int:
        """Memory that the wanted columns will take, by the footer: pages unpacked, and 8 bytes a value."""
        prefixes = tuple(f"{name}." for name in wanted)
        return sum(chunk.uncompressed_bytes + 8 * chunk.values for chunk in self.footer.chunks
                   if f"{chunk.path}.".startswith(prefixes))

    def _corrupt(self, why: object) -> InputError:
        """A damaged file; what pyarrow says of it can be long, so its words are cut short."""
        return InputError(f"{self._where} is corrupt: {str(why)[:200]}; have it delivered again", reason="corrupt")


def _check_codes(table: pa.Table) -> None:
    """Refuse codes beyond their dictionary: pyarrow does not look, and would read past its end."""
    for chunk in (chunk for column in table.columns for chunk in column.chunks):
        values = pc.list_flatten(chunk) if t.is_list(chunk.type) or t.is_large_list(chunk.type) else chunk
        if t.is_dictionary(values.type):
            bounds = pc.min_max(values.indices).as_py()
            if not 0 <= (bounds["min"] or 0) <= (bounds["max"] or 0) <= max(len(values.dictionary) - 1, 0):
                raise ValueError(f"code {bounds['max']} in a dictionary of {len(values.dictionary)} values")


def truncated(where: str, why: str) -> InputError:
    """A file that was cut short."""
    return InputError(f"{where} is truncated: {why}; have it delivered again", reason="truncated")


def _check_frame(data: pa.Buffer, where: str) -> None:
    """Tell a file cut short from a damaged one, by the four bytes at either end."""
    if data.size < 3 * len(_MAGIC):
        raise truncated(where, f"{data.size} bytes are too few for a Parquet file")
    head, tail = data[:4].to_pybytes(), data[-4:].to_pybytes()
    if head != _MAGIC:
        raise InputError(f"{where} is corrupt: it starts with {head!r}, wanted {_MAGIC!r}; "
                         "have it delivered again as Parquet", reason="corrupt")
    if tail != _MAGIC:
        raise truncated(where, f"it ends with {tail!r}, wanted {_MAGIC!r}")
