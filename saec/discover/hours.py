"""Which layout by hours the files of a log lie in, read off their paths as a pattern for `data.layout`.

Decisions: the first path says the pattern, and every other must fit it. Numbers that are no part of the hour, such as
those of part files, become `*` where the file's own name tells the hour.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from saec.hour_layout import DEFAULT_LAYOUT, HourLayout
from saec.hours import Hour

_FORMS = (  # of one name, the most telling first: what it looks like, what it tells, and the pattern for it
    (r"(\d{4})-(\d{2})-(\d{2})([T_ -])(\d{2})(?!\d)", "YmdH", r"%Y-%m-%d\4%H"),
    (r"(?<!\d)(20\d{2})(\d{2})(\d{2})([T_-]?)(\d{2})(?!\d)", "YmdH", r"%Y%m%d\4%H"),
    (r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)", "Ymd", "%Y-%m-%d"),
    (r"(?<!\d)(20\d{2})(\d{2})(\d{2})(?!\d)", "Ymd", "%Y%m%d"),
    (r"(?<![\d-])(20\d{2})(?![\d-])", "Y", "%Y"),
    (r"(?<!\d)(\d{1,2})(?!\d)", "", "%{}"),
)
_ORDER = "YmdH"


@dataclass(frozen=True)
class Layout:
    """A layout with a place an hour."""

    pattern: str
    """As `data.layout`."""
    hours: dict[str, Hour]
    """Hour of each path below the source."""


def hourly_layout(paths: Sequence[str]) -> Layout | None:
    """The layout that all paths below a source share, if there is one.

    >>> hourly_layout(["dt=20260101/hr=5/a.parquet", "dt=20260101/hr=12/b.parquet"]).pattern
    'dt=%Y%m%d/hr=%H'
    """
    for pattern in (DEFAULT_LAYOUT, _pattern(paths[0])):
        hours = {path: HourLayout(pattern).hour(path) for path in paths} if pattern else {}
        known = {path: hour for path, hour in hours.items() if hour is not None}
        if pattern and len(known) == len(paths):
            return Layout(pattern, known)
    return None


def _pattern(path: str) -> str | None:
    """The pattern of one path; None when it does not tell an hour."""
    names, told = path.split("/"), ""
    for place, name in enumerate(names):
        for form, letters, shown in _FORMS:
            wanted = letters or _ORDER[len(told) : len(told) + 1]
            match = re.search(form, name) if wanted and _ORDER[len(told) :].startswith(wanted) else None
            if match:
                told += wanted
                number = match.expand(shown.format(wanted) if not letters else shown)
                rest = name[match.end() :]
                names[place] = name[: match.start()] + number + (_stars(rest) if place == len(names) - 1 else rest)
                break
        if told == _ORDER:
            pattern = "/".join(names[: place + 1])
            return pattern if place == len(names) - 1 or len(names) == place + 2 else None
    return None


def _stars(rest: str) -> str:
    """What follows the hour in a file's name, with `*` for numbers before its endings."""
    stem, dot, endings = rest.partition(".")
    return re.sub(r"\d+", "*", stem) + dot + endings
