"""The rule that everything rests on: no row is learnt through a code that has seen its label."""

import dataclasses
import os
import types

import numpy as np
import pytest

from saec import steps
from saec.compress import codes as hour_codes
from saec.compress.challenger import Challenger
from saec.compress.codes import HourCodes, Standards, code_hour
from saec.compress.dial import Allowance
from saec.compress.heads import Worth
from saec.compress.places import CLUSTERS, DEFAULT, NEWCOMER
from saec.data.rows import EncodedRows
from saec.train.original import Original, PreparedRows
from saec.workspace import Workspace

HOURS = 4
STRETCHES = 3
CUT = 105
QUICK = {"batch_rows": 16, "table_learning_rate": 1.0, "stretches": STRETCHES}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No real fsync: nothing here is about a power loss."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def roomy(monkeypatch, features):
    """Give every head so many features, halved with each doubling of the ratio beyond 4."""
    def of(config, rows, ratio):
        return Allowance(config.compression.codewords, int(features * 4 / ratio))

    monkeypatch.setattr(hour_codes, "Allowance", types.SimpleNamespace(of=of))


@pytest.fixture(params=["all fit", "tight head", "false accepts", "auto"])
def config(click_hours, tmp_path, request, monkeypatch):
    """Fast learning, so that labels do reach the codes wherever they can, and all that may decide who has a code."""
    compression = {"codewords": 6, "ratio": 4.0, "fingerprint_bits": 16}
    if request.param == "tight head":
        roomy(monkeypatch, 24)
    elif request.param == "false accepts":
        compression["fingerprint_bits"] = 2
        roomy(monkeypatch, 24)
    elif request.param == "auto":
        compression["ratio"] = "auto"
        roomy(monkeypatch, 40)
    return click_hours.config(training=QUICK, compression=compression, workspace=tmp_path)


def hours_of(click_hours, flips):
    """Four hours of rows; of the last one, labels in the given slices are flipped. It has a new user now and then."""
    for number in range(HOURS):
        hour = click_hours.first + number
        rows = click_hours.rows(hour)
        labels_B = rows.labels_B.copy()
        if number == HOURS - 1:
            for flipped in flips:
                labels_B[flipped] ^= 1
            rows.keys_BS[[2, 40, 75, 110], 0] = click_hours.keys(0, np.array([999]))
        yield hour, EncodedRows(labels_B, rows.times_B, rows.keys_BS)


def story(click_hours, config, flips=(), changed=lambda rows: rows):
    """What `code_hour` is given in each of the four hours, and what it gives."""
    original, before = Original(config), Standards.start(3, 4)
    # Users' codes are worth more than those of others, so that worth decides who is in a tight head.
    before = dataclasses.replace(before, worth=Worth(np.array([[9.0, 2, 2], [4, 1, 1]]), np.full((2, 3), 100.0)))
    for number, (hour, plain) in enumerate(hours_of(click_hours, flips)):
        rows = changed(plain) if number == HOURS - 1 else plain
        original.absorb()
        _, untouched = original.train(hour, rows, original.prepare(rows), CUT)
        codes = code_hour(original, untouched, before, hour, rows.keys_BS, CUT, 4.0, [8.0, 16.0])
        yield rows, before, codes
        before = codes.standards


def codes_of_last_hour(click_hours, config, *flips):
    """The codes of the last of four hours, some of its labels flipped."""
    *_, (_, _, codes) = story(click_hours, config, flips)
    return codes


def lagged_of_stretches(codes):
    return [codes.lagged_BS[CUT * p // STRETCHES : CUT * (p + 1) // STRETCHES].tobytes() for p in range(STRETCHES)]


def check_no_leak(click_hours, config):
    """Flip the labels of each stretch: its own codes and those of earlier rows must not change by a bit."""
    wanted = lagged_of_stretches(codes_of_last_hour(click_hours, config))
    for number in range(STRETCHES):
        flipped = slice(CUT * number // STRETCHES, CUT * (number + 1) // STRETCHES)
        found = lagged_of_stretches(codes_of_last_hour(click_hours, config, flipped))
        assert found[: number + 1] == wanted[: number + 1], f"stretch {number} is learnt through its own labels"


def test_lagged_codes_know_nothing_of_their_rows_labels(click_hours, config):
    """The labels of a stretch change no code through which that stretch, or an earlier row, is learnt."""
    check_no_leak(click_hours, config)


def test_gate_labels_reach_no_code(click_hours, config):
    """The labels of the gate rows change neither lagged nor fresh codes, nor centroids."""
    wanted = codes_of_last_hour(click_hours, config).arrays()
    found = codes_of_last_hour(click_hours, config, slice(CUT, None)).arrays()
    assert all(found[name].tobytes() == array.tobytes() for name, array in wanted.items())


def test_labels_do_reach_the_codes_that_may_know_them(click_hours, config):
    """The check above has teeth: train labels move the fresh codes, and a stretch's labels the codes of later ones."""
    plain = codes_of_last_hour(click_hours, config)
    flipped = codes_of_last_hour(click_hours, config, slice(0, CUT))
    assert (plain.head_codes_H != flipped.head_codes_H).any()
    assert (plain.fresh_BS != flipped.fresh_BS).any()
    first = codes_of_last_hour(click_hours, config, slice(0, CUT // STRETCHES))
    assert lagged_of_stretches(first)[-1] != lagged_of_stretches(plain)[-1]


def test_vectors_set_aside_too_late_are_caught(click_hours, config, monkeypatch):
    """If the vectors were those after the training, the check would fail: here is the fault, planted."""
    train = Original.train

    def leaky(self, hour, rows, prepared, cut):
        done, untouched = train(self, hour, rows, prepared, cut)
        untouched.vectors_ND[:] = self.table.vectors_VD[untouched.rows_N]
        return done, untouched

    monkeypatch.setattr(Original, "train", leaky)
    with pytest.raises(AssertionError, match="its own labels"):
        check_no_leak(click_hours, config)


def test_vectors_set_aside_as_a_view_are_caught(click_hours, config, monkeypatch):
    """The same if all stretches were given the vectors of the last one's start."""

    def late(self, chosen):
        places = np.unique(self.places_BS[chosen].numpy())
        rows_N = self.working.rows_U[places[places >= 0]]
        return rows_N, LateVectors(self.working, places[places >= 0])

    class LateVectors:
        """Reads the vectors when they are joined, which is after all training."""

        def __init__(self, working, places):
            self.working, self.places = working, places

        def __array__(self, dtype=None, copy=None):
            return self.working.vectors_UD.numpy()[self.places]

    monkeypatch.setattr(PreparedRows, "used_by", late)
    with pytest.raises(AssertionError, match="its own labels"):
        check_no_leak(click_hours, config)


class Ingested:
    """Stands in for an hour's ingest record: its rows are in memory."""

    def __init__(self, rows):
        self.rows = rows

    def load_rows(self, folder):
        return self.rows


def no_harm(self, codes_BS, labels_B):
    """Losses by which codes are worth something and retraining never does harm, whatever labels are flipped."""
    return np.full(len(labels_B), -0.1 * (codes_BS > 0).mean() if codes_BS.size else 0.0)


def learnt_by_challenger(click_hours, config, monkeypatch, *flips, then=0):
    """All codes that the challenger learns through in the last of some hours of the real steps, flips in hour 3."""
    learnt, fit = [], Challenger._fit

    def note(self, codes_BS, labels_B):
        learnt.append((codes_BS.copy(), labels_B.copy()))
        return fit(self, codes_BS, labels_B)

    with monkeypatch.context() as patch:
        patch.setattr(Challenger, "_fit", note)
        patch.setattr(Challenger, "_losses", no_harm)
        patch.setattr(Workspace, "_resident", None)
        states, hours = {}, list(hours_of(click_hours, flips))
        hours += [(click_hours.first + HOURS + n, click_hours.rows(click_hours.first + HOURS + n)) for n in range(then)]
        for hour, rows in hours:
            del learnt[:]
            plan, ingested = steps.HourPlan(config, hour, **states), Ingested(rows)
            trained = steps.train(plan, ingested)
            clustered = steps.cluster(plan, ingested, trained)
            retrained = steps.retrain(plan, ingested, trained, clustered)
            states = {"original": trained.original, "challenger": retrained.challenger}
    gate, *train = learnt
    return [gate, tuple(np.concatenate(parts) for parts in zip(*train, strict=True))], [rows for _, rows in hours[-2:]]


def test_the_steps_teach_the_challenger_lagged_codes_then_fresh_ones(click_hours, config, monkeypatch):
    """In the real steps: gate rows of the hour before first, train rows next, and neither through its own labels."""
    learnt, (before, now) = learnt_by_challenger(click_hours, config, monkeypatch)
    cut = now.cut(config.training.gate_share)
    (gate_codes, gate_labels), (train_codes, train_labels) = learnt
    assert np.array_equal(gate_labels, before.labels_B[cut:])
    assert np.array_equal(train_labels, now.labels_B[:cut])
    assert (gate_codes > 0).mean() > 0.15 < (train_codes > 0).mean()

    last_stretch = slice(cut * (STRETCHES - 1) // STRETCHES, cut)
    flipped, _ = learnt_by_challenger(click_hours, config, monkeypatch, last_stretch, slice(cut, None))
    assert flipped[0][0].tobytes() == gate_codes.tobytes()
    assert flipped[1][0].tobytes() == train_codes.tobytes()
    assert flipped[1][1].tobytes() != train_labels.tobytes()


def test_gate_rows_are_absorbed_through_codes_without_their_labels(click_hours, config, monkeypatch):
    """An hour later, the gate rows are learnt through the fresh codes of their hour, whatever their labels were."""
    plain, (before, _) = learnt_by_challenger(click_hours, config, monkeypatch, then=1)
    cut = before.cut(config.training.gate_share)
    gate, _ = learnt_by_challenger(click_hours, config, monkeypatch, slice(cut, None), then=1)
    train, _ = learnt_by_challenger(click_hours, config, monkeypatch, slice(0, cut), then=1)
    assert gate[0][0].tobytes() == plain[0][0].tobytes()
    assert gate[0][1].tobytes() != plain[0][1].tobytes()
    assert train[0][0].tobytes() != plain[0][0].tobytes()


def test_codes_of_the_head_only(click_hours, config):
    """Of all features only the head's have codes, but for false accepts; padding stays padding."""
    *_, (rows, before, codes) = story(click_hours, config)
    slot_fields_S = np.array(config.slot_fields)
    for codes_BS, keys, standards in (
        (codes.lagged_BS, rows.keys_BS[:CUT], before),
        (codes.fresh_BS, rows.keys_BS[CUT:], codes.standards),
    ):
        assert codes_BS.dtype == np.int16
        assert ((codes_BS == -1) == (keys == 0)).all()
        assert (codes_BS < standards.centroids.counts_F[slot_fields_S] + CLUSTERS).all()
        assert {NEWCOMER, CLUSTERS} <= set(np.unique(codes_BS))
    served = dict(zip(codes.head_keys_H.tolist(), codes.head_codes_H.tolist(), strict=True))
    wanted = np.array([[served.get(key, 0) if key else -1 for key in row] for row in rows.keys_BS[CUT:].tolist()])
    differ_BS = codes.fresh_BS != wanted
    assert (wanted[differ_BS] == DEFAULT).all()
    assert differ_BS.any() == (config.compression.fingerprint_bits == 2)
    assert codes.head_codes_H.dtype == np.int16
    assert codes.head_codes_H.min() == NEWCOMER


def test_heads_keep_to_their_room(click_hours, config, monkeypatch):
    """A head has no more features than there is room for, and newcomers at most a quarter of them."""
    roomy(monkeypatch, 16)
    for _, _, codes in story(click_hours, config):
        newcomers = int((codes.head_codes_H == NEWCOMER).sum())
        assert newcomers <= 4
        assert len(codes.head_keys_H) <= 16
    assert newcomers > 0
    assert len(codes.head_keys_H) > 10


def test_trials_are_heads_of_less_room(click_hours, config, monkeypatch):
    """A cell is kept in a trial when its feature is in the head that as much room would give; never false accepts."""
    roomy(monkeypatch, 24)
    *_, (rows, _, codes) = story(click_hours, config)
    for trial, features in enumerate((12, 6)):
        assert (codes.trials_BS > trial).any()
        kept = np.unique(rows.keys_BS[CUT:][codes.trials_BS > trial])
        assert len(kept) <= features
        assert np.isin(kept, codes.head_keys_H).all()
    assert codes.trials_BS.dtype == np.int8
    assert set(np.unique(codes.trials_BS[codes.fresh_BS >= 0])) == {0, 1, 2}


@pytest.mark.parametrize("config", ["tight head"], indirect=True)
@pytest.mark.parametrize("factor", [0.02, 50.0])
def test_lagged_heads_are_as_large_as_fresh_ones(click_hours, config, monkeypatch, factor):
    """When all codes turn out to be worth more, or less, than was thought, as many features have codes to retrain."""
    code = code_hour

    def revalued(original, untouched, before, *args):
        if before.hours == HOURS - 1:
            worth = Worth(factor * before.worth.saved_2F, before.worth.sightings_2F)
            before = dataclasses.replace(before, worth=worth)
        return code(original, untouched, before, *args)

    monkeypatch.setitem(story.__globals__, "code_hour", revalued)
    codes = codes_of_last_hour(click_hours, config)
    assert (codes.lagged_BS >= CLUSTERS).mean() == pytest.approx((codes.fresh_BS >= CLUSTERS).mean(), rel=0.5)


def test_newcomers_are_features_seen_before_without_a_row(click_hours, config):
    """In lagged codes one stretch late, in fresh ones up to the cut; false accepts apart."""
    *_, (rows, _, codes) = story(click_hours, config)
    if config.compression.fingerprint_bits == 2:
        pytest.skip("false accepts may have the newcomers' code without being any")
    starts = [CUT * number // STRETCHES for number in range(STRETCHES)]
    for number, start in enumerate(starts):
        chosen = slice(start, CUT * (number + 1) // STRETCHES)
        newcomers = rows.keys_BS[chosen][codes.lagged_BS[chosen] == NEWCOMER]
        assert np.isin(newcomers, rows.keys_BS[: starts[max(number - 1, 0)]]).all()
    assert len(newcomers)
    newcomers = rows.keys_BS[CUT:][codes.fresh_BS == NEWCOMER]
    assert len(newcomers)
    assert np.isin(newcomers, rows.keys_BS[:CUT]).all()


@pytest.mark.parametrize("config", ["all fit", "tight head", "auto"], indirect=True)
def test_rows_to_come_reach_no_lagged_code(click_hours, config):
    """Who will be seen later changes no lagged code: neither keys of later stretches nor those of the gate rows."""
    last = CUT * (STRETCHES - 1) // STRETCHES

    def others(rows):
        later = rows.keys_BS[last:].copy()
        return EncodedRows(rows.labels_B, rows.times_B, np.concatenate([rows.keys_BS[:last], np.roll(later, 7, 0)]))

    *_, (_, _, plain) = story(click_hours, config)
    *_, (_, _, other) = story(click_hours, config, changed=others)
    assert np.array_equal(other.lagged_BS[:last], plain.lagged_BS[:last])
    assert not np.array_equal(other.lagged_BS[last:], plain.lagged_BS[last:])


def test_false_accepts_are_drawn_anew_each_hour(click_hours):
    """One unknown feature in 2^bits gets some code of its field, others the default one; the next hour, others do."""
    config = click_hours.config(compression={"fingerprint_bits": 2})
    fields_U, counts_F = np.arange(40_000) % 3, np.array([3, 6, 0])
    codes_U = hour_codes._false_accepts(config, click_hours.first, fields_U, counts_F)
    again_U = hour_codes._false_accepts(config, click_hours.first, fields_U, counts_F)
    later_U = hour_codes._false_accepts(config, click_hours.first + 1, fields_U, counts_F)
    assert np.array_equal(codes_U, again_U)
    assert 0.05 < (codes_U[later_U > 0] > 0).mean() < 0.25
    for field, count in enumerate(counts_F):
        codes = codes_U[fields_U == field]
        assert set(np.unique(codes)) == {DEFAULT, *range(NEWCOMER, count + CLUSTERS)}
        # The index has 3 bits for codes 1 to 8; those beyond the field's own fall on the default codeword.
        assert (codes > 0).mean() == pytest.approx((count + 1) / 8 / 4, rel=0.1)


def test_figures_of_an_hour(click_hours, config):
    """Churn is a share, neither 0 nor 1 here; heads of all fields make up the head, newcomers left out."""
    codes = codes_of_last_hour(click_hours, config)
    assert 0.0 < codes.churn < 1.0
    assert codes.figures_F["head"].sum() == (codes.head_codes_H >= CLUSTERS).sum()
    assert (codes.figures_F["used"] <= codes.figures_F["clusters"]).all()


def test_the_first_hour_has_no_clusters(click_hours, config):
    """Nothing has a row of its own yet: lagged codes are default ones, fresh ones know the newcomers of the hour."""
    rows, _, codes = next(story(click_hours, config))
    assert not (codes.lagged_BS >= CLUSTERS).any()
    assert not (codes.fresh_BS >= CLUSTERS).any()
    if config.compression.fingerprint_bits == 16:
        assert set(np.unique(codes.lagged_BS)) == {-1, DEFAULT}
    else:
        assert (codes.lagged_BS == NEWCOMER).any(), "codes to retrain through have their share of false accepts"
    assert set(codes.head_codes_H.tolist()) == {NEWCOMER}
    assert np.isin(codes.head_keys_H, rows.keys_BS[:CUT]).all()
    assert codes.standards.centroids.counts_F.tolist() == [0, 0, 0]


def test_fewer_codewords_than_the_hour_before(click_hours, tmp_path):
    """When codebooks are made smaller between two hours, lagged codes are the old books', fresh ones the new books'."""
    config = click_hours.config(training=QUICK, workspace=tmp_path)
    original, before = Original(config), Standards.start(3, 4)
    for hour, rows in hours_of(click_hours, ()):
        original.absorb()
        prepared = original.prepare(rows)
        _, untouched = original.train(hour, rows, prepared, CUT)
        if hour == click_hours.first + HOURS - 1:
            original.config = click_hours.config(training=QUICK, compression={"codewords": 2, "ratio": 4.0})
            retrained_on = before.centroids
        codes = code_hour(original, untouched, before, hour, rows.keys_BS, CUT, 4.0)
        before = codes.standards
    slot_fields_S = np.array(config.slot_fields)
    assert (codes.lagged_BS < retrained_on.counts_F[slot_fields_S] + CLUSTERS).all()
    assert (codes.fresh_BS < codes.standards.centroids.counts_F[slot_fields_S] + CLUSTERS).all()
    assert codes.lagged_BS.max() > codes.fresh_BS.max()


def test_hours_without_gate_rows_are_coded(click_hours, config):
    """Where all rows are of one instant, all of them are train rows."""
    original, before = Original(config), Standards.start(3, 4)
    for hour, rows in hours_of(click_hours, ()):
        original.absorb()
        _, untouched = original.train(hour, rows, original.prepare(rows), len(rows.labels_B))
        codes = code_hour(original, untouched, before, hour, rows.keys_BS, len(rows.labels_B), 4.0, [8.0])
        before = codes.standards
    assert codes.fresh_BS.shape == codes.trials_BS.shape == (0, 5)
    assert (codes.lagged_BS >= CLUSTERS).any()


def test_codes_survive_their_file(click_hours, config):
    """`from_arrays` of `arrays` is the same codes."""
    codes = codes_of_last_hour(click_hours, config)
    again = HourCodes.from_arrays(codes.arrays()).arrays()
    assert all(np.array_equal(array, again[name]) for name, array in codes.arrays().items())
