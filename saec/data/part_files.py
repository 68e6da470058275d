"""Reads one delivered Parquet file from memory: checks its frame and footer, then decodes its columns.

Decisions: the digested bytes are the decoded bytes. Page checksums are verified if the producer wrote them (without
them damage can go unnoticed: pyarrow reads most single flipped bits as other data). Strings stay dictionary-encoded, so
that a small file that repeats one huge string stays small in memory, and because hashing needs the distinct values
later. pyarrow can do this only for some encodings, and for nested strings only one row group at a time; other columns
are read a few rows at a time and encoded here. If pyarrow cannot read a file at all, that is reported as a limit of the
reader, not as damage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as t

from saec.data.columns import is_string, list_lengths
from saec.data.footer import read_footer
from saec.errors import InputError

_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"
_DICTIONARY_ENCODINGS = frozenset({0, 2, 3, 4, 8})
"""Encodings of parquet.thrift that pyarrow reads into dictionaries: plain, dictionaries, and levels."""
_ROWS_AT_A_TIME = 1024  # a few, as a small page of another encoding can hold long strings many times over
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
            InputError: reason corrupt, unsupported (sound, but of a form that pyarrow cannot read), or schema when a
                column is there twice.
        """
        names = [name for name in wanted if name in self.names]
        for name in names:
            if self.names.count(name) > 1:
                raise InputError(
                    f"{self._where} has column {name!r} more than once; have it delivered again with one",
                    reason="schema",
                )
        try:
            columns = {
                name: column
                for part in self._decoded(names)
                for name, column in zip(part.column_names, part.columns, strict=True)
            }
            table = pa.table(columns).select(names) if names else self._opened([]).read(columns=[])
            table.validate()
            _check_codes(table)
        except MemoryError:
            raise  # a machine too small is no fault of the file
        except _UNREADABLE as error:
            raise self._unsupported(error) if not_implemented(error) else self._corrupt(error) from None
        if table.num_rows != self.file.rows:
            raise self._corrupt(f"its footer says {self.file.rows:,} rows, its pages hold {table.num_rows:,}")
        return table

    def _decoded(self, names: list[str]) -> Iterator[pa.Table]:
        """The columns: as many as can be at once, the others one by one."""
        encodings: dict[str, set[int]] = {}
        for chunk in self.footer.chunks:
            if chunk.is_string:
                encodings.setdefault(chunk.path, set()).update(chunk.encodings)
        whole = [path for path, used in encodings.items() if used <= _DICTIONARY_ENCODINGS]
        alone = {
            self._column(path)
            for path in encodings
            if path not in whole or (path not in self.names and self.footer.groups > 1)
        }
        at_once = [name for name in names if name not in alone]
        try:
            yield self._opened(whole).read(columns=at_once).select(at_once)
        except _UNREADABLE as error:
            if not not_implemented(error):
                raise
            alone |= {*at_once}  # a limit that we do not know of: with fewer demands there may be none
        for name in (name for name in names if name in alone):
            yield self._decoded_alone(name, whole)

    def _decoded_alone(self, name: str, whole: list[str]) -> pa.Table:
        """One column, its strings as dictionaries: by row group where pyarrow can do that, else by a few rows."""
        if not any(path not in whole for path in self._paths(name)):
            try:
                file = self._opened(whole)
                parts = [
                    file.read_row_group(group, columns=[name]).select([name]) for group in range(self.footer.groups)
                ]
                return pa.concat_tables(parts) if parts else file.schema_arrow.empty_table().select([name])
            except _UNREADABLE as error:
                if not not_implemented(error):
                    raise
        file = self._opened([])
        batches = [
            pa.table({name: _encoded(batch.column(name))})
            for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=[name])
        ]
        empty = pa.table({name: _encoded(file.schema_arrow.empty_table()[name].combine_chunks())})
        return pa.concat_tables([empty, *batches]).unify_dictionaries().combine_chunks()

    def _opened(self, strings: list[str]) -> pq.ParquetFile:
        """The file, to be read with these columns of strings as dictionaries."""
        return pq.ParquetFile(pa.BufferReader(self._data), page_checksum_verification=True, read_dictionary=strings)

    def _column(self, path: str) -> str:
        """The column that a leaf column belongs to."""
        return max((name for name in self.names if f"{path}.".startswith(f"{name}.")), key=len, default=path)

    def _paths(self, name: str) -> list[str]:
        """The columns of strings that a column is made of."""
        return [
            chunk.path for chunk in self.footer.chunks if chunk.is_string and f"{chunk.path}.".startswith(f"{name}.")
        ]

    def decoded_bytes(self, wanted: Sequence[str]) -> int:
        """Memory that the wanted columns will take, by the footer: pages unpacked, and 8 bytes a value."""
        prefixes = tuple(f"{name}." for name in wanted)
        return sum(
            chunk.uncompressed_bytes + 8 * chunk.values
            for chunk in self.footer.chunks
            if f"{chunk.path}.".startswith(prefixes)
        )

    def _corrupt(self, why: object) -> InputError:
        """A damaged file; what pyarrow says of it can be long, so its words are cut short."""
        return InputError(f"{self._where} is corrupt: {str(why)[:200]}; have it delivered again", reason="corrupt")

    def _unsupported(self, why: object) -> InputError:
        """A sound file of a form that pyarrow cannot read."""
        return InputError(
            f"{self._where} cannot be read, though it need not be damaged: pyarrow says "
            f"{str(why).removeprefix('Not yet implemented: ')[:200]!r}. Have it written with plain or "
            "dictionary encoding and zstd, snappy or gzip",
            reason="unsupported",
        )


def not_implemented(error: Exception) -> bool:
    """Whether pyarrow says that it cannot do something, which from a file comes as an OSError with these words."""
    return isinstance(error, pa.ArrowNotImplementedError) or "not yet implemented" in str(error).lower()


def _encoded(array: pa.Array) -> pa.Array:
    """The same values with strings as dictionaries, also in lists."""
    if t.is_list(array.type) or t.is_large_list(array.type):
        offsets = np.concatenate([[0], np.cumsum(np.maximum(list_lengths(array), 0))])
        return pa.LargeListArray.from_arrays(pa.array(offsets), _encoded(pc.list_flatten(array)), mask=array.is_null())
    return array.dictionary_encode() if is_string(array.type) else array


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
    if head == tail == _ENCRYPTED:
        raise InputError(
            f"{where} is encrypted Parquet, which is not read; have it delivered unencrypted", reason="unsupported"
        )
    if head != _MAGIC:
        raise InputError(
            f"{where} is corrupt: it starts with {head!r}, wanted {_MAGIC!r}; have it delivered again as Parquet",
            reason="corrupt",
        )
    if tail != _MAGIC:
        raise truncated(where, f"it ends with {tail!r}, wanted {_MAGIC!r}")
