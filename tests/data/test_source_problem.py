"""A source that holds no hour: what was seen, and lines of YAML under which it does."""

import os

import pytest
import yaml

from saec.config import DataConfig
from saec.data.partitions import available_hours
from saec.data.source_problem import check_source, guess_layout, source_problem
from saec.errors import ConfigError
from saec.hour_layout import HourLayout
from saec.hours import Hour

pytestmark = pytest.mark.case(6)
HOUR = Hour.parse("2026-01-02T05")
PATHS = [
    "dt=2026-01-02/hr=05/part-0.parquet",
    "date=20260102/hour=05/part-0.parquet",
    "date=2026-01-02/hour=05/000000_0",
    "date=2026-01-02/05.parquet",
    "year=2026/month=1/day=2/hour=5/x.parq",
    "2026/01/02/05/x.csv.gz",
    "20260102/05/x.csv",
    "2026010205/x.parquet",
    "clicks-2026-01-02T05.parquet",
    "clicks-2026-01-02T05:00:00Z-b.jsonl",
    "clicks_20260102_05.csv",
    "2026-01-02/clicks-05.csv",
    "2026-01-02/clicks-20260102-05.csv",
    "202601020530.csv",
    "DATE=2026-01-02/HOUR=05/x.parquet",
    "date=2026-01-02/hour=05/country=DE/x.parquet",
    "v2/logs/2026.01.02/05/a/b/x.csv",
    "date=2026_01_02/hour=05/x.parquet",
    "2026-01-02-05/part.txt",
    "shard-1/2026-01-02 05/x.csv",
    "year=2026/month=01/day=02/2026-01-02T0500.csv",
]


def settings(source, **data) -> DataConfig:
    return DataConfig(source=str(source), time_column="time", label_column="clicked", **data)


def file_at(root, path, text="a,b\n1,2\n"):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize("path", PATHS)
def test_layouts_nearly_right(tmp_path, path):
    """The problem names a file, and the lines that it gives make the hour be found."""
    file_at(tmp_path, path)
    problem = source_problem(settings(tmp_path))
    assert path in problem
    lines = yaml.safe_load(problem.partition("write\n")[2])
    mended = settings(tmp_path, **lines)
    assert list(available_hours(mended)) == [HOUR]
    assert source_problem(mended) is None


@pytest.mark.parametrize(
    "path",
    [
        "x.csv",
        "clicks.parquet",
        "date=2026-01-02/x.parquet",
        "part-00001.csv",
        "date=2026-13-02/hour=05/x.csv",
        "a/b/c.csv",
    ],
)
def test_files_that_tell_no_hour(tmp_path, path):
    """No layout is guessed; the way on is to lay the log out by the hour."""
    file_at(tmp_path, path)
    assert guess_layout(path) is None
    problem = source_problem(settings(tmp_path))
    assert path in problem
    assert "--partition" in problem


def test_a_source_that_does_not_exist(tmp_path):
    """The message says what is there, and the nearest name."""
    (tmp_path / "clicks").mkdir()
    problem = source_problem(settings(tmp_path / "cliks" / "v1"))
    assert "does not exist" in problem
    assert f"{tmp_path} holds clicks; did you mean 'clicks'?" in problem
    with pytest.raises(ConfigError, match="does not exist"):
        check_source(settings((tmp_path / "cliks").as_uri()))


def test_a_source_that_is_a_file(tmp_path):
    """One of hourly files gets its folder and layout; a whole log, how to lay it out."""
    file_at(tmp_path, "clicks-2026-01-02T05.csv")
    problem = source_problem(settings(tmp_path / "clicks-2026-01-02T05.csv"))
    lines = yaml.safe_load(problem.partition("write\n")[2])
    assert list(available_hours(settings(**lines))) == [HOUR]
    file_at(tmp_path, "log.csv")
    assert "saec init" in source_problem(settings(tmp_path / "log.csv"))


def test_a_source_that_is_empty(tmp_path):
    """It is fine before the first delivery, with or without a writer's own files, and not after."""
    (tmp_path / "_temporary").mkdir()
    file_at(tmp_path, "_temporary/x.parquet")
    (tmp_path / "date=2026-01-02").mkdir()
    assert source_problem(settings(tmp_path)) is None
    assert "hours were read from it before" in source_problem(settings(tmp_path), known=True)
    file_at(tmp_path, "date=2026-01-02/hour=05/x.parquet")
    assert source_problem(settings(tmp_path), known=True) is None


def test_formats_nearly_right(tmp_path):
    """Files without an ending are told by their first bytes; files of another format than set need no setting."""
    for text, kind in (("PAR1", "parquet"), ('{"a": 1}', "jsonl"), ("a,b", "csv")):
        file_at(tmp_path, "date=2026-01-02/hour=05/000000_0", text)
        assert source_problem(settings(tmp_path)).endswith(f"write\n  format: {kind}")
    (tmp_path / "date=2026-01-02/hour=05/000000_0").unlink()
    file_at(tmp_path, "date=2026-01-02/hour=05/x.csv")
    assert source_problem(settings(tmp_path, format="parquet")).endswith("write\n  format: auto")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_source_that_may_not_be_read(tmp_path):
    """It is a problem in words, not an error number."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    try:
        assert "cannot be read" in source_problem(settings(folder))
    finally:
        folder.chmod(0o700)


def test_no_url_shows_its_password():
    """A URL that cannot be opened is a problem, told without it."""
    assert "secret" not in source_problem(settings("ftp://me:secret@host/data"))


def test_guesses_are_layouts():
    """Each guess reads its own path, and says the names beside the numbers as they are."""
    assert [guess_layout(path) for path in PATHS[:4]] == [
        "dt=%Y-%m-%d/hr=%H",
        "date=%Y%m%d/hour=%H",
        "date=%Y-%m-%d/hour=%H",
        "date=%Y-%m-%d/%H*",
    ]
    assert all(HourLayout(guess_layout(path)).hour(path) == HOUR for path in PATHS)
