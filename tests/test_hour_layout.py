"""Patterns of where an hour lies: what they match, what they refuse."""

import pytest

from saec.hour_layout import HourLayout, data_format, span
from saec.hours import Hour

HOUR = Hour.parse("2026-01-02T05")


@pytest.mark.case(6)
@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("date=%Y-%m-%d/hour=%H", "date=2026-01-02/hour=05/part-0.parquet"),
        ("date=%Y-%m-%d/hour=%H", "date=2026-01-02/hour=5/part-0.parquet"),
        ("date=%Y-%m-%d/hour=%H", "date=2026-1-2/hour=5/x"),
        ("dt=%Y-%m-%d/hr=%H", "dt=2026-01-02/hr=05/a.csv"),
        ("date=%Y%m%d/hour=%H", "date=20260102/hour=5/a.csv"),
        ("year=%Y/month=%m/day=%d/hour=%H", "year=2026/month=1/day=2/hour=5/a.csv"),
        ("%Y%m%d/%H", "20260102/05/a.csv"),
        ("%Y%m%d%H/", "2026010205/a.csv"),
        ("%Y.%m.%d.%H", "2026.01.02.05/a.csv"),
        ("DATE=%Y-%m-%d/HOUR=%H/country=*/", "DATE=2026-01-02/HOUR=05/country=DE/a.csv"),
        ("%Y-%m-%d/clicks-%Y%m%d-%H.jsonl.gz", "2026-01-02/clicks-20260102-05.jsonl.gz"),
        ("clicks-%Y-%m-%dT%H*", "clicks-2026-01-02T05:00:00Z.parquet"),
        ("%H/%d/%m/%Y", "05/02/01/2026/a.csv"),
        ("100%%/%Y%m%d%H*", "100%/2026010205.csv"),
    ],
)
def test_layouts_are_read(pattern, path):
    """Folders by other names, without leading zeros, nested otherwise, and files that say the hour themselves."""
    assert HourLayout(pattern).hour(path) == HOUR


@pytest.mark.parametrize(
    "path",
    [
        "date=2026-02-30/hour=05/x",
        "date=2026-01-02/hour=24/x",
        "date=2026-01-02/hour=005/x",
        "date=2026-01-02/hour=05",
        "date=2026-01-02/hour=05/more/x",
        "date=2026-01-02/hr=05/x",
        "date=2026-01-02/hour=٥/x",
        "x",
        "",
    ],
)
def test_look_alikes_are_not(path):
    """A day or hour that does not exist, another name, and another depth are no hour's place."""
    assert HourLayout("date=%Y-%m-%d/hour=%H").hour(path) is None


def test_numbers_said_twice_must_agree():
    """A file that says another day than its folder is of neither."""
    layout = HourLayout("%Y-%m-%d/clicks-%d-%H*")
    assert layout.hour("2026-01-02/clicks-02-05.csv") == HOUR
    assert layout.hour("2026-01-02/clicks-03-05.csv") is None


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("date=%Y-%m-%d", "%H"),
        ("", "%Y"),
        ("%Y/%m/%d/%H%M", "not %M"),
        ("/%Y/%m/%d/%H", "single slashes"),
        ("../%Y/%m/%d/%H", "below data.source"),
        ("%Y//%m-%d-%H", "single slashes"),
    ],
)
def test_patterns_that_tell_no_hour(pattern, says):
    """The message says what lacks, or what there is not."""
    with pytest.raises(ValueError, match=says):
        HourLayout(pattern)


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("%Y/%m/%d/%H", False),
        ("%Y-%m-%d-%H.parquet", True),
        ("%Y-%m-%d-%H*", True),
        ("%Y-%m-%d-%H/*", True),
        ("%Y-%m-%d-%H/country=*/", False),
        ("%Y.%m.%d.%H", False),
    ],
)
def test_whether_a_pattern_names_files(pattern, files):
    """A star or a file's ending in the last name makes it one of files; a slash after it one of folders."""
    assert HourLayout(pattern).names_files is files


@pytest.mark.parametrize(
    ("pattern", "level"),
    [("date=%Y-%m-%d/hour=%H", 1), ("%Y/%m/%d/%H", 3), ("%H/%Y%m%d", 2), ("x/%Y%m%d/%H/*", 2), ("%d/%Y/%H/%m", 4)],
)
def test_where_a_day_ends(pattern, level):
    """Listing goes name by name until the day is known."""
    assert HourLayout(pattern).day_level == level


def test_place_is_read_back():
    """What a pattern makes of an hour, it reads as that hour."""
    for pattern in ("%Y%m%d/%H", "date=%Y-%m-%d/hour=%H", "x/%Y/%m/%d/%H/"):
        layout = HourLayout(pattern)
        assert layout.hour(f"{layout.place(HOUR)}/part-0.parquet") == HOUR


def test_span_of_numbers_known():
    """The hours that a year, a month, a day or an hour can hold; unknown numbers in front bound nothing."""
    february = {"Y": 2024, "m": 2}
    found = [span({"Y": 2024}), span(february), span(february | {"d": 29}), span({"Y": 2024, "d": 3})]
    assert [f"{first} {last}" for first, last in filter(None, found)] == [
        "2024-01-01T00 2024-12-31T23",
        "2024-02-01T00 2024-02-29T23",
        "2024-02-29T00 2024-02-29T23",
        "2024-01-01T00 2024-12-31T23",
    ]
    assert span({"Y": 2023, "m": 2, "d": 29}) is None
    assert span({"m": 3}) is not None


@pytest.mark.parametrize(
    ("name", "auto", "as_csv"),
    [
        ("a.parquet", "parquet", None),
        ("a.PARQ", "parquet", None),
        ("a.pq", "parquet", None),
        ("a.csv", "csv", "csv"),
        ("a.tsv.zst", "csv", "csv"),
        ("a.ndjson.gz", "jsonl", None),
        ("a.json", "jsonl", None),
        ("part-0", None, "csv"),
        ("part-0.gz", None, "csv"),
        ("a.txt", None, "csv"),
        (".a.csv", None, None),
        ("_a.csv", None, None),
    ],
)
def test_formats_by_ending(name, auto, as_csv):
    """Endings tell the format; one that is set also takes names that tell none."""
    assert (data_format(name), data_format(name, "csv")) == (auto, as_csv)
