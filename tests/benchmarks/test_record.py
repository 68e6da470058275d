"""The record every benchmark ends with."""

import json

import numpy as np
import pytest

from benchmarks.record import Figures


def test_last_line_is_the_record_and_is_kept(tmp_path, capsys):
    """The last line of output is one JSON object with the agreed keys, equal to the file kept in results/."""
    figures = Figures("example", results=tmp_path)
    figures.add("share accepted", np.float64(0.25), "share", target="<= 0.05", holds=np.bool_(False))
    figures.add("rows", 12, "rows")
    figures.finish()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == json.loads((tmp_path / "example.json").read_text())
    assert set(last) == {"command", "commit", "hardware", "figures"}
    assert last["command"].startswith("python -m benchmarks.example")
    assert last["figures"] == [
        {"name": "share accepted", "value": 0.25, "unit": "share", "target": "<= 0.05", "holds": False},
        {"name": "rows", "value": 12, "unit": "rows", "target": None, "holds": None},
    ]


def test_target_and_holds_come_together():
    """A target that nobody judged, or a judgement without a target, is refused."""
    with pytest.raises(ValueError, match="come together"):
        Figures("example").add("seconds", 1.0, "s", target="<= 2")


def test_nan_is_not_recorded(tmp_path):
    """A figure that is not a number cannot become a result."""
    figures = Figures("example", results=tmp_path)
    figures.add("seconds", float("nan"), "s")
    with pytest.raises(ValueError, match="JSON"):
        figures.finish()
    assert not list(tmp_path.iterdir())
