"""Which hour a file is of, by its path: layouts with a folder or a name an hour.

Decisions: a layout counts when every file fits the same pattern, written as `data.layout` is: the directives of
strftime, zero-padded or not. Whatever else stands in a component must be the same in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from saec.hours import Hour

_FORMS = (  # of one component, the most telling first
    (re.compile(r"(\d{4})-(\d{2})-(\d{2})[T_ -](\d{2})(?!\d)"), ("%Y-%m-%d{}%H", "YmdH")),
    (re.compile(r"(?<!\d)(\d{4})(\d{2})(\d{2})[T_-]?(\d{2})(?!\d)"), ("%Y%m%d{}%H", "YmdH")),
    (re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)"), ("%Y-%m-%d", "Ymd")),
    (re.compile(r"(?<!\d)(\d{4})(\d{2})(\d{2})(?!\d)"), ("%Y%m%d", "Ymd")),
    (re.compile(r"(?<![\d-])(20\d{2})(?![\d-])"), ("%Y", "Y")),
    (re.compile(r"(?<!\d)(\d{1,2})(?!\d)"), ("%{}", "")),
)
_ORDER = "YmdH"


@dataclass(frozen=True)
class Layout:
    """A layout with a place an hour."""

    pattern: str
    """As `data.layout`: folders below the source, and the file where it is the file that names the hour."""
    hours: dict[str, Hour]
    """Hour of each path below the source."""

    @property
    def in_names(self) -> bool:
        """Whether it is file names that tell the hour."""
        return "%" in self.pattern.rpartition("/")[2] and self.pattern.count("/") == next(iter(self.hours)).count("/")


def hourly_layout(paths: Iterable[str]) -> Layout | None:
    """The layout that all paths below a source share, if there is one.

    >>> hourly_layout(["dt=20260101/hr=5/a.parquet", "dt=20260101/hr=12/b.parquet"]).pattern
    'dt=%Y%m%d/hr=%H'
    """
    paths = list(paths)
    pattern: str | None = None
    hours: dict[str, Hour] = {}
    for path in paths:
        read = _read(path)
        if read is None or (pattern is not None and read[0] != pattern):
            return None
        pattern, hours[path] = read
    return Layout(pattern, hours) if pattern else None


def _read(path: str) -> tuple[str, Hour] | None:
    """The pattern and the hour of one path."""
    parts: list[str] = []
    known: dict[str, str] = {}
    for component in path.split("/"):
        text = component
        for form, (shown, letters) in _FORMS:
            match = form.search(text)
            wanted = letters or _ORDER[len(known) : len(known) + 1]
            if match is None or not wanted or _ORDER[len(known) :][: len(wanted)] != wanted:
                continue
            known |= dict(zip(wanted, match.groups(), strict=True))
            gap = re.sub(r"\d", "", match[0][10 if "-" in match[0][:8] else 8 :]) if letters == "YmdH" else wanted
            text = f"{text[: match.start()]}{shown.format(gap)}{text[match.end() :]}"
            break
        parts.append(text)
        if len(known) == len(_ORDER):
            break
    if len(known) < len(_ORDER):
        return None
    try:
        moment = datetime(*(int(known[letter]) for letter in _ORDER), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    return "/".join(parts), Hour.of(moment)
