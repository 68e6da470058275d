"""Translates between hours and file paths below `data.source`, using the name pattern of `data.layout`.

Decisions: `%Y`, `%m`, `%d` and `%H` (UTC) stand for the hour's numbers, `*` for anything within one name. The pattern
names the hour's files if its last part contains a `*` or ends like a file (`.parquet`, `.csv.gz`). Otherwise, or with a
`/` at its end, it names a folder that contains the hour's files. A number that stands alone needs no leading zero
(`hour=5`), because many writers omit it. Nothing here opens a file.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from itertools import takewhile
from types import MappingProxyType

from saec.hours import Hour

DEFAULT_LAYOUT = "date=%Y-%m-%d/hour=%H"
FORMATS = {"parquet": (".parquet", ".parq", ".pq"), "csv": (".csv", ".tsv"), "jsonl": (".jsonl", ".ndjson", ".json")}
"""File endings of each format, in upper or lower case; text files may also be compressed."""
COMPRESSED = (".gz", ".zst")

Numbers = Mapping[str, int]
"""Numbers read from names so far, by directive letter."""

_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2}
_PIECE = re.compile(r"%.?|\*|[^%*]+")
_FILE = re.compile(r".*\*.*|.*\.[A-Za-z][A-Za-z0-9]*")


@dataclass(frozen=True)
class HourLayout:
    """A pattern of names.

    >>> layout = HourLayout("dt=%Y-%m-%d/hr=%H")
    >>> layout.place(Hour.parse("2017-10-01T03"))
    'dt=2017-10-01/hr=03'
    >>> layout.hour("dt=2017-10-01/hr=3/part-0.csv.gz")
    Hour.parse('2017-10-01T03')

    Raises:
        ValueError: when the pattern does not say year, month, day and hour, or is no path below a folder.
    """

    pattern: str

    def __post_init__(self) -> None:
        """Refuse a pattern that does not determine an hour."""
        letters = {piece[1:] for piece in _PIECE.findall(self.pattern) if piece.startswith("%")} - {"%"}
        if odd := letters - _DIGITS.keys():
            raise ValueError(f"knows %Y, %m, %d, %H and %%, not %{min(odd)}")
        if missing := [f"%{letter}" for letter in _DIGITS if letter not in letters]:
            raise ValueError(
                f"must tell the hour by %Y, %m, %d and %H, and lacks {', '.join(missing)}; "
                f"the default is {DEFAULT_LAYOUT!r}"
            )
        if any(part in ("", ".", "..") for part in self.parts):
            raise ValueError("must be names with single slashes between them, below data.source")

    @property
    def parts(self) -> tuple[str, ...]:
        """The pattern's names, from the outermost on."""
        return tuple(self.pattern.removesuffix("/").split("/"))

    @property
    def names_files(self) -> bool:
        """Whether the last name is that of the hour's files rather than of their folder."""
        return not self.pattern.endswith("/") and bool(_FILE.fullmatch(self.parts[-1]))

    @property
    def depth(self) -> int:
        """Names on the way from the source to a file."""
        return len(self.parts) + (not self.names_files)

    def place(self, hour: Hour) -> str:
        """Path of the hour's folder or files below the source, with leading zeros and any `*` as it is."""
        return hour.start.strftime(self.pattern.removesuffix("/"))

    def hour(self, path: str) -> Hour | None:
        """The hour of a file, by its path below the source; None if the path does not fit the layout."""
        names = path.split("/")
        numbers = self.read(names) if len(names) == self.depth else None
        hours = span(numbers) if numbers else None
        return hours[0] if hours else None

    def is_of(self, name: str, hour: Hour) -> bool:
        """Whether a file's own name, without its folders, may be that of a file of the hour."""
        numbers = self.read([name], {}, len(self.parts) - 1)
        hours = span({**dict(zip(_DIGITS, hour.start.timetuple()[:4], strict=True)), **numbers}) if numbers else None
        return hours is not None and hours[0] == hour

    def read(self, names: Sequence[str], known: Numbers = MappingProxyType({}), level: int = 0) -> Numbers | None:
        """The numbers known after reading further names on the way to a file.

        Args:
            names: folders, and maybe the file; names below the pattern's last one add nothing.
            known: numbers read from the names before.
            level: how many names came before.

        Returns:
            All numbers known by then; None when a name does not fit the pattern or contradicts another.
        """
        numbers = dict(known)
        for name, (regex, letters) in zip(names, self._regexes[level:], strict=False):
            match = regex.fullmatch(name)
            if match is None:
                return None
            for letter, digits in zip(letters, match.groups(), strict=True):
                if numbers.setdefault(letter, int(digits)) != int(digits):
                    return None
        return numbers

    @cached_property
    def day_level(self) -> int:
        """How many names determine the day: below them, everything is of one day."""
        letters: set[str] = set()
        for level, (_, more) in enumerate(self._regexes, 1):
            letters.update(more)
            if letters >= {"Y", "m", "d"}:
                return level
        return len(self.parts)

    @cached_property
    def _regexes(self) -> tuple[tuple[re.Pattern[str], str], ...]:
        return tuple(_regex(part) for part in self.parts)


@lru_cache
def layout_of(pattern: str) -> HourLayout:
    """The layout of a pattern, made once."""
    return HourLayout(pattern)


def span(known: Numbers) -> tuple[Hour, Hour] | None:
    """First and last possible hour with these numbers; None if there is none, as for 30 February.

    >>> [str(hour) for hour in span({"Y": 2017, "m": 2})]
    ['2017-02-01T00', '2017-02-28T23']
    """
    told = [
        known[letter] for letter in takewhile(known.__contains__, _DIGITS)
    ]  # numbers after an unknown one add no bound
    low, high = [*told, *(1, 1, 1, 0)[len(told) :]], [*told, *(9999, 12, 31, 23)[len(told) :]]
    try:
        if len(told) < 3:  # a month has its own last day
            high[2] = monthrange(high[0], high[1])[1]
        return _hour_of(*low), _hour_of(*high)
    except ValueError:
        return None


def data_format(name: str, wanted: str = "auto") -> str | None:
    """The format to read a file in; None if it is not a file of rows.

    Names that start with `_` or `.` are ignored. With a format set, names without a known ending count too.

    >>> data_format("clicks.CSV.gz"), data_format("part-0"), data_format("part-0", "csv")
    ('csv', None, 'csv')
    """
    if name.startswith(("_", ".")):
        return None
    plain = plain_name(name)
    known = next((kind for kind, endings in FORMATS.items() if plain.endswith(endings)), None)
    if wanted == "auto":
        return known
    return wanted if known in (None, wanted) else None


def plain_name(name: str) -> str:
    """A name in lower case, without the ending of its compression."""
    small = name.lower()
    return next((small.removesuffix(ending) for ending in COMPRESSED if small.endswith(ending)), small)


def _regex(part: str) -> tuple[re.Pattern[str], str]:
    """The regular expression of one name, and the letters of its numbers in order."""
    pieces = _PIECE.findall(part)
    regex, letters = [], []
    for place, piece in enumerate(pieces):
        if piece == "*":
            regex.append(".*" if place else "(?![_.]).*")
        elif piece == "%%":
            regex.append("%")
        elif piece.startswith("%"):
            letter, before, after = piece[1], pieces[:place][-1:], pieces[place + 1 :][:1]
            alone = not _is_digit(before, -1) and not _is_digit(after, 0)
            regex.append(rf"(\d{{{1 if alone and letter != 'Y' else _DIGITS[letter]},{_DIGITS[letter]}}})")
            letters.append(letter)
        else:
            regex.append(re.escape(piece))
    return re.compile("".join(regex), re.ASCII | re.DOTALL), "".join(letters)


def _is_digit(piece: list[str], place: int) -> bool:
    """Whether a number is next to another number, so that only leading zeros separate them."""
    return any((text.startswith("%") and text != "%%") or text[place].isdigit() for text in piece)


def _hour_of(year: int, month: int, day: int, hour: int) -> Hour:
    """The hour of the calendar."""
    return Hour.of(datetime(year, month, day, hour, tzinfo=UTC))
