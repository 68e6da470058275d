"""Decodes one delivered text file (CSV or JSON lines) from memory, with the types of the settings.

Decisions: types come from the settings and are never guessed, so that all files of a source agree. If a value of a
column is not written in that type, the column is read as the next wider type that the rules accept (`1.0` for an int,
which is how pandas writes integers next to nulls; `true` for a label). Decompression stops at the limit of the hour's
bytes, so a small file cannot fill the memory. Empty text is null for numbers and for nullable fields, and empty text
for others. A message names the file and the line. Lines that cannot be read are emptied and counted (`broken`), which
keeps the numbers of the others; whether they are few enough to go on, the reader of all files decides.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.types as t

from saec.config import Config
from saec.data.lines import BrokenLine, Fault, csv_fault, json_fault, judged
from saec.data.part_files import PartFile, truncated
from saec.errors import InputError
from saec.hour_layout import plain_name

_CODECS = {".gz": "gzip", ".zst": "zstd"}
_PIECE = 1 << 24  # bytes unpacked at a time
_FIELD_TYPES = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "string": pa.string()}
_EXACT = 2**53
"""Integers below are exact as floats."""
_DELIMITERS = ",\t;|\x01"
"""Characters that may stand between the values of CSV, the last one in Hive's tables."""
_CSV_COLUMN = re.compile(r"In CSV column #(\d+)")
_CSV_ROW = re.compile(r"Row #(\d+)")
_JSON_COLUMN = re.compile(r"Column\(/([^/)]*)")
_JSON_ROW = re.compile(r"in row (\d+)")


class TextFile:
    """A part file of text, decoded whole: lines have no footer that could be asked first."""

    def __init__(self, name: str, data: pa.Buffer, where: str, kind: str, config: Config, most: int) -> None:
        """Unpack and decode.

        Args:
            name: File name within the hour.
            data: All its bytes as delivered.
            where: How messages name the file ("hour ...: file ...").
            kind: csv or jsonl.
            config: Says which columns are wanted, of which types, and the limits.
            most: How many bytes of text there may be: what is left of the hour's.

        Raises:
            InputError: reason truncated, corrupt, malformed, schema or too-large.
        """
        self._where, self._config = where, config
        self._text = _unpacked(name, data, where, most)
        self._ways = _ways(config)
        self._whole = [field.source_column for field in config.fields if field.type == "int" and field.kind != "list"]
        lines = int(np.count_nonzero(np.frombuffer(self._text, np.uint8) == ord("\n")))
        if lines > config.data.max_rows + 1:
            raise InputError(
                f"{where} is too large: {lines:,} lines, over the max_rows {config.data.max_rows:,}; none "
                "was decoded. Raise the limit under data: in the configuration if the hour is sound",
                reason="too-large",
            )
        self._fault: Fault | None = json_fault if kind == "jsonl" else None  # of CSV once its columns are known
        self.broken: tuple[BrokenLine, ...] = ()
        self.refusal: InputError | None = None
        try:
            self._table = self._csv(name) if kind == "csv" else self._json()
        except InputError as error:
            self._without_broken_lines(error)
            self._table = self._csv(name) if kind == "csv" else self._json()
        rows = self._table.num_rows + len(self.broken)
        self.file = PartFile(name, data.size, hashlib.sha256(data).hexdigest(), rows)

    @property
    def columns(self) -> int:
        """Columns of the file, wanted or not."""
        return len(self.names)

    def read(self, wanted: Sequence[str]) -> pa.Table:
        """Those of the wanted columns that are there, in the wanted order; strings as dictionaries."""
        return self._table.select([name for name in wanted if name in self._table.column_names])

    def decoded_bytes(self, wanted: Sequence[str]) -> int:
        """Memory that the text and the wanted columns take."""
        return len(self._text) + 8 * self.file.rows * len(wanted)

    def _without_broken_lines(self, error: InputError) -> None:
        """Empty the lines that cannot be read, where that is the fault and no value goes over several lines.

        The caller decides whether they are few enough; if not, `refusal` is what to raise.

        Raises:
            InputError: the error, where something else is at fault.
        """
        if error.reason != "malformed" or self._fault is None:
            raise error
        blocks = list(judged(io.BytesIO(self._text).read, _PIECE, self._fault))
        broken = tuple(line for _, lines in blocks for line in lines)
        if not broken or (self._fault is not json_fault and any(line.text.count(b'"') % 2 for line in broken)):
            raise error
        self._text, self.broken, self.refusal = b"".join(block for block, _ in blocks), broken, error

    def _csv(self, name: str) -> pa.Table:
        """Decode CSV."""
        data, bad_lines = self._config.data, list[pa_csv.InvalidRow]()
        if self._text.count(b'"') % 2:
            raise self._malformed("a quote is opened and not closed")
        usual = "\t" if plain_name(name).endswith(".tsv") else ","
        self.names, delimiter = self._named(data.header, usual) if data.header else self._header(usual)
        self._fault = csv_fault(delimiter, len(self.names), quoted=True)
        wanted = self._wanted_of_csv()
        if not self._text.strip():
            return self._finished(pa.table({column: pa.array([], self._ways[column][0]) for column in wanted}))

        def refuse(line: pa_csv.InvalidRow) -> str:
            bad_lines.append(line)
            return "error"

        def decode(types: dict[str, pa.DataType]) -> pa.Table:
            return pa_csv.read_csv(
                pa.BufferReader(self._text),
                pa_csv.ReadOptions(use_threads=False, block_size=_PIECE, column_names=data.header or None),
                pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse),
                pa_csv.ConvertOptions(
                    column_types=types, include_columns=wanted, null_values=[""], strings_can_be_null=False
                ),
            )

        def column_of(message: str) -> str | None:
            found = _CSV_COLUMN.search(message)
            return self.names[int(found[1])] if found else None

        try:
            return self._finished(self._decoded(wanted, decode, column_of))
        except pa.ArrowInvalid as error:
            why, row, column = str(error), _CSV_ROW.search(str(error)), column_of(str(error))
            if bad_lines:
                why = (
                    f"{bad_lines[0].actual_columns} values where {bad_lines[0].expected_columns} are wanted: "
                    f"{bad_lines[0].text[:80]!r}"
                )
            elif column:
                why = f"column {column!r} wants {self._ways[column][0]}, {why.rpartition(': ')[2]}"
            raise self._malformed(why, int(row[1]) if row else None) from None

    def _wanted_of_csv(self) -> list[str]:
        """The wanted columns that are there, each once and of a kind that CSV can hold."""
        wanted = [name for name in self._ways if name in self.names]
        for name in wanted:
            if self.names.count(name) > 1:
                raise InputError(
                    f"{self._where} has column {name!r} more than once; have it delivered again with one",
                    reason="schema",
                )
            if t.is_list(self._ways[name][0]):
                raise InputError(
                    f"{self._where}: the field of column {name!r} is of kind list, which CSV cannot hold; "
                    "have it delivered as JSON lines or Parquet",
                    reason="dtype",
                )
        return wanted

    def _header(self, usual: str) -> tuple[list[str], str]:
        """The names on the first line, of which at least one must be wanted, and the character between them."""
        first = next(iter(io.BytesIO(self._text)), b"")
        if not first.strip():
            raise truncated(self._where, "it is empty, without even a line of names")
        for delimiter, names in self._splits(usual):
            if {*names} & {*self._ways}:
                return names, delimiter
        raise InputError(
            f"{self._where}: its first line, {first[:80]!r}, names none of the columns wanted, such "
            f"as {self._config.data.label_column!r}; if the file has no line of names, name its columns in data.header",
            reason="schema",
        )

    def _named(self, header: list[str], usual: str) -> tuple[list[str], str]:
        """The names of the settings, and the character that leaves as many values of the first line."""
        splits = self._splits(usual) if len(header) > 1 else ()
        return list(header), next((sign for sign, values in splits if len(values) == len(header)), usual)

    def _splits(self, usual: str) -> Iterator[tuple[str, list[str]]]:
        """The first line apart by each character that may stand between values, the usual one first."""
        try:
            first = next(iter(io.BytesIO(self._text)), b"").decode("utf-8-sig").rstrip("\r\n")
            for sign in dict.fromkeys((usual, *_DELIMITERS)):
                yield sign, next(csv.reader([first], delimiter=sign), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise self._malformed(f"{error}; wanted CSV in UTF-8", 1) from None

    def _json(self) -> pa.Table:
        """Decode JSON lines; a name that a line leaves out is null there."""
        self.names = list(self._ways)
        if not self._text.strip():
            return self._finished(pa.table({name: pa.array([], kind[0]) for name, kind in self._ways.items()}))
        extra = "ignore" if self._config.data.ignore_extra_columns else "error"

        def decode(types: dict[str, pa.DataType]) -> pa.Table:
            def parsed(unexpected: str) -> pa.Table:
                return pa_json.read_json(
                    pa.BufferReader(self._text),
                    pa_json.ReadOptions(use_threads=False, block_size=min(len(self._text) + 1, 2**31 - 1)),
                    pa_json.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior=unexpected),
                )

            try:
                return parsed(extra)
            except pa.ArrowInvalid as error:
                if "unexpected field" not in str(error):
                    raise
                self.names = [*self._ways, *self._unexpected()]
                return parsed("ignore")

        def column_of(message: str) -> str | None:
            found = _JSON_COLUMN.search(message)
            return found[1] if found and found[1] in self._ways else None

        try:
            table = self._decoded(list(self._ways), decode, column_of)
        except pa.ArrowInvalid as error:
            row, hint = _JSON_ROW.search(str(error)), ""
            if self._text.lstrip()[:1] == b"[":
                hint = "; wanted one object a line, not one array"
            raise self._malformed(f"{error}{hint}", int(row[1]) + 1 if row else None) from None
        nullable = {field.source_column for field in self._config.fields if field.nullable}
        absent = [name for name in table.column_names if name not in nullable and table[name].null_count == len(table)]
        self.names = [name for name in self.names if name not in absent]  # said to be missing, with the nearest name
        return self._finished(table.drop_columns(absent))

    def _unexpected(self) -> Iterator[str]:
        """The names on the first line that has one which no setting names."""
        for line in io.BytesIO(self._text):
            try:
                names = [name for name in json.loads(line) if name not in self._ways]
            except (ValueError, TypeError, RecursionError):
                continue  # the parser says it better
            if names:
                yield from names
                return

    def _decoded(
        self,
        names: list[str],
        decode: Callable[[dict[str, pa.DataType]], pa.Table],
        column_of: Callable[[str], str | None],
    ) -> pa.Table:
        """The columns as the settings want them, or as the next wider type where a value is not written so.

        Raises:
            pa.ArrowInvalid: when no type will do; of the first attempt, as that says which was meant.
        """
        left = {name: self._ways[name] for name in names}
        first: pa.ArrowInvalid | None = None
        while True:
            try:
                table = decode({name: ways[0] for name, ways in left.items()})
                break
            except pa.ArrowInvalid as error:
                column = column_of(str(error))
                if not (column or "int64" in str(error)):
                    raise  # not of a value
                first = first or error
                suspects = [column] if column else [name for name in names if left[name][0] == pa.int64()]
                wider = {name: left[name][1:] for name in suspects if left[name][1:]}
                if not wider:
                    raise first from None
                left |= wider
        for place, name in enumerate(table.column_names):
            if name in self._whole and t.is_floating(table[name].type):
                table = table.set_column(place, name, _as_integers(name, table[name], first))
        return table

    def _finished(self, table: pa.Table) -> pa.Table:
        """Text as dictionaries, empty text of nullable fields as null, times as such where all are written alike."""
        nullable = {field.source_column for field in self._config.fields if field.nullable}
        for place, name in enumerate(table.column_names):
            column = table[name]
            if not t.is_string(column.type):
                continue
            if name == self._config.data.time_column:
                column = _times(column)
            elif name in nullable:
                column = pc.if_else(pc.equal(column, ""), None, column)
            table = table.set_column(place, name, column.dictionary_encode() if t.is_string(column.type) else column)
        return table.replace_schema_metadata()

    def _malformed(self, why: str, row: int | None = None) -> InputError:
        """A file that is not written as its format wants."""
        line = f" in line {_line(self._text, row)}" if row else ""
        return InputError(f"{self._where} is malformed{line}: {why[:300]}; have it delivered again", reason="malformed")


def _unpacked(name: str, data: pa.Buffer, where: str, most: int) -> bytes:
    """The text of a file, of at most so many bytes."""
    codec = next((codec for ending, codec in _CODECS.items() if name.lower().endswith(ending)), None)
    stream = pa.CompressedInputStream(pa.BufferReader(data), codec) if codec else pa.BufferReader(data)
    text = io.BytesIO()
    try:
        while piece := stream.read(_PIECE):
            text.write(piece)
            if text.tell() > most:
                raise InputError(
                    f"{where} is too large: more than {most:,} bytes when unpacked, what is left of the "
                    "hour's. Raise data.max_rows if the hour is sound",
                    reason="too-large",
                )
    except OSError as error:  # the bytes are in memory: no disk or network can fail here
        if "truncated" in str(error).lower():
            raise truncated(where, str(error)) from None
        raise InputError(f"{where} is corrupt: {error}; have it delivered again", reason="corrupt") from None
    return text.getvalue()


def _ways(config: Config) -> dict[str, list[pa.DataType]]:
    """The types in which each wanted column may be read, the one that is meant first."""
    data = config.data
    ways = {
        data.time_column: [*([pa.int64(), pa.float64()] if data.time_unit else []), pa.string()],
        data.label_column: [pa.int64(), pa.float64(), pa.bool_()],
    }
    for field in config.fields:
        if field.source_column:
            kind = _FIELD_TYPES[field.type]
            plain = [kind, pa.float64()] if field.type == "int" else [kind]
            ways.setdefault(field.source_column, [pa.list_(kind)] if field.kind == "list" else plain)
    ways |= {name: [pa.float64()] for name in data.weight_columns if name not in ways}
    return ways | {name: [pa.string(), pa.int64()] for name in data.row_id_columns if name not in ways}


def _times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Timestamps where all are written alike; otherwise the text, which is then taken value by value."""
    column = pc.replace_substring_regex(pc.if_else(pc.equal(column, ""), None, column), " ?(UTC|GMT)$", "Z")
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def _as_integers(name: str, column: pa.ChunkedArray, first: pa.ArrowInvalid | None) -> pa.ChunkedArray:
    """Floats that are integers as such.

    Raises:
        pa.ArrowInvalid: when one is not, or may have been rounded when it was read.
    """
    values_B = column.to_numpy()
    odd = np.flatnonzero(~np.isnan(values_B) & (values_B % 1 != 0))
    if odd.size:
        raise pa.ArrowInvalid(f"column {name!r} wants int64, found {values_B[odd[0]]}")
    if first is not None and np.nanmax(np.abs(values_B), initial=0) >= _EXACT:
        raise first
    return column.cast(pa.int64())


def _line(text: bytes, row: int) -> int:
    """The line on which a row begins, both counted from 1, the line of names being a row; blank lines are no rows."""
    rows, quoted = 0, False
    for number, line in enumerate(io.BytesIO(text), 1):
        rows += not quoted and bool(line.strip())
        if rows == row:
            return number
        quoted ^= line.count(b'"') % 2 == 1
    return row
