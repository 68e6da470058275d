"""Reports the worth of each field's codes: how much higher the log loss would be without them.

The worth is measured every hour on rows not yet learnt (`saec.compression.challenger`), and decides which features get
a code. Decisions: hours are pooled by their rows. Intervals are two-sided, 95% and normal. The worth of the day before
is shown beside it, because a field whose worth drops deserves a look. The unit is thousandths of a nat, because nobody
reads 0.00031.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from saec.gate.paired import TWO_SIDED, Interval
from saec.report import text
from saec.report.fields import by_field
from saec.report.records import Record, finite, last_hours

HOURS = 24
"""Pooled, and compared with as many before them."""
MILLINATS = 1000
HEAD = ("field", "log loss saved, thousandths", "95% interval", f"{HOURS} hours before", "moved by", "95% interval")


def field_worth(records: Sequence[Record], hours: int = HOURS) -> dict[str, dict[str, float | None]]:
    """Worth of each field over the newest hours and over those before them, in nats a row, the most worth first.

    Args:
        records: hours, in any order; those that do not know what fields are worth are passed over.
        hours: on the clock, of each of the two stretches.

    Returns:
        By field: `worth`, `lower`, `upper`, `before`, `moved`, `moved_lower` and `moved_upper`; None where unknown.
    """
    recent = last_hours(records, hours)
    earlier = last_hours(records, 2 * hours)[: -len(recent) or None]
    found = {}
    for name in {name: None for record in recent for name in by_field(record)}:
        now, before = _pooled(recent, name), _pooled(earlier, name)
        if now is None:
            continue
        moved = before and Interval(now.difference - before.difference, math.hypot(now.reach, before.reach))
        found[name] = {
            "worth": now.difference,
            "lower": now.lower,
            "upper": now.upper,
            "before": before.difference if before else None,
            "moved": moved.difference if moved else None,
            "moved_lower": moved.lower if moved else None,
            "moved_upper": moved.upper if moved else None,
        }
    return dict(sorted(found.items(), key=lambda item: -(item[1]["worth"] or 0.0)))


def worth_rows(worth: Mapping[str, Mapping[str, float | None]]) -> list[list[str]]:
    """A row a field under `HEAD`; names are as the configuration has them, not yet escaped."""
    return [
        [
            text.plain(name),
            _signed(of["worth"]),
            _between(of["lower"], of["upper"]),
            _signed(of["before"]),
            _signed(of["moved"]),
            _between(of["moved_lower"], of["moved_upper"]),
        ]
        for name, of in worth.items()
    ]


def _pooled(records: Sequence[Record], name: str) -> Interval | None:
    """A field's worth over some hours; None when none of them knows it."""
    known = [of for record in records if (of := _measured(by_field(record).get(name, {}))) is not None]
    rows = sum(count for _, _, count in known)
    if not rows:
        return None
    mean = sum(worth * count for worth, _, count in known) / rows
    return Interval(mean, TWO_SIDED * math.hypot(*(error * count for _, error, count in known)) / rows)


def _measured(figures: Mapping[str, object]) -> tuple[float, float, float] | None:
    """Worth, its standard error and the rows, where the hour knows all three."""
    worth, error, rows = (finite(figures.get(key)) for key in ("worth", "worth_error", "worth_rows"))
    return None if worth is None or error is None or rows is None else (worth, error, rows)


def _signed(value: float | None) -> str:
    return text.signed(None if value is None else MILLINATS * value, 2)


def _between(lower: float | None, upper: float | None) -> str:
    return text.DASH if lower is None or upper is None else f"{_signed(lower)} to {_signed(upper)}"
