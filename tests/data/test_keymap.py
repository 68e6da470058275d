"""The key map is a dict from key to order of insertion, and nothing else."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import saec.data.keymap
from saec.data.keymap import _CHUNK, _SMALLEST, KeyMap, KeyRun
from tests.properties import examples

KEYS = st.integers(1, 2**64 - 1)
CROWDED = st.integers(0, 400).map(lambda step: (2**64 - 200 + step) % 2**64 or 1)
"""Keys that share their top bits, half of them in the last slot: all collide, and probing runs over the table's end."""


def as_keys(keys):
    return np.array(keys, np.uint64)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.lists(KEYS | CROWDED, unique=True, max_size=300), max_size=6), st.lists(KEYS | CROWDED, max_size=50))
def test_it_equals_a_dict_under_any_inserts(batches, asked):
    """Whatever is inserted in whatever batches, held keys have the ids a dict gives them and other keys have none."""
    keymap, expected = KeyMap(), {}
    for batch in batches:
        added = [key for key in batch if key not in expected]
        ids = keymap.insert(as_keys(added))
        expected |= {key: len(expected) + place for place, key in enumerate(added)}
        assert ids.tolist() == [expected[key] for key in added]
        probe = [*expected, *asked]
        assert keymap.find(as_keys(probe)).tolist() == [expected.get(key, -1) for key in probe]
    assert len(keymap) == len(expected)


def test_it_grows_through_many_doublings_and_chunks():
    """A look-up of three chunks and a ragged one, after growth to a hundred times the first size, finds every key."""
    keys = np.random.default_rng(0).integers(1, 2**64 - 1, 3 * _CHUNK + 7, dtype=np.uint64, endpoint=True)
    keymap = KeyMap()
    for part in np.array_split(keys, [10, _SMALLEST // 2, _SMALLEST // 2 + 1, _SMALLEST, 50_000]):
        keymap.insert(part)
    assert (keymap.find(keys) == np.arange(len(keys))).all()
    assert (keymap.find(keys ^ np.uint64(1)) == -1).all()


def test_built_at_once_equals_built_in_steps():
    """The constructor numbers the keys as one insertion would."""
    keys = np.random.default_rng(1).integers(1, 2**63, 5000, dtype=np.uint64)
    steps = KeyMap()
    for part in np.array_split(keys, 13):
        steps.insert(part)
    assert (KeyMap(keys).find(keys) == steps.find(keys)).all()


def test_padding_is_never_found():
    """Key 0 has no id, however full the map."""
    keymap = KeyMap(np.arange(1, 3000, dtype=np.uint64))
    assert keymap.find(as_keys([0, 1, 0])).tolist() == [-1, 0, -1]
    assert KeyMap().find(as_keys([0])).tolist() == [-1]


def test_no_keys_are_no_work():
    """Empty insertions and look-ups give empty answers."""
    keymap = KeyMap()
    assert keymap.insert(as_keys([])).tolist() == []
    assert keymap.find(as_keys([])).tolist() == []
    assert len(keymap) == 0


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(KEYS | CROWDED, unique=True, max_size=300), st.lists(KEYS | CROWDED, unique=True, max_size=50))
def test_a_run_equals_a_dict(keys, asked):
    """Held keys have the ids of their places, other keys have none, whatever their first bits; so has a longer run."""
    run, new = KeyRun.of(as_keys(keys)), [key for key in asked if key not in keys]
    assert run.find(as_keys([*keys, *new])).tolist() == [*range(len(keys)), *(-1 for _ in new)]
    merged = {name: np.asarray(array) for name, array in run.merged(as_keys(new)).items()}
    longer = KeyRun.restore(merged)
    assert longer.find(as_keys([*keys, *new])).tolist() == [*range(len(keys) + len(new))]
    assert longer.find(as_keys([0])).tolist() == [-1]
    rebuilt = KeyRun.of(as_keys([*keys, *new]))
    for name in ("keys_V", "ids_V", "starts"):
        assert np.array_equal(getattr(longer, name), getattr(rebuilt, name)), name


def test_a_run_is_merged_and_searched_in_chunks(monkeypatch):
    """Parts of a merged run, three and a ragged one, are the whole; new keys may stand before and behind all others."""
    monkeypatch.setattr(saec.data.keymap, "CHUNK", 30)
    keys = np.random.default_rng(2).integers(1, 2**64 - 1, 100, dtype=np.uint64, endpoint=True)
    new = np.concatenate([as_keys([1, 2**64 - 1]), keys[:7] ^ np.uint64(4)])
    merged = KeyRun.of(keys).merged(new)["run.keys_V"]
    parts = list(merged.parts())
    assert len(parts) == 4
    assert np.concatenate(parts).tolist() == sorted([*keys.tolist(), *new.tolist()]) == np.asarray(merged).tolist()
