"""The last hours as a strip: how each ended, and the sign it goes by.

Decisions: each outcome has a sign, so nothing rests on colour; the strip ends where the clock is, hours that nobody did
included, unless the data itself is of long ago.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from saec.hours import Hour, hour_range
from saec.monitoring.outlook import Outlook
from saec.report.records import OUTCOMES

HOURS = 48
NOTHING = "NOT DONE"
"""What an hour is called that the ledger does not know."""
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
