"""The original model from hour to hour: it goes on from its checkpoints as if it had never left the memory."""

import os

import numpy as np
import pytest

import saec.train.original
from saec.errors import IntegrityError
from saec.store.checkpoints import Checkpoints
from saec.train.original import Original

EVICTING = {"evict_after": 3, "evict_floor": 50.0, "admit_after": 2}


def do_hour(original, rows, hour):
    """An hour as `steps.train` does it; returns the scores before anything of the hour was learnt."""
    original.absorb()
    prepared = original.prepare(rows)
    scores_B = original.score(prepared)
    original.train(hour, rows, prepared, rows.cut(0.3))
    return scores_B


def state(original):
    """Copies of everything a snapshot holds."""
    return {name: np.array(array) for name, array in original.snapshot().arrays.items()}


def same(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype, name
        assert array.tobytes() == second[name].tobytes(), name


@pytest.mark.parametrize("network", ["deepfm", "dcnv2"])
def test_restored_every_hour_equals_staying_in_memory(click_hours, tmp_path, monkeypatch, network):
    """Bit for bit, over delta checkpoints, admissions and an eviction: scores and all state, every hour."""
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 4)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    config = click_hours.config(vocabulary=EVICTING, model={"network": network, "width": 4, "hidden": [8]})
    checkpoints, stayed, base = Checkpoints(tmp_path), Original(config), None
    for number in range(10):
        hour = click_hours.first + number
        rows = click_hours.rows(hour)
        restored = Original(config) if base is None else Original.restore(config, checkpoints.load(base), base)
        assert do_hour(restored, rows, hour).tobytes() == do_hour(stayed, rows, hour).tobytes()
        base = checkpoints.save(hour, "original", restored.snapshot(), base)
        same(checkpoints.load(base), state(stayed))
    seen = {key for number in range(9) for key in click_hours.rows(click_hours.first + number).keys_BS.flat if key}
    assert len(stayed.vocabulary) < len(seen), "nothing was evicted"
    assert checkpoints._header(base)["base"] is not None, "the last checkpoint should be a delta"


def test_eviction_happens_and_keeps_rows_with_their_features(click_hours, monkeypatch):
    """Features that left are forgotten, and the vectors of those that stay move with them."""
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 10**6)
    kept = Original(click_hours.config(vocabulary=EVICTING))
    for number in range(8):
        do_hour(kept, click_hours.rows(click_hours.first + number), click_hours.first + number)
    vocabulary, table = kept.vocabulary, kept.table
    vectors = dict(zip(vocabulary.keys_V.tolist(), table.vectors_VD[vocabulary.row_V], strict=True))
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 1)
    before, pending = len(vocabulary), kept.pending
    trained = set(pending.rows.keys_BS.ravel().tolist())
    kept.absorb()
    assert 0 < len(vocabulary) < before
    assert len(table) == vocabulary.rows
    for key, row in zip(vocabulary.keys_V.tolist(), vocabulary.row_V, strict=True):
        if row >= 0 and key not in trained:
            assert np.array_equal(table.vectors_VD[row], vectors[key])


def test_every_row_is_learnt_exactly_once_and_in_order(click_hours, monkeypatch):
    """Train rows in their hour, gate rows an hour later: together every row of every hour, in the order of time."""
    learnt, fit = [], Original._fit

    def note(self, prepared, labels_B, chosen, *, seed):
        keys_BS = np.append(prepared.features.keys_U, np.uint64(0))[prepared.features.inverse_BS]
        learnt.append((keys_BS[chosen], labels_B[chosen]))
        return fit(self, prepared, labels_B, chosen, seed=seed)

    monkeypatch.setattr(Original, "_fit", note)
    original = Original(click_hours.config())
    hours = [click_hours.first + number for number in range(4)]
    for hour in hours:
        do_hour(original, click_hours.rows(hour), hour)
    original.absorb()
    original.absorb()  # nothing is left over a second time
    for part, name in enumerate(("keys_BS", "labels_B")):
        wanted = np.concatenate([getattr(click_hours.rows(hour), name) for hour in hours])
        assert np.array_equal(np.concatenate([parts[part] for parts in learnt]), wanted)


def test_an_hour_is_scored_before_anything_of_it_is_learnt(click_hours):
    """Whatever the labels of an hour, the scores of progressive validation are the same."""
    scores = []
    for flipped in (0, 1):
        original = Original(click_hours.config())
        for number in range(3):
            rows = click_hours.rows(click_hours.first + number)
            if number == 2:
                rows.labels_B[:] ^= flipped
            scores_B = do_hour(original, rows, click_hours.first + number)
        scores.append(scores_B)
    assert scores[0].tobytes() == scores[1].tobytes()


def test_looking_again_at_the_gate_rows_changes_nothing(click_hours):
    """Preparing and scoring the hour at the cut, as the gate does, leaves the state as it was."""
    original = Original(click_hours.config())
    for number in range(3):
        rows = click_hours.rows(click_hours.first + number)
        do_hour(original, rows, click_hours.first + number)
    before = state(original)
    cut = original.pending.cut
    assert len(original.score(original.prepare(rows), cut)) == len(rows) - cut
    same(state(original), before)


@pytest.mark.parametrize("stretches", [1, 3])
def test_vectors_set_aside_are_those_before_each_stretch(click_hours, monkeypatch, stretches):
    """Each stretch's vectors are copies of the table as it was before the stretch; training does not reach them."""
    original = Original(click_hours.config(training={"batch_rows": 32, "stretches": stretches}))
    for number in range(2):
        do_hour(original, click_hours.rows(click_hours.first + number), click_hours.first + number)
    original.absorb()
    hour, tables, fit = click_hours.first + 2, [], Original._fit
    rows = click_hours.rows(hour)
    prepared = original.prepare(rows)

    def note(self, *arguments, seed):
        tables.append(self.table.vectors_VD.copy())
        return fit(self, *arguments, seed=seed)

    monkeypatch.setattr(Original, "_fit", note)
    _, untouched = original.train(hour, rows, prepared, 100)
    parts = list(untouched.stretches())
    assert [part[0].stop - part[0].start for part in parts] == ([100] if stretches == 1 else [33, 33, 34])
    assert parts[0][0].start == 0
    rows_BS = prepared.features.spread(original.vocabulary.rows_of(prepared.features))
    for (stretch, rows_N, vectors_ND), table_VD in zip(parts, tables, strict=True):
        assert rows_N.tolist() == sorted(set(rows_BS[stretch].ravel().tolist()) - {-1})
        assert np.array_equal(vectors_ND, table_VD[rows_N])
        assert (original.table.vectors_VD[rows_N] != vectors_ND).any(1).mean() > 0.9


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_hour_of_fewer_rows_than_stretches(click_hours, count):
    """Some stretches are then empty, and every train row is still learnt."""
    original = Original(click_hours.config(training={"stretches": 8}))
    rows = click_hours.rows(click_hours.first, count)
    cut = rows.cut(0.3)
    done, untouched = original.train(click_hours.first, rows, original.prepare(rows), cut)
    assert done.rows == cut
    assert [stretch.stop for stretch, _, _ in untouched.stretches()][-1] == cut


def test_the_model_learns_what_was_planted(click_hours):
    """After ten hours it tells clicks apart far better than chance."""
    original = Original(click_hours.config())
    for number in range(10):
        rows = click_hours.rows(click_hours.first + number, 400)
        scores_B = do_hour(original, rows, click_hours.first + number)
    clicked = rows.labels_B == 1
    assert (scores_B[clicked][:, None] > scores_B[~clicked]).mean() > 0.7


def test_a_checkpoint_of_another_network_is_refused(click_hours):
    """A state that does not fit the configuration names its file and the parameter."""
    original = Original(click_hours.config())
    do_hour(original, click_hours.rows(click_hours.first), click_hours.first)
    other = click_hours.config(model={"width": 4, "hidden": [9], "cross_rank": 4})
    with pytest.raises(IntegrityError, match=r"X has shape \(8, 12\).*'deep.0.weight', wanted shape \(9, 12\)"):
        Original.restore(other, state(original), "X")
