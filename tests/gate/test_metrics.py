"""AUC, log loss, normalised entropy and calibration ratio, exact and never silent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from saec.errors import TrainingError
from saec.gate import metrics

LABELS_B = np.array([0, 1, 1, 0, 1], np.uint8)
SCORES_B = np.array([0.1, 0.8, 0.1, 0.1, 0.6])

rows = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def test_auc_counts_ties_half():
    """Of six pairs four are ordered and two are tied: (4 + 1) / 6."""
    assert metrics.auc(LABELS_B, SCORES_B) == pytest.approx(5 / 6, abs=1e-12)


@given(rows, st.booleans())
def test_auc_and_logloss_are_scikit_learns(pairs, weighted):
    """On any rows, with many ties, weighted or not, both are scikit-learn's, bit for bit."""
    labels_B = np.array([label for label, _ in pairs], np.uint8)
    scores_B = np.array([score / 6 for _, score in pairs])
    weights_B = 1.0 + 0.37 * np.arange(len(pairs)) if weighted else None
    assert metrics.auc(labels_B, scores_B, weights_B) == roc_auc_score(labels_B, scores_B, sample_weight=weights_B)
    clipped_B = scores_B.clip(metrics.EPSILON, 1 - metrics.EPSILON)
    assert metrics.logloss(labels_B, scores_B, weights_B) == log_loss(
        labels_B, clipped_B, labels=[0, 1], sample_weight=weights_B
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_figures_of_an_hour_are_scikit_learns(weighted):
    """Also of ten thousand rows, some of them alike."""
    draw = np.random.default_rng(1)
    labels_B, scores_B = (draw.random(10_000) < 0.3).astype(np.uint8), draw.random(10_000).round(4)
    weights_B = draw.random(10_000) + 0.5 if weighted else None
    assert metrics.auc(labels_B, scores_B, weights_B) == roc_auc_score(labels_B, scores_B, sample_weight=weights_B)
    clipped_B = scores_B.clip(metrics.EPSILON, 1 - metrics.EPSILON)
    assert metrics.logloss(labels_B, scores_B, weights_B) == log_loss(labels_B, clipped_B, sample_weight=weights_B)


@given(rows)
def test_auc_of_the_reverse_order_is_the_rest(pairs):
    """Reversing all scores turns the AUC into one minus it."""
    labels_B = np.array([label for label, _ in pairs], np.uint8)
    scores_B = np.array([float(score) for _, score in pairs])
    assert metrics.auc(labels_B, scores_B) + metrics.auc(labels_B, -scores_B) == pytest.approx(1.0, abs=1e-15)


def test_auc_at_the_ends():
    """All in order is exactly 1, all wrong exactly 0, all equal exactly a half."""
    assert metrics.auc(LABELS_B, LABELS_B.astype(float)) == 1.0
    assert metrics.auc(LABELS_B, 1.0 - LABELS_B) == 0.0
    assert metrics.auc(LABELS_B, np.full(5, 0.3)) == 0.5


def test_logloss_of_certain_rows_is_clipped():
    """A row that was certain and wrong costs -log(EPSILON), not infinity; certain and right costs next to nothing."""
    labels_B = np.array([1, 0, 1, 0], np.uint8)
    losses_B = metrics.row_losses(labels_B, np.array([0.0, 1.0, 1.0, 0.0]))
    wrong, right = -np.log(metrics.EPSILON), -np.log1p(-metrics.EPSILON)
    np.testing.assert_allclose(losses_B, [wrong, wrong, right, right], rtol=1e-6)


def test_normalised_entropy_of_the_base_rate_is_one():
    """Predicting the base rate scores 1; a better model scores below, in proportion to its log loss."""
    rate = LABELS_B.mean()
    assert metrics.normalised_entropy(LABELS_B, np.full(5, rate)) == pytest.approx(1.0, rel=1e-12)
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    expected = metrics.logloss(LABELS_B, SCORES_B) / entropy
    assert metrics.normalised_entropy(LABELS_B, SCORES_B) == pytest.approx(expected, rel=1e-12)


def test_calibration_ratio_is_promised_over_seen():
    """Promising 1.7 clicks where there were 3 is a ratio of 0.567."""
    assert metrics.calibration_ratio(LABELS_B, SCORES_B) == pytest.approx(1.7 / 3)


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_undefined_figures_are_nan(labels):
    """Without rows, or with rows of one class, AUC and normalised entropy are nan, not a number that looks fine."""
    labels_B, scores_B = np.array(labels, np.uint8), np.full(len(labels), 0.5)
    assert np.isnan(metrics.auc(labels_B, scores_B))
    assert np.isnan(metrics.normalised_entropy(labels_B, scores_B))
    assert np.isnan(metrics.logloss(labels_B, scores_B)) == (not labels)
    assert np.isnan(metrics.calibration_ratio(labels_B, scores_B)) == (1 not in labels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 1])
def test_scores_that_are_not_finite_make_figures_nan(bad, row):
    """One row's nan or infinity, of either label, is not hidden by clipping or sorting."""
    scores_B = SCORES_B.copy()
    scores_B[row] = bad
    assert np.isnan(metrics.auc(LABELS_B, scores_B))
    assert np.isnan(metrics.logloss(LABELS_B, scores_B))
    assert np.isnan(metrics.normalised_entropy(LABELS_B, scores_B))
    assert not np.isfinite(metrics.calibration_ratio(LABELS_B, scores_B))


@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_logloss_refuses_what_is_no_probability(bad):
    """A score outside [0, 1] has no log loss."""
    assert np.isnan(metrics.logloss(LABELS_B, np.array([bad, 0.8, 0.1, 0.1, 0.6])))


@pytest.mark.parametrize(
    "figure", [metrics.auc, metrics.logloss, metrics.normalised_entropy, metrics.calibration_ratio]
)
def test_rows_that_do_not_match_are_refused(figure):
    """Scores of another length, or labels that are neither 0 nor 1, are an error saying what was found."""
    with pytest.raises(TrainingError, match=r"\(5,\).*\(4,\)"):
        figure(LABELS_B, SCORES_B[:4])
    with pytest.raises(TrainingError, match=r"found \[2\]"):
        figure(LABELS_B * 2, SCORES_B)
