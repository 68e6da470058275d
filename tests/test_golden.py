"""Golden figures: quickstart comes to what it came to; the news log's stretch is looked at in tests/test_globo.py."""

import copy
import json

import pytest

from benchmarks.golden import GOLDEN, moved, quickstart


@pytest.fixture(scope="module")
def golden() -> dict:
    """The record."""
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_quickstart_comes_to_its_golden_figures(golden, tmp_path):
    """Outcomes, served and gate figures and ratios of the six hours; renew with python -m benchmarks.golden --renew."""
    assert moved(quickstart(tmp_path), golden["quickstart"]) == []


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("auc_version_served", -0.0061, True),
        ("auc_version_served", 0.0059, False),
        ("logloss_served", 0.021, True),
        ("auc_compressed", -0.025, True),
        ("ratio_total", -5.0, True),
        ("ratio_total", 0.4, False),
    ],
)
def test_what_moves_further_than_a_seed_is_told(golden, name, change, told):
    """A fall of the ratio from 32 to 27 or of 0.025 in AUC does not pass, one that a seed makes does."""
    found = copy.deepcopy(golden["quickstart"])
    (day,) = found
    found[day][name] += change
    assert bool(moved(found, copy.deepcopy(golden["quickstart"]))) == told


def test_other_outcomes_are_told(golden):
    """Hours that are held where they were published."""
    found = copy.deepcopy(golden["globo"])
    day = max(found)
    found[day]["outcomes"] = {"HELD": 99}
    assert any("outcomes" in said for said in moved(found, copy.deepcopy(golden["globo"])))
