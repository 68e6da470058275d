"""Every notation of time becomes the same instants."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from saec.discover.times import time_columns

MOMENTS = [datetime(2026, 3, 1, hour, 30, 15, tzinfo=UTC) for hour in (5, 6, 23)]
SECONDS = [int(moment.timestamp()) for moment in MOMENTS]


def instants(column, zone=None):
    """The instants of the only column."""
    table = pa.table({"when": column, "other": pa.array([1, 2, 3])})
    [found] = time_columns(table, zone)
    return found, found.instants(table).to_pylist()


@pytest.mark.parametrize(
    "column",
    [
        pa.array(MOMENTS, pa.timestamp("us", "UTC")),
        pa.array([moment.replace(tzinfo=None) for moment in MOMENTS], pa.timestamp("ms")),
        pa.array(MOMENTS, pa.timestamp("ns", "Europe/Berlin")),
        pa.array(SECONDS),
        pa.array([second * 1_000 for second in SECONDS]),
        pa.array([s * 10**9 for s in SECONDS]),
        pa.array([float(second) for second in SECONDS]),
        pa.array([moment.isoformat() for moment in MOMENTS]),
        pa.array([moment.strftime("%Y-%m-%d %H:%M:%S") for moment in MOMENTS]),
        pa.array([moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in MOMENTS]),
        pa.array([f"2026-03-01T{hour:02}:30:15+02:00" for hour in (7, 8)] + ["2026-03-02T01:30:15+02:00"]),
        pa.array([moment.strftime("%d/%m/%Y %H:%M:%S") for moment in MOMENTS[:2]] + ["28/02/2026 10:00:00"]),
        pa.array([moment.strftime("%Y%m%d%H%M%S") for moment in MOMENTS]),
        pa.array([int(moment.strftime("%Y%m%d%H%M%S")) for moment in MOMENTS]),
    ],
    ids=str,
)
def test_a_notation_is_read(column):
    """To the second, in UTC."""
    found, read = instants(column)
    assert read[:2] == MOMENTS[:2]
    assert not found.hourly


@pytest.mark.parametrize(
    ("column", "first"),
    [
        (pa.array([14102100, 14102100, 14102123]), datetime(2014, 10, 21, 0, tzinfo=UTC)),
        (pa.array(["2026030105", "2026030106", "2026030223"]), datetime(2026, 3, 1, 5, tzinfo=UTC)),
        (pa.array(["2026-03-01 05", "2026-03-01 06", "2026-03-01 07"]), datetime(2026, 3, 1, 5, tzinfo=UTC)),
    ],
)
def test_an_hour_is_told_from_a_time(column, first):
    """Avazu's YYMMDDHH and the like say no more than the hour."""
    found, read = instants(column)
    assert (found.hourly, read[0]) == (True, first)


def test_a_day_and_an_hour_make_a_time():
    """Two columns, as in Hive tables."""
    table = pa.table({"date": pa.array(["2026-03-01", "2026-03-02", "2026-03-03"]), "hour": pa.array([0, 5, 23])})
    [found, *_] = time_columns(table)
    assert found.columns == ("date", "hour")
    assert found.instants(table).to_pylist()[1] == datetime(2026, 3, 2, 5, tzinfo=UTC)


def test_a_zone_is_for_times_that_name_none():
    """Berlin's noon is 11 in UTC; what has an offset keeps it."""
    naive = pa.array(["2026-03-01 12:00:01"] * 3)
    assert instants(naive, "Europe/Berlin")[1][0] == datetime(2026, 3, 1, 11, 0, 1, tzinfo=UTC)
    assert instants(pa.array([moment.isoformat() for moment in MOMENTS]), "Europe/Berlin")[1] == MOMENTS


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2, 3]),
        pa.array([2026, 2025, 2024]),
        pa.array(["2026-03-01", "2026-03-02", "2026-03-03"]),
        pa.array(["a", "b", "c"]),
        pa.array([None, None, MOMENTS[0]]),
        pa.array(["00012", "10115", "99999"]),
    ],
)
def test_what_tells_no_hour_is_no_time(column):
    """Small numbers, years, days, text, mostly nothing."""
    assert not time_columns(pa.table({"when": column}))


def test_the_events_own_time_comes_first():
    """A birthday and a time that only clicks have are not when the row happened."""
    table = pa.table({"signup_time": pa.array(SECONDS), "ts": pa.array(SECONDS), "hour": pa.array([26030105] * 3)})
    assert [found.name for found in time_columns(table)] == ["ts", "signup_time", "hour"]
