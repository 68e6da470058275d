"""What fields are worth: pooled by rows, with intervals, beside the day before."""

import math

import pytest

from saec.hours import Hour
from saec.report.worth import HEAD, field_worth, worth_rows

FIRST = Hour.parse("2026-03-01T00")


def record(index, **worth):
    """An hour in which fields were worth (mean, standard error, rows)."""
    fields = {
        name: {"head": 1.0, **dict(zip(("worth", "worth_error", "worth_rows"), of, strict=True))}
        for name, of in worth.items()
    }
    return {"hour": str(FIRST + index), "fields": fields}


def test_by_hand():
    """Two hours of 100 and 300 rows; the day before it was worth more."""
    hours = [
        record(0, user=(0.02, 0.001, 100)),
        record(24, user=(0.01, 0.002, 100), os=(0.03, 0.001, 100)),
        record(25, user=(0.002, 0.001, 300), os=(0.03, 0.001, 300)),
    ]
    found = field_worth(hours[::-1])
    assert list(found) == ["os", "user"]
    user = found["user"]
    assert user["worth"] == pytest.approx((0.01 * 100 + 0.002 * 300) / 400)
    error = math.hypot(0.002 * 100, 0.001 * 300) / 400
    assert user["upper"] - user["worth"] == pytest.approx(1.96 * error, rel=1e-3)
    assert user["before"] == pytest.approx(0.02)
    assert user["moved"] == pytest.approx(user["worth"] - 0.02)
    assert user["moved_upper"] - user["moved"] == pytest.approx(1.96 * math.hypot(error, 0.001), rel=1e-3)
    assert found["os"]["before"] is None
    assert found["os"]["moved"] is None


def test_rows_of_the_table():
    """Thousandths of a nat; a dash for what nobody knows."""
    (row,) = worth_rows(field_worth([record(0, **{"a\x1bb": (0.0123, 0.001, 100)})]))
    assert len(row) == len(HEAD)
    assert row[1:] == ["+12.30", "+10.34 to +14.26", "–", "–", "–"]
    assert "\x1b" not in row[0]


def test_hours_that_do_not_know_are_passed_over():
    """Older records, broken ones, none at all."""
    assert field_worth([]) == {}
    assert field_worth([{"hour": str(FIRST)}, {"hour": str(FIRST + 1), "fields": {"user": {"head": 3.0}}}]) == {}
    broken = record(2, user=(math.nan, 0.1, 100), os=(0.1, 0.1, 0))
    assert field_worth([broken]) == {}
