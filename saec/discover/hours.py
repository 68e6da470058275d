"""Derives the hourly layout of a log from its paths, as a pattern for `data.layout`.

Decisions: the first path gives the pattern, and every other must fit it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saec.data.source_problem import guess_layout
from saec.hour_layout import DEFAULT_LAYOUT, HourLayout
from saec.hours import Hour


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
    for pattern in (DEFAULT_LAYOUT, guess_layout(paths[0])):
        hours = {path: HourLayout(pattern).hour(path) for path in paths} if pattern else {}
        known = {path: hour for path, hour in hours.items() if hour is not None}
        if pattern and len(known) == len(paths):
            return Layout(pattern, known)
    return None
