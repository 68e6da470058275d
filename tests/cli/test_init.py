"""`saec init`: from an unknown log to settings that `saec run` accepts."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from saec.cli.main import cli
from saec.constants import TRIAL
from saec.data.checks import check_hour
from saec.data.hourly_files import write_hour
from saec.data.partitions import available_hours, read_partition
from saec.hours import Hour
from saec.settings_file import load_config
from tests.discover.logs import START, clicks, write_csv, write_jsonl


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Commands are typed in a folder of their own, and no constant can be set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TRIAL)


@pytest.fixture(scope="module")
def rows():
    """The rows of a log."""
    return clicks()


@pytest.fixture
def log_csv(tmp_path, rows):
    """The log as one CSV file."""
    return write_csv(tmp_path / "clicks.csv", rows)


def saec(*words, code=0):
    """Type a command."""
    result = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def fits(config):
    """Whether every hour of the data passes the checks of its settings."""
    hours = available_hours(config.data)
    for hour in hours:
        checked = check_hour(read_partition(config, hour), config)
        assert not checked.counts
    return len(hours)


def roles(answer):
    """What each column was taken for."""
    return {column["name"]: column["role"] for column in answer["columns"]}


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("clicks.csv", write_csv),
        ("clicks.tsv.gz", lambda path, rows: write_csv(path, rows, "\t")),
        ("clicks.jsonl", write_jsonl),
        ("clicks.parquet", lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path)),
    ],
)
def test_a_strangers_file_becomes_settings_that_fit_it(tmp_path, rows, name, write):
    """Case 13 does not begin: time, label, fields, types and nulls are those of the data."""
    write(tmp_path / name, rows)
    answer = json.loads(saec("init", name, "--json").stdout)
    config = load_config("saec.yaml")
    assert fits(config) == 4
    assert (config.data.time_column, config.data.label_column) == ("event_time", "clicked")
    assert config.data.row_id_columns == ["request"]
    fields = {field.name: (field.kind, field.type, field.nullable) for field in config.fields}
    assert fields["user_id"] == ("categorical", "int", False)
    assert fields["item"] == ("categorical", "string", False)
    assert fields["price"] == ("numeric", "float", False)
    assert fields["site"] == ("categorical", "string", True)
    assert fields["hour_of_day"][0] == "hour_of_day"
    assert {name: role for name, role in roles(answer).items() if role == "left out"} == {
        "version": "left out",
        "dwell_ms": "left out",
    }
    assert answer["next"] == ["saec run"]
    assert (answer["rows"], answer["hours"]) == (3_000, 4)


def test_codes_with_leading_zeros_stay_text(tmp_path, rows):
    """00012 is no 12, as it is for the one who asks for a score."""
    rows = [row | {"zip": f"{place % 50:05d}"} for place, row in enumerate(rows)]
    saec("init", write_csv(tmp_path / "a.csv", rows))
    assert next(field.type for field in load_config("saec.yaml").fields if field.name == "zip") == "string"


def test_hourly_files_that_fit_stay_where_they_are(tmp_path, rows):
    """No copy is made of what the pipeline reads as it is."""
    for offset in range(4):
        hour = Hour.of(START) + offset
        table = pa.Table.from_pylist([row for row in rows if row["event_time"][:13] == str(hour)])
        times = table["event_time"].cast(pa.timestamp("ms", "UTC"))
        write_hour(tmp_path / "log", hour, table.set_column(0, "event_time", times))
    answer = json.loads(saec("init", "log", "--json").stdout)
    assert (answer["partitioned"], load_config("saec.yaml").data.source) == (False, "log")
    assert answer["rows"] == len(rows)
    assert fits(load_config("saec.yaml")) == 4


def test_what_was_chosen_can_be_named(tmp_path, rows):
    """Time, label, zone, workspace and the settings' own name; nothing that stands is overwritten unasked."""
    rows = [row | {"shown": row["event_time"][:19].replace("T", " "), "bought": row["clicked"]} for row in rows]
    path = write_csv(tmp_path / "a.csv", rows)
    saec(
        "init",
        path,
        "--time",
        "shown",
        "--label",
        "bought",
        "--zone",
        "Asia/Kolkata",
        "--workspace",
        "w",
        "--out",
        "x.yaml",
    )
    config = load_config("x.yaml")
    assert (config.data.time_column, config.data.label_column, config.workspace.name) == ("shown", "bought", "w")
    assert min(available_hours(config.data)) == Hour.parse("2026-02-28T18")
    assert "--replace" in saec("init", path, "--out", "x.yaml", code=2).stderr
    assert "no time zone" in saec("init", path, "--zone", "Mars/Olympus", code=2).stderr
    assert "did you mean 'shown'" in saec("init", path, "--time", "show", code=2).stderr
    assert "not of two values" in saec("init", path, "--label", "price", code=2).stderr
    assert "holds no times" in saec("init", path, "--time", "price", code=2).stderr


def test_what_cannot_be_told_is_asked_for(tmp_path):
    """No time, no label: the message names the option and the columns."""
    write_csv(tmp_path / "a.csv", [{"label": row % 2, "x": row % 9} for row in range(300)])
    assert "--start HOUR" in saec("init", "a.csv", code=2).stderr
    saec("init", "a.csv", "--start", "2026-03-01T00", "--hours", 3)
    assert len(available_hours(load_config("saec.yaml").data)) == 3
    write_csv(tmp_path / "b.csv", [{"ts": 1772323200 + row, "x": row % 9} for row in range(300)])
    assert "--label" in saec("init", "b.csv", "--out", "b.yaml", code=2).stderr


def test_a_cross_that_tells_more_is_found(tmp_path):
    """A click where two fields agree, which neither says alone."""
    rows = [
        row | {"a": place % 2, "b": place // 2 % 2, "clicked": (place % 4 in (0, 3)) ^ (place % 10 == 0)}
        for place, row in enumerate(clicks(rows=4_000))
    ]
    for row in rows:
        del row["dwell_ms"]
    saec("init", write_csv(tmp_path / "a.csv", rows))
    assert load_config("saec.yaml").crosses[0] == ["a", "b"]
    assert load_config("saec.yaml").model.logit_cap >= 2.0


def test_every_choice_stands_with_its_reason(log_csv):
    """The file says what was seen, and how to take in what was left out."""
    saec("init", log_csv)
    text = Path("saec.yaml").read_text()
    assert "# 4 hours from 2026-03-01T00 to 2026-03-01T03 (UTC), 3,000 rows" in text
    line = next(line for line in text.splitlines() if "dwell_ms" in line)
    assert "left out: predicts the label too well to be known before it: AUC" in line
    field = next(
        field
        for field in yaml.safe_load(text.replace(line, line.replace("# -", "-", 1)))["fields"]
        if field["name"] == "dwell_ms"
    )
    assert field == {"name": "dwell_ms", "kind": "numeric", "nullable": True}


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "words", "label", "rows"),
    [
        ("avazu_first10k.parquet", (), "click", 9_999),
        pytest.param(
            "criteo_kaggle_10k_no_timestamp.parquet",
            ("--start", "2014-01-01T00", "--hours", 3),
            "label",
            10_000,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_public_samples(shared_data, file, words, label, rows):
    """What is known of the two logs is found again."""
    saec("init", shared_data / "samples" / file, *words)
    config = load_config("saec.yaml")
    assert config.data.label_column == label
    fits(config)
    fields = {field.name: field for field in config.fields}
    if label == "click":
        assert config.data.row_id_columns == ["id"]
        assert {"device_ip", "C14", "site_id"} <= fields.keys()
    else:
        assert {"C1", "C26", "I1"} <= fields.keys()
        assert fields["I5"].kind == "numeric"
        assert fields["I12"].most_nulls > 0.8
        assert fields["I1"].most_nulls <= 0.8


@pytest.mark.parametrize(
    ("place", "pattern"),
    [("dt={:%Y%m%d}/hr={:%-H}/a.csv", "dt=%Y%m%d/hr=%H"), ("clicks-{:%Y-%m-%dT}{:%H}.jsonl", "clicks-%Y-%m-%dT%H*")],
)
def test_files_of_text_laid_out_by_hours_stay_where_they_are(tmp_path, rows, place, pattern):
    """Layout and format stand in the settings, so that hours to come are read too."""
    rows = [{name: value for name, value in row.items() if name != "zip"} for row in rows]
    for offset in range(4):
        hour = Hour.of(START) + offset
        path = tmp_path / "log" / place.format(hour.start, hour.start)
        path.parent.mkdir(parents=True, exist_ok=True)
        (write_csv if path.suffix == ".csv" else write_jsonl)(
            path, [row for row in rows if row["event_time"][:13] == str(hour)]
        )
    answer = json.loads(saec("init", "log", "--json").stdout)
    config = load_config("saec.yaml")
    assert (answer["notes"], config.data.source, config.data.layout) == ([], "log", pattern)
    assert fits(config) == 4


def test_broken_lines_are_left_out_when_asked(tmp_path, rows):
    """Without the option the line is named and nothing is written; with it summary, JSON and settings count lines."""
    text = write_csv(tmp_path / "clicks.csv", rows).read_bytes().splitlines()
    text[100:100] = [b"2026-03-01T00:00:00Z,r,1"]
    (tmp_path / "clicks.csv").write_bytes(b"\n".join(text))
    said = saec("init", "clicks.csv", code=1).stderr
    assert "clicks.csv: line 101 has 3 values, wanted 10" in said
    assert "--skip-broken" in said
    assert not Path("saec.yaml").exists()
    answer = json.loads(saec("init", "clicks.csv", "--skip-broken", "--json").stdout)
    assert (answer["rows"], answer["broken_lines"]) == (len(rows), 1)
    told = f"1 of {len(rows) + 1:,} lines are broken and left out, the first is"
    assert told in " ".join(answer["notes"])
    assert told in Path("saec.yaml").read_text()
    assert fits(load_config("saec.yaml")) == 4


def test_many_broken_lines_are_refused(tmp_path, rows):
    """More than one in a hundred is no accident, and leaving them out would hide it."""
    text = write_csv(tmp_path / "clicks.csv", rows).read_bytes().splitlines()
    text[500:500] = [b"half a line,"] * 101
    (tmp_path / "clicks.csv").write_bytes(b"\n".join(text))
    said = saec("init", "clicks.csv", "--skip-broken", code=1).stderr
    assert "101 of 3,101 lines" in said
    assert "line 501" in said


def test_renamed_columns_are_told(tmp_path, rows):
    """Summary and settings name each column that is called otherwise than in the log."""
    odd = [{"user id" if name == "user_id" else name: value for name, value in row.items()} for row in rows]
    write_csv(tmp_path / "clicks.csv", odd)
    note = "columns have other names in the hourly files and in the settings: 'user id' is user_id"
    assert f"note: {note}\n" in saec("init", "clicks.csv").stdout
    assert f"# Note: {note}.\n" in Path("saec.yaml").read_text()
    assert "other names" not in saec("init", str(write_csv(tmp_path / "plain.csv", rows)), "--out", "plain.yaml").stdout
