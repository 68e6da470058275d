"""Bounds valid at every look: their size, their error under optional stopping, and the rows that a test needs."""

import math

import numpy as np
import pytest

from saec.gate.pooled import EXHAUSTED, SPENT
from saec.gate.sequential import reach, rows_needed


def test_a_bound_for_any_look_is_wider_than_one_for_one_look():
    """At 5% the half-width is never below 2.78 standard errors; it is there where the margin is as wide."""
    widths = [reach(0.001, 0.001 * margins, 0.05) / 0.001 for margins in np.linspace(0.5, 20, 400)]
    assert min(widths) == pytest.approx(2.77, abs=0.01)
    assert reach(0.001, 0.00278, 0.05) == pytest.approx(0.00278, rel=0.01)


def test_no_scatter_has_no_width():
    """A standard error of 0 has a bound of no width, one of nan has none, and a margin of 0 tells nothing."""
    assert reach(0.0, 0.01, 0.05) == 0.0
    assert math.isnan(reach(math.nan, 0.01, 0.05))
    assert reach(0.001, 0.0, 0.05) == math.inf
    assert 0.0 < reach(1e-300, 0.01, 0.05) < 1e-298


def test_the_units_do_not_matter():
    """Standard error and margin times a thousand are a bound times a thousand."""
    assert reach(1.0, 3.0, 0.05) == pytest.approx(1000 * reach(0.001, 0.003, 0.05))


def test_rows_needed_grow_as_they_should():
    """Four times the rows for half the margin; more for less error or more power; one row for no scatter at all."""
    base = rows_needed(0.002, 10_000, 0.005, 0.05, 0.95)
    assert rows_needed(0.002, 10_000, 0.0025, 0.05, 0.95) == pytest.approx(4 * base, abs=4)
    assert rows_needed(0.002, 10_000, 0.005, 0.01, 0.95) > base
    assert rows_needed(0.002, 10_000, 0.005, 0.05, 0.99) > base
    assert rows_needed(0.0, 10_000, 0.005, 0.05, 0.95) == 1


def test_a_test_looked_at_all_its_life_keeps_its_error():
    """Drawn 4,000 times with the truth at the margin, watched at 300 moments up to its end: beyond in 5% at most."""
    random, margin = np.random.default_rng(5), 1.0
    last = EXHAUSTED * rows_needed(1.0, 1, margin, SPENT * 0.05, 0.975)
    seen_T = np.geomspace(last / 500, last, 300)
    steps_NT = random.standard_normal((4_000, 300)) * np.sqrt(np.diff(seen_T, prepend=0.0))
    means_NT = np.cumsum(steps_NT, axis=1) / seen_T
    widths_T = np.array([reach(1.0 / math.sqrt(seen), margin, SPENT * 0.05) for seen in seen_T])
    share = float((means_NT < -widths_T).any(axis=1).mean())
    assert 0.03 < share <= 0.055  # 4,000 draws of 5% scatter by 0.0034
    fixed = float((means_NT < -1.645 / np.sqrt(seen_T)).any(axis=1).mean())
    assert fixed > 0.2  # what bounds for one look would have let through


def test_an_equal_model_has_passed_at_the_rows_needed():
    """At the derived rows the estimate is below margin minus half-width with the wanted power."""
    rows = rows_needed(0.002, 10_000, 0.005, 0.05, 0.9)
    error = 0.002 * math.sqrt(10_000 / rows)
    passed = np.random.default_rng(1).normal(0.0, error, 100_000) < 0.005 - reach(error, 0.005, 0.05)
    assert passed.mean() == pytest.approx(0.9, abs=0.005)
