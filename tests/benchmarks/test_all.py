"""Comparing short forms of benchmarks with the kept results."""

import importlib.util

import pytest

from benchmarks.all import SHORT, moved
from benchmarks.record import RESULTS, RESULTS_VARIABLE, Figures


def figure(name, value, *, unit="s", holds=None):
    """A figure as records have it."""
    return {"name": name, "value": value, "unit": unit, "target": None, "holds": holds}


def test_a_slower_machine_is_nothing_and_a_slower_figure_is_told():
    """By its ratio to the median of all; what has no like is passed over."""
    kept = [figure(name, 2.0) for name in "abcd"] + [figure("share", 0.5, unit="share")]
    alike = [figure(name, 8.0) for name in "abcde"] + [figure("share", 0.9, unit="share")]
    assert list(moved(alike, kept)) == []
    assert [told.partition(":")[0] for told in moved([*alike[:3], figure("d", 17.0)], kept)] == ["d"]
    assert [told.partition(":")[0] for told in moved([*alike[:3], figure("d", 3.0)], kept)] == ["d"]


def test_a_target_that_is_lost_is_told():
    """One that never held is not."""
    kept = [figure("a", 1.0, holds=True), figure("b", 1.0, holds=False)]
    assert list(moved([figure("a", 1.0, holds=False), figure("b", 1.0, holds=False)], kept)) == [
        "a: its target held and does not now"
    ]


def test_short_forms_write_aside(tmp_path, monkeypatch, capsys):
    """Never over the kept results."""
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    Figures("example").finish()
    capsys.readouterr()
    assert [path.name for path in tmp_path.iterdir()] == ["example.json"]


@pytest.mark.parametrize("name", SHORT)
def test_each_benchmark_is_there_with_kept_results(name):
    """And so has something to be compared with."""
    assert importlib.util.find_spec(f"benchmarks.{name}")
    assert (RESULTS / f"{name}.json").exists()
