"""Whether the version of an hour's end is fit for release: planted versions beside the candidate that was judged."""

import numpy as np
import pytest

from saec.config import GateConfig
from saec.gate.metrics import base_rate_entropy
from saec.gate.release import CALIBRATION, release_problem

CONFIG = GateConfig(auc_margin=0.01, entropy_margin=0.02)


def problem_of(labels_G, version_G, candidate_G, config):
    """Of a version whose codes change nothing: its scores are those of the model after it learnt the rows."""
    return release_problem(labels_G, version_G, candidate_G, version_G, config)


@pytest.fixture
def rows(planted):
    """3,000 planted gate rows, the candidate's scores, and the maker of other models on them."""
    made = planted(3000)
    return made.labels_B, made.model(0.3), made


def test_a_version_that_learnt_the_gate_rows_is_fit(rows):
    """Better on the rows it has learnt, as it should be, or just equal to the candidate."""
    labels_G, candidate_G, made = rows
    learnt_G = candidate_G + 0.1 * (labels_G - candidate_G)
    for version_G in (learnt_G, made.model(), candidate_G):
        assert problem_of(labels_G, version_G, candidate_G, CONFIG) == ""


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1e-9, 1.0 + 1e-9])
@pytest.mark.parametrize("count", [3000, 1])
def test_scores_must_be_probabilities(rows, bad, count):
    """One that is none is enough, however few the rows."""
    labels_G, candidate_G, _ = rows
    version_G = candidate_G[:count].copy()
    version_G[-1] = bad
    assert "no probability" in problem_of(labels_G[:count], version_G, candidate_G[:count], CONFIG)


def test_zero_and_one_are_probabilities(rows):
    """A version may be sure of a row."""
    labels_G, candidate_G, _ = rows
    version_G = candidate_G.copy()
    version_G[[0, -1]] = labels_G[[0, -1]]
    assert problem_of(labels_G, version_G, candidate_G, CONFIG) == ""


def test_nothing_may_be_lost_in_order(rows):
    """Where learning the gate rows cost more AUC than the margin, the problem names it and both figures."""
    labels_G, candidate_G, made = rows
    problem = problem_of(labels_G, made.model(2.0), candidate_G, CONFIG)
    assert problem.startswith("its auc on the gate rows, once it had learnt them, is 0.")
    assert problem.endswith(" before")


def test_nothing_may_be_lost_in_log_loss(rows):
    """The same order, but every row less sure: log loss alone tells."""
    labels_G, candidate_G, _ = rows
    blunt_G = candidate_G.mean() + 0.5 * (candidate_G - candidate_G.mean())
    assert problem_of(labels_G, blunt_G, candidate_G, CONFIG).startswith("its logloss on the gate rows")


def test_losses_within_the_margin_are_none(rows):
    """A little worse than the candidate is still fit; with a margin as fine as that, it is not."""
    labels_G, candidate_G, _ = rows
    blunt_G = candidate_G.mean() + 0.8 * (candidate_G - candidate_G.mean())
    added = -np.log(np.where(labels_G == 1, blunt_G / candidate_G, (1 - blunt_G) / (1 - candidate_G))).mean()
    for factor, fit in ((1.1, True), (0.9, False)):
        entropy = base_rate_entropy(labels_G)
        config = CONFIG.model_copy(update={"entropy_margin": factor * added / entropy})
        assert (problem_of(labels_G, blunt_G, candidate_G, config) == "") == fit


def test_a_loss_that_may_be_chance_is_none(rows):
    """On thirty rows, a version that is worse by chance alone is not held up."""
    labels_G, candidate_G, made = rows
    version_G = made.model(0.6)[:30]
    fine = CONFIG.model_copy(update={"auc_margin": 1e-6, "entropy_margin": 1e-6})
    assert problem_of(labels_G[:30], version_G, candidate_G[:30], fine) == ""


@pytest.mark.parametrize(
    ("factor", "fit"),
    [(0.98 * CALIBRATION, True), (1.02 * CALIBRATION, False), (1.02 / CALIBRATION, True), (0.98 / CALIBRATION, False)],
)
def test_clicks_promised_must_be_about_as_many(factor, fit):
    """A mean score beyond half as much again as the candidate's, or below two thirds of it, is not fit.

    Margins so wide that nothing else tells: the order is the same, too.
    """
    wide = GateConfig(auc_margin=0.9, entropy_margin=9.0)
    labels_G = np.tile([0, 1, 0, 0], 50).astype(np.uint8)
    candidate_G = np.linspace(0.2, 0.4, 200)
    problem = release_problem(labels_G, factor * candidate_G, candidate_G, candidate_G, wide)
    assert (problem == "") == fit
    told = f"its mean score on the gate rows is {0.3 * factor:.4f}, 0.3000 through the codes that met them"
    assert fit or problem == told


def test_no_clicks_promised_at_all():
    """Scores of 0 everywhere are probabilities, but no model."""
    wide = GateConfig(auc_margin=0.9, entropy_margin=99.0)
    labels_G = np.array([0, 1, 0, 0], np.uint8)
    for candidate_G in (np.full(4, 0.3), np.zeros(4)):
        assert "its mean score" in release_problem(labels_G, np.zeros(4), candidate_G, candidate_G, wide)


def test_a_version_worse_than_the_share_of_clicks_is_not_fit(rows):
    """Whatever learning came to: codes of the hour's end that lose to a constant are not released."""
    labels_G, candidate_G, made = rows
    turned_G = made.random.permutation(candidate_G)
    problem = release_problem(labels_G, turned_G, candidate_G, candidate_G, CONFIG)
    assert problem.startswith("its log loss on the gate rows is 0.")


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_label_are_judged_by_what_they_have(label):
    """No AUC to lose, but log loss and the mean score tell."""
    labels_G, candidate_G = np.full(500, label, np.uint8), np.linspace(0.4, 0.6, 500)
    assert problem_of(labels_G, candidate_G, candidate_G, CONFIG) == ""
    worse_G = candidate_G + 0.1 - 0.2 * label
    assert problem_of(labels_G, worse_G, candidate_G, CONFIG).startswith("its logloss")


def test_an_hour_without_gate_rows_has_no_problem():
    """Nothing to tell by."""
    assert problem_of(np.zeros(0, np.uint8), np.zeros(0), np.zeros(0), CONFIG) == ""
