"""Paired one-sided non-inferiority of a challenger against one reference."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from saec.gate.comparison import Difference, Standing, compare, score

SETTINGS = {"auc_margin": 0.005, "logloss_margin": 0.005, "confidence": 0.95}


def difference(metric, lower, point, upper, margin=0.01):
    """A difference with its bounds; the figures themselves do not decide."""
    return Difference(metric, 0.5 + point, 0.5, point, 0.001, lower, upper, margin)


@pytest.mark.parametrize(
    ("lower", "point", "upper", "standing"),
    [
        (-0.010, -0.002, 0.006, Standing.PASS),  # the bound exactly at the margin
        (0.001, 0.004, 0.007, Standing.PASS),  # better
        (-0.009, -0.005, -0.001, Standing.PASS),  # shown worse, and shown worse by less than the margin
        (-0.0101, -0.002, 0.0061, Standing.UNDECIDED),  # the bound just beyond the margin
        (-0.030, -0.012, 0.006, Standing.UNDECIDED),  # beyond the margin, but perhaps no loss at all
        (-0.012, -0.0099, -0.0078, Standing.UNDECIDED),  # shown worse, but perhaps inside the margin
        (-0.018, -0.012, -0.006, Standing.FAIL),  # beyond the margin and shown worse
        (-0.040, -0.030, -0.020, Standing.FAIL),  # shown worse by more than the margin
    ],
)
def test_standing_on_each_side(lower, point, upper, standing):
    """PASS, UNDECIDED and FAIL on both sides of their edges, the same for AUC and, mirrored, for log loss."""
    assert difference("auc", lower, point, upper).standing is standing
    assert difference("logloss", -upper, -point, -lower).standing is standing


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("metric", ["auc", "logloss"])
def test_figures_that_are_not_finite_are_undefined(bad, place, metric):
    """Whichever figure is not finite, even one that would look like a very good bound, the check is UNDEFINED."""
    figures = [0.001, 0.002, 0.003]
    figures[place] = bad
    assert difference(metric, *figures).standing is Standing.UNDEFINED


@pytest.mark.fault(63)
def test_identical_scores_pass(planted):
    """A model beside itself differs by 0 with standard error 0, and passes, whatever the margin."""
    made = planted(200)
    model = score("original", made.labels_B, made.model(0.5))
    found = compare(model, model, auc_margin=1e-12, logloss_margin=1e-12, confidence=0.999)
    for gap in found.differences:
        assert (gap.difference, gap.standard_error, gap.lower, gap.upper) == (0.0, 0.0, 0.0, 0.0)
        assert gap.standing is Standing.PASS


def test_comparison_holds_the_figures_of_both_models(planted):
    """Rows, clicks, both figures, difference, standard error and bounds are what the metrics say."""
    made = planted(500)
    challenger_B, original_B = made.model(0.4, shift=0.2), made.model(0.4)
    found = compare(
        score("challenger", made.labels_B, challenger_B), score("original", made.labels_B, original_B), **SETTINGS
    )
    likelihoods = [np.where(made.labels_B == 1, model_B, 1 - model_B) for model_B in (challenger_B, original_B)]
    gap_B = np.log(likelihoods[1]) - np.log(likelihoods[0])
    error = gap_B.std(ddof=1) / math.sqrt(500)
    assert (found.reference, found.rows, found.positives) == ("original", 500, made.labels_B.sum())
    assert found.logloss.difference == pytest.approx(gap_B.mean())
    assert found.logloss.standard_error == pytest.approx(error)
    assert found.logloss.upper == pytest.approx(gap_B.mean() + NormalDist().inv_cdf(0.95) * error)
    assert found.logloss.challenger - found.logloss.reference == pytest.approx(found.logloss.difference)
    assert found.auc.challenger - found.auc.reference == pytest.approx(found.auc.difference)
    assert found.calibration_challenger == pytest.approx(challenger_B.sum() / made.labels_B.sum())
    assert found.normalised_entropy_reference < 1.0


def test_miscalibration_shows_in_log_loss_alone(planted):
    """Shifting all logits keeps the order: the AUC differs by exactly 0 while the log loss fails."""
    made = planted(2000)
    found = compare(
        score("challenger", made.labels_B, made.model(shift=1.0)),
        score("original", made.labels_B, made.model()),
        **SETTINGS,
    )
    assert (found.auc.difference, found.auc.standard_error) == (0.0, 0.0)
    assert found.auc.standing is Standing.PASS
    assert found.logloss.standing is Standing.FAIL
