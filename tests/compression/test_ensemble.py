"""The quantised original, and its share of the score."""

import dataclasses

import numpy as np
import pytest
import torch

from saec.compression.challenger import Challenger
from saec.compression.dial import Allowance
from saec.compression.ensemble import ENOUGH_ROWS, LEAST_GAIN, SHARES_W, QuantisedOriginal, Share, mixed
from saec.compression.places import CLUSTERS, DEFAULT, NEWCOMER
from saec.gate.metrics import logloss
from saec.serving.files import ORIGINAL_CODEBOOKS
from saec.serving.network import sigmoid
from saec.train.tensors import network_arrays

ROOM = {"codewords": 255, "ratio": 1.0, "doubling_hours": 0, "fingerprint_bits": 12}
"""A code for every feature, and a codeword for every code."""


def drawn(rows=20_000, noise=1.0, seed=1):
    """Labels, and logits of two models whose errors are independent and as large."""
    draw = np.random.default_rng(seed)
    truth_B = draw.normal(size=rows)
    labels_B = (draw.random(rows) < sigmoid(truth_B)).astype(np.uint8)
    return labels_B, *(truth_B + noise * draw.normal(size=rows) for _ in range(2))


def shared(share):
    """A share that the evidence favours."""
    gained_W = np.where(share == SHARES_W, 100.0, 0.0)
    return Share(int(8 * share), float(ENOUGH_ROWS), 1000.0, gained_W, np.zeros(len(SHARES_W)))


def after(hours, *rows):
    """The share after hours of the same rows."""
    share = Share.start()
    for _ in range(hours):
        share = share.learned(*rows)
    return share


def test_models_that_err_on_different_rows_share_the_score():
    """Half each, where both are as good, and the mean is better than either."""
    labels_B, first_B, second_B = drawn()
    share = after(8, labels_B, first_B, second_B)
    assert share.value == pytest.approx(0.5, abs=0.126)
    assert logloss(labels_B, sigmoid(mixed(first_B, second_B, share.value))) < logloss(labels_B, sigmoid(first_B))


def test_the_share_moves_by_one_step_an_hour():
    """Up while the evidence says so, and down again."""
    labels_B, first_B, second_B = drawn()
    assert [after(hours, labels_B, first_B, second_B).value for hours in range(4)] == [0.0, 0.125, 0.25, 0.375]
    (labels_B, truth_B, _), share = drawn(noise=0.0), shared(0.5)
    values = []
    for _ in range(4):
        share = share.learned(labels_B, truth_B, np.zeros(len(truth_B)))
        values.append(share.value)
    assert values == [0.375, 0.25, 0.125, 0.0]


def test_a_model_that_adds_nothing_gets_no_share():
    """The same model again, or one of noise alone, is not worth its bytes."""
    labels_B, truth_B, _ = drawn(noise=0.0)
    noise_B = np.random.default_rng(2).normal(size=len(truth_B))
    assert after(2, labels_B, truth_B, truth_B).value == 0
    assert after(2, labels_B, truth_B, noise_B).value == 0


def test_a_small_gain_is_not_worth_it():
    """Below `LEAST_GAIN` of the log loss, within its error, or on few rows, the best is one model."""
    share = shared(0.5)
    assert share.best == 4
    losses = 100.0 / LEAST_GAIN
    assert [dataclasses.replace(share, step=step, losses=losses + 1).best for step in (0, 1)] == [0, 4]
    assert dataclasses.replace(share, losses=2 * losses + 1).best == 0
    assert dataclasses.replace(share, gained_squared_W=np.full(len(SHARES_W), 1e4)).best == 0
    assert dataclasses.replace(share, rows=ENOUGH_ROWS - 1.0).best == 0


def test_rows_count_by_their_weight():
    """Rows of twice the weight are as good as two."""
    labels_B, first_B, second_B = drawn(3_000)
    twice = Share.start().learned(*(np.repeat(array_B, 2) for array_B in (labels_B, first_B, second_B)))
    weighed = Share.start().learned(labels_B, first_B, second_B, np.full(len(labels_B), 2.0))
    np.testing.assert_allclose(weighed.gained_W, twice.gained_W)


def test_where_every_feature_has_its_own_codeword_the_quantised_original_is_the_original(click_hours, hourly):
    """By its vectors for the hour to come, and its network; at the cut, by its network of the cut."""
    made = hourly(click_hours.config(compression=ROOM), 3)
    hour = click_hours.first + 3
    made.meet(hour, click_hours.rows(hour))
    made.measure()
    version = made.challenger.moved_on(made.version)
    known = dict(zip(made.version.head_keys_H.tolist(), made.version.head_codes_H.tolist(), strict=True))
    keys_BS = made.rows.keys_BS
    codes_BS = np.array([[known.get(key, DEFAULT) if key else -1 for key in row] for row in keys_BS.tolist()])
    sure_B = ((codes_BS >= CLUSTERS) | (codes_BS < 0)).all(1)
    assert sure_B.sum() > 50
    everything = made.past.moment(end=True).everything
    everything = everything[everything.candidates.own_N]
    order_N = np.argsort(everything.keys_N)
    vectors_ND = made.past.moment(end=True).vectors(everything[order_N])
    places_BS = torch.from_numpy(np.searchsorted(everything.keys_N[order_N], keys_BS).clip(max=len(order_N) - 1))
    places_BS = torch.where(torch.from_numpy(keys_BS == 0), -1, places_BS)
    wanted_B = made.original.learner.logits(torch.from_numpy(vectors_ND), places_BS)
    found_B = version._quantised(version._places(codes_BS))
    np.testing.assert_allclose(found_B[sure_B], wanted_B[sure_B], atol=1e-4)
    wanted = network_arrays(made.original.learner.averaged)
    assert all(np.array_equal(made.version.quantised.network[name], wanted[name]) for name in wanted)
    assert any((made.candidate.quantised.network[name] != wanted[name]).any() for name in wanted)


def test_features_without_a_code_share_the_mean_of_the_hours(click_hours, hourly):
    """Weighted by sightings; older hours count less; a field in which all had a code stays at its default row."""
    made = hourly(click_hours.config(compression={"codewords": 3, "ratio": 50.0}), 3)
    before = made.challenger.quantised
    hour = click_hours.first + 3
    made.meet(hour, click_hours.rows(hour))
    made.measure()
    found, moment = made.version.quantised, made.past.moment(end=True)
    features, now = moment.met, made.version.standards.centroids
    codes_U = made.challenger.codes(features.keys_N, features.candidates.fields_N)
    vectors_UD = moment.vectors(features)
    for row, code in enumerate((DEFAULT, NEWCOMER)):
        for field in range(len(made.config.field_names)):
            chosen_U = (codes_U == code) & (features.candidates.fields_N == field)
            old = 0.9 * before.sightings_2F[row, field]
            total = old + moment.sightings_U[chosen_U].sum()
            vector_D = found.vectors_TD[now.starts_F[field] + code]
            assert found.sightings_2F[row, field] == pytest.approx(total)
            if total == 0:
                assert np.array_equal(vector_D, moment.defaults_FD[field])
                continue
            old_D = old * before.vectors_TD[made.challenger.standards.centroids.starts_F[field] + code]
            sum_D = moment.sightings_U[chosen_U] @ vectors_UD[chosen_U]
            np.testing.assert_allclose(vector_D, (old_D + sum_D) / total, rtol=1e-4, atol=1e-6)


def test_the_score_is_the_mean_of_both_logits(click_hours, hourly):
    """By the share; and the same from a snapshot."""
    made = hourly(click_hours.config(), 4)
    challenger, codes_BS = made.challenger, made.codes_BS
    places_BS = challenger._places(codes_BS)
    alone_B = challenger.score(codes_BS)
    np.testing.assert_allclose(alone_B, sigmoid(challenger._retrained(places_BS)))
    challenger.share = shared(0.25)
    wanted_B = sigmoid(0.75 * challenger._retrained(places_BS) + 0.25 * challenger._quantised(places_BS))
    np.testing.assert_allclose(challenger.score(codes_BS), wanted_B)
    assert not np.allclose(challenger.score(codes_BS), alone_B)
    arrays = {name: np.array(array) for name, array in challenger.snapshot().arrays.items()}
    restored = Challenger.restore(made.config, arrays, "saved")
    assert restored.quantised_share == 0.25
    assert np.array_equal(restored.score(codes_BS), challenger.score(codes_BS))


def test_arrays_are_the_whole_state(click_hours, hourly):
    """Both parts come back as they were."""
    quantised = hourly(click_hours.config(), 2).challenger.quantised
    again = QuantisedOriginal.from_arrays(quantised.arrays())
    assert again.arrays().keys() == quantised.arrays().keys()
    assert all(np.array_equal(again.arrays()[name], array) for name, array in quantised.arrays().items())
    share = Share.start().learned(*drawn())
    assert Share.from_arrays(share.arrays()).arrays().keys() == share.arrays().keys()
    assert Share.from_arrays(share.arrays()).value == share.value
    assert Share.from_arrays({}).value == 0


def test_a_second_codebook_is_paid_for(click_hours):
    """Within the same bytes: fewer features have a code."""
    config = click_hours.config(compression={"codewords": 31})
    one, two = (Allowance.of(config, 1_000_000, 100.0, models=models) for models in (1, 2))
    assert two.codewords == one.codewords == 31
    assert two.features < one.features


def test_too_few_codewords_are_those_of_one_model(click_hours, hourly):
    """A second codebook would halve what is too little already: nothing is quantised, whatever the share says."""
    config = click_hours.config(model={"width": 16}, compression={"codewords": None})
    wanted = [(63, True), (15, False)]  # one model would have 127 and 31
    for ratio, (codewords, ensemble) in zip((100.0, 800.0), wanted, strict=True):
        one, two = (Allowance.of(config, 60_000, ratio, models=models) for models in (1, 2))
        assert (two.codewords, two.ensemble) == ((codewords, True) if ensemble else (one.codewords, False))
    made = hourly(config, 3)
    made.challenger.share = shared(0.25)
    made.do(click_hours.first + 3, click_hours.rows(click_hours.first + 3))
    assert (made.version.quantised, made.challenger.quantised_share, made.challenger.models) == (None, 0.0, 1)
    assert ORIGINAL_CODEBOOKS not in made.challenger.files


@pytest.mark.parametrize("sources_F", [None, (2, 0, -1)], ids=["a state from before", "other fields"])
def test_a_state_without_a_quantised_original_goes_on(click_hours, hourly, sources_F):
    """With the retrained model alone until the next version, which is an ensemble if the share says so."""
    made = hourly(click_hours.config(), 3)
    made.challenger.share = shared(0.25)
    arrays = {name: np.array(array) for name, array in made.challenger.snapshot().arrays.items()}
    if sources_F is None:
        arrays = {name: array for name, array in arrays.items() if not name.startswith(("quantised.", "share."))}
    restored = Challenger.restore(made.config, arrays, "saved", sources_F)
    assert (restored.quantised, restored.quantised_share, restored.models) == (None, 0.0, 1)
    codes_BS = np.zeros_like(made.codes_BS)
    np.testing.assert_allclose(restored.score(codes_BS), sigmoid(restored._retrained(restored._places(codes_BS))))
    restored.quantised = made.challenger.quantised
    assert (restored.quantised_share, restored.models) == ((0.0, 1) if sources_F is None else (0.25, 2))
