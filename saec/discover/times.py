"""Finds the time column of a log and converts its notation to UTC.

Decisions: a notation fits if all values of the sample can be read in it and are between 2000 and 2040. Times without a
zone are UTC unless the caller says otherwise; times with a zone are converted to UTC. Some logs give only the hour;
rows of such an hour are later spread evenly over it (`saec.discover.partition`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t

from saec.data.types import TICKS
from saec.discover.types import is_text
from saec.hours import HOUR_MS

Notation = Literal["timestamp", "s", "ms", "us", "ns", "text", "digits"]
"""Timestamps, epoch units, text as ISO 8601 or the like, digits end to end."""
EVENT_TIME = "event_time"
_UTC_MS = pa.timestamp("ms", tz="UTC")
_FIRST, _LAST = 946_684_800_000, 2_208_988_800_000  # 2000 and 2040
_DAY_MS = 24 * HOUR_MS
_OFFSET = r"(Z|[+-]\d\d:?\d\d)$"
_FORMATS = (
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S",
    "%Y-%m-%d-%H",
    "%Y-%m-%d %H",
)
_DIGITS = {
    8: ("20{}", r"^(\d\d)(\d\d)(\d\d)(\d\d)$"),
    10: ("{}", r"^(\d{4})(\d\d)(\d\d)(\d\d)$"),
    12: ("{}", r"^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)$"),
    14: ("{}", r"^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$"),
}
_NAMES = (
    "event_time",
    "event_timestamp",
    "event_ts",
    "eventtime",
    "timestamp",
    "ts",
    "time",
    "datetime",
    "date_time",
    "impression_time",
    "imp_time",
    "served_at",
    "shown_at",
    "request_time",
    "unix_timestamp",
    "time_stamp",
    "unixtime",
    "epoch",
    "event_date",
    "created_at",
    "occurred_at",
    "logged_at",
    "click_time",
    "hour",
    "date",
)
_OTHER_EVENTS = re.compile(r"birth|sign_?up|regist|expir|attribut|conver|install|last|prev|publish|updated|purchas")


@dataclass(frozen=True)
class TimeColumn:
    """A column that tells when rows happened, and how."""

    name: str
    notation: Notation
    hourly: bool
    """Whether it says no more than the hour."""
    naive: bool = False
    """Whether it leaves the zone open."""
    hour: str | None = None
    """The column of the hour, where `name` is that of the day."""
    zone: str | None = None
    """Zone of times that leave it open; UTC when None."""

    @property
    def unit(self) -> str | None:
        """Unit of an integer column, `data.time_unit`."""
        return self.notation if self.notation in TICKS else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.name, self.hour) if self.hour else (self.name,)

    def instants(self, table: pa.Table) -> pa.ChunkedArray:
        """Instants of the rows, milliseconds in UTC; null where there is none."""
        if self.hour:
            hours = pc.multiply(table[self.hour].cast(pa.int64()), HOUR_MS)
            return _in_zone(pc.add(_milliseconds(table[self.name], self.notation), hours), self.zone)
        return _in_zone(_milliseconds(table[self.name], self.notation), self.zone if self.naive else None)


def time_columns(table: pa.Table, zone: str | None = None) -> list[TimeColumn]:
    """Columns that can tell when rows happened, the likeliest first."""
    found = []
    for place, name in enumerate(table.column_names):
        column = table[name]
        notation = _notation(column) if column.null_count <= 0.01 * len(column) else None
        if notation is None:
            continue
        instants = _milliseconds(column, notation)
        naive, hour = _is_naive(column, notation), None
        if _whole(instants, _DAY_MS):
            hour = _hour_of_day(table)
            if hour is None and _spans(instants):  # whole days tell no hours; a log of one midnight may
                continue
        entry = TimeColumn(name, notation, _whole(instants, HOUR_MS), naive, hour, zone)
        found.append((entry.hourly, _rank(name), place, entry))
    return [entry for *_, entry in sorted(found, key=lambda item: item[:3])]


def _whole(instants: pa.ChunkedArray, unit_ms: int) -> bool:
    """Whether all instants are whole multiples of a unit."""
    return bool(pc.all(pc.equal(pc.multiply(pc.divide(instants, unit_ms), unit_ms), instants)).as_py())


def _spans(instants: pa.ChunkedArray) -> bool:
    """Whether instants are of several days."""
    bounds = pc.min_max(instants).as_py()
    return bool(bounds["max"] > bounds["min"])


def _hour_of_day(table: pa.Table) -> str | None:
    """A column of hours 0 to 23, by its name and values."""
    names: list[str] = table.column_names
    for name in names:
        if re.fullmatch(r"(?i)(hour|hr|hh|hour_of_day|event_hour)", name) and t.is_integer(table[name].type):
            bounds = pc.min_max(table[name]).as_py()
            if bounds["min"] is not None and bounds["min"] >= 0 and bounds["max"] <= 23 and not table[name].null_count:
                return name
    return None


def _rank(name: str) -> float:
    """How well a name fits that of an event's time; lower is better."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    rank = float(_NAMES.index(plain)) if plain in _NAMES else 100.0
    if rank == 100.0 and re.search(r"time|date|stamp|(^|_)ts($|_)|_at$", plain):
        rank = 50.0
    return rank + 200.0 * bool(_OTHER_EVENTS.search(plain))


def _notation(column: pa.ChunkedArray) -> Notation | None:
    """How a column tells time, if it does."""
    kind = column.type
    if t.is_timestamp(kind) or t.is_date(kind):
        return "timestamp" if _plausible(column, "timestamp") else None
    if t.is_integer(kind):
        return next((unit for unit in ("digits", "s", "ms", "us", "ns") if _plausible(column, unit)), None)
    if t.is_floating(kind):
        return next((unit for unit in ("s", "ms") if _plausible(column, unit)), None)
    if is_text(kind):
        return next((notation for notation in ("digits", "text") if _plausible(column, notation)), None)
    return None


def _plausible(column: pa.ChunkedArray, notation: Notation) -> bool:
    """Whether all values can be read so, and are of our days."""
    try:
        instants = _milliseconds(column, notation)
    except (pa.ArrowException, ValueError, OverflowError):
        return False
    bounds = pc.min_max(instants).as_py()
    return (
        instants.null_count == column.null_count
        and bounds["min"] is not None
        and bounds["min"] >= _FIRST
        and bounds["max"] < _LAST
    )


def _milliseconds(column: pa.ChunkedArray, notation: Notation) -> pa.ChunkedArray:
    """Milliseconds since the epoch, int64, as the notation reads; those without a zone as if in UTC."""
    if notation == "timestamp":
        return column.cast(_UTC_MS if getattr(column.type, "tz", None) else pa.timestamp("ms"), safe=False).cast(
            pa.int64()
        )
    if notation in TICKS:
        values = column
        if t.is_floating(values.type):
            return pc.floor(pc.multiply(values, 1_000 / TICKS[notation])).cast(pa.int64())
        ticks = TICKS[notation]
        values = values.cast(pa.int64())
        return pc.multiply(values, 1_000) if ticks == 1 else pc.divide(values, ticks // 1_000)
    if notation == "digits":
        return _from_digits(column)
    return _from_text(column.cast(pa.string()))


def _from_digits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times written as digits end to end: YYMMDDHH, or YYYYMMDDHH with MM and SS or without; YYYYMMDD is a day."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    lengths = pc.min_max(pc.utf8_length(text)).as_py()
    if lengths["min"] != lengths["max"] or lengths["min"] not in _DIGITS:
        raise pa.ArrowInvalid("digits of several lengths")
    if lengths["min"] == 8 and pc.all(pc.match_substring_regex(text, r"^20\d\d(0[1-9]|1[0-2])\d\d$")).as_py():
        return pc.strptime(text, "%Y%m%d", "s").cast(pa.timestamp("ms")).cast(pa.int64())
    century, pattern = _DIGITS[lengths["min"]]
    if not pc.all(pc.match_substring_regex(text, pattern)).as_py():
        raise pa.ArrowInvalid("not only digits")
    groups = pattern.count("(")
    iso = century.format(r"\1") + r"-\2-\3 \4:" + (r"\5" if groups > 4 else "00") + (r":\6" if groups > 5 else ":00")
    return _from_text(pc.replace_substring_regex(text, pattern, iso))


def _from_text(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times written as text: ISO 8601 with an offset or without, else one of a few formats."""
    text = pc.utf8_trim_whitespace(text)
    offset = pc.all(pc.match_substring_regex(text, _OFFSET)).as_py()
    try:
        return pc.divide(text.cast(pa.timestamp("us", tz="UTC" if offset else None)).cast(pa.int64()), 1_000)
    except pa.ArrowInvalid:
        if offset:
            raise
    for pattern in _FORMATS:
        try:
            return pc.strptime(text, pattern, "s").cast(pa.timestamp("ms")).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
    raise pa.ArrowInvalid("no notation of time that is known")


def _is_naive(column: pa.ChunkedArray, notation: Notation) -> bool:
    """Whether a notation leaves the zone open."""
    if notation == "timestamp":
        return getattr(column.type, "tz", None) is None
    if notation == "text":
        return not pc.all(pc.match_substring_regex(pc.utf8_trim_whitespace(column.cast(pa.string())), _OFFSET)).as_py()
    return notation == "digits"


def _in_zone(milliseconds: pa.ChunkedArray, zone: str | None) -> pa.ChunkedArray:
    """Wall clock of a zone as instants; an hour that occurs twice is its first, one that never does the next."""
    if zone is None or zone == "UTC":
        return milliseconds.cast(_UTC_MS)
    naive = milliseconds.cast(pa.timestamp("ms"))
    return pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="latest").cast(_UTC_MS)
