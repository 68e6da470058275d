"""The rule that everything rests on: no row is learnt through a code that has seen its label."""

import os

import numpy as np
import pytest

from saec import steps
from saec.compress.challenger import Challenger
from saec.compress.codebooks import Centroids
from saec.compress.codes import HourCodes, code_hour
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


@pytest.fixture
def config(click_hours, tmp_path):
    """Fast learning, so that labels do reach the codes wherever they can."""
    return click_hours.config(training=QUICK, workspace=tmp_path)


def hours_of(click_hours, flips):
    """Four hours of rows; of the last one, labels in the given slices are flipped."""
    for number in range(HOURS):
        hour = click_hours.first + number
        rows = click_hours.rows(hour)
        labels_B = rows.labels_B.copy()
        if number == HOURS - 1:
            for flipped in flips:
                labels_B[flipped] ^= 1
        yield hour, EncodedRows(labels_B, rows.times_B, rows.keys_BS)


def codes_of_last_hour(click_hours, config, *flips):
    """The codes of the last of four hours, some of its labels flipped."""
    original, before = Original(config), Centroids.empty(3, 4)
    for hour, rows in hours_of(click_hours, flips):
        original.absorb()
        prepared = original.prepare(rows)
        _, untouched = original.train(hour, rows, prepared, CUT)
        codes = code_hour(original, untouched, before, hour, rows.keys_BS, CUT)
        before = codes.centroids
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
    assert (plain.head_codes_N != flipped.head_codes_N).any()
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


def learnt_by_challenger(click_hours, config, monkeypatch, *flips, then=0):
    """All codes that the challenger learns through in the last of some hours of the real steps, flips in hour 3."""
    learnt, fit = [], Challenger._fit

    def note(self, codes_BS, labels_B):
        learnt.append((codes_BS.copy(), labels_B.copy()))
        return fit(self, codes_BS, labels_B)

    with monkeypatch.context() as patch:
        patch.setattr(Challenger, "_fit", note)
        patch.setattr(Workspace, "_resident", None)
        states, hours = {}, list(hours_of(click_hours, flips))
        hours += [(click_hours.first + HOURS + n, click_hours.rows(click_hours.first + HOURS + n)) for n in range(then)]
        for hour, rows in hours:
            learnt.clear()
            plan, ingested = steps.HourPlan(config, hour, **states), Ingested(rows)
            trained = steps.train(plan, ingested)
            clustered = steps.cluster(plan, ingested, trained)
            retrained = steps.retrain(plan, ingested, trained, clustered)
            states = {"original": trained.original, "challenger": retrained.challenger}
    return learnt, [rows for _, rows in hours[-2:]]


def test_the_steps_teach_the_challenger_lagged_codes_then_fresh_ones(click_hours, config, monkeypatch):
    """In the real steps: gate rows of the hour before first, train rows next, and neither through its own labels."""
    learnt, (before, now) = learnt_by_challenger(click_hours, config, monkeypatch)
    cut = now.cut(config.training.gate_share)
    (gate_codes, gate_labels), (train_codes, train_labels) = learnt
    assert np.array_equal(gate_labels, before.labels_B[cut:])
    assert np.array_equal(train_labels, now.labels_B[:cut])
    assert (gate_codes > 0).mean() > 0.3 < (train_codes > 0).mean()

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
    """Frequent features have codes from 1 within their codebook, all others 0; padding stays padding."""
    codes = codes_of_last_hour(click_hours, config)
    keys_BS = click_hours.rows(click_hours.first + HOURS - 1).keys_BS
    counts_S = codes.centroids.counts_F[np.array(config.slot_fields)]
    for codes_BS, keys in ((codes.lagged_BS, keys_BS[:CUT]), (codes.fresh_BS, keys_BS[CUT:])):
        assert codes_BS.dtype == np.int16
        assert ((codes_BS == -1) == (keys == 0)).all()
        assert (codes_BS <= counts_S).all()
        assert ((codes_BS > 0) <= np.isin(keys, codes.head_keys_N)).all()
    served = dict(zip(codes.head_keys_N.tolist(), codes.head_codes_N.tolist(), strict=True))
    wanted = [[served.get(key, 0) if key else -1 for key in row] for row in keys_BS[CUT:].tolist()]
    assert codes.fresh_BS.tolist() == wanted


def test_figures_are_shares(click_hours, config):
    """Churn and utilisation lie between 0 and 1; with planted groups, few codewords go unused."""
    codes = codes_of_last_hour(click_hours, config)
    assert 0.0 <= codes.churn <= 1.0
    assert 0.7 < codes.utilisation <= 1.0


def test_the_first_hour_has_no_codes(click_hours, config):
    """Nothing was seen before, so every feature is on its default codeword and nothing has changed."""
    original, rows = Original(config), click_hours.rows(click_hours.first)
    _, untouched = original.train(click_hours.first, rows, original.prepare(rows), CUT)
    codes = code_hour(original, untouched, Centroids.empty(3, 4), click_hours.first, rows.keys_BS, CUT)
    assert set(np.unique(codes.lagged_BS)) | set(np.unique(codes.fresh_BS)) == {-1, 0}
    assert (codes.churn, codes.utilisation, len(codes.head_keys_N)) == (0.0, 0.0, 0)


def test_fewer_codewords_than_the_hour_before(click_hours, config):
    """When codebooks are made smaller between two hours, lagged codes are the old books', fresh ones the new books'."""
    original, before = Original(config), Centroids.empty(3, 4)
    for hour, rows in hours_of(click_hours, ()):
        original.absorb()
        prepared = original.prepare(rows)
        _, untouched = original.train(hour, rows, prepared, CUT)
        if hour == click_hours.first + HOURS - 1:
            original.config = click_hours.config(training=QUICK, compression={"codewords": 2, "head_frequency": 3.0})
            retrained_on = before
        codes = code_hour(original, untouched, before, hour, rows.keys_BS, CUT)
        before = codes.centroids
    slot_fields_S = np.array(config.slot_fields)
    assert (codes.lagged_BS <= retrained_on.counts_F[slot_fields_S]).all()
    assert (codes.fresh_BS <= codes.centroids.counts_F[slot_fields_S]).all()
    assert codes.lagged_BS.max() > codes.fresh_BS.max()


def test_codes_survive_their_file(click_hours, config):
    """`from_arrays` of `arrays` is the same codes."""
    codes = codes_of_last_hour(click_hours, config)
    again = HourCodes.from_arrays(codes.arrays()).arrays()
    assert all(np.array_equal(array, again[name]) for name, array in codes.arrays().items())
