"""The request log is joined with an hour's rows: the right score for each row, whatever else the files hold."""

from datetime import timedelta

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saec.config import DataConfig
from saec.data.request_log import LONGEST_LINE, join_log, log_files, remove_log_files, row_ids
from saec.hours import Hour

HOUR = Hour.parse("2026-11-21T10")
OLD, NEW = "20261121T08-0123456789ab", "20261121T09-0123456789ab"


def data(*columns, **changed):
    """Settings of rows that these columns identify."""
    return DataConfig(source="x", time_column="time", label_column="clicked", row_id_columns=list(columns), **changed)


def line(impression, score, seconds=0.0, version=NEW, **changed):
    """A line of the log; seconds are from the hour's start on."""
    at = (HOUR.start + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps(
        {"at": at, "request": "r", "version": version, "id": {"impression": impression}, "score": score} | changed,
        option=orjson.OPT_APPEND_NEWLINE,
    )


def write(folder, *lines, hour=HOUR, process=1):
    """Add lines to the file of a process."""
    with (folder / f"{hour.compact}.host-{process}.jsonl").open("ab") as file:
        file.writelines(lines)


def joined(folder, impressions, seconds=60.0, settings=None):
    """What the log says of rows with these ids, whose events are so many seconds after the hour's start."""
    settings = settings or data("impression")
    times_B = np.full(len(impressions), HOUR.start_ms + int(seconds * 1000))
    return join_log(folder, HOUR, settings, row_ids(pa.table({"impression": impressions}), settings), times_B)


def test_scores_find_their_rows(tmp_path):
    """Rows are matched whatever the order; one that was not served has no score; others' lines are passed over."""
    write(tmp_path, line(3, 0.3), line(1, 0.1, version=OLD), line(99, 0.9))
    found = joined(tmp_path, [1, 2, 3])
    np.testing.assert_array_equal(found.scores_B, [0.1, np.nan, 0.3])
    assert [found.versions[version] if version >= 0 else None for version in found.version_B] == [OLD, None, NEW]
    assert found.counts == {"files": 1, "lines": 3, "unreadable": 0, "torn": 0}


@pytest.mark.parametrize(
    ("scored_at", "wanted"),
    [
        ([10, 50, 30], 1),
        ([10, 60, 61], 1),
        ([70, 65, 90], 1),
        ([-5, 61], 0),
        ([50, 50], 1),
    ],
    ids=["newest before", "the same instant", "all after: the first", "before goes before after", "tie: the last line"],
)
def test_of_several_scores_the_one_that_could_be_shown_counts(tmp_path, scored_at, wanted):
    """The event is at second 60; the order of lines and files does not matter but in a tie."""
    scores = [0.1 * (place + 1) for place in range(len(scored_at))]
    write(tmp_path, *(line(1, score, at) for at, score in zip(scored_at, scores, strict=True)))
    assert joined(tmp_path, [1]).scores_B[0] == scores[wanted]
    for path in tmp_path.iterdir():
        path.unlink()
    for place, at in enumerate(scored_at):
        write(tmp_path, line(1, scores[place], at), process=place)
    assert joined(tmp_path, [1]).scores_B[0] == scores[wanted]


def test_the_hours_around_are_read_too(tmp_path):
    """A score may be logged before the hour began or after it ended; hours further away are not opened."""
    for offset, impression in ((-2, 1), (-1, 2), (0, 3), (1, 4), (2, 5)):
        write(tmp_path, line(impression, 0.5, 3600 * offset), hour=HOUR + offset)
    assert (joined(tmp_path, [1, 2, 3, 4, 5]).version_B >= 0).tolist() == [False, True, True, True, False]
    assert len(log_files(tmp_path, HOUR)) == 3


BAD = [
    b"\n",
    b"no JSON\n",
    b"[1]\n",
    b"7\n",
    b"null\n",
    b"{}\n",
    b"\xff\xfe\n",
    b"[" * 5000 + b"\n",
    b'{"at":NaN}\n',
    line(1, None),
    line(1, "0.5"),
    line(1, 1.5),
    line(1, -0.1),
    line(1, True),
    line(1, 0.5, version="v1"),
    line(1, 0.5, version=None),
    line(1, 0.5, at="yesterday"),
    line(1, 0.5, at=7),
    line(1, 0.5, id=[1]),
    line(1, 0.5, id={}),
    line([1], 0.5),
    line({"a": 1}, 0.5),
    line("x" * LONGEST_LINE, 0.5).rjust(2 * LONGEST_LINE - 1),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: repr(bad[:40]))
def test_a_line_that_cannot_be_used_is_counted(tmp_path, bad):
    """Nothing that a line holds is fatal, and the lines after it count."""
    write(tmp_path, bad, line(1, 0.25))
    found = joined(tmp_path, [1])
    assert found.scores_B.tolist() == [0.25]
    assert found.counts["unreadable"] == (2 if len(bad) > LONGEST_LINE else 1)


def test_a_torn_last_line_is_passed_over(tmp_path):
    """A file that is being written ends anywhere: the line counts once it has its end."""
    whole = line(2, 0.75)
    write(tmp_path, line(1, 0.25), whole[:-1])
    found = joined(tmp_path, [1, 2])
    assert found.counts["torn"] == 1
    np.testing.assert_array_equal(found.scores_B, [0.25, np.nan])
    write(tmp_path, b"\n")
    assert joined(tmp_path, [1, 2]).scores_B.tolist() == [0.25, 0.75]


@given(st.binary(max_size=300))
def test_no_bytes_are_fatal(tmp_path_factory, noise):
    """Whatever stands between two lines, both are found."""
    folder = tmp_path_factory.mktemp("log")
    write(folder, line(1, 0.25), noise, b"\n", line(2, 0.75))
    assert joined(folder, [1, 2]).scores_B.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("column", "logged"),
    [
        (pa.array([7, 2**63 - 1]), [7, 2**63 - 1]),
        (pa.array([7, 2**63 - 1]), ["7", str(2**63 - 1)]),
        (pa.array([7, 2**64 - 1], pa.uint64()), [7, 2**64 - 1]),
        (pa.array(["a", "ä\x00€" * 50]), ["a", "ä\x00€" * 50]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([b"a", b"b"]), ["a", "b"]),
        (pa.array([1.0, 0.1]), [1.0, 0.1]),
        (pa.array([1.0, 2e15]), [1, 2e15]),
        (pa.array([True, None]), [True, None]),
    ],
    ids=["int", "int as text", "uint64", "text", "dictionary", "binary", "float", "whole float", "bool and null"],
)
def test_ids_of_any_plain_type_match(tmp_path, column, logged):
    """What a client sends as JSON is the same id as what comes in Parquet."""
    write(tmp_path, line(logged[0], 0.25), line(logged[1], 0.75))
    assert joined(tmp_path, column).scores_B.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "time", [HOUR.start_ms + 1500, "2026-11-21T10:00:01.500Z", "2026-11-21T10:00:01.5", "2026-11-21T12:00:01.500+02:00"]
)
def test_several_columns_and_the_time_identify_a_row(tmp_path, time):
    """All columns have to agree; the event's time is told in ISO 8601 or milliseconds."""
    settings = data("user", "time")
    write(tmp_path, line(0, 0.25, id={"user": "a", "time": time}), line(0, 0.75, id={"user": "b", "time": time}))
    times = pa.array([HOUR.start_ms * 1000 + 1_500_000] * 2, pa.timestamp("us", "UTC"))
    ids_B = row_ids(pa.table({"user": ["b", "c"], "time": times}), settings)
    found = join_log(tmp_path, HOUR, settings, ids_B, np.full(2, HOUR.start_ms + 1500))
    np.testing.assert_array_equal(found.scores_B, [0.75, np.nan])


def test_many_lines_are_joined_chunk_by_chunk(tmp_path, monkeypatch):
    """Three chunks and a ragged last one give what one chunk gives."""
    rng = np.random.default_rng(1)
    impressions, seconds = rng.integers(0, 200, 1_000).tolist(), rng.integers(0, 120, 1_000).tolist()
    write(tmp_path, *(line(i, s / 1_000, t) for s, (i, t) in enumerate(zip(impressions, seconds, strict=True))))
    whole = joined(tmp_path, list(range(200)))
    monkeypatch.setattr("saec.data.request_log._CHUNK", 300)
    np.testing.assert_array_equal(joined(tmp_path, list(range(200))).scores_B, whole.scores_B)


def test_old_files_are_removed(tmp_path):
    """Files of hours before the given one go; those of later hours and whatever is named otherwise stay."""
    for offset in (-2, -1, 0, 1):
        write(tmp_path, line(1, 0.5), hour=HOUR + offset)
    others = ["notes.txt", "20200101T00.jsonl", "20200101T99.host-1.jsonl", "20200101T00.host-1.jsonl.gz"]
    for name in others:
        (tmp_path / name).write_text("")
    (tmp_path / "20200101T00.folder-1.jsonl").mkdir()
    remove_log_files(tmp_path, HOUR)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, "20200101T00.folder-1.jsonl", "20261121T10.host-1.jsonl", "20261121T11.host-1.jsonl"}
