"""The UTC hour as a value; partitions, checkpoints, versions and ledger rows are named after it.

Decisions: an hour is always UTC, because a zone with daylight saving has missing and double hours. Its text forms are
`2017-10-01T03` (people, command line) and `20171001T03` (file names, version ids).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from saec.errors import ConfigError

_TEXT = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})[T ](\d{2})(?::00(?::00)?)?Z?")
_SECONDS = 3600
HOUR_MS = 1000 * _SECONDS
"""Milliseconds of an hour."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch, rounded down; a moment without a time zone is taken for UTC.

    >>> milliseconds(datetime(1970, 1, 1, 1))
    3600000
    """
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND


@dataclass(frozen=True, order=True, slots=True)
class Hour:
    """One UTC hour, held as whole hours since 1970-01-01T00.

    >>> Hour.parse("2017-10-01T23") + 2
    Hour.parse('2017-10-02T01')
    """

    index: int

    @classmethod
    def parse(cls, text: str) -> Hour:
        """Read `2017-10-01T03`, `20171001T03`, `2017-10-01 03:00` or `2017-10-01T03:00:00Z`.

        Raises:
            ConfigError: when the text is none of these, or names no real hour.
        """
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"hour {text!r} is not of the form 2017-10-01T03 (UTC, whole hours)")
        try:
            return cls.of(datetime(*(int(part) for part in match.groups()), tzinfo=UTC))  # type: ignore[misc,arg-type]
        except ValueError as error:
            raise ConfigError(f"hour {text!r} does not exist: {error}") from None

    @classmethod
    def of(cls, moment: datetime) -> Hour:
        """The hour that a moment with a time zone falls in."""
        if moment.tzinfo is None:
            raise ConfigError(f"moment {moment.isoformat()} has no time zone; hours are UTC")
        return cls(int(moment.timestamp() // _SECONDS))

    @classmethod
    def now(cls, lag: timedelta = timedelta()) -> Hour:
        """The hour of the wall clock, now or some time ago; the current hour is not over yet."""
        return cls.of(datetime.now(UTC) - lag)

    @property
    def start(self) -> datetime:
        """First instant of the hour."""
        return datetime.fromtimestamp(self.index * _SECONDS, UTC)

    @property
    def start_ms(self) -> int:
        """First instant of the hour, in milliseconds since the epoch."""
        return self.index * HOUR_MS

    @property
    def compact(self) -> str:
        """The hour for file names and version ids: `20171001T03`."""
        return self.start.strftime("%Y%m%dT%H")

    def __str__(self) -> str:
        """The hour for people: `2017-10-01T03`."""
        return self.start.strftime("%Y-%m-%dT%H")

    def __repr__(self) -> str:
        """A form that evaluates to the same hour."""
        return f"Hour.parse({str(self)!r})"

    def __add__(self, hours: int) -> Hour:
        """The hour so many hours later."""
        return Hour(self.index + hours)

    def __sub__(self, hours: int) -> Hour:
        """The hour so many hours earlier."""
        return Hour(self.index - hours)


def hour_range(first: Hour, last: Hour) -> Iterator[Hour]:
    """Each hour from `first` to `last`, both included, oldest first."""
    return (Hour(index) for index in range(first.index, last.index + 1))
