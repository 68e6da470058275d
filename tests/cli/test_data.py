"""`saec simulate` and `saec import`."""

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saec.cli.data import simulate
from saec.data.simulate import Simulation
from saec.hours import Hour

FIRST = Hour.parse("2026-03-01T12")


def test_simulated_hours_land_where_the_configuration_looks(empty_shell):
    """Without --out they go to data.source; what is told is what is there, and `run` finds it."""
    answer = empty_shell.json("simulate", "--hours", 2, "--from", FIRST, "--rows-per-hour", 300)
    assert [hour["hour"] for hour in answer["hours"]] == [str(FIRST), str(FIRST + 1)]
    assert sum(hour["rows"] for hour in answer["hours"]) == answer["rows"]
    assert pq.read_metadata(empty_shell.site.file(FIRST)).num_rows == answer["hours"][0]["rows"]
    assert empty_shell.json("status")["backlog"]["hours"] == [str(FIRST), str(FIRST + 1)]


def test_the_same_command_gives_the_same_bytes(empty_shell):
    """A second time changes no file; another seed does."""
    words = ("simulate", "--hours", 1, "--from", FIRST, "--rows-per-hour", 200)
    empty_shell(*words)
    first = empty_shell.site.file(FIRST).read_bytes()
    empty_shell(*words)
    assert empty_shell.site.file(FIRST).read_bytes() == first
    empty_shell(*words, "--seed", 9)
    assert empty_shell.site.file(FIRST).read_bytes() != first


def test_help_tells_the_defaults_of_the_simulation():
    """What the help says of each dial is what the simulation does without it."""
    said = {
        param.name: param.show_default
        for param in simulate.params
        if isinstance(param, click.Option) and isinstance(param.show_default, str) and param.name != "config_path"
    }
    assert said == {name: str(getattr(Simulation(), name)) for name in vars(Simulation())}


def test_a_dial_out_of_range_is_wrong_usage(empty_shell):
    """The message names the dial and its range."""
    assert "base_rate must be between 0 and 1" in empty_shell("simulate", "--base-rate", 2, code=2).stderr


def test_a_source_that_is_a_url_needs_a_folder(empty_shell):
    """Simulated files are written to a local folder only."""
    empty_shell.config.write_text(
        empty_shell.config.read_text().replace(f"source: {empty_shell.site.folder}/data", "source: s3://bucket/data")
    )
    assert "--out" in empty_shell("simulate", code=2).stderr


@pytest.mark.data
@pytest.mark.parametrize(
    ("log", "file", "words", "rows"),
    [
        ("avazu", "avazu_first10k.parquet", (), 9_999),
        ("criteo", "criteo_kaggle_10k_no_timestamp.parquet", ("--start", "2014-01-01T00", "--hours", 3), 10_000),
    ],
)
def test_logs_are_imported(empty_shell, shared_data, log, file, words, rows):
    """Every row of the samples arrives; a second import into the same folder needs --replace."""
    out = empty_shell.site.folder / "imported"
    command = ("import", log, shared_data / "samples" / file, out, *words)
    assert empty_shell.json(*command)["rows"] == rows
    assert sum(pq.read_metadata(path).num_rows for path in out.rglob("*.parquet")) == rows
    assert "is not empty" in empty_shell(*command, code=2).stderr
    empty_shell(*command, "--replace")


def test_a_log_that_is_none_fails(empty_shell):
    """The message names the file and what was wanted; nothing is left behind."""
    source, out = empty_shell.site.folder / "clicks.parquet", empty_shell.site.folder / "imported"
    pq.write_table(pa.table({"click": [1]}), source)
    assert empty_shell.json("import", "avazu", source, out, code=1)["error"]["reason"] in ("schema", "malformed")
    assert not out.exists()
