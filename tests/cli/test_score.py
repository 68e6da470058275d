"""`saec score`: the gate's scores for any file of rows, and clear errors for files that cannot be scored."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from saec.cli import scoring
from saec.steps import SERVED_SCORES

LAST = 4


@pytest.fixture
def rows(shell) -> pa.Table:
    """The rows of the last hour done, without their label."""
    return pq.read_table(shell.site.file(shell.site.hours[LAST]), partitioning=None).drop_columns("clicked")


def replaced(rows: pa.Table, name: str, values) -> pa.Table:
    """The rows with one column's values replaced."""
    return rows.set_column(rows.column_names.index(name), name, values)


def scored(shell, rows: pa.Table, *words: str) -> pa.Table:
    """What the command writes for these rows."""
    source, out = shell.site.folder / "rows.parquet", shell.site.folder / "scored" / "rows.parquet"
    pq.write_table(rows, source)
    assert shell.json("score", "--in", source, "--out", out, *words)["rows"] == len(rows)
    return pq.read_table(out)


def test_scores_are_those_of_the_served_hour(shell, rows):
    """What a user gets of a version, and what the hour that it served says of it, are the same numbers."""
    before = shell.site.rows()[LAST - 1].version
    written = scored(shell, rows, "--version", before)
    assert written.drop_columns(["score", "version"]) == rows
    assert pc.unique(written["version"]).to_pylist() == [before]
    hour = shell.site.folder / "workspace" / "hours" / shell.site.hours[LAST].compact
    served_B = load_file(hour / SERVED_SCORES)["live_B"]
    np.testing.assert_allclose(written["score"].to_numpy(), served_B, rtol=0, atol=1e-6)


def test_the_live_version_scores_unless_another_is_named(shell, rows):
    """Without --version it is the live one."""
    assert pc.unique(scored(shell, rows)["version"]).to_pylist() == [shell.site.live]


def test_batches_change_nothing(shell, rows, monkeypatch):
    """Three batches and a ragged last one give the scores of one batch."""
    whole = scored(shell, rows)["score"].to_numpy()
    monkeypatch.setattr(scoring, "BATCH_ROWS", len(rows) // 3 - 1)
    np.testing.assert_allclose(scored(shell, rows)["score"].to_numpy(), whole, rtol=0, atol=1e-6)


def test_an_older_version_can_score(shell, rows):
    """--version takes the place of the live one."""
    version = shell.site.store.versions()[0]
    written = scored(shell, rows, "--version", version)
    assert pc.unique(written["version"]).to_pylist() == [version]
    assert not np.allclose(written["score"].to_numpy(), scored(shell, rows)["score"].to_numpy())


def test_columns_of_no_field_and_no_rows_are_fine(shell, rows):
    """Columns that no field reads pass through; an empty file gives an empty file."""
    more = rows.append_column("note", pa.array(["x"] * len(rows)))
    assert scored(shell, more)["note"].to_pylist() == ["x"] * len(rows)
    none = scored(shell, rows.slice(0, 0))
    assert (len(none), none.column_names[-2:]) == (0, ["score", "version"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.rename_columns({"user_id": "userid"}), "no column 'user_id'; did you mean 'userid'?"),
        (lambda rows: replaced(rows, "user_id", pc.cast(rows["user_id"], pa.string())), "wants int, found string"),
        (lambda rows: rows.append_column("score", pa.array([0.5] * len(rows))), "has a column 'score'"),
        (lambda rows: replaced(rows, "price", pa.array([float("nan")] * len(rows))), "NaN"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(shell, rows, change, said):
    """A missing column, another type, a name that is taken, a number that is none: one line, and no file."""
    source, out = shell.site.folder / "rows.parquet", shell.site.folder / "scored.parquet"
    pq.write_table(change(rows), source)
    assert said in shell("score", "--in", source, "--out", out, code=1).stderr
    assert not list(shell.site.folder.glob("*scored*"))


def test_files_that_are_none_are_refused(shell):
    """No file, no Parquet, the same file twice, and no version to score with."""
    out = shell.site.folder / "out.parquet"
    assert "is not there" in shell("score", "--in", "nowhere", "--out", out, code=1).stderr
    assert "cannot be read as Parquet" in shell("score", "--in", shell.config, "--out", out, code=1).stderr
    shell("score", "--in", shell.config, "--out", shell.config, code=2)


def test_nothing_live_nothing_scored(fresh_shell):
    """Before the first version there is nothing to score with, and the next command is named."""
    file = fresh_shell.site.file(fresh_shell.site.hours[0])
    said = fresh_shell("score", "--in", file, "--out", fresh_shell.site.folder / "out.parquet", code=1).stderr
    assert "no version is live yet" in said
