"""The gate's verdict on one hour of planted challengers: every rule, on both sides."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saec.config import GateConfig
from saec.errors import TrainingError
from saec.gate.comparison import Standing
from saec.gate.verdict import Status, judge

CONFIG = GateConfig(auc_margin=0.02, entropy_margin=0.03, min_rows=500, min_class_rows=100)
TINY = GateConfig(auc_margin=0.1, entropy_margin=0.2, min_rows=4, min_class_rows=2)


@pytest.fixture(scope="module")
def rows():
    """3,000 planted gate rows, and models of known standing on them."""
    random = np.random.default_rng(11)
    logits_B = random.normal(-1.0, 1.5, 3000)
    noise_B = random.normal(size=3000)

    def model(noise=0.0, shift=0.0):
        return 1.0 / (1.0 + np.exp(-(logits_B + noise * noise_B + shift)))

    labels_B = (random.random(3000) < model()).astype(np.uint8)
    return labels_B, {
        "good": model(),
        "equal": model(0.05),
        "noisy": model(2.0),
        "shifted": model(shift=0.8),
        "weaker": model(0.5),
        "useless": np.full(3000, labels_B.mean()),
        "poor": model(6.0),
    }


def verdict(rows, challenger, original, champion, config=CONFIG):
    """The verdict on models named as in `rows`, all rows being gate rows."""
    labels_B, models = rows
    line_B = models[challenger]
    return judge(labels_B, line_B, models[original], models.get(champion), line_B, 0, None, config)


@pytest.mark.fault(63)
@pytest.mark.parametrize(
    ("challenger", "original", "champion"),
    [
        ("good", "good", "good"),
        ("equal", "good", "good"),
        ("good", "equal", "noisy"),
        ("useless", "useless", "useless"),
    ],
)
def test_pass_inside_every_margin(rows, challenger, original, champion):
    """A challenger that is identical, equal or better is accepted; a tie with the champion goes to the newer data."""
    found = verdict(rows, challenger, original, champion)
    assert (found.status, found.reason, found.accepted) == (Status.PASS, "ok", True)
    assert [comparison.reference for comparison in found.comparisons] == ["original", "champion", "base-rate"]
    assert found.evidence.qualified


@pytest.mark.parametrize(
    ("challenger", "original", "champion", "reason", "named"),
    [
        ("useless", "good", "good", "worse-auc", ["champion", "original"]),
        ("useless", "good", "useless", "worse-auc", ["original"]),
        ("useless", "useless", "good", "worse-auc", ["champion"]),
        ("shifted", "good", "good", "worse-logloss", ["champion", "original"]),
        ("shifted", "good", "shifted", "worse-logloss", ["original"]),
        ("shifted", "shifted", "good", "worse-logloss", ["champion"]),
    ],
)
def test_fail_on_any_metric_against_any_reference(rows, challenger, original, champion, reason, named):
    """Worse on one metric against one reference is enough to fail, and the text names it and no other."""
    found = verdict(rows, challenger, original, champion)
    assert (found.status, found.reason, found.accepted) == (Status.FAIL, reason, False)
    assert sorted(set(re.findall("original|champion", found.text))) == named
    assert not found.evidence.qualified


@pytest.mark.fault(64)
@pytest.mark.parametrize(("original", "champion"), [("good", "equal"), ("equal", "good")])
def test_undecided_when_the_rows_cannot_tell(rows, original, champion):
    """With margins far finer than the rows can resolve, an equal challenger is neither accepted nor failed."""
    fine = CONFIG.model_copy(update={"auc_margin": 1e-4, "entropy_margin": 1e-4})
    found = verdict(rows, "equal", original, champion, fine)
    assert (found.status, found.reason, found.accepted) == (Status.UNDECIDED, "undecided", False)
    assert found.hours_to_decide == -(-(found.rows_to_decide - 3000) // 3000) > 1
    assert f"Decides in about {found.hours_to_decide:,} hours like this one" in found.text
    gap = next(item for item in found.comparisons if item.reference in ("original", "champion") and item.auc.loss).auc
    assert f"AUC against {'original' if original == 'good' else 'champion'} leans" in found.text
    assert f"by {abs(gap.loss):.5f} (at worst {gap.loss_at_most:.5f} worse, margin 0.0001)" in found.text
    assert found.evidence.alone.rows == 3000


@pytest.mark.case(14)
def test_shown_worse_inside_the_margin_is_called_worse(rows):
    """Where a loss is shown, and only its size past the margin is not, the text does not say that rows cannot tell."""
    gap = verdict(rows, "weaker", "good", "good").comparisons[0].auc
    assert 0.0 < gap.loss_at_least < gap.loss < gap.loss_at_most
    between = CONFIG.model_copy(update={"auc_margin": (gap.loss + gap.loss_at_most) / 2, "entropy_margin": 1.0})
    found = verdict(rows, "weaker", "good", "weaker", between)
    assert (found.status, found.reason) == (Status.UNDECIDED, "undecided")
    assert "cannot tell" not in found.text
    assert "show the challenger worse, not yet by how much" in found.text
    gap = found.comparisons[0].auc  # the margin has moved the bounds a little
    assert f"AUC against original is worse by {gap.loss:.5f} (at least {gap.loss_at_least:.5f}, at worst" in found.text


@pytest.mark.fault(61)
def test_too_few_rows(rows):
    """One row below the minimum is UNDECIDED(too-few), whatever the scores; at the minimum the gate decides."""
    labels_B, models = rows
    for count, reason in ((499, "too-few"), (500, "ok")):
        good_B = models["good"][:count]
        found = judge(labels_B[:count], good_B, good_B, good_B, good_B, 0, None, CONFIG)
        assert found.reason == reason
        assert found.accepted == (reason == "ok")
    equal_B = models["equal"][:499]
    found = judge(labels_B[:499], equal_B, models["good"][:499], None, equal_B, 0, None, CONFIG)
    assert found.status is Status.UNDECIDED
    assert "wants 500 rows and 100 of either label" in found.text
    assert "Decides in about 1 hour like this one" in found.text


@pytest.mark.fault(61)
@pytest.mark.parametrize("label", [0, 1])
def test_too_few_rows_of_a_label(label):
    """One row of either label below the minimum is too few, though there are plenty of rows."""
    for count, reason in ((99, "too-few"), (100, "ok")):
        labels_B = np.full(2000, 1 - label, np.uint8)
        labels_B[:count] = label
        scores_B = 0.9 * labels_B.mean() + 0.1 * labels_B
        assert judge(labels_B, scores_B, scores_B, scores_B, scores_B, 0, None, CONFIG).reason == reason


@pytest.mark.parametrize("labels", [[], [0] * 600, [1] * 600])
def test_one_class_or_no_rows_is_too_few(labels):
    """Rows of one label, or none at all, are UNDECIDED(too-few), never accepted, and still make plain JSON."""
    labels_B, scores_B = np.array(labels, np.uint8), np.full(len(labels), 0.5)
    for champion_B in (None, scores_B):
        cut = len(labels) // 2
        found = judge(labels_B, scores_B, scores_B, champion_B, scores_B[cut:], cut, None, CONFIG)
        assert (found.status, found.reason, found.accepted) == (Status.UNDECIDED, "too-few", False)
        assert found.evidence.alone.rows == len(labels)
        json.dumps(found.as_dict(), allow_nan=False)
        json.dumps(found.evidence.as_dict(), allow_nan=False)


@pytest.mark.fault(62)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1e-9, 1.0 + 1e-9])
@pytest.mark.parametrize("broken", ["line", "original", "champion", "candidate"])
@pytest.mark.parametrize("row", [0, -1])
def test_a_score_that_is_no_probability_fails(rows, bad, broken, row):
    """One unusable score in any model, before the cut or after, is FAIL(metric) naming it, even on too few rows."""
    labels_B, models = rows
    for count in (3000, 10):
        scores = {name: models["good"][:count].copy() for name in ("line", "original", "champion")}
        scores["candidate"] = models["good"][5:count].copy()
        scores[broken][row] = bad
        found = judge(labels_B[:count], *scores.values(), 5, None, CONFIG)
        assert (found.status, found.reason, found.accepted) == (Status.FAIL, "metric", False)
        assert broken in found.text
        assert found.evidence.alone.rows == 0  # such an hour is no evidence


def test_bootstrap_accepts_a_first_challenger(rows):
    """Without a champion, a challenger as good as the original and better than the base rate is accepted."""
    found = verdict(rows, "equal", "good", None)
    assert (found.status, found.reason, found.accepted) == (Status.BOOTSTRAP, "ok", True)
    assert [comparison.reference for comparison in found.comparisons] == ["original", "base-rate"]
    floor = found.comparisons[1]
    assert (floor.auc.reference, floor.normalised_entropy_reference) == (0.5, pytest.approx(1.0))


@pytest.mark.fault(66)
@pytest.mark.parametrize(
    ("challenger", "original", "reason"),
    [
        ("useless", "useless", "undecided"),
        ("poor", "poor", "floor"),
        ("noisy", "noisy", "floor"),
        ("useless", "good", "worse-auc"),
    ],
)
def test_bootstrap_needs_the_floor(rows, challenger, original, reason):
    """Equal to an original that is no better than the base rate is never accepted; shown worse it is FAIL(floor)."""
    found = verdict(rows, challenger, original, None)
    assert (found.reason, found.accepted) == (reason, False)


@pytest.mark.parametrize("champion", ["noisy", None])
def test_worse_than_the_base_rate_is_never_published(rows, champion):
    """As good as original and champion, which are no good: FAIL(floor)."""
    found = verdict(rows, "noisy", "noisy", champion)
    assert (found.status, found.reason, found.accepted) == (Status.FAIL, "floor", False)
    assert "log loss against base-rate 0.76" in found.text


def test_bootstrap_needs_the_original_too(rows):
    """Above the floor but worse than the original fails; above it and unclear is undecided."""
    found = verdict(rows, "shifted", "good", None)
    assert (found.status, found.reason) == (Status.FAIL, "worse-logloss")
    fine = CONFIG.model_copy(update={"auc_margin": 1e-4, "entropy_margin": 1e-4})
    found = verdict(rows, "equal", "good", None, fine)
    assert (found.status, found.reason, found.accepted) == (Status.UNDECIDED, "undecided", False)


@pytest.mark.fault(64, 66)
def test_the_floor_needs_confidence_not_luck():
    """An AUC a little above a half and a log loss a little below the base rate's are not enough on few rows."""
    labels_B = np.array([0, 1] * 300, np.uint8)
    scores_B = np.full(600, 0.5)
    scores_B[[1, 3, 5, 2, 4]] = 0.51
    found = judge(labels_B, scores_B, scores_B, None, scores_B, 0, None, CONFIG)
    floor = found.comparisons[1]
    assert floor.auc.difference > 0.0 > floor.auc.lower
    assert floor.logloss.difference < 0.0 < floor.logloss.upper
    assert (found.status, found.reason, found.accepted) == (Status.UNDECIDED, "undecided", False)
    assert "log loss against base-rate leans better" in found.text


def test_mismatched_rows_are_an_error(rows):
    """Scores of other rows are refused, not judged."""
    labels_B, models = rows
    with pytest.raises(TrainingError, match="2999"):
        judge(labels_B, models["good"], models["good"], models["good"][1:], models["good"], 0, None, CONFIG)
    with pytest.raises(TrainingError, match="2900"):
        judge(labels_B, models["good"][100:], models["good"], None, models["good"][100:][200:], 200, None, CONFIG)


def test_verdict_is_json_and_repeats(rows):
    """The same rows give the same verdict; its JSON holds status, reason, acceptance and all figures."""
    first, second = (verdict(rows, "equal", "good", "noisy") for _ in range(2))
    assert first == second
    read = json.loads(json.dumps(first.as_dict(), allow_nan=False))
    assert (read["status"], read["reason"], read["accepted"], read["qualified"]) == ("PASS", "ok", True, True)
    assert read["comparisons"][1]["auc"]["difference"] == first.comparisons[1].auc.difference
    assert "evidence" not in read


probabilities = st.floats(0.0, 1.0)
gate_rows = st.lists(
    st.tuples(st.sampled_from([0, 1]), probabilities, probabilities, probabilities, probabilities),
    min_size=4,
    max_size=40,
)


def columns(listed):
    """Rows as arrays: labels, then scores."""
    labels_B, *scores = (np.array(column) for column in zip(*listed, strict=True))
    return labels_B.astype(np.uint8), *(score_B.astype(np.float64) for score_B in scores)


@given(gate_rows)
def test_original_and_champion_are_judged_alike(listed):
    """Exchanging original and champion exchanges their comparisons over the whole hours, and nothing in them."""
    labels_B, challenger_B, original_B, champion_B, _ = columns(listed)
    one = judge(labels_B, challenger_B, original_B, champion_B, challenger_B, 0, None, TINY).as_dict()
    other = judge(labels_B, challenger_B, champion_B, original_B, challenger_B, 0, None, TINY).as_dict()
    for mine, theirs in zip(one["comparisons"][:2], reversed(other["comparisons"][:2]), strict=True):
        assert {**mine, "reference": ""} == {**theirs, "reference": ""}


@given(gate_rows)
def test_a_model_that_fails_loses_to_one_that_would_not(listed):
    """Exchanging challenger and reference turns every difference; what fails one way passes the other."""
    labels_B, first_B, second_B, _, _ = columns(listed)
    one = judge(labels_B, first_B, second_B, second_B, first_B, 0, None, TINY)
    other = judge(labels_B, second_B, first_B, first_B, second_B, 0, None, TINY)
    for mine, theirs in zip(one.comparisons[0].differences, other.comparisons[0].differences, strict=True):
        turned = -theirs.difference, -theirs.upper, -theirs.lower
        assert np.array_equal((mine.difference, mine.lower, mine.upper), turned, equal_nan=True)
        assert mine.standing is not Standing.FAIL or theirs.standing is Standing.PASS


@given(gate_rows)
def test_a_strictly_better_challenger_never_turns_pass_into_fail(listed):
    """Moving every score towards its label, by any share, never makes a failure of a challenger that passed."""
    labels_B, challenger_B, original_B, champion_B, share_B = columns(listed)
    better_B = challenger_B + share_B * (labels_B - challenger_B)
    if judge(labels_B, challenger_B, original_B, champion_B, challenger_B, 0, None, TINY).status is Status.PASS:
        assert judge(labels_B, better_B, original_B, champion_B, better_B, 0, None, TINY).status is not Status.FAIL


@pytest.mark.fault(62)
@given(gate_rows, st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 2), st.integers(0, 39), st.booleans())
def test_nan_is_never_accepted(listed, bad, model, row, bootstrap):
    """A nan or an infinity in any row of any model is never accepted, with or without a champion."""
    labels_B, *scores = columns(listed)
    model = min(model, 1) if bootstrap else model
    scores[model][row % labels_B.size] = bad
    found = judge(labels_B, scores[0], scores[1], None if bootstrap else scores[2], scores[0], 0, None, TINY)
    assert not found.accepted
    assert found.reason == "metric"


@pytest.mark.fault(62)
@given(st.lists(st.tuples(probabilities, probabilities), min_size=4, max_size=40), st.sampled_from([0, 1]))
def test_one_class_is_never_accepted(listed, label):
    """Rows of one label decide nothing, whatever the scores."""
    challenger_B, original_B = (np.array(column) for column in zip(*listed, strict=True))
    labels_B = np.full(challenger_B.size, label, np.uint8)
    assert judge(labels_B, challenger_B, original_B, None, challenger_B, 0, None, TINY).reason == "too-few"
    assert not judge(labels_B, challenger_B, original_B, original_B, challenger_B, 0, None, TINY).accepted
