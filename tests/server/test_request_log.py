"""Scored rows reach the log in whole lines, in the file of their hour, and never at a request's expense."""

import json
import os
import time

import pytest

from saec.hours import Hour
from saec.server import request_log
from saec.server.request_log import RequestLog

VERSION = "20261121T09-0123456789ab"
NOON = Hour.parse("2026-11-21T12").start.timestamp()


@pytest.fixture
def clock(monkeypatch):
    """The server's clock, which a test sets."""

    class Clock:
        now = NOON

    monkeypatch.setattr(request_log.time, "time", lambda: Clock.now)
    return Clock


def lines(path):
    """The objects of a file, one a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_row_is_a_line(tmp_path, clock):
    """Time, request, version, id and score, in a file named by hour, host and process."""
    clock.now = NOON + 1.25
    with RequestLog(tmp_path / "log") as log:
        log.add("r1", VERSION, [{"impression_id": 1}, {"impression_id": 2}], [0.25, 1 / 3])
    (path,) = (tmp_path / "log").iterdir()
    assert path == log.path(Hour.parse("2026-11-21T12"))
    assert path.name.startswith("20261121T12.")
    assert path.name.endswith(f"-{os.getpid()}.jsonl")
    assert lines(path) == [
        {
            "at": "2026-11-21T12:00:01.250Z",
            "request": "r1",
            "version": VERSION,
            "id": {"impression_id": 1},
            "score": 0.25,
        },
        {
            "at": "2026-11-21T12:00:01.250Z",
            "request": "r1",
            "version": VERSION,
            "id": {"impression_id": 2},
            "score": 1 / 3,
        },
    ]
    assert (log.written, log.dropped) == (2, 0)


def test_rows_go_to_the_hour_they_were_scored_in(tmp_path, clock):
    """Of two requests an instant apart, on either side of the hour, each is in its own file."""
    with RequestLog(tmp_path) as log:
        clock.now = NOON - 0.001
        log.add("before", VERSION, [{"id": 1}], [0.1])
        clock.now = NOON
        log.add("after", VERSION, [{"id": 2}], [0.2])
    named = {path.name.partition(".")[0]: [line["request"] for line in lines(path)] for path in tmp_path.iterdir()}
    assert named == {"20261121T11": ["before"], "20261121T12": ["after"]}


def test_a_torn_line_spoils_no_other(tmp_path, clock):
    """A process that takes up the file of a killed one ends the torn line first."""
    with RequestLog(tmp_path) as log:
        log.path(Hour.parse("2026-11-21T12")).write_bytes(b'{"at":"2026-11-21T12:00')
        for request in "ab":
            log.add(request, VERSION, [{"id": 1}], [0.1])
            time.sleep(0.3)
    torn, *whole = log.path(Hour.parse("2026-11-21T12")).read_text().splitlines()
    assert torn == '{"at":"2026-11-21T12:00'
    assert [json.loads(line)["request"] for line in whole] == ["a", "b"]


def test_a_full_queue_drops_and_counts(tmp_path, monkeypatch):
    """Rows beyond the bound are dropped, whole requests at a time; those before it are written."""
    monkeypatch.setattr(request_log, "QUEUED_ROWS", 3)
    with RequestLog(tmp_path) as log:
        log.add("fits", VERSION, [{"id": 1}, {"id": 2}], [0.1, 0.2])
        log.add("too many", VERSION, [{"id": 3}, {"id": 4}], [0.3, 0.4])
        log.add("fits again", VERSION, [{"id": 5}], [0.5])
    (path,) = tmp_path.iterdir()
    assert [line["id"]["id"] for line in lines(path)] == [1, 2, 5]
    assert (log.written, log.dropped) == (3, 2)


def test_a_folder_that_goes_away_costs_only_lines(tmp_path, caplog):
    """What cannot be written is counted and said once; when the disk is back, lines are written again."""
    with RequestLog(tmp_path / "log") as log:
        (tmp_path / "log").rmdir()
        for request in range(2):
            log.add(str(request), VERSION, [{"id": request}], [0.1])
            time.sleep(0.3)
        (tmp_path / "log").mkdir()
        log.add("back", VERSION, [{"id": 9}], [0.1])
    assert (log.written, log.dropped) == (1, 2)
    assert [record.message.startswith("scored rows cannot be logged") for record in caplog.records] == [True]
