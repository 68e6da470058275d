"""DeLong's variances against brute force, scikit-learn and the bootstrap."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from saec.gate.delong import auc_difference, covariance, placements
from saec.gate.metrics import auc


def brute_force_placements(labels_B, scores_B):
    """Every positive against every negative."""
    positives_P, negatives_N = scores_B[labels_B == 1], scores_B[labels_B == 0]
    wins_PN = (positives_P[:, None] > negatives_N) + 0.5 * (positives_P[:, None] == negatives_N)
    return wins_PN.mean(axis=1), wins_PN.mean(axis=0)


@pytest.fixture(params=[None, 4], ids=["distinct", "ties"])
def rows(request, planted):
    """Labels and two models of 300 rows, with all scores distinct, or rounded to a few levels."""
    made = planted(300)
    models = made.model(0.5), made.model(0.8)
    return made.labels_B, *(
        model if request.param is None else np.round(model * request.param) / request.param for model in models
    )


def test_placements_are_those_of_all_pairs(rows):
    """The binary search counts what comparing all pairs counts, ties half."""
    labels_B, first_B, _ = rows
    found = placements(labels_B, first_B)
    positive_P, negative_N = brute_force_placements(labels_B, first_B)
    np.testing.assert_allclose(found.positive_P, positive_P, atol=1e-15)
    np.testing.assert_allclose(found.negative_N, negative_N, atol=1e-15)
    assert found.auc == pytest.approx(auc(labels_B, first_B), abs=1e-12)
    assert found.auc == pytest.approx(roc_auc_score(labels_B, first_B), abs=1e-12)


def test_covariance_is_delongs_formula(rows):
    """The 2x2 covariance is that of the brute-force placements: S10 / P + S01 / N."""
    labels_B, *models = rows
    found = [placements(labels_B, model_B) for model_B in models]
    brute = [brute_force_placements(labels_B, model_B) for model_B in models]
    positives = int(labels_B.sum())
    wanted_22 = np.cov([positive_P for positive_P, _ in brute]) / positives + np.cov(
        [negative_N for _, negative_N in brute]
    ) / (labels_B.size - positives)
    found_22 = [[covariance(one, other) for other in found] for one in found]
    np.testing.assert_allclose(found_22, wanted_22, rtol=1e-10)


def test_difference_agrees_with_the_covariance(rows):
    """The standard error of the difference is sqrt(a + b - 2ab), got without the subtraction."""
    labels_B, *models = rows
    first, second = (placements(labels_B, model_B) for model_B in models)
    difference, error = auc_difference(first, second)
    variance = covariance(first, first) + covariance(second, second) - 2 * covariance(first, second)
    assert difference == first.auc - second.auc
    assert error == pytest.approx(np.sqrt(variance), rel=1e-9)


@pytest.mark.slow  # 1,000 draws
def test_standard_error_is_the_bootstraps(planted):
    """Drawing the rows again 1,000 times scatters the paired difference by DeLong's standard error, within 10%."""
    made = planted(600)
    first_B, second_B = made.model(0.5), made.model(0.8)
    _, error = auc_difference(placements(made.labels_B, first_B), placements(made.labels_B, second_B))
    draws = (made.random.integers(0, 600, 600) for _ in range(1000))
    scatter = np.std(
        [auc(made.labels_B[draw_B], first_B[draw_B]) - auc(made.labels_B[draw_B], second_B[draw_B]) for draw_B in draws]
    )
    assert error == pytest.approx(scatter, rel=0.1)


def test_identical_scores_differ_by_exactly_nothing(rows):
    """Difference and standard error of a model with itself, or with the same order, are exactly 0."""
    labels_B, first_B, _ = rows
    one = placements(labels_B, first_B)
    assert auc_difference(one, placements(labels_B, first_B.copy())) == (0.0, 0.0)
    assert auc_difference(one, placements(labels_B, first_B * 0.5)) == (0.0, 0.0)


def test_swapping_the_models_turns_the_sign(rows):
    """First minus second is exactly minus second minus first, with the same standard error."""
    labels_B, *models = rows
    first, second = (placements(labels_B, model_B) for model_B in models)
    difference, error = auc_difference(first, second)
    assert auc_difference(second, first) == (-difference, error)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("labels", [[], [0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 1, 0]])
def test_too_few_rows_of_a_class_have_no_standard_error(labels):
    """With fewer than two rows of either class the standard error is nan, without a warning."""
    labels_B = np.array(labels, np.uint8)
    one = placements(labels_B, np.linspace(0.2, 0.8, labels_B.size))
    assert np.isnan(auc_difference(one, one)[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_have_no_auc(bad):
    """A nan or an infinity leaves nothing finite to accept."""
    labels_B = np.array([0, 1, 0, 1], np.uint8)
    broken = placements(labels_B, np.array([0.1, bad, 0.4, 0.9]))
    fine = placements(labels_B, np.array([0.1, 0.4, 0.4, 0.9]))
    assert np.isnan(auc_difference(broken, fine)).all()


def test_rows_that_stand_for_several_count_so_in_the_covariance(rows):
    """Each class's part is the covariance of two weighted means: squared shares of the weight times both deviations."""
    labels_B, *models = rows
    weights_B = 1.0 + np.arange(labels_B.size) % 3
    first, second = (placements(labels_B, model_B, weights_B) for model_B in models)
    wanted = 0.0
    for label, one, other in ((1, first.positive_P, second.positive_P), (0, first.negative_N, second.negative_N)):
        share_N = weights_B[labels_B == label] / weights_B[labels_B == label].sum()
        deviations_N = (one - share_N @ one) * (other - share_N @ other)
        wanted += float(share_N**2 @ deviations_N) * share_N.size / (share_N.size - 1)
    assert covariance(first, second) == pytest.approx(wanted, rel=1e-9)
