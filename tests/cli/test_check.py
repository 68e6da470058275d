"""`saec check`: all that is wrong with the settings at once; and `saec run`, which stops for it (case 13)."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from saec.cli.main import cli
from saec.data.hourly_files import hour_file, write_hour
from saec.hours import Hour
from tests.discover.logs import START, clicks

HOURS = [Hour.of(START) + offset for offset in range(4)]
SETTINGS = {
    "workspace": "w",
    "data": {"source": "log", "time_column": "event_time", "label_column": "clicked", "row_id_columns": ["request"]},
    "fields": [
        {"name": "user_id"},
        {"name": "item", "type": "string"},
        {"name": "zip", "type": "string"},
        {"name": "price", "kind": "numeric", "type": "float"},
        {"name": "site", "type": "string", "nullable": True},
        {"name": "version"},
        {"name": "dwell_ms", "kind": "numeric", "nullable": 0.9},
    ],
    "model": {"width": 4, "hidden": [8], "cross_layers": 1, "cross_rank": 4},
}


@pytest.fixture(autouse=True)
def log(tmp_path, monkeypatch):
    """Four hours of a log, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    rows = clicks()
    for hour in HOURS:
        table = pa.Table.from_pylist([row for row in rows if row["event_time"][:13] == str(hour)])
        write_hour(
            tmp_path / "log",
            hour,
            table.set_column(0, "event_time", table["event_time"].cast(pa.timestamp("ms", "UTC"))),
        )
    return tmp_path / "log"


def saec(*words, code=0, data=None, fields=None):
    """Type a command with settings, changed in part; fields are changed by their names, None removes one."""
    kept = {field["name"]: field for field in SETTINGS["fields"]} | (fields or {})
    settings = SETTINGS | {
        "data": SETTINGS["data"] | (data or {}),
        "fields": [field for field in kept.values() if field],
    }
    Path("saec.yaml").write_text(yaml.safe_dump(settings))
    result = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert code in (None, result.exit_code), result.output
    return json.loads(result.stdout) if "--json" in words else result


def mends(answer):
    """The mends, by group and column, without what is beside them."""
    return {
        (problem["group"], problem["column"]): problem["mend"].partition("   #")[0] for problem in answer["problems"]
    }


def test_settings_that_fit_have_no_problem():
    """Then it says what to type next."""
    answer = saec("check", "--json")
    assert (answer["problems"], answer["available"], len(answer["hours"])) == ([], 4, 4)
    assert answer["next"] == "saec run --config saec.yaml"
    assert "2 of 4 hours looked at: no problems" in saec("check", "--hours", 2).stdout


@pytest.mark.case(13)
def test_every_problem_is_told_at_once_with_its_mend():
    """Columns missing and too many, types, in one answer."""
    answer = saec(
        "check",
        "--json",
        code=2,
        fields={"user_id": {"name": "userid"}, "zip": {"name": "zip"}, "version": None, "price": {"name": "price"}},
    )
    assert mends(answer) == {
        ("columns", "userid"): "- {name: userid, column: user_id}",
        ("columns", ""): "ignore_extra_columns: true",
        ("types", "zip"): "- {name: zip, type: string}",
        ("types", "price"): "- {name: price, kind: numeric, type: float}",
    }
    assert all(problem["everywhere"] and len(problem["hours"]) == 4 for problem in answer["problems"])
    said = saec("check", code=2, fields={"user_id": {"name": "userid"}}).stdout
    assert "columns, in every hour" in said
    assert "fix: - {name: userid, column: user_id}" in said


@pytest.mark.case(13)
def test_mends_mend():
    """What the lines say, put in their places, leaves nothing wrong."""
    wrong = {"user_id": {"name": "userid"}, "zip": {"name": "zip"}, "site": {"name": "site", "type": "string"}}
    data, fields = {}, dict(wrong)
    for _ in range(3):  # nulls can be seen only once types are right
        problems = saec("check", "--json", code=None, data=data, fields=fields)["problems"]
        for problem in problems:
            line, _, place = problem["mend"].partition("   # under ")
            mended = yaml.safe_load(line)
            if place.startswith("fields"):
                fields |= {name: mended[0] for name, field in fields.items() if field["name"] == mended[0]["name"]}
            else:
                data |= mended
    assert not problems


def test_nulls_and_labels_are_seen():
    """A field that is not nullable, a limit, a label of more than two values."""
    site = {"name": "site", "type": "string"}
    dwell = {"name": "dwell_ms", "kind": "numeric", "nullable": 0.1}
    answer = saec("check", "--json", code=2, fields={"site": site, "dwell_ms": dwell})
    assert mends(answer)["nulls", "site"] == "- {name: site, type: string, nullable: true}"
    assert mends(answer)["nulls", "dwell_ms"].startswith("- {name: dwell_ms, kind: numeric, nullable: 0.8")
    answer = saec(
        "check",
        "--json",
        code=2,
        data={"label_column": "user_id"},
        fields={"user_id": None, "clicked": {"name": "clicked"}},
    )
    assert mends(answer) == {("rows", ""): "label_column: COLUMN"}


@pytest.mark.case(13)
def test_one_hours_fault_is_no_settings_fault(log):
    """Exit code 3, and the hour is named."""
    path = hour_file(log, HOURS[2])
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.drop_columns(["item"]), path)
    answer = saec("check", "--json", code=3)
    [problem] = answer["problems"]
    assert (problem["everywhere"], problem["hours"]) == (False, [str(HOURS[2])])


def test_a_source_without_hours_says_what_lies_there(log):
    """Another layout, or nothing at all."""
    answer = saec("check", "--json", code=2, data={"layout": "dt=%Y-%m-%d/hr=%H"})
    assert mends(answer) == {("source", ""): 'layout: "date=%Y-%m-%d/hour=%H"'}
    assert mends(saec("check", "--json", code=2, data={"source": "nowhere"}))["source", ""] == "source: FOLDER"


@pytest.mark.case(13)
def test_a_run_stops_where_the_settings_are_at_fault_and_goes_on_after_the_mend():
    """Case 13: the history is not quarantined for one line; the same command takes the hour up again."""
    wrong = {"user_id": {"name": "userid"}, "zip": {"name": "zip"}}
    answer = saec("run", "--json", code=2, fields=wrong)
    assert [(hour["hour"], hour["outcome"], hour["reason"]) for hour in answer["hours"]] == [
        (str(HOURS[0]), "FAILED", "config")
    ]
    assert "- {name: userid, column: user_id}" in answer["hours"][0]["message"]
    assert "- {name: zip, type: string}" in answer["hours"][0]["message"]
    assert answer["next"] == "saec check --config saec.yaml"
    assert saec("status", "--json", fields=wrong)["next"] == "saec check --config saec.yaml"
    assert len(saec("run", "--json", code=2, fields=wrong)["hours"]) == 1
    done = saec("run", "--json", code=None)["hours"]
    assert [hour["hour"] for hour in done] == [str(hour) for hour in HOURS]
    assert not {hour["outcome"] for hour in done} & {"FAILED", "QUARANTINED"}


@pytest.mark.case(13)
@pytest.mark.slow  # four hours; tests/test_bad_input.py holds it
def test_an_hour_of_its_own_fault_is_quarantined(log):
    """The others are done."""
    path = hour_file(log, HOURS[0])
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["item"]), path)
    done = saec("run", "--json", code=None)["hours"]
    assert [hour["outcome"] for hour in done][:1] == ["QUARANTINED"]
    assert len(done) == 4


def test_a_source_that_tells_no_hour_is_laid_out_by_init(tmp_path):
    """No line of YAML can help where neither folders nor names tell an hour."""
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "clicks.csv").write_text("a,b\n1,2\n")
    answer = saec("check", "--json", code=2, data={"source": "all"})
    assert mends(answer) == {("source", ""): "type: saec init all"}
