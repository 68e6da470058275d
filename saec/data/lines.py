"""Finds the lines of CSV or JSON lines that cannot be read, to name them in an error or to leave them out.

Decisions: a line is judged by itself. It is broken if it is no UTF-8, if a quote is opened and not closed, if it has
more or fewer values than there are columns, or if it is no JSON object. Lines left out are counted and the first one is
named; `saec init` leaves none out unless asked, an hour's ingest no more than `data.max_bad_share` of the rows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_SHOWN = 120
_FEWEST = 100
"""Broken lines below which their share says nothing."""
MOST_BROKEN = 0.01
"""Share of lines that may be broken where they are left out; beyond it the format is at fault."""

Read = Callable[[int], bytes]
Fault = Callable[[bytes], str]
"""Says what is wrong with a line, its end stripped; empty text if nothing is."""


@dataclass(frozen=True)
class BrokenLine:
    """A line that cannot be read."""

    number: int
    """Counted from 1."""
    text: bytes
    why: str

    def __str__(self) -> str:
        """In words, without the name of the file: `line 51 has 3 values, wanted 4: '2026-01-01,5,3'`."""
        return f"line {self.number:,} {self.why}: {self.text[:_SHOWN].decode('utf-8', 'backslashreplace')!r}"


@dataclass
class LeftOut:
    """The lines that were left out in one pass over a log."""

    count: int = 0
    first: str = ""
    """The first of them in words, with the name of its file."""

    def add(self, line: BrokenLine, path: str) -> None:
        """Count a line."""
        self.first = self.first or f"{path}: {line}"
        self.count += 1

    def clear(self) -> None:
        """Begin another pass."""
        self.count, self.first = 0, ""

    def too_many(self, rows: int) -> bool:
        """Whether these are more than chance breaks, beside so many rows that were read."""
        return self.count > _FEWEST and self.count > MOST_BROKEN * (rows + self.count)


class SoundLines(io.RawIOBase):
    """A stream of text without its broken lines, as Arrow's readers take it."""

    def __init__(self, read: Read, size: int, fault: Fault, on_broken: Callable[[BrokenLine], None]) -> None:
        """Filter a stream.

        Args:
            read: reads up to so many bytes of the text.
            size: bytes read at a time.
            fault: judges a line.
            on_broken: told of each line left out.
        """
        self._parts, self._on_broken = judged(read, size, fault), on_broken
        self._rest = b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to so many bytes; none at the end."""
        while not self._rest:
            block, broken = next(self._parts, (b"", None))
            if broken is None:
                return b""
            for line in broken:
                self._on_broken(line)
            self._rest = block
        size = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class QuotesCounted(io.RawIOBase):
    """A stream that counts the quotes in it."""

    def __init__(self, read: Read) -> None:
        """Wrap what reads up to so many bytes."""
        self._read = read
        self.quotes = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to so many bytes."""
        data = self._read(size)
        self.quotes += data.count(b'"')
        return data


def whole_lines(read: Read, size: int) -> Iterator[bytes]:
    """A stream in blocks that end where a line ends."""
    rest = b""
    while data := read(size):
        head, line, rest_of = (rest + data).rpartition(b"\n")
        rest = rest_of
        if line:
            yield head + line
    if rest:
        yield rest


def judged(read: Read, size: int, fault: Fault) -> Iterator[tuple[bytes, list[BrokenLine]]]:
    """Blocks of a stream: their text with an empty line in the place of each broken one, and the broken lines."""
    number = 0
    for block in whole_lines(read, size):
        sound, broken = [], []
        for line in block.splitlines(keepends=True):
            number += 1
            why = fault(line.rstrip(b"\r\n")) if line.strip() else ""
            if why:
                broken.append(BrokenLine(number, line.rstrip(b"\r\n"), why))
            sound.append(b"\n" if why else line)
        yield b"".join(sound), broken


def csv_fault(delimiter: str, columns: int, *, quoted: bool) -> Fault:
    """Judges lines of delimited text.

    >>> fault = csv_fault(",", 2, quoted=True)
    >>> [fault(line) for line in (b"a,b", b'"a,b",c', b"a", b'a,"b')]
    ['', '', 'has 1 value, wanted 2', 'opens a quote and does not close it']
    """
    sign = delimiter.encode()

    def fault(line: bytes) -> str:
        values = line.count(sign) + 1
        try:
            text = line.decode()
            if quoted and b'"' in line:
                values = _quoted_values(text, delimiter)
        except UnicodeDecodeError:
            return "is no UTF-8"
        except csv.Error as error:
            return str(error)
        return "" if values == columns else f"has {values} value{'s' * (values != 1)}, wanted {columns}"

    return fault


def _quoted_values(text: str, delimiter: str) -> int:
    """How many values a line with quotes has.

    Raises:
        csv.Error: when a quote is not closed.
    """
    try:
        return len(next(csv.reader([text], delimiter=delimiter, strict=True)))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise csv.Error("opens a quote and does not close it") from None
        return len(next(csv.reader([text], delimiter=delimiter)))  # text after a closing quote is taken as it stands


def json_fault(line: bytes) -> str:
    """Judges lines of JSON.

    >>> json_fault(b'{"a": 1}'), json_fault(b"[1]"), json_fault(b'{"a": ')
    ('', 'is no JSON object', 'is no JSON')
    """
    try:
        return "" if isinstance(json.loads(line), dict) else "is no JSON object"
    except (ValueError, RecursionError):
        return "is no JSON"
