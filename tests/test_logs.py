"""The log of an hour, as text and as JSON."""

import json
import logging
import os
import subprocess
import sys

import pytest

from saec.errors import ConfigError
from saec.hours import Hour
from saec.ledger import HourRow
from saec.logs import about, ended, hour_logged, start, step_begun

HOUR = Hour.parse("2017-10-01T03")
STEPS = ["ingest", "train", "cluster", "retrain", "gate", "publish"]


@pytest.fixture
def written(monkeypatch, capsys):
    """What a JSON log writes, as objects."""
    logger = logging.getLogger("saec")
    monkeypatch.setenv("SAEC_LOG", "json")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "level", logger.level)
    start()
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def row(state: str, **known) -> HourRow:
    """An hour of the ledger."""
    return HourRow(HOUR, state, attempts=1, fence=1, **known)


def test_an_hour_is_told_step_by_step(written, fresh):
    """Each line of an hour carries it; every step ends with its seconds, the end has outcome, reason and version."""
    (done, *_) = fresh.advance(fresh.hours[0])
    lines = written()
    assert {line["hour"] for line in lines} == {str(done.hour)}
    assert [line["step"] for line in lines if "step" in line] == STEPS
    assert all(line["seconds"] >= 0 for line in lines if "step" in line)
    assert lines[0]["message"] == f"hour {done.hour} begun"
    assert (lines[-1]["outcome"], lines[-1]["reason"]) == (done.state, done.reason) == ("HELD", "floor")
    assert {"timestamp", "level", "logger", "message", "hour", "version"} <= set(lines[0])


def test_the_version_is_said_once_it_is_known(written):
    """Lines before a version know none; the step that made it and the end of the hour name it; later lines do not."""

    @hour_logged
    def do(hour: Hour) -> HourRow:
        step_begun("publish")
        return row("PUBLISHED", version="v-1", record={}, seconds=3.0)

    do(HOUR)
    logging.getLogger("saec.other").warning("between hours")
    told = written()
    assert [line["version"] for line in told] == [None, "v-1", "v-1", None]
    assert told[-1]["hour"] is None
    assert told[1]["message"].startswith("step publish finished in 0.")


def test_a_step_that_broke_is_not_called_finished(written, fresh):
    """A quarantined hour tells of no finished step, and why it ended."""
    fresh.file(fresh.hours[0]).write_bytes(b"not a Parquet file")
    fresh.advance(fresh.hours[0])
    lines = written()
    assert not [line for line in lines if "step" in line]
    assert (lines[-1]["outcome"], lines[-1]["reason"]) == ("QUARANTINED", "corrupt")
    assert "corrupt" in lines[-2]["message"]


def test_an_hour_that_was_stepped_over_is_told(written):
    """Hours that no step was taken for have their line too."""
    ended(row("HELD", reason="no-data"))
    (line,) = written()
    assert (line["hour"], line["message"]) == (str(HOUR), f"hour {HOUR} ended HELD(no-data)")


def test_a_line_stays_one_line(written):
    """A traceback and whatever a message holds are within the object."""
    with about(HOUR, "v-1"):
        try:
            int('two\nlines "quoted"')
        except ValueError:
            logging.getLogger("saec.x").exception("broke: %s", "a\nb")
    (line,) = written()
    assert line["message"] == "broke: a\nb"
    assert line["exc_info"].startswith("Traceback")
    assert (line["level"], line["logger"], line["version"]) == ("ERROR", "saec.x", "v-1")


def test_starting_twice_writes_once(written):
    """A served flow may import what a command has started already."""
    start()
    logging.getLogger("saec.x").info("once")
    assert len(written()) == 1


def test_another_form_is_refused(monkeypatch):
    """The message names the variable, what it may be, and what it was."""
    monkeypatch.setenv("SAEC_LOG", "yaml")
    with pytest.raises(ConfigError, match="SAEC_LOG must be text or json, or unset, got 'yaml'"):
        start()


def test_a_command_says_so_in_one_line(root):
    """To the command line a wrong value is wrong usage, not a traceback."""
    said = subprocess.run(
        [sys.executable, "-m", "saec.cli.main", "status"],
        cwd=root,
        text=True,
        env=os.environ | {"SAEC_LOG": "loud"},
        capture_output=True,
        check=False,
    )
    assert said.returncode == 2
    assert said.stderr.startswith("saec: SAEC_LOG must be")
