"""The strip of the last hours: the outcome of each, and its sign.

Decisions: each outcome has a sign, so that colour is not needed. The strip ends at the current hour and includes hours
that were not done, unless the data itself is old.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from saec.hours import Hour, hour_range
from saec.monitoring.outlook import Outlook
from saec.report.records import OUTCOMES

HOURS = 48
NOTHING = "NOT DONE"
"""Outcome of an hour that is not in the ledger."""
SIGNS = {"PUBLISHED": "P", "HELD": "H", "QUARANTINED": "Q", "FAILED": "F", "RUNNING": "…", NOTHING: "·"}


def last_outcomes(outlook: Outlook, hours: int = HOURS) -> dict[Hour, str]:
    """How the last hours ended, oldest first; none before the first hour."""
    if not outlook.rows:
        return {}
    known = {row.hour: row.state for row in outlook.rows[-hours:]}
    newest, clock = outlook.rows[-1].hour, Hour.of(outlook.now) - 1
    last = clock if newest < clock < newest + hours else newest
    return {hour: known.get(hour, NOTHING) for hour in hour_range(max(last - hours + 1, outlook.rows[0].hour), last)}


def strip_words(outcomes: Iterable[str]) -> str:
    """The strip's counts in words, with the sign of each outcome.

    >>> strip_words(["PUBLISHED", "HELD", "PUBLISHED"])
    '2 published (P), 1 held (H)'
    """
    counts = Counter(outcomes)
    names = [name for name in (*OUTCOMES, "RUNNING", NOTHING) if counts[name]]
    return ", ".join(f"{counts[name]} {name.lower()} ({SIGNS[name]})" for name in names)
