"""Layouts by hour are read off paths."""

import pytest

from saec.discover.hours import hourly_layout
from saec.hours import Hour


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("date=2026-03-01/hour=05/a.parquet", "date=%Y-%m-%d/hour=%H"),
        ("date=2026-03-01/hour=5/a.parquet", "date=%Y-%m-%d/hour=%H"),
        ("dt=20260301/hr=5/a.csv", "dt=%Y%m%d/hr=%H"),
        ("2026/03/01/05/a", "%Y/%m/%d/%H"),
        ("year=2026/month=3/day=1/hour=5/part-0001.parquet", "year=%Y/month=%m/day=%d/hour=%H"),
        ("clicks_2026030105.csv.gz", "clicks_%Y%m%d%H*"),
        ("2026-03-01T05/x", "%Y-%m-%dT%H"),
        ("day/2026-03-01/log-05-part7.jsonl", "day/%Y-%m-%d/log-%H*"),
    ],
)
def test_a_layout_is_a_pattern(path, pattern):
    """Named as `data.layout` names it, and the hour with it."""
    layout = hourly_layout([path])
    assert (layout.pattern, layout.hours[path]) == (pattern, Hour.parse("2026-03-01T05"))


@pytest.mark.parametrize(
    "paths",
    [
        ["a.parquet"],
        ["date=2026-03-01/a.parquet"],
        ["date=2026-02-30/hour=05/a"],
        ["date=2026-03-01/hour=25/a"],
        ["date=2026-03-01/hour=05/a", "date=2026-03-01/other/a"],
        ["date=2026-03-01/hour=05/a", "dt=2026-03-01/hour=05/a"],
    ],
)
def test_what_tells_no_hour_is_no_layout(paths):
    """Days alone, hours that are none, files that differ."""
    assert hourly_layout(paths) is None
