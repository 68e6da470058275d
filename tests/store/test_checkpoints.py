"""Checkpoints: a chain of deltas is the full state, and nothing else than what was written is read."""

import hashlib
import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from saec.data.paged import Column
from saec.errors import IntegrityError, StoreError
from saec.hours import Hour
from saec.store.checkpoints import MOST_DELTAS, Checkpoints
from saec.train.tensors import Snapshot
from tests.properties import examples

HOUR = Hour.parse("2017-10-01T03")


class State:
    """Training state that grows and is touched in places: two big groups and a small one that is kept whole."""

    def __init__(self):
        self.arrays = {
            "table.vectors_VD": np.zeros((2, 3), np.float32),
            "table.squares_V": np.zeros(2, np.float32),
            "vocabulary.keys_V": np.zeros(0, np.uint64),
            "network.bias": np.zeros((), np.float32),
        }
        self.number = 0

    def step(self, grown=1, touched=()):
        """Grow both groups, change the touched places; returns the snapshot of it."""
        self.number += 1
        places = {}
        for name in ("table.vectors_VD", "table.squares_V", "vocabulary.keys_V"):
            array, group = self.arrays[name], name.partition(".")[0]
            longer = np.concatenate([array, np.zeros((grown, *array.shape[1:]), array.dtype)])
            added = np.arange(len(array), len(longer))
            places[group] = np.union1d([place % len(longer) for place in touched if len(longer)], added).astype(int)
            longer[places[group]] = self.number
            self.arrays[name] = longer
        self.arrays["network.bias"] = np.array(self.number, np.float32)
        return Snapshot(dict(self.arrays), places)


def check_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array), name


def saved_chain(folder, steps):
    """So many hours, each based on the one before; the store, the names and the state at the end."""
    checkpoints, state, names = Checkpoints(folder), State(), []
    for number in range(steps):
        names.append(checkpoints.save(HOUR + number, "original", state.step(2, [number]), names[-1] if names else None))
    return checkpoints, names, state


STEPS = st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 50), max_size=4), st.booleans()), max_size=30)


@settings(max_examples=examples(25), deadline=None)
@given(STEPS)
def test_any_chain_of_deltas_is_the_full_state(tmp_path_factory, steps):
    """Whatever grows, is touched or is kept whole at each step, every checkpoint reads back as the state it was of."""
    checkpoints, state, base = Checkpoints(tmp_path_factory.mktemp("chain")), State(), None
    for number, (grown, touched, whole) in enumerate(steps):
        snapshot = state.step(grown, touched)
        if whole:
            snapshot = Snapshot(snapshot.arrays)
        base = checkpoints.save(HOUR + number, "original", snapshot, base)
        check_equal(checkpoints.load(base), state.arrays)


def in_shards(folder, steps, count=4):
    """So many hours of a state in shards; the store, the names and what each hour's state was."""
    checkpoints, shards, names, states = Checkpoints(folder), [State() for _ in range(count)], [], []
    for number in range(steps):
        parts = tuple(shard.step(1 + place, [number]) for place, shard in enumerate(shards))
        snapshot = Snapshot({"network.weight": np.array(number)}, shards=parts)
        names.append(checkpoints.save(HOUR + number, "original", snapshot, names[-1] if names else None))
        arrays = {f"{place}/{name}": array for place, part in enumerate(parts) for name, array in part.arrays.items()}
        states.append({"network.weight": np.array(number), **arrays})
    return checkpoints, names, states


def test_shards_are_read_back_and_fall_due_one_by_one(tmp_path):
    """Each hour is what it was; after the first, no hour writes more than one of four shards whole."""
    checkpoints, names, states = in_shards(tmp_path, 2 * MOST_DELTAS + 4)
    for name, state in zip(names, states, strict=True):
        assert checkpoints.shards(name) == 4
        check_equal(checkpoints.load(name), state)
        checkpoints.verify(name)
    whole = [len(checkpoints.rewritten(name, before)) for name, before in zip(names, [None, *names], strict=False)]
    assert (whole[0], max(whole[1:]), sum(whole[1:])) == (4, 1, 8)


def test_of_shards_what_a_state_needs_is_kept(tmp_path):
    """Of many hours the last two: their records, their shards and what these are based on, and nothing else."""
    checkpoints, names, states = in_shards(tmp_path, MOST_DELTAS + 9)
    before = {path.stem for path in tmp_path.glob("*.safetensors")}
    removed = checkpoints.retain(names[-2:])
    assert before - {*removed} == {path.stem for path in tmp_path.glob("*.safetensors")}
    assert names[0] in removed
    for name, state in zip(names[-2:], states[-2:], strict=True):
        check_equal(checkpoints.load(name), state)
    bases = {link for file in checkpoints._files(names[-1]) if (link := checkpoints._header(file)["base"])}
    assert bases
    (tmp_path / f"{min(bases)}.safetensors").unlink()
    with pytest.raises(StoreError, match=min(bases)):
        checkpoints.load(names[-1])


def test_a_shard_that_nothing_touched_is_not_written_again(tmp_path):
    """The record names the file of the hour before."""
    checkpoints, shards = Checkpoints(tmp_path), [State(), State()]
    first = checkpoints.save(HOUR, "original", Snapshot({}, shards=tuple(shard.step(3) for shard in shards)))
    parts = (
        shards[0].step(2),
        Snapshot(dict(shards[1].arrays), {"table": np.zeros(0, int), "vocabulary": np.zeros(0, int)}),
    )
    second = checkpoints.save(HOUR + 1, "original", Snapshot({}, shards=parts), first)
    assert checkpoints._files(second)[1] == checkpoints._files(first)[1]
    check_equal(checkpoints.load(second), {f"{n}/{name}": a for n in (0, 1) for name, a in shards[n].arrays.items()})


def test_another_number_of_shards_starts_whole(tmp_path):
    """From one to three and back: no chain goes on over the border."""
    checkpoints, state, base = Checkpoints(tmp_path), State(), None
    for number, count in enumerate((1, 1, 3, 3, 1, 1)):
        snapshot = state.step(1)
        parts = snapshot if count == 1 else Snapshot({}, shards=(snapshot,) * count)
        base = checkpoints.save(HOUR + number, "original", parts, base)
        found = checkpoints.load(base)
        check_equal({name.rpartition("/")[2]: array for name, array in found.items()}, state.arrays)
        assert checkpoints.shards(base) == count


@pytest.mark.parametrize("told", [b"", b"[]", b'{"shards": 0}', b'{"shards": true}', b'{"shards": 4096}'])
def test_a_wish_for_shards_that_cannot_be_read_is_refused(tmp_path, told):
    """By its file, with the command that writes it anew."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.wanted() is None
    checkpoints.want(5, "a test")
    assert checkpoints.wanted() == 5
    (tmp_path / "checkpoints" / "shards.json").write_bytes(told)
    with pytest.raises(IntegrityError, match=r"shards\.json.*saec reshard --shards N"):
        checkpoints.wanted()


def test_a_checkpoint_costs_what_was_touched(tmp_path):
    """A delta of ten thousand rows, one of them touched, is a small file."""
    checkpoints, state = Checkpoints(tmp_path), State()
    base = checkpoints.save(HOUR, "original", state.step(10_000))
    delta = checkpoints.save(HOUR + 1, "original", state.step(0, [5]), base)
    sizes = {name: (tmp_path / f"{name}.safetensors").stat().st_size for name in (base, delta)}
    assert sizes[base] > 200_000
    assert sizes[delta] < 2_000


def test_a_chain_ends_after_so_many_deltas(tmp_path):
    """After a whole checkpoint and the most deltas in a row the next one is whole: it needs no other file."""
    checkpoints, names, state = saved_chain(tmp_path, MOST_DELTAS + 2)
    for name in names[:-1]:
        (tmp_path / f"{name}.safetensors").unlink()
    check_equal(checkpoints.load(names[-1]), state.arrays)


def test_the_last_delta_of_a_chain_still_needs_its_base(tmp_path):
    """One hour before that, the first file is still needed."""
    checkpoints, names, _ = saved_chain(tmp_path, MOST_DELTAS + 1)
    (tmp_path / f"{names[0]}.safetensors").unlink()
    with pytest.raises(StoreError) as caught:
        checkpoints.load(names[-1])
    assert caught.value.reason == "no-checkpoint"
    assert names[0] in str(caught.value)


def test_the_same_state_has_the_same_name_and_bytes(tmp_path):
    """Two folders, the same hours: the same files. Another hour, kind, state or base gives another name."""
    names = [saved_chain(tmp_path / folder, 3)[1] for folder in ("a", "b")]
    assert names[0] == names[1]
    for name in names[0]:
        assert (tmp_path / f"a/{name}.safetensors").read_bytes() == (tmp_path / f"b/{name}.safetensors").read_bytes()
    checkpoints, snapshot = Checkpoints(tmp_path / "c"), Snapshot({"network.bias": np.zeros(2)})
    kinds = ("original", "challenger")
    others = {checkpoints.save(hour, kind, snapshot) for hour in (HOUR, HOUR + 1) for kind in kinds}
    assert len(others) == 4
    assert all(name.startswith(("20171001T03-", "20171001T04-")) for name in others)


def test_an_absent_checkpoint_is_named(tmp_path):
    """A name that was never saved is refused with the file, for reading and as a base."""
    checkpoints = Checkpoints(tmp_path)
    for attempt in (
        lambda: checkpoints.load("20171001T03-original-0"),
        lambda: checkpoints.save(HOUR, "original", State().step(), "20171001T03-original-0"),
    ):
        with pytest.raises(StoreError, match=r"no checkpoint .*20171001T03-original-0.*backfill") as caught:
            attempt()
        assert caught.value.reason == "no-checkpoint"


@pytest.mark.fault(26)
def test_any_altered_byte_is_noticed(tmp_path):
    """A flipped byte anywhere in a chain, its headers included, is an integrity error and never anything else."""
    checkpoints, names, _ = saved_chain(tmp_path, 3)
    for name in names:
        path = tmp_path / f"{name}.safetensors"
        good = path.read_bytes()
        for place in range(0, len(good), 3):
            path.write_bytes(good[:place] + bytes([good[place] ^ 0x15]) + good[place + 1 :])
            with pytest.raises(IntegrityError, match=name):
                checkpoints.load(names[-1])
        for length in (0, 4, 100, len(good) - 1):
            path.write_bytes(good[:length])
            with pytest.raises(IntegrityError, match=name):
                checkpoints.load(names[-1])
        path.write_bytes(good)


def test_saving_again_heals_an_altered_file(tmp_path):
    """Doing the hour again, as the error advises, puts the right bytes back under the same name."""
    checkpoints, names, state = saved_chain(tmp_path, 1)
    path = tmp_path / f"{names[0]}.safetensors"
    path.write_bytes(b"altered")
    assert checkpoints.save(HOUR, "original", Snapshot(state.arrays)) == names[0]
    check_equal(checkpoints.load(names[0]), state.arrays)


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path):
    """A file where the folder should be is reported as what it is."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="taken"):
        Checkpoints(tmp_path / "taken").save(HOUR, "original", State().step())


def test_retain_keeps_what_is_named_and_its_bases(tmp_path):
    """Everything that the named checkpoints are based on stays, the rest goes; absent names do not matter."""
    checkpoints, names, _ = saved_chain(tmp_path, 4)
    other = checkpoints.save(HOUR, "challenger", Snapshot({"network.bias": np.ones(1)}))
    removed = checkpoints.retain([names[2], "20990101T00-original-0"])
    assert removed == sorted([names[3], other])
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == sorted(names[:3])
    checkpoints.load(names[2])


def test_opening_leaves_what_is_large_in_the_file(tmp_path):
    """The groups of a chain lie in its first file but for what the others touched, and read as `load` reads them."""
    checkpoints, names, state = saved_chain(tmp_path, 4)
    opened = checkpoints.open(names[-1])
    check_equal({name: np.asarray(array) for name, array in opened.items()}, state.arrays)
    table = opened["table.vectors_VD"]
    assert isinstance(table, Column)
    assert table.paged is opened["table.squares_V"].paged
    assert 0 < table.paged.in_memory < 1000


def test_what_is_derived_is_kept_with_the_whole_state_only(tmp_path):
    """A delta leaves it as its base has it, though it has changed since."""
    checkpoints, state = Checkpoints(tmp_path), State()
    snapshots = [state.step(2) for _ in range(3)]
    base = None
    for number, snapshot in enumerate(snapshots):
        whole = partial(dict, {**snapshot.arrays, "run.keys_V": np.arange(number + 5)})
        kept = Snapshot(snapshot.arrays, snapshot.touched, whole, ("run",))
        base = checkpoints.save(HOUR + number, "original", kept, base)
    check_equal(checkpoints.load(base), state.arrays | {"run.keys_V": np.arange(5)})


def test_checkpoints_written_by_the_library_are_read(tmp_path):
    """Those of earlier releases: whole in memory when written, without a word on what is derived."""
    header = json.dumps({"base": None, "depth": 0, "lengths": {}})
    data = save(State().step(3).arrays, {"saec": header})
    name = f"20171001T03-original-{hashlib.sha256(data).hexdigest()[:16]}"
    (tmp_path / f"{name}.safetensors").write_bytes(data)
    checkpoints, state = Checkpoints(tmp_path), State()
    state.step(3)
    check_equal(checkpoints.load(name), state.arrays)
    delta = checkpoints.save(HOUR + 1, "original", state.step(1, [0]), name)
    check_equal(checkpoints.load(delta), state.arrays)
