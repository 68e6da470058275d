"""Finds the files of an unknown click log, detects their formats and reads them piece by piece.

Decisions: the first bytes of a file, not its name, decide its format. Text is read as text: the whole sample decides
the type of a column (`saec.discover.types`), not the first block. Memory holds one piece of a file. Names that start
with `_` or `.` are ignored.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
import pyarrow.types as t
from pyarrow import fs

from saec.data.lines import (
    BrokenLine,
    Fault,
    LeftOut,
    QuotesCounted,
    SoundLines,
    csv_fault,
    json_fault,
    judged,
    whole_lines,
)
from saec.data.partitions import open_source
from saec.errors import ConfigError, InputError

Kind = Literal["parquet", "csv", "jsonl"]
_CODECS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_ARCHIVES = ((b"PK\x03\x04", "zip"), (b"7z\xbc\xaf", "7z"))
_DELIMITERS = "\t,;|"
_HEAD = 1 << 16
_FOOTERS, _SOME = 1_000, 20
BLOCK_BYTES = 1 << 20
BATCH_ROWS = 65_536
CRITEO = ("label", *(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27)))
"""What the columns of Criteo's files, which name none, are called everywhere."""


@dataclass(frozen=True)
class LogFile:
    """One file of a log."""

    path: str
    """In its file system."""
    below: str
    """Its path below the source."""
    bytes: int


@dataclass(frozen=True)
class Log:
    """The files of a click log, all of one kind."""

    source: str
    """As it was named."""
    filesystem: fs.FileSystem
    files: tuple[LogFile, ...]
    """In the order of their paths."""
    kind: Kind
    codec: str | None
    """Compression around text."""
    delimiter: str = ","
    header: tuple[str, ...] = ()
    """Names of the columns of delimited text."""
    named: bool = True
    """Whether text opens with a line of names."""
    others: int = 0
    """Files passed over, which are of another kind."""
    left_out: LeftOut | None = field(default=None, compare=False, repr=False)
    """Counts the broken lines of text that are left out; None where they are refused."""

    def __str__(self) -> str:
        """In words: `12 files of CSV (gzip, 3.1 MB)`."""
        count = "1 file" if len(self.files) == 1 else f"{len(self.files):,} files"
        kind = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON lines"}[self.kind]
        if self.kind == "csv" and self.delimiter != ",":
            kind = "TSV" if self.delimiter == "\t" else f"text delimited by {self.delimiter!r}"
        return f"{count} of {kind} ({f'{self.codec}, ' if self.codec else ''}{self.bytes / 1e6:,.1f} MB)"

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    def pieces(self, file: LogFile, types: Mapping[str, pa.DataType] | None = None) -> Iterator[pa.Table]:
        """The rows of a file in its order; text columns of CSV as they stand, with nothing for an empty value.

        Args:
            file: one of `files`.
            types: of JSON, the types wanted, where lines agree with them; inferred block by block when left out.

        Raises:
            InputError: reason malformed, naming the file, and the line where it is known.
        """
        try:
            yield from {"parquet": self._parquet, "csv": self._csv, "jsonl": self._json}[self.kind](file, types)
        except OSError as error:
            if self.codec and "truncated" in str(error).lower():
                raise InputError(f"{file.path} ends early: {error}; copy it again", reason="malformed") from error
            raise
        except (pa.ArrowException, ValueError, EOFError) as error:
            raise InputError(self._describe(file, error), reason="malformed") from error

    def names(self, file: LogFile) -> frozenset[str]:
        """Columns that a Parquet file itself has; none of other files."""
        if self.kind != "parquet":
            return frozenset()
        with self.filesystem.open_input_file(file.path) as stream:
            return frozenset(pq.read_schema(stream).names)

    def count_rows(self) -> int:
        """Rows of Parquet files, by their footers; of many files, as the first and the last thousand say.

        Of text, as a few files say.
        """
        if self.kind != "parquet":
            some = self.files[:: max(1, len(self.files) // _SOME)]
            rows = sum(piece.num_rows for file in some for piece in self.pieces(file))
            return int(rows * self.bytes / sum(file.bytes for file in some))
        footers = list(self._footers())
        counted = sum(footer.num_rows for _, footer in footers)
        return int(counted * self.bytes / max(sum(file.bytes for file, _ in footers), 1))

    def with_nulls(self) -> set[str]:
        """Columns of Parquet files that hold a null somewhere, by their footers."""
        found: set[str] = set()
        for _, footer in self._footers():
            for group in range(footer.num_row_groups):
                for place in range(footer.num_columns):
                    column = footer.row_group(group).column(place)
                    if column.is_stats_set and column.statistics.null_count:
                        found.add(column.path_in_schema.partition(".")[0])
        return found

    def _footers(self) -> Iterator[tuple[LogFile, pq.FileMetaData]]:
        if self.kind != "parquet":
            return
        for file in self.files if len(self.files) <= 2 * _FOOTERS else self.files[:_FOOTERS] + self.files[-_FOOTERS:]:
            with self.filesystem.open_input_file(file.path) as stream:
                yield file, pq.read_metadata(stream)

    def _parquet(self, file: LogFile, _types: Mapping[str, pa.DataType] | None) -> Iterator[pa.Table]:
        with self.filesystem.open_input_file(file.path) as stream, pq.ParquetFile(stream, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, use_threads=False):
                yield _flat(pa.table(batch))

    def _csv(self, file: LogFile, _types: Mapping[str, pa.DataType] | None) -> Iterator[pa.Table]:
        with self._text(file) as stream:
            text = QuotesCounted(self._sound(file, stream).read)
            reader = pa_csv.open_csv(
                pa.PythonFile(text, mode="r"),
                pa_csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=None if self.named else list(self.header)
                ),
                pa_csv.ParseOptions(
                    delimiter=self.delimiter,
                    quote_char='"' if self.named else False,
                ),
                pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(self.header, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            for batch in reader:
                yield pa.table(batch)
            if self.named and text.quotes % 2 and self._first_broken(file):
                raise ValueError("a quote that is not closed has swallowed the lines after it")

    def _json(self, file: LogFile, types: Mapping[str, pa.DataType] | None) -> Iterator[pa.Table]:
        options = pa_json.ParseOptions(
            explicit_schema=None if types is None else pa.schema(list(types.items())),
            unexpected_field_behavior="infer" if types is None else "ignore",
        )
        nested = types is not None and any("." in name for name in types)
        with self._text(file) as stream:
            for block in whole_lines(self._sound(file, stream).read, BLOCK_BYTES):
                if not block.strip():
                    continue
                try:
                    if nested:
                        raise pa.ArrowInvalid("records in records are read one by one")
                    yield _flat(
                        pa_json.read_json(
                            pa.BufferReader(block),
                            pa_json.ReadOptions(use_threads=False, block_size=max(len(block), 1)),
                            options,
                        )
                    )
                except pa.ArrowException:
                    yield read_json_rows(block)

    def _text(self, file: LogFile) -> pa.NativeFile:
        stream = self.filesystem.open_input_stream(file.path, compression=None)
        return pa.CompressedInputStream(stream, self.codec) if self.codec else stream

    def _sound(self, file: LogFile, stream: pa.NativeFile) -> pa.NativeFile | SoundLines:
        """The stream without its broken lines, if these are to be left out."""
        if self.left_out is None:
            return stream
        left_out = self.left_out
        return SoundLines(stream.read, BLOCK_BYTES, self._fault(), lambda line: left_out.add(line, file.path))

    def _fault(self) -> Fault:
        """Judges this log's lines."""
        if self.kind == "jsonl":
            return json_fault
        return csv_fault(self.delimiter, len(self.header), quoted=self.named)

    def _first_broken(self, file: LogFile) -> BrokenLine | None:
        """The first broken line of a file of text."""
        if self.kind == "parquet":
            return None
        with contextlib.suppress(pa.ArrowException, OSError), self._text(file) as stream:
            return next((line for _, lines in judged(stream.read, BLOCK_BYTES, self._fault()) for line in lines), None)
        return None

    def _describe(self, file: LogFile, error: Exception) -> str:
        """What cannot be read, and what to do: by the line where one is broken."""
        if line := self._first_broken(file):
            return (
                f"{file.path}: {line}; fix or remove that line, or pass --skip-broken to leave such lines out, counted"
            )
        return f"{file.path} cannot be read as {self.kind}: {str(error)[:200]}; fix it, or remove it from the folder"


def find_log(source: str) -> Log:
    """The files of a log at a file, folder or URL.

    Raises:
        InputError: reason absent or empty, when there is nothing to read; reason archive, or malformed.
        ConfigError: when the URL cannot be opened.
    """
    filesystem, root = open_source(source)
    info = filesystem.get_file_info(root)
    if info.type == fs.FileType.NotFound:
        raise InputError(f"there is nothing at {_shown(source)}; name a file, a folder or a URL", reason="absent")
    if info.type == fs.FileType.File:
        infos = [info]
    else:
        found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
        live = _of_delta(source, filesystem, root)
        infos = [info for info in found if info.type == fs.FileType.File and not _hidden(info.path, root)]
        infos = sorted((info for info in infos if live is None or info.base_name in live), key=lambda info: info.path)
    infos = [info for info in infos if info.size]
    if not infos:
        raise InputError(f"{_shown(source)} holds no file of rows; name the file or folder of the log", reason="empty")
    files = [
        LogFile(info.path, info.path.removeprefix(root).lstrip("/") or info.base_name, info.size) for info in infos
    ]
    return _of_one_kind(source, filesystem, files)


def _of_delta(source: str, filesystem: fs.FileSystem, root: str) -> set[str] | None:
    """Names of the files of a Delta table's newest state; None where there is no such table."""
    if filesystem.get_file_info(f"{root}/_delta_log").type != fs.FileType.Directory:
        return None
    try:
        from deltalake import DeltaTable  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            f"{_shown(source)} is a Delta table; install the extra that reads it: pip install 'saec[delta]'"
        ) from None
    return {unquote(uri).rpartition("/")[2] for uri in DeltaTable(source).file_uris()}


def _of_one_kind(source: str, filesystem: fs.FileSystem, files: Sequence[LogFile]) -> Log:
    """The files of the ending that most bytes have; of each ending one file is looked into."""
    sizes: dict[str, int] = {}
    for file in files:
        sizes[_ending(file.below)] = sizes.get(_ending(file.below), 0) + file.bytes
    ending = max(sizes, key=lambda name: sizes[name])
    chosen = tuple(file for file in files if _ending(file.below) == ending)
    main = _kind(filesystem, chosen[0])
    log = Log(source, filesystem, chosen, *main, others=len(files) - len(chosen))
    if main[0] != "csv":
        return log
    delimiter, header, named = _dialect(_first_bytes(filesystem, chosen[0], main[1]), chosen[0])
    return Log(source, filesystem, chosen, *main, delimiter, header, named, len(files) - len(chosen))


def _kind(filesystem: fs.FileSystem, file: LogFile) -> tuple[Kind, str | None]:
    """What a file is, by its first bytes."""
    with filesystem.open_input_stream(file.path, compression=None) as stream:
        start = stream.read(8)
    if start[:4] == b"PAR1":
        return "parquet", None
    for magic, name in _ARCHIVES:
        if start.startswith(magic):
            raise InputError(f"{file.path} is a {name} archive; unpack it and name the file in it", reason="archive")
    codec = next((name for magic, name in _CODECS if start.startswith(magic)), None)
    text = _first_bytes(filesystem, file, codec).lstrip()
    if text[:1] == b"[":
        raise InputError(
            f"{file.path} is one JSON array; write one object a line (JSON lines) instead", reason="malformed"
        )
    return ("jsonl" if text[:1] == b"{" else "csv"), codec


def _first_bytes(filesystem: fs.FileSystem, file: LogFile, codec: str | None) -> bytes:
    """The beginning of the text of a file."""
    stream = filesystem.open_input_stream(file.path, compression=None)
    try:
        with pa.CompressedInputStream(stream, codec) if codec else stream as text:
            data: bytes = text.read(_HEAD)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file.path} cannot be unpacked: {error}", reason="malformed") from None
    if b"\x00" in data:
        raise InputError(
            f"{file.path} is neither Parquet nor text; saec init reads Parquet, CSV, TSV and JSON lines, "
            "plain, .gz or .zst",
            reason="malformed",
        )
    return data


def _dialect(data: bytes, file: LogFile) -> tuple[str, tuple[str, ...], bool]:
    """Delimiter, names of the columns, and whether the text names them itself."""
    lines = data.decode("utf-8-sig", errors="replace").splitlines()
    lines = (lines if len(data) < _HEAD else lines[:-1])[:50]
    if not lines:
        raise InputError(f"{file.path} has no whole line in its first {_HEAD:,} bytes", reason="malformed")
    delimiter = max(_DELIMITERS, key=lambda sign: (min(line.count(sign) for line in lines), lines[0].count(sign)))
    rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter))
    first = rows[0]
    if len(first) < 2:
        raise InputError(
            f"{file.path} is text of a single column; wanted columns set apart by a comma, a tab, ; or |",
            reason="malformed",
        )
    named = all(first) and len(set(first)) == len(first) and not any(map(_number, first))
    if named:
        return delimiter, tuple(first), True
    if len(first) == len(CRITEO):
        return delimiter, CRITEO, False
    return delimiter, tuple(f"column_{place}" for place in range(1, len(first) + 1)), False


def read_json_rows(block: bytes) -> pa.Table:
    r"""Lines of JSON of which not all agree on types, one by one: values of a mixed column become text.

    >>> read_json_rows(b'{"a": 1, "b": {"c": true}}\n{"a": "x"}\n').to_pylist()
    [{'a': '1', 'b.c': True}, {'a': 'x', 'b.c': None}]
    """
    rows = [_flat_row(json.loads(line)) for line in block.splitlines() if line.strip()]
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError):
            columns[name] = pa.array(
                [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
            )
    return pa.table(columns)


def _flat_row(row: object, prefix: str = "") -> dict[str, object]:
    """A record with the fields of records in it as its own."""
    if not isinstance(row, dict):
        raise ValueError(f"a line holds {type(row).__name__}, wanted an object")  # noqa: TRY004 - of the file, not of us
    flat: dict[str, object] = {}
    for name, value in row.items():
        flat |= _flat_row(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _flat(table: pa.Table) -> pa.Table:
    """A table with the fields of records as columns, called `record.field`."""
    while any(t.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return table


def _number(text: str) -> bool:
    return re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text) is not None


def _ending(name: str) -> str:
    """What a file's name ends in: `.csv.gz` of `a/part-1.csv.gz`, nothing of `part-00001`."""
    base = name.rpartition("/")[2]
    return "".join(re.findall(r"\.[A-Za-z]\w{0,9}", base)[-2:])


def _hidden(path: str, root: str) -> bool:
    return any(part.startswith(("_", ".")) for part in path.removeprefix(root).split("/"))


def _shown(source: str) -> str:
    """A source as it may be told: of a URL the scheme alone, for it may hold a password."""
    return f"the {source.partition('://')[0]} URL" if "://" in source else source
