"""State in shards: every feature has one home, whole fields stay together, and places lead where they should."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import saec.data.shards
from saec.data.paged import Paged
from saec.data.shards import LOCAL_BITS, PART_BITS, Owners, Sharded, parts_of
from saec.errors import StoreError
from tests.properties import examples

PARTS = 1 << PART_BITS
SIZES = st.lists(st.integers(0, 5000), min_size=1, max_size=9)


@settings(max_examples=examples(60), deadline=None)
@example([0, 1], 3)  # a field of nothing
@given(SIZES, st.integers(1, 12))
def test_fields_stay_whole_unless_they_are_larger_than_a_share(sizes, shards):
    """A field within a shard's share lies in one, a larger one in several; no shard has far more than its share."""
    sizes_FP = np.array([[size // PARTS + (part < size % PARTS) for part in range(PARTS)] for size in sizes])
    owners = Owners.by_size(sizes_FP, shards)
    again = Owners.by_size(sizes_FP, shards)
    assert np.array_equal(owners.owners_FP, again.owners_FP)
    share = -(-sum(sizes) // shards)
    for size, owners_P in zip(sizes, owners.owners_FP, strict=True):
        assert size > share or len({*owners_P.tolist()}) == 1
    held = np.bincount(owners.owners_FP.ravel(), sizes_FP.ravel(), minlength=shards)
    largest_part = int(sizes_FP.max())
    assert held.max() <= 2 * max(share, largest_part) + len(sizes) * PARTS


def test_a_key_is_in_the_part_of_its_first_bits():
    """So all of a part lie next to each other in a sorted run."""
    keys_N = np.array([1, (1 << 58) - 1, 1 << 58, 2**64 - 1], np.uint64)
    assert parts_of(keys_N).tolist() == [0, 0, 1, PARTS - 1]
    owners = Owners(np.tile(np.arange(PARTS) % 3, (2, 1)).astype(np.uint16), 3)
    assert owners.of(np.array([0, 1, 0, 1]), keys_N).tolist() == [0, 0, 1, 0]


STEPS = st.lists(
    st.tuples(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 60), max_size=8)), max_size=6
)


@settings(max_examples=examples(60), deadline=None)
@given(STEPS, st.booleans())
def test_places_lead_to_what_was_put_there(tmp_path_factory, steps, in_file):
    """Whatever is appended to which shard and changed since, a place has it, and so has what is drawn of it."""
    sharded = Sharded([Paged({"one": np.zeros(0, np.int64), "two": np.zeros((0, 2))}) for _ in range(3)])
    wanted = {}
    for number, (shards, touched) in enumerate(steps):
        values = 100 * number + np.arange(len(shards))
        pairs = np.stack([values, -values], 1).astype(float)
        places = sharded.append(np.array(shards, np.int64), {"one": values, "two": pairs})
        assert (places >> LOCAL_BITS).tolist() == shards
        wanted |= dict(zip(places.tolist(), values.tolist(), strict=True))
        changed = np.array([*wanted], np.int64)[sorted({place for place in touched if place < len(wanted)})]
        sharded.put(changed, {"one": -changed})
        wanted |= {place: -place for place in changed.tolist()}
    places = np.random.default_rng(0).permutation(np.array([*wanted], np.int64))
    assert sharded.places().tolist() == sorted(wanted)
    assert sharded.take("one", places).tolist() == [wanted[place] for place in places.tolist()]
    assert sharded.whole("one").tolist() == [wanted[place] for place in sorted(wanted)]
    assert sharded.since().tolist() == sorted(wanted)
    found = [start + np.arange(len(part)) for start, (part,) in sharded.chunks("one")]
    assert [place for places in found for place in places.tolist()] == sorted(wanted)
    some = sharded.places()[::2]
    drawn = sharded.drawn(some, tmp_path_factory.getbasetemp() if in_file else None)
    assert drawn.whole("one").tolist() == sharded.take("one", some).tolist()
    assert drawn.whole("two").tolist() == sharded.take("two", some).tolist()


def test_what_is_drawn_is_drawn_part_by_part(tmp_path, monkeypatch):
    """Three chunks and a ragged one."""
    monkeypatch.setattr(saec.data.shards, "CHUNK", 4)
    sharded = Sharded([Paged({"one": np.arange(10)}), Paged({"one": np.arange(50, 55)})])
    assert sharded.drawn(sharded.places(), tmp_path).whole("one").tolist() == [*range(10), *range(50, 55)]
    assert not [*tmp_path.iterdir()]


def test_a_scratch_folder_that_cannot_be_written_is_a_store_error(tmp_path):
    """What it is and where."""
    with pytest.raises(StoreError, match="nowhere"):
        Sharded([Paged({"one": np.arange(5)})]).drawn(np.arange(5), tmp_path / "nowhere")
