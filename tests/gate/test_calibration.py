"""Calibration by bins of equally many rows, against a plain sum."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from saec.gate.calibration import calibration_error, reliability


def test_a_calibrated_model_has_no_error():
    """Scores that are the truth come out on the diagonal, within chance."""
    rng = np.random.default_rng(1)
    scores_B = rng.random(100_000)
    bins = reliability((rng.random(100_000) < scores_B).astype(np.uint8), scores_B)
    assert [item.rows for item in bins] == [10_000] * 10
    assert calibration_error(bins) < 0.01


def test_an_optimist_is_found():
    """Scores twice the truth are off by the click rate."""
    rng = np.random.default_rng(1)
    truth_B = rng.random(100_000) / 2
    bins = reliability((rng.random(100_000) < truth_B).astype(np.uint8), 2 * truth_B)
    assert calibration_error(bins) == pytest.approx(truth_B.mean(), abs=0.005)
    assert all(item.mean_score > item.click_rate for item in bins)


@pytest.mark.parametrize("distinct", [3, 40, 100_000])
def test_the_curve_is_scikit_learns_to_the_last_bit(distinct):
    """Bins, mean scores and click rates, with few distinct scores too; weights of one change nothing."""
    rng = np.random.default_rng(distinct)
    scores_B = rng.integers(0, distinct, 5_000) / distinct
    labels_B = (rng.random(5_000) < 0.2).astype(np.uint8)
    rates, means = calibration_curve(labels_B, scores_B, n_bins=10, strategy="quantile", pos_label=1)
    bins = reliability(labels_B, scores_B)
    assert [(item.mean_score, item.click_rate) for item in bins] == list(zip(means, rates, strict=True))
    assert reliability(labels_B, scores_B, weights_B=np.ones(5_000)) == bins
    twice = reliability(labels_B, scores_B, weights_B=np.full(5_000, 2.0))
    assert [(item.rows / 2, item.mean_score) for item in twice] == [(item.rows, item.mean_score) for item in bins]


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), max_size=50))
def test_bins_hold_every_row_once(rows):
    """Rows, scores and clicks of the bins add up to those given, in ascending order of the score."""
    labels_B = np.array([label for label, _ in rows], np.uint8)
    scores_B = np.array([score for _, score in rows], np.float64)
    bins = reliability(labels_B, scores_B)
    assert sum(item.rows for item in bins) == len(rows)
    assert math.isclose(sum(item.rows * item.mean_score for item in bins), scores_B.sum(), abs_tol=1e-9)
    assert math.isclose(sum(item.rows * item.click_rate for item in bins), labels_B.sum(), abs_tol=1e-9)
    assert all(a.mean_score <= b.mean_score + 1e-12 for a, b in itertools.pairwise(bins))
    assert math.isnan(calibration_error(bins)) == (not rows)
