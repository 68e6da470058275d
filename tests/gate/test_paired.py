"""Paired differences over whole hours: by hand, as DeLong has them, and at the rate that the intervals promise."""

import json
import math

import numpy as np
import pytest

from saec.gate.delong import placements
from saec.gate.metrics import auc, logloss, row_losses
from saec.gate.paired import NAMES, over_hours, pair_of, pooled, served_pairs

Z = 1.959963984540054
"""Of a two-sided interval of 95%."""


def hour(rng: np.random.Generator, rows: int, *, live: float = 0.1, original: float = 0.05) -> tuple:
    """Labels, and scores that know them through noise of these widths."""
    labels_B = (rng.random(rows) < 0.4).astype(np.uint8)
    known_B = 0.4 + 0.2 * (labels_B - 0.4) + 0.1 * rng.standard_normal(rows)
    noisy = {
        name: np.clip(known_B + width * rng.standard_normal(rows), 0.01, 0.99)
        for name, width in (("live", live), ("original", original))
    }
    return labels_B, noisy


def sums(labels_B: np.ndarray, scores: dict) -> dict:
    """An hour's live-original pair, as it comes back from a ledger."""
    return json.loads(json.dumps(served_pairs(labels_B, scores)["live-original"]))


def test_two_small_hours_by_hand():
    """Placements 1 and 1/2 against 1/2 and 1/2 in the one, 1 against 0 in the other; clicked rows weigh the same."""
    one = sums(
        np.array([1, 1, 0, 0], np.uint8),
        {"live": np.array([0.9, 0.5, 0.4, 0.6]), "original": np.array([0.5, 0.5, 0.4, 0.6])},
    )
    two = sums(np.array([1, 0], np.uint8), {"live": np.array([0.8, 0.2]), "original": np.array([0.2, 0.8])})
    found = pooled([one, two])
    assert (found.hours, found.rows) == (2, 6)
    assert found.auc.first == pytest.approx((1 + 0.5 + 1) / 3)
    assert found.auc.second == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert found.auc.difference == pytest.approx(1.5 / 3)
    assert found.auc.median == pytest.approx((0.25 + 1) / 2)
    gaps = [math.log(0.5 / 0.9), 0, 0, 0, math.log(0.2 / 0.8), math.log(0.2 / 0.8)]
    assert found.logloss.difference == pytest.approx(sum(gaps) / 6)
    assert found.logloss.median == pytest.approx((gaps[0] / 4 + gaps[-1]) / 2)
    spread = math.sqrt(sum((gap - sum(gaps) / 6) ** 2 for gap in gaps) / 5 / 6)
    assert found.logloss.reach == pytest.approx(Z * spread)
    assert found.logloss.upper - found.logloss.lower == pytest.approx(2 * Z * spread)


def test_one_hour_is_delongs():
    """AUC, log loss, their differences and intervals of a single hour are those of the textbook."""
    labels_B, scores = hour(np.random.default_rng(3), 500)
    found = pooled([sums(labels_B, scores)])
    assert found.auc.first == pytest.approx(auc(labels_B, scores["live"]), abs=1e-12)
    assert found.logloss.second == pytest.approx(logloss(labels_B, scores["original"]), abs=1e-12)
    live, original = (placements(labels_B, scores[name]) for name in ("live", "original"))
    variance = sum(
        np.var(getattr(live, part) - getattr(original, part), ddof=1) / getattr(live, part).size
        for part in ("positive_P", "negative_N")
    )
    assert found.auc.reach == pytest.approx(Z * math.sqrt(variance))
    gap_B = row_losses(labels_B, scores["live"]) - row_losses(labels_B, scores["original"])
    assert found.logloss.reach == pytest.approx(Z * gap_B.std(ddof=1) / math.sqrt(labels_B.size))


def test_intervals_cover_what_is_true():
    """Two models that are equally good: zero lies in 95% of the intervals over several hours."""
    rng, inside = np.random.default_rng(1), {"auc": 0, "logloss": 0}
    for _ in range(400):
        found = pooled([sums(*hour(rng, int(rng.integers(20, 200)), live=0.08, original=0.08)) for _ in range(4)])
        for metric in inside:
            gap = getattr(found, metric)
            inside[metric] += gap.lower <= 0.0 <= gap.upper
    assert all(372 <= count <= 392 for count in inside.values()), inside  # 380 expected, standard deviation 4.4


def test_nothing_to_pool():
    """No hour, and hours of one label, which have a log loss and no ranking."""
    assert pooled([]) is None
    assert over_hours([]) == over_hours([{}, {"served_pairs": {}}]) == {}
    found = pooled([sums(np.zeros(5, np.uint8), {name: np.full(5, 0.3) for name in ("live", "original")})])
    assert math.isnan(found.auc.first)
    assert math.isnan(found.auc.difference)
    assert math.isnan(found.auc.lower)
    assert found.logloss.difference == 0.0


def test_only_pairs_whose_models_are_known():
    """The first hours have no live model, some have no version."""
    labels_B, scores = hour(np.random.default_rng(0), 50)
    assert list(served_pairs(labels_B, scores)) == ["live-original"]
    assert list(served_pairs(labels_B, {**scores, "version": scores["live"]})) == list(NAMES)
    assert served_pairs(labels_B, {"original": scores["original"]}) == {}


def test_hours_are_pooled_where_they_know_a_pair():
    """Half-filled and broken records are passed over."""
    whole = {"served_pairs": {"live-original": sums(*hour(np.random.default_rng(0), 50))}}
    pair = whole["served_pairs"]["live-original"]
    broken = [
        None,
        "x",
        {},
        {"live-original": "x"},
        {"live-original": {**pair, "rows": None}},
        {"live-original": {**pair, "loss": {"weight": 1.0}}},
        {"live-original": {**pair, "rows": math.nan}},
    ]
    found = over_hours([whole, *({"served_pairs": pairs} for pairs in broken), whole])
    assert list(found) == ["live-original"]
    assert found["live-original"].hours == 2
    assert [pair_of({"served_pairs": pairs}, "live-original") for pairs in broken] == [None] * len(broken)


def test_plain_values_carry_the_models_names():
    """For JSON: both figures, the difference and its bounds."""
    found = pooled([sums(*hour(np.random.default_rng(0), 50))])
    plain = found.as_dict("live-original")
    assert (plain["hours"], plain["rows"]) == (1, 50)
    assert plain["auc_live"] - plain["auc_original"] == pytest.approx(plain["auc_difference"])
    assert plain["logloss_lower"] < plain["logloss_difference"] < plain["logloss_upper"]
