"""`saec status` and `saec report`."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pandas as pd
import pytest
from sqlalchemy.orm import Session

from saec.ledger import report_record
from saec.ledger.tables import HourRecord, open_engine
from saec.report.records import STABLE_KEYS
from saec.schedule.pipeline import Pipeline

LAST, NEXT = 4, 5


def test_status_says_what_is_live_and_what_is_due(shell):
    """The live version and its age, the backlog with an estimate, the last hours, and the next command."""
    answer = shell.json("status")
    assert answer["live"]["version"] == shell.site.live
    assert 0 <= answer["live"]["age_seconds"] < 3600
    ended = (shell.site.hours[LAST] + 1).start
    assert answer["live"]["data_until"] == ended.isoformat()
    passed = (datetime.now(UTC) - ended).total_seconds()
    assert passed - 60 < answer["live"]["data_age_seconds"] <= passed + 1
    assert answer["backlog"]["hours"] == [str(hour) for hour in shell.site.hours[NEXT:]]
    assert answer["backlog"]["seconds"] > 0
    assert [hour["outcome"] for hour in answer["last_hours"]][2:] == ["PUBLISHED"] * 3
    assert answer["running"] is answer["held"] is None
    assert answer["next"] == f"saec run --config {shell.config}"
    said = shell("status").stdout
    assert shell.site.live in said
    assert f"next: saec run --config {shell.config}" in said


def test_status_names_the_run_at_work(shell):
    """Who holds the lease, and the hour and step that it has come to."""
    pipeline = Pipeline(shell.site.config(), actor="the other")
    with pipeline.leased() as lease:
        pipeline.ledger.begin(lease, shell.site.hours[NEXT], "digest")
        pipeline.ledger.stage(lease, shell.site.hours[NEXT], "train")
        running, said = shell.json("status")["running"], shell("status").stdout
    assert running["owner"].startswith("the other on ")
    assert (running["hour"], running["step"]) == (str(shell.site.hours[NEXT]), "train")
    assert "the other" in said
    assert "left by a run" in shell("status").stdout
    assert shell.json("status")["running"] is None


def test_status_follows_a_hold(shell):
    """A hold is said with who and why; the way out is the next command once nothing is due."""
    shell("run")
    shell("hold", "--reason", "launch day")
    answer = shell.json("status")
    assert answer["held"]["reason"] == "launch day"
    assert answer["next"].startswith("saec unhold")


def test_status_before_anything_is_there(empty_shell):
    """No ledger, no store, and a source that is there and empty: nothing is wrong, and nothing to be typed."""
    (empty_shell.site.folder / "data").mkdir()
    answer = empty_shell.json("status")
    assert answer["live"] is answer["newest"] is answer["next"] is None
    assert answer["alarms"] == []
    assert "holds no hour yet" in empty_shell("status").output


@pytest.mark.case(6)
def test_status_of_a_source_that_does_not_exist(empty_shell):
    """It is an alarm and an exit code, and nobody is told to simulate data into somebody's folder."""
    answer = empty_shell.json("status", code=1)
    assert "does not exist" in answer["alarms"][0]["message"]
    assert "simulate" not in answer["next"]
    empty_shell.configure(data={"source": str(empty_shell.site.folder / "workspace" / "data")})
    assert empty_shell.json("status", code=1)["next"].startswith("saec simulate")


def test_status_is_quick(shell):
    """It loads no model library, which alone would take a second."""
    code = f"""
import sys
from saec.cli.main import cli
try:
    cli(["status", "--config", {str(shell.config)!r}])
finally:
    assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow  # a thousand hours are written and timed
def test_status_of_a_thousand_hours(shell):
    """Within a second on a free machine, the interpreter's start included; here processor time, with room."""
    row = shell.site.rows()[LAST]
    with Session(open_engine(shell.site.config().ledger_url).execution_options(write=True)) as session:
        session.add_all(
            HourRecord(
                hour=row.hour.index - 2_000 + index,
                state="PUBLISHED",
                attempts=1,
                stage="publish",
                fence=1,
                checkpoint="x",
                seconds=9.0,
                record=row.record,
            )
            for index in range(1_000)
        )
        session.commit()
    took = []
    for _ in range(2):
        began = os.times()
        subprocess.run(
            [sys.executable, "-m", "saec.cli.main", "status", "--config", str(shell.config)],
            check=True,
            capture_output=True,
        )
        ended = os.times()
        took.append(ended.children_user + ended.children_system - began.children_user - began.children_system)
    assert min(took) < 3


def test_status_lists_alarms(shell):
    """Thresholds are settings; each alarm says what was found and what to type, and the exit code stays 0."""
    shell.configure(alarms={"disk_free_gb": 1e9})
    (alarm,) = shell.json("status")["alarms"]
    assert alarm["name"] == "disk"
    assert alarm["message"].endswith("wanted 1e+09")
    said = shell("status").stdout
    assert "ALARM" in said
    assert f"next: saec {alarm['command']} --config {shell.config}" in said


def test_metrics_are_printed(shell):
    """Prometheus' text on standard output; with --json the same text in one value."""
    said = shell("metrics").stdout
    assert "saec_backlog_hours 2.0\n" in said
    assert f'saec_live_version_info{{version="{shell.site.live}"}} 1.0\n' in said
    assert "saec_backlog_hours 2.0" in shell.json("metrics")["metrics"]


def test_report_rows_have_the_stable_keys_in_order(shell):
    """One row an hour, oldest first, with the keys that other programs read; --from and --to are included."""
    rows = shell.json("report")
    assert [tuple(row)[: len(STABLE_KEYS)] for row in rows] == [STABLE_KEYS] * 5
    assert [row["hour"] for row in rows] == [str(hour) for hour in shell.site.hours[:NEXT]]
    known = report_record(shell.site.rows()[LAST])
    assert {key: rows[LAST][key] for key in STABLE_KEYS} == {key: known.get(key) for key in STABLE_KEYS}
    some = shell.json("report", "--from", shell.site.hours[1], "--to", shell.site.hours[2])
    assert [row["hour"] for row in some] == [str(shell.site.hours[1]), str(shell.site.hours[2])]


def test_report_is_a_table_and_a_page(shell):
    """For people: the hours, a summary, and with --out one HTML page."""
    page = shell.site.folder / "pages" / "report.html"
    said = shell("report", "--out", page).stdout
    assert str(shell.site.hours[LAST]) in said
    assert " published, " in said
    assert shell.site.live in page.read_text()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_report_is_a_table_for_a_notebook(shell, tmp_path, ending):
    """A row an hour with the figures of --json; parts of sizes and seconds have columns of their own."""
    out = tmp_path / "reports" / f"hours.{ending}"
    assert str(out) in shell("report", "--out", str(out)).stdout
    frame = pd.read_csv(out, parse_dates=["hour"]) if ending == "csv" else pd.read_parquet(out)
    rows = shell.json("report")
    assert frame["hour"].dt.strftime("%Y-%m-%dT%H").tolist() == [row["hour"] for row in rows]
    assert frame["hour"].dt.tz is not None
    assert frame["auc_compressed"].tolist() == pytest.approx([row["auc_compressed"] for row in rows])
    assert frame["sizes.index"].tolist() == [row["sizes"]["index"] for row in rows]


def test_report_of_another_ending_is_refused(shell, tmp_path):
    """The message names the endings there are."""
    said = shell("report", "--out", str(tmp_path / "hours.xlsx"), code=2)
    assert ".html, .csv or .parquet, not as hours.xlsx" in said.stderr
    answered = shell("report", "--json", "--out", str(tmp_path / "hours.xlsx"), code=2).stdout
    assert json.loads(answered)["error"]["kind"] == "ConfigError"


def test_report_of_nothing(empty_shell):
    """An empty ledger is no error."""
    assert empty_shell.json("report") == []
    assert "no such hours" in empty_shell("report").stdout


@pytest.mark.case(5)
@pytest.mark.slow  # six commands; the next test holds the same of one version
def test_a_store_that_is_gone_is_an_alarm_and_an_exit_code(shell):
    """Where nothing is due, too: status, metrics and run tell of it, and the command they name makes a version live."""
    shell("run")
    shutil.rmtree(shell.site.folder / "workspace" / "store")
    answer = shell.json("status", code=1)
    assert [alarm["name"] for alarm in answer["alarms"]] == ["lost"]
    assert "ALARM" in shell("status", code=1).stdout
    assert 'saec_alarm{alarm="lost"} 1.0' in shell("metrics").stdout
    assert shell.json("run", code=1)["alarms"]
    words = answer["alarms"][0]["command"]
    assert answer["next"] == f"saec {words} --config {shell.config}"
    shell(*words.split())
    assert shell.json("status")["alarms"] == []
    assert shell.site.live is not None


@pytest.mark.case(5)
def test_a_live_version_that_is_gone_is_rolled_back(shell):
    """The rollback that status names works."""
    shell("run")
    shutil.rmtree(shell.site.folder / "workspace" / "store" / "versions" / shell.site.live)
    words = shell.json("status", code=1)["alarms"][0]["command"]
    assert words.startswith("rollback ")
    shell(*shlex.split(words))
    assert shell.json("status")["alarms"] == []
