"""Reads files of public click logs, delimited text or Parquet, piece by piece.

Decisions: pieces have a fixed number of bytes or rows, so that memory does not grow with the file. Text is read by one
thread, because only then does pyarrow report the line of an error. Every error names file and line and what was wanted.
Text may be gzipped (by its ending); archives of several files are refused with the advice to unpack them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from saec.errors import InputError

_BLOCK_BYTES = 16 << 20
_BATCH_ROWS = 100_000
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z")


@dataclass(frozen=True)
class SourceFile:
    r"""One file of rows with known columns.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "clicks.csv"
    ...     _ = path.write_text("click,site\n1,a\n0,\n")
    ...     source = SourceFile(path, pa.schema({"click": pa.int8(), "site": pa.string()}))
    ...     [rows.to_pylist() for rows in source.pieces()]
    [[{'click': 1, 'site': 'a'}, {'click': 0, 'site': None}]]
    """

    path: Path
    schema: pa.Schema
    """Columns wanted and their types; further ones in the file are passed over."""
    delimiter: str = ","
    header: bool = True
    """Whether text opens with a line of names; if not, it holds the columns of `schema` in that order."""
    _bad_lines: list[pa_csv.InvalidRow] = field(default_factory=list, compare=False, repr=False)

    def pieces(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The rows, or some columns of them, in file order, with the types of `schema`; empty text is null.

        Raises:
            InputError: the file is absent, an archive, lacks a column, or has a line or value that cannot be read.
        """
        names = columns or self.schema.names
        self._check_path()
        try:
            yield from self._parquet_pieces(names) if self._is_parquet() else self._text_pieces(names)
        except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
            raise InputError(self._describe(error), reason="malformed") from error

    def place(self, row: int) -> str:
        """Where row `row`, counted from 0, stands: `line 2 of train.csv`; blank lines are not counted."""
        if self._is_parquet():
            return f"row {row + 1} of {self.path}"
        return f"line {row + 1 + self.header} of {self.path}"

    def _check_path(self) -> None:
        if not self.path.is_file():
            raise InputError(f"no file {self.path} to import from", reason="absent")
        if self.path.name.endswith(_ARCHIVES):
            raise InputError(f"{self.path} is an archive; unpack it and import the file in it", reason="archive")
        if self.path.stat().st_size == 0:
            raise InputError(f"{self.path} is an empty file", reason="empty")

    def _is_parquet(self) -> bool:
        with self.path.open("rb") as file:
            return file.read(4) == b"PAR1"

    def _parquet_pieces(self, names: list[str]) -> Iterator[pa.Table]:
        with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
            self._check_columns(names, file.schema_arrow.names)
            schema = pa.schema([self.schema.field(name) for name in names])
            for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                yield pa.table(batch).select(names).cast(schema)

    def _text_pieces(self, names: list[str]) -> Iterator[pa.Table]:
        # Opened without conversions first: pyarrow would say of a missing column no more than its name.
        if self.header:
            with self._open_text(None) as reader:
                self._check_columns(names, reader.schema.names)
        with self._open_text(names) as reader:
            for batch in reader:
                yield pa.table(batch)

    def _open_text(self, names: list[str] | None) -> pa_csv.CSVStreamingReader:
        return pa_csv.open_csv(
            self.path,
            pa_csv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=None if self.header else self.schema.names
            ),
            pa_csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char='"' if self.header else False,
                invalid_row_handler=self._refuse_line,
            ),
            pa_csv.ConvertOptions(
                include_columns=names, column_types=self.schema, null_values=[""], strings_can_be_null=True
            ),
        )

    def _refuse_line(self, line: pa_csv.InvalidRow) -> str:
        self._bad_lines.append(line)
        return "error"

    def _check_columns(self, wanted: list[str], found: list[str]) -> None:
        missing = [name for name in wanted if name not in found]
        if missing:
            raise InputError(
                f"{self.path} has no column {', '.join(missing)}; it has {', '.join(found)}; "
                "is this the contest's training file, with its labels?",
                reason="schema",
            )

    def _describe(self, error: Exception) -> str:
        if self._bad_lines:
            line = self._bad_lines[0]
            return (
                f"line {line.number} of {self.path} has {line.actual_columns} values, wanted "
                f"{line.expected_columns}: {line.text[:120]!r}"
            )
        return f"{self.path} cannot be read: {error}"
