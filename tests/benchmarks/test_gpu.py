"""The check of a GPU runs on the processor too, so that what is lent a GPU finds it whole."""

import json

from click.testing import CliRunner

from benchmarks import gpu, training
from benchmarks.record import RESULTS_VARIABLE


def test_the_check_runs_without_a_gpu(tmp_path, monkeypatch):
    """Parity, repetition, speed and clustering; what is not installed is told, not missing."""
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(gpu, "HIDDEN", [8])
    monkeypatch.setattr(gpu, "HOURS", 2)
    monkeypatch.setattr(training, "TABLE_ROWS", 24_000)
    sizes = ["--batches", "64", "--steps", "3", "--vectors", "3000", "--hour-rows", "200", "--rounds", "1"]
    asked = ["--device", "cpu", *sizes]
    result = CliRunner().invoke(gpu.main, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    figures = {kept["name"]: kept for kept in json.loads((tmp_path / "gpu.json").read_text())["figures"]}
    assert figures["losses of 3 batches, furthest from the processor's"]["value"] == 0.0
    assert figures["the same bytes twice"]["holds"]
    assert figures["batch 64: saec"]["unit"] == "rows/s"
    assert figures["batch 64: FBGEMM"]["unit"] == "rows/s" or "left out" in figures["batch 64: FBGEMM"]["value"]
    assert figures["batch 64: sparse nn.Embedding, SparseAdam"]["unit"] == "rows/s"
    assert figures["hours as by default: the same bytes twice"]["holds"]
    assert figures["hours batches of 4096, 400-400-400: cpu, train"]["unit"] == "s"
    assert figures["3000 vectors: saec"]["unit"] == "s"
    assert 0 < figures["3000 vectors: saec, relative error"]["value"] < 1


def test_nothing_is_begun_when_time_is_up(tmp_path, monkeypatch):
    """What is left out says so."""
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    asked = ["--device", "cpu", "--batches", "64", "--steps", "1", "--vectors", "3000", "--seconds", "0"]
    assert CliRunner().invoke(gpu.main, asked, catch_exceptions=False).exit_code == 0
    figures = {kept["name"]: kept["value"] for kept in json.loads((tmp_path / "gpu.json").read_text())["figures"]}
    assert figures["batch 64: saec"] == figures["3000 vectors: saec"] == "left out: no time"
