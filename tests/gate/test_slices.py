"""Live beside the original by slice: a loss in a part is found under a gain on average, and chance is no loss."""

import numpy as np
import pytest

from saec.data.slices import Slices
from saec.gate.metrics import auc, logloss
from saec.gate.slices import slice_pairs, slices_over_hours


def hour(seed, rows=4000, worse=None, noise=0.05):
    """Labels, scores of live and original, and two slices a and b; live knows nothing of the slice `worse`."""
    rng = np.random.default_rng(seed)
    truth_B = rng.beta(2, 6, rows)
    labels_B = (rng.random(rows) < truth_B).astype(np.uint8)
    codes_B = (rng.random(rows) < 0.2).astype(np.uint8)
    original_B = np.clip(truth_B + noise * rng.standard_normal(rows), 0.01, 0.99)
    live_B = np.clip(truth_B + noise * rng.standard_normal(rows), 0.01, 0.99)
    if worse is not None:
        live_B = np.where(codes_B == worse, rng.permutation(live_B), truth_B.clip(0.01, 0.99))
    return labels_B, {"live": live_B, "original": original_B}, {"device": Slices(("a", "b"), codes_B)}


def found(hours):
    """Slices over the records of such hours, by value."""
    return {item.value: item for item in slices_over_hours([{"slices": slice_pairs(*each)} for each in hours])}


def test_a_loss_in_a_part_is_found_under_a_gain_on_average():
    """Live is better on the whole and in a; b, a fifth of the rows, is worse and is called so."""
    hours = [hour(seed, worse=1) for seed in range(6)]
    labels_B, scores, _ = hours[0]
    assert auc(labels_B, scores["live"]) > auc(labels_B, scores["original"]) - 0.05
    slices = found(hours)
    assert [slices[name].standing for name in ("a", "b")] == ["better", "worse"]
    assert slices["a"].paired.rows > slices["b"].paired.rows
    assert list(slices) == ["a", "b"]
    assert slices["b"].as_dict()["standing"] == "worse"
    assert slices["b"].as_dict()["auc_difference"] < 0


def test_levels_are_those_of_the_rows():
    """One hour: AUC and log loss of the slice's own rows."""
    labels_B, scores, slices = hour(3)
    slice_b = found([(labels_B, scores, slices)])["b"].paired
    chosen = slices["device"].codes_B == 1
    assert slice_b.rows == chosen.sum()
    for gap, metric in ((slice_b.auc, auc), (slice_b.logloss, logloss)):
        assert gap.first == pytest.approx(metric(labels_B[chosen], scores["live"][chosen]))
        assert gap.second == pytest.approx(metric(labels_B[chosen], scores["original"][chosen]))


def test_chance_is_no_loss():
    """Two models as good as each other, 60 hours of two slices: hardly any is called worse or better."""
    told = [item.standing for seed in range(60) for item in found([hour(1000 + seed, 800)]).values()]
    assert sum(standing != "not told apart" for standing in told) <= 8


def test_the_original_itself_is_neither_worse_nor_better():
    """No difference has no spread: an interval that is zero says nothing."""
    labels_B, scores, slices = hour(3)
    same = found([(labels_B, scores | {"live": scores["original"]}, slices)])
    assert {item.standing for item in same.values()} == {"not told apart"}


def test_intervals_are_wider_with_more_slices():
    """They hold for all slices together."""
    labels_B, scores, slices = hour(5)
    many = Slices(tuple("abcdefgh"), (np.arange(len(labels_B)) % 8).astype(np.uint8))
    alone = found([(labels_B, scores, slices)])["b"].paired.auc.reach
    records = [{"slices": slice_pairs(labels_B, scores, {**slices, "other": many})}]
    (among,) = [item for item in slices_over_hours(records) if (item.column, item.value) == ("device", "b")]
    assert among.paired.auc.reach > 1.1 * alone


def test_what_is_not_there_or_broken_is_passed_over():
    """No live version yet, rows of one label, a record of another time."""
    labels_B, scores, slices = hour(7, 50)
    assert slice_pairs(labels_B, {"original": scores["original"]}, slices) == {}
    ones = slice_pairs(np.ones(50, np.uint8), scores, {"device": Slices(("a",), np.zeros(50, np.uint8))})
    kept = slices_over_hours([{}, {"slices": None}, {"slices": {"device": {"a": {"rows": 3}}}}, {"slices": ones}])
    assert [(item.value, item.paired.rows) for item in kept] == [("a", 50)]
    assert np.isnan(kept[0].paired.auc.difference)
    assert kept[0].paired.logloss.second == pytest.approx(logloss(np.ones(50, np.uint8), scores["original"]))
