"""The original model from hour to hour: it continues from checkpoints as if it had never left memory."""

import dataclasses

import numpy as np
import pytest

import saec.store.checkpoints
import saec.train.original
from saec.data.vocabulary import NEVER
from saec.errors import IntegrityError
from saec.hours import Hour
from saec.store.checkpoints import Checkpoints
from saec.train.original import AtCut, Original
from saec.train.tensors import learner_state

FIRST = Hour.parse("2017-10-01T03")
EVICTING = {"evict_after": 3, "evict_floor": 50.0, "admit_after": 2}


CUT = 105


def do_hour(original, rows, hour, cut=CUT):
    """An hour as `steps.train` does it; returns the scores before anything of the hour was learnt, and the cut."""
    prepared = original.prepare(hour, rows)
    scores_B = original.score(prepared)
    return scores_B, original.learn(hour, rows, prepared, cut)


def done(click_hours, hours, **sections):
    """An original that has done so many hours."""
    original = Original(click_hours.config(**sections))
    for hour in hours_from(click_hours, hours):
        do_hour(original, click_hours.rows(hour), hour)
    return original


def hours_from(click_hours, count):
    return [click_hours.first + number for number in range(count)]


def state(original):
    """Copies of everything a snapshot holds, but for what is derived from the rest."""
    return {name: np.array(array) for name, array in original.snapshot().arrays.items()}


def same(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype, name
        assert array.tobytes() == second[name].tobytes(), name


def content(original, hour=None):
    """All that a state holds, wherever it lies: what is known by key, shared rows, the learner, the identity."""
    vocabulary, table = original.vocabulary, original.table
    ids = vocabulary.places()
    known, sightings = vocabulary.known(hour or FIRST, ids), vocabulary.sightings(ids)
    own = known.rows_M >= 0
    rows = table.take(known.rows_M[own])
    vectors = dict(zip(known.keys_M[own].tolist(), rows.vectors_UD.numpy(), strict=True))
    squares = dict(zip(known.keys_M[own].tolist(), rows.squares_U.numpy(), strict=True))
    shared = table.take(np.arange(vocabulary.shared))
    of_features = {
        key: (*numbers, vectors[key].tobytes() if key in vectors else None, squares.get(key))
        for key, *numbers in zip(
            *(array.tolist() for array in (known.keys_M, known.fields_M, sightings, known.frequency_M)),
            known.last_seen_M.tolist(),
            strict=True,
        )
    }
    learnt = {name: array.tobytes() for name, array in learner_state(original.learner).items()}
    of_all = shared.vectors_UD.numpy().tobytes(), shared.squares_U.numpy().tobytes()
    return dict(sorted(of_features.items())), of_all, learnt, original.identity, vocabulary.admitted, len(vocabulary)


def told(at_cut):
    """What is set aside at a cut, wherever rows lie."""
    arrays = at_cut.arrays()
    arrays["vectors_ND"] = arrays["vectors_ND"][np.lexsort((arrays.pop("rows_N"), arrays["keys_N"]))]
    arrays["keys_N"] = np.sort(arrays["keys_N"])
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize(
    ("network", "shards"),
    [("dcnv2", 1), ("deepfm", 3), *(pytest.param("deepfm", shards, marks=pytest.mark.slow) for shards in (1, 8))],
)
def test_restored_every_hour_equals_staying_in_memory(click_hours, tmp_path, monkeypatch, network, shards):
    """Bit for bit, over whole checkpoints, deltas, admissions and evictions, in any number of shards."""
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 2)
    monkeypatch.setattr(saec.store.checkpoints, "MOST_DELTAS", 3)
    config = click_hours.config(vocabulary=EVICTING, model={"network": network, "width": 4, "hidden": [8]})
    checkpoints, stayed, base, whole = Checkpoints(tmp_path), Original(config), None, []
    forgotten = back = 0
    for number in range(11):
        hour = click_hours.first + number
        rows = click_hours.rows(hour - 6 if number == 8 else hour)  # features of long ago are back
        restored = Original(config) if base is None else Original.restore(config, checkpoints.open(base), base)
        restored.scratch = tmp_path  # what stays after an eviction lies in a file there, in the other twin in memory
        if number == 2 and shards > 1:
            restored.reshard(shards)
        gone = {*restored.vocabulary.keys_V.tolist()} - {*content(restored)[0]}
        forgotten += len(gone)
        (scores_B, cut), (wanted_B, wanted_cut) = (do_hour(twin, rows, hour) for twin in (restored, stayed))
        back += len(gone & {*content(restored)[0]})
        assert scores_B.tobytes() == wanted_B.tobytes()
        assert told(cut) == told(wanted_cut)
        base, before = checkpoints.save(hour, "original", restored.snapshot(), base), base
        assert content(Original.restore(config, checkpoints.open(base), base)) == content(restored) == content(stayed)
        whole.append(len(checkpoints.rewritten(base, before)))
    assert forgotten > 0, "nothing was evicted"
    assert back > 0, "nothing that was forgotten and not dropped came back"
    assert whole[0] == 1
    assert max(whole[3:]) < max(shards, 2), "whole ones should fall due in different hours"
    assert sum(whole[3:]) > 1


@pytest.mark.parametrize("sources_F", [(0, -1, 2), (1, 0, 2)])
def test_carried_over_from_shards_is_carried_over_from_one(click_hours, tmp_path, monkeypatch, sources_F):
    """To other fields, with features forgotten and not dropped: the same state, in as many shards as before."""
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 2)
    checkpoints, found = Checkpoints(tmp_path), []
    for shards in (1, 3):
        original, base = Original(click_hours.config(vocabulary=EVICTING)), None
        original.reshard(shards)
        for hour in hours_from(click_hours, 7):
            do_hour(original, click_hours.rows(hour), hour)
            base = checkpoints.save(hour, f"of{shards}", original.snapshot(), base)
        assert len(original.vocabulary.keys_V) > len(original.vocabulary)
        carried = Original.restore(original.config, checkpoints.open(base), "it", sources_F)
        assert carried.shards == shards
        found.append(content(carried))
    assert found[0] == found[1]
    assert len(found[0][0]) > 10


def test_eviction_at_the_start_of_an_hour_keeps_rows_with_their_features(click_hours, monkeypatch):
    """Features that left are forgotten before the hour; when the state is written whole, the others move up."""
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 10**6)
    kept = done(click_hours, 8, vocabulary=EVICTING)
    features = content(kept)[0]
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 1)
    hour, before = click_hours.first + 8, len(kept.vocabulary)
    kept.prepare(hour, click_hours.rows(hour, 0))
    left, rows = content(kept)[0], len(kept.table)
    assert 0 < len(left) == len(kept.vocabulary) < before, "forgotten before the hour is counted"
    assert left.items() <= features.items()
    kept.snapshot().whole()
    assert content(kept)[0] == left
    assert kept.vocabulary.keys_V.tolist() == [key for key in kept.vocabulary.keys_V.tolist() if key in left]
    assert len(kept.table) == kept.vocabulary.shared + kept.vocabulary.admitted < rows


def test_a_state_written_whole_after_the_cut_is_at_the_cut_as_it_was(click_hours, monkeypatch):
    """Rows that moved up since are found by their keys, and rows that features share where they were."""
    original, hour = done(click_hours, 8, vocabulary=EVICTING), click_hours.first + 8
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 1)
    _, at_cut = do_hour(original, click_hours.rows(hour), hour)
    assert same(at_cut.located(original.vocabulary).arrays(), at_cut.arrays()) is None
    original.snapshot().whole()
    located, own_N = at_cut.located(original.vocabulary), at_cut.keys_N > 0
    assert not np.array_equal(located.rows_N, at_cut.rows_N)
    assert (np.diff(located.rows_N) > 0).all()
    ids = original.vocabulary.find(at_cut.keys_N[own_N])
    rows_N = np.concatenate([at_cut.rows_N[~own_N], original.vocabulary.own_rows(ids)])
    found_ND = located.vectors(rows_N, original.table.vectors(rows_N))
    assert np.array_equal(found_ND, np.concatenate([at_cut.vectors_ND[~own_N], at_cut.vectors_ND[own_N]]))


def test_nothing_is_evicted_between_the_hours_of_eviction(click_hours, monkeypatch):
    """Whether an hour evicts is a matter of its index, not of how many the model has done."""
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 5)
    original, sizes = Original(click_hours.config(vocabulary=EVICTING)), []
    hours = [hour for hour in hours_from(click_hours, 16) if hour.index % 5 != 0]
    for hour in hours:
        do_hour(original, click_hours.rows(hour), hour)
        sizes.append(len(original.vocabulary))
    assert sizes == sorted(sizes)
    hour = next(hour for hour in hours_from(click_hours, 30)[16:] if hour.index % 5 == 0)
    original.prepare(hour, click_hours.rows(hour))
    assert len(original.vocabulary) < sizes[-1]


def test_an_hour_that_evicts_writes_what_it_touched_and_forgot(click_hours, monkeypatch):
    """No hour writes all of a state because features are forgotten in it."""
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 10**6)
    original, touched = done(click_hours, 8, vocabulary=EVICTING), []
    original.snapshot()
    for number in range(8, 11):
        hour = click_hours.first + number
        monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", hour.index if number == 9 else 10**6)
        before = {*original.vocabulary.places().tolist()}
        do_hour(original, click_hours.rows(hour), hour)
        touched.append(original.snapshot().touched)
        forgotten = before - {*original.vocabulary.places().tolist()}
        assert bool(forgotten) == (number == 9)
        assert forgotten <= {*touched[-1]["vocabulary"].tolist()}
    keys = click_hours.rows(hour).keys_BS
    ids = np.unique(original.vocabulary.find(keys[keys > 0]))
    rows = original.vocabulary.row_V[ids]
    assert np.array_equal(touched[2]["vocabulary"], ids)
    used = touched[2]["table"]
    assert np.array_equal(used[used >= original.vocabulary.shared], rows[rows >= 0])


def test_every_row_is_learnt_exactly_once_and_in_order(click_hours, monkeypatch):
    """All rows of an hour within the hour, in the order of time: those before the cut, then the others."""
    learnt, fit = [], Original._fit

    def note(self, prepared, rows, chosen):
        keys_BS = np.append(prepared.features.keys_U, np.uint64(0))[prepared.features.inverse_BS]
        learnt.append((keys_BS[chosen], rows.labels_B[chosen]))
        return fit(self, prepared, rows, chosen)

    monkeypatch.setattr(Original, "_fit", note)
    original = Original(click_hours.config())
    for hour in hours_from(click_hours, 4):
        rows = click_hours.rows(hour)
        del learnt[:]
        do_hour(original, rows, hour)
        assert [len(labels_B) for _, labels_B in learnt] == [CUT, len(rows) - CUT]
        for part, name in enumerate(("keys_BS", "labels_B")):
            assert np.array_equal(np.concatenate([parts[part] for parts in learnt]), getattr(rows, name))


def last_hour(click_hours, changed, hours=3):
    """Scores of the last of some hours before it, its cut and the original after it; `changed` alters its rows."""
    original, last = done(click_hours, hours - 1), click_hours.first + hours - 1
    rows = click_hours.rows(last)
    changed(rows)
    scores_B, at_cut = do_hour(original, rows, last)
    return scores_B, at_cut, original


def flip(*places):
    """Turns the labels of some rows over."""
    return lambda rows: [rows.labels_B.__setitem__(part, rows.labels_B[part] ^ 1) for part in places]


def test_an_hour_is_scored_before_anything_of_it_is_learnt(click_hours):
    """Whatever the labels of an hour, the scores of progressive validation are the same."""
    (plain_B, _, one), (flipped_B, _, other) = (last_hour(click_hours, flip(*parts)) for parts in ((), (slice(None),)))
    assert plain_B.tobytes() == flipped_B.tobytes()
    assert not np.array_equal(one.table.vectors_VD, other.table.vectors_VD)


def test_the_gate_is_scored_before_its_rows_are_learnt(click_hours):
    """Whatever the labels of the gate rows, scores and vectors at the cut are the same; train rows do change them."""
    plain, gate, train = (last_hour(click_hours, flip(*parts)) for parts in ((), (slice(CUT, None),), (slice(CUT),)))
    assert plain[1].scores_G.shape == (150 - CUT,)
    same(plain[1].arrays(), gate[1].arrays())
    assert not np.array_equal(plain[2].table.vectors_VD, gate[2].table.vectors_VD)
    assert not np.array_equal(plain[1].scores_G, train[1].scores_G)
    assert not np.array_equal(plain[1].scores_G, plain[0][CUT:]), "at the cut the train rows have been learnt"


def tables_before_each_part(monkeypatch):
    """Copies of the whole table as it was when each part of an hour began to be learnt."""
    tables, fit = [], Original._fit

    def note(self, *arguments):
        tables.append(self.table.vectors_VD.copy())
        return fit(self, *arguments)

    monkeypatch.setattr(Original, "_fit", note)
    return tables


@pytest.mark.parametrize("cut", [1, CUT, 149, 150])
def test_at_the_cut_the_table_is_as_it_was(click_hours, monkeypatch, cut):
    """Given the table at the hour's end, every vector comes back as it was at the cut, to the bit, in any order."""
    original, hour = done(click_hours, 2), click_hours.first + 2
    tables = tables_before_each_part(monkeypatch)
    _, at_cut = do_hour(original, click_hours.rows(hour), hour, cut)
    end_VD = original.table.vectors_VD.copy()
    rows_M = np.random.default_rng(0).permutation(len(end_VD))
    for chosen_M in (rows_M, rows_M[:7], rows_M[:0]):
        given_MD = end_VD[chosen_M]
        assert np.array_equal(at_cut.vectors(chosen_M, given_MD), tables[1][chosen_M])
        assert np.array_equal(given_MD, end_VD[chosen_M]), "what is given is left as it is"
    assert np.array_equal(original.table.vectors_VD, end_VD), "nothing of the table itself is touched"
    assert (tables[1] != end_VD).any() == (cut < 150)
    assert (tables[0] != tables[1]).any()


def test_at_the_cut_features_are_known_as_before_the_hour(click_hours):
    """Frequency and hour last seen of each of the hour's features, though the hour has been counted since."""
    original, hour = done(click_hours, 2), click_hours.first + 2
    rows = click_hours.rows(hour)
    keys_U = np.unique(rows.keys_BS[rows.keys_BS > 0])
    ids_U = original.vocabulary.find(keys_U)
    wanted_U = np.where(ids_U < 0, 0.0, original.vocabulary.frequency(hour)[ids_U])
    last_seen_U = np.where(ids_U < 0, NEVER, original.vocabulary.last_seen_V[ids_U])
    own_U = original.vocabulary.own_rows(ids_U) >= 0
    _, at_cut = do_hour(original, rows, hour)
    assert np.array_equal(at_cut.frequency_U, wanted_U.astype(np.float32))
    assert np.array_equal(at_cut.last_seen_U, last_seen_U)
    assert (ids_U < 0).any()
    has_U = original.vocabulary.own_rows(original.vocabulary.find(keys_U)) >= 0
    assert at_cut.given_U.tolist() == (has_U & ~own_U).tolist()
    assert at_cut.given_U.any()
    assert set(original.vocabulary.last_seen_V[original.vocabulary.find(keys_U)]) == {hour.index}


def test_what_is_set_aside_survives_its_file(click_hours):
    """`from_arrays` of `arrays` is the same, and all of it can be written as arrays."""
    _, at_cut, _ = last_hour(click_hours, flip())
    arrays = at_cut.arrays()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = AtCut.from_arrays(arrays)
    same(again.arrays(), arrays)
    assert {field.name for field in dataclasses.fields(AtCut)} == {name.partition(".")[0] for name in arrays}


def test_looking_again_at_the_hour_changes_nothing(click_hours):
    """Preparing and scoring an hour that has been learnt leaves the state as it was, but for rows it now admits."""
    original = done(click_hours, 3)
    hour, before = click_hours.first + 2, state(original)
    rows = click_hours.rows(hour)
    assert len(original.score(original.prepare(hour, rows), CUT)) == len(rows) - CUT
    after = state(original)
    count = len(before["table.vectors_VD"])
    same(
        before | {"vocabulary.row_V": np.zeros(0)},
        after
        | {
            "vocabulary.row_V": np.zeros(0),
            **{f"table.{name}": after[f"table.{name}"][:count] for name in ("vectors_VD", "squares_V")},
        },
    )


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_hours_of_few_rows_are_learnt(click_hours, count):
    """With no gate rows, or with no rows at all, the hour is learnt and its cut can be looked at."""
    original = done(click_hours, 2)
    before, hour = original.table.vectors_VD.copy(), click_hours.first + 2
    rows = click_hours.rows(hour, count)
    scores_B, at_cut = do_hour(original, rows, hour, rows.cut(0.3))
    assert (len(scores_B), len(at_cut.scores_G)) == (count, count - rows.cut(0.3))
    assert bool(len(at_cut.rows_N)) == (count > 1)
    assert np.array_equal(original.table.vectors_VD[: len(before)], before) == (count == 0)


def test_the_model_learns_what_was_planted(click_hours):
    """After ten hours it tells clicks apart far better than chance."""
    original = Original(click_hours.config())
    for number in range(10):
        rows = click_hours.rows(click_hours.first + number, 400)
        scores_B, _ = do_hour(original, rows, click_hours.first + number, rows.cut(0.3))
    clicked = rows.labels_B == 1
    assert (scores_B[clicked][:, None] > scores_B[~clicked]).mean() > 0.7


def test_a_checkpoint_of_another_network_is_refused(click_hours):
    """A state that does not fit the configuration names its file and the parameter."""
    original = Original(click_hours.config())
    do_hour(original, click_hours.rows(click_hours.first), click_hours.first)
    other = click_hours.config(model={"width": 4, "hidden": [9], "cross_rank": 4})
    with pytest.raises(IntegrityError, match=r"X has shape \(8, 12\).*'deep.0.weight', wanted shape \(9, 12\)"):
        Original.restore(other, state(original), "X")
