"""The keyless index behaves like a dict of its keys, costs the bits it says, and cannot be led out of its arrays."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from saec.compression import index_build, peeling
from saec.compression.index import RetrievalIndex
from saec.errors import ConfigError, IntegrityError, TrainingError
from tests.properties import examples

KEYS = st.integers(1, 2**64 - 1)


def random_pairs(count, code_bits=8, seed=1):
    """Keys and codes without any pattern."""
    draw = np.random.default_rng(seed)
    return draw.integers(1, 2**64, count, np.uint64), draw.integers(0, 2**code_bits, count).astype(np.uint16)


def tensor_bytes(index):
    return {name: tensor.tobytes() for name, tensor in index.tensors().items()}


@pytest.fixture(scope="module")
def large():
    keys_N, codes_N = random_pairs(200_000)
    return RetrievalIndex.build(keys_N, codes_N, code_bits=8, fingerprint_bits=8), keys_N, codes_N


@settings(max_examples=examples(150), deadline=None)
@given(st.dictionaries(KEYS, st.integers(0, 2**16 - 1), max_size=120), st.integers(1, 16), st.integers(0, 16))
def test_equals_a_dict(pairs, code_bits, fingerprint_bits):
    """Any set of keys, structured or not, gives its codes back, at any width."""
    keys_N = np.array(list(pairs), np.uint64)
    codes_N = np.array([code % 2**code_bits for code in pairs.values()], np.uint16)
    index = RetrievalIndex.build(keys_N, codes_N, code_bits=code_bits, fingerprint_bits=fingerprint_bits)
    found_N = index.lookup(keys_N)
    assert found_N.dtype == np.int32
    assert found_N.tolist() == codes_N.tolist()


@pytest.mark.parametrize("code_bits", range(1, 17))
def test_every_width(code_bits):
    """Code bits 1-16 with fingerprint bits 0-16 give back codes after save and load, at their packed size."""
    keys_N, codes_N = random_pairs(333, code_bits)
    for fingerprint_bits in range(17):
        index = RetrievalIndex.build(keys_N, codes_N, code_bits=code_bits, fingerprint_bits=fingerprint_bits)
        loaded = RetrievalIndex.from_tensors(load(save(index.tensors())))
        assert np.array_equal(loaded.lookup(keys_N), codes_N)
        width = code_bits + fingerprint_bits
        assert loaded.tensors()["cells"].nbytes == -(-index.cells * width // 32) * 4
        assert loaded.nbytes == index.nbytes


@pytest.mark.parametrize("count", [*range(1, 12), 30, 100])
def test_small_sets_stay_small(count):
    """A key takes four cells, a few at most three each, a hundred at most 1.6."""
    keys_N, codes_N = random_pairs(count)
    index = RetrievalIndex.build(keys_N, codes_N, code_bits=8, fingerprint_bits=8)
    assert np.array_equal(index.lookup(keys_N), codes_N)
    assert index.cells <= max(4, 2.5 * count if count < 30 else 1.7 * count)


def test_no_keys():
    """An index without keys knows nothing, even without fingerprints, and survives saving."""
    for fingerprint_bits in (0, 8):
        index = RetrievalIndex.build(
            np.zeros(0, np.uint64), np.zeros(0, np.uint8), code_bits=8, fingerprint_bits=fingerprint_bits
        )
        loaded = RetrievalIndex.from_tensors(index.tensors())
        assert loaded.lookup(np.array([0, 1, 2**64 - 1], np.uint64)).tolist() == [-1, -1, -1]


def test_bits_per_key(large):
    """From 100,000 keys on, an index takes at most 1.16 times the bits of its cells."""
    index, keys_N, _ = large
    assert index.nbytes * 8 <= 1.16 * 16 * keys_N.size
    smaller = RetrievalIndex.build(keys_N[:100_000], np.zeros(100_000, np.uint8), code_bits=8, fingerprint_bits=5)
    assert smaller.nbytes * 8 <= 1.16 * 13 * 100_000


@pytest.mark.parametrize("fingerprint_bits", [4, 5, 8, 12])
def test_false_accepts(fingerprint_bits):
    """Of 200,000 unknown keys, one in 2^fingerprint_bits is taken for known (within five standard deviations)."""
    keys_N, codes_N = random_pairs(20_000)
    index = RetrievalIndex.build(keys_N, codes_N, code_bits=8, fingerprint_bits=fingerprint_bits)
    unknown_N, _ = random_pairs(200_000, seed=2)
    accepted = int((index.lookup(unknown_N) >= 0).sum())
    wanted = 200_000 / 2**fingerprint_bits
    assert abs(accepted - wanted) < 5 * wanted**0.5


def test_sequential_keys_are_told_apart(large):
    """Keys need not be random: unknown keys next to known ones are refused at the same rate."""
    keys_N = np.arange(1, 20_001, dtype=np.uint64)
    index = RetrievalIndex.build(keys_N, keys_N % 251, code_bits=8, fingerprint_bits=8)
    assert np.array_equal(index.lookup(keys_N), keys_N % 251)
    accepted = (index.lookup(keys_N + np.uint64(20_000)) >= 0).mean()
    assert accepted == pytest.approx(1 / 256, rel=0.5)


def test_batched_equals_whole(large):
    """Any split into batches, any shape and any memory layout of the keys gives the same codes."""
    index, keys_N, codes_N = large
    whole_N = index.lookup(keys_N)
    assert np.array_equal(whole_N, codes_N)
    batches = np.split(keys_N, [1, 16_384, 16_384, 49_153])
    assert np.array_equal(np.concatenate([index.lookup(batch) for batch in batches]), whole_N)
    keys_BS = keys_N.reshape(-1, 8)
    assert np.array_equal(index.lookup(keys_BS), codes_N.reshape(-1, 8))
    assert np.array_equal(index.lookup(keys_BS.T), codes_N.reshape(-1, 8).T)
    assert index.lookup(keys_N[0]).shape == ()


@settings(max_examples=examples(25), deadline=None)
@given(st.integers(1, 3000), st.randoms(use_true_random=False), st.integers(0, 2**64 - 1))
def test_same_bytes_in_any_order(count, random, hash_seed):
    """The bytes depend on the pairs and the seed, not on the order of the keys nor on the width of the code's type."""
    keys_N, codes_N = random_pairs(count)
    order_N = np.array(random.sample(range(count), count))
    bits = {"code_bits": 8, "fingerprint_bits": 5, "hash_seed": hash_seed}
    index = RetrievalIndex.build(keys_N, codes_N, **bits)
    again = RetrievalIndex.build(keys_N[order_N], codes_N[order_N].astype(np.uint8), **bits)
    assert tensor_bytes(again) == tensor_bytes(index)


def test_other_seed_other_index():
    """Another hash seed accepts other unknown keys, so that no key is unlucky for ever."""
    keys_N, codes_N = random_pairs(1000)
    unknown_N, _ = random_pairs(20_000, seed=2)
    accepted = [
        RetrievalIndex.build(keys_N, codes_N, code_bits=8, fingerprint_bits=4, hash_seed=seed).lookup(unknown_N) >= 0
        for seed in (0, 1)
    ]
    assert (accepted[0] & accepted[1]).mean() == pytest.approx(1 / 256, rel=0.5)


@pytest.mark.fault(60)
@pytest.mark.parametrize(
    ("keys", "codes", "message"),
    [
        (np.array([5, 7, 5], np.uint64), [1, 2, 1], "1 of 3 repeat"),
        (np.array([5, 0], np.uint64), [1, 2], "key 0 marks padding"),
        (np.array([5, 7], np.uint64), [1, 16], "0 to 15"),
        (np.array([5, 7], np.uint64), [1, -1], "0 to 15"),
        (np.array([5, 7], np.uint64), [1], "one a key"),
        (np.array([5, 7], np.uint64), [1.0, 2.0], "integers"),
        (np.array([5, 7], np.int64), [1, 2], "uint64"),
        (np.array([[5, 7]], np.uint64), [[1, 2]], "uint64"),
    ],
)
def test_unfit_pairs_are_refused(keys, codes, message):
    """Repeated keys, the padding key, codes out of range and wrong types are refused by name."""
    with pytest.raises(TrainingError, match=message):
        RetrievalIndex.build(keys, np.array(codes), code_bits=4, fingerprint_bits=8)


@pytest.mark.parametrize(("code_bits", "fingerprint_bits"), [(0, 8), (17, 8), (8, -1), (8, 17)])
def test_unfit_bits_are_refused(code_bits, fingerprint_bits):
    """Widths that no cell holds are refused."""
    with pytest.raises(ConfigError, match="1 to 16 code bits"):
        RetrievalIndex.build(
            np.array([5], np.uint64), np.array([0]), code_bits=code_bits, fingerprint_bits=fingerprint_bits
        )


def test_build_checks_every_key(monkeypatch):
    """One wrong cell is noticed before the index is handed out."""
    filled = peeling.filled

    def faulty(peeled, *rest):
        cells_C = filled(peeled, *rest)
        cells_C[peeled.cells_N[0]] ^= 1
        return cells_C

    monkeypatch.setattr(peeling, "filled", faulty)
    with pytest.raises(TrainingError, match="does not give back"):
        RetrievalIndex.build(*random_pairs(500), code_bits=8, fingerprint_bits=8)


def test_build_gives_up(monkeypatch):
    """When no seed works the error says how many were tried."""
    monkeypatch.setattr(peeling, "peel", lambda *_: None)
    with pytest.raises(TrainingError, match="2000 attempts"):
        RetrievalIndex.build(*random_pairs(5), code_bits=8, fingerprint_bits=8)


def test_loading_copies_nothing(large):
    """The cells are read where they lie, also when they are read-only (a memory map)."""
    index, keys_N, codes_N = large
    cells = index.tensors()["cells"].copy()
    cells.flags.writeable = False
    loaded = RetrievalIndex.from_tensors({**index.tensors(), "cells": cells})
    assert np.shares_memory(loaded.words, cells)
    assert np.array_equal(loaded.lookup(keys_N[:1000]), codes_N[:1000])


@pytest.mark.parametrize(
    "tamper",
    [
        {"cells": np.zeros(3, np.uint32)},
        {"cells": np.zeros((0,), np.uint32)},
        {"cells": np.zeros(160, np.int32)},
        {"cells": np.zeros((160, 1), np.uint32)},
        {"layout": np.zeros(5, np.uint64)},
        {"layout": np.zeros(6, np.int64)},
        {"layout": np.zeros((6, 1), np.uint64)},
        {"keys": np.zeros(3, np.uint64)},
    ],
)
def test_unfit_tensors_are_refused(tamper):
    """Tensors of another shape, type or name are no index."""
    index = RetrievalIndex.build(*random_pairs(200), code_bits=8, fingerprint_bits=8)
    with pytest.raises(IntegrityError, match="keyless index is damaged"):
        RetrievalIndex.from_tensors(index.tensors() | tamper)


def test_missing_tensor_is_refused():
    """A file without cells is no index."""
    with pytest.raises(IntegrityError, match="cells"):
        RetrievalIndex.from_tensors({"layout": np.zeros(6, np.uint64)})


HOSTILE = st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1), st.sampled_from([2**p for p in range(64)]))


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), HOSTILE), min_size=1, max_size=3), st.integers(0, 2**32))
def test_tampered_layout_is_refused_or_harmless(changes, seed):
    """Whatever the layout claims, loading is refused or look-ups stay inside the arrays, whatever the keys."""
    index = RetrievalIndex.build(*random_pairs(200), code_bits=8, fingerprint_bits=5)
    layout = index.tensors()["layout"]
    for place, value in changes:
        layout[place] = value
    try:
        loaded = RetrievalIndex.from_tensors({"layout": layout, "cells": index.words})
    except IntegrityError:
        return
    extremes_N = np.array([0, 1, 2**32 - 1, 2**63, 2**64 - 1], np.uint64)
    codes_N = loaded.lookup(np.concatenate([random_pairs(2000, seed=seed)[0], extremes_N]))
    assert codes_N.min() >= -1
    assert codes_N.max() < 2**16


@pytest.mark.parametrize(
    "layout",
    [
        (0, 200, 16, 2**60, 8, 8),
        (0, 200, 2**63, 1, 8, 8),
        (0, 200, 24, 8, 8, 8),
        (0, 200, 0, 8, 8, 8),
        (0, 20, 16, 0, 8, 8),
        (0, 0, 16, 17, 8, 8),
        (0, 2**40, 16, 17, 8, 8),
        (0, 200, 2**19, 1, 8, 8),
        (0, 200, 16, 2**28, 8, 8),
        (0, 200, 16, 17, 0, 8),
        (0, 200, 16, 17, 8, 200),
    ],
)
def test_impossible_layouts_are_refused(layout):
    """Sizes that build never writes are refused, even if there are as many cells as they ask for."""
    _, _, length, segments, code_bits, fingerprint_bits = layout
    words = (segments + 2) * length * (code_bits + fingerprint_bits) // 32
    cells = np.zeros(words if words < 10**6 else 152, np.uint32)
    with pytest.raises(IntegrityError, match=r"cannot lie in|no keys, yet|code bits"):
        RetrievalIndex.from_tensors({"layout": np.array(layout, np.uint64), "cells": cells})


def test_flipped_cells_only_change_answers(large):
    """A damaged cell gives wrong or unknown codes for the keys that read it, nothing worse."""
    index, keys_N, codes_N = large
    cells = index.words.copy()
    cells[cells.size // 2] ^= 0xFFFFFFFF
    loaded = RetrievalIndex.from_tensors({**index.tensors(), "cells": cells})
    wrong = int((loaded.lookup(keys_N) != codes_N).sum())
    assert 0 < wrong < 30


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of about a thousand keys."""
    monkeypatch.setattr(index_build, "_SHARD_KEYS", 1000)


@pytest.mark.parametrize(("code_bits", "fingerprint_bits"), [(8, 8), (8, 5), (3, 4), (16, 16), (5, 0)])
def test_shards_answer_as_one(small_shards, code_bits, fingerprint_bits):
    """Keys in seven shards give their codes back, after saving too; unknown ones are refused at the same rate."""
    keys_N, codes_N = random_pairs(7123, code_bits)
    index = RetrievalIndex.build(keys_N, codes_N, code_bits=code_bits, fingerprint_bits=fingerprint_bits)
    loaded = RetrievalIndex.from_tensors(load(save(index.tensors())))
    assert len(loaded.layouts) == 7
    assert loaded.keys == 7123
    assert np.array_equal(loaded.lookup(keys_N), codes_N)
    assert np.array_equal(loaded.lookup(keys_N[:7000].reshape(7, -1)), codes_N[:7000].reshape(7, -1))
    assert loaded.tensors()["cells"].nbytes * 8 == loaded.cells * (code_bits + fingerprint_bits)
    accepted = (loaded.lookup(random_pairs(20_000, seed=2)[0]) >= 0).mean()
    assert accepted == pytest.approx(2.0**-fingerprint_bits, rel=0.5, abs=1e-4)


def test_shards_have_the_same_bytes_in_any_order(small_shards):
    """Shards depend on the pairs and the seed alone."""
    keys_N, codes_N = random_pairs(5000)
    index = RetrievalIndex.build(keys_N, codes_N, code_bits=8, fingerprint_bits=8)
    again = RetrievalIndex.build(keys_N[::-1], codes_N[::-1], code_bits=8, fingerprint_bits=8)
    assert tensor_bytes(again) == tensor_bytes(index)


def test_shards_are_of_even_size_for_keys_without_randomness(small_shards):
    """Sequential keys fall on all shards alike."""
    index = RetrievalIndex.build(
        np.arange(1, 8001, dtype=np.uint64), np.zeros(8000, np.uint8), code_bits=8, fingerprint_bits=8
    )
    sizes = [layout.keys for layout in index.layouts]
    assert len(sizes) == 8
    assert 850 < min(sizes) <= max(sizes) < 1150
    assert any(layout.seed == 0 for layout in index.layouts)  # the first seed tried is as good in a shard as alone


def test_keys_that_repeat_are_refused_in_shards_too(small_shards):
    """Equal keys fall into the same shard and are noticed there."""
    keys_N, codes_N = random_pairs(5000)
    keys_N[4000] = keys_N[17]
    with pytest.raises(TrainingError, match=r"1 of \d+ repeat another"):
        RetrievalIndex.build(keys_N, codes_N, code_bits=8, fingerprint_bits=8)


@pytest.mark.parametrize(("count", "shape"), [(200, (6,)), (1499, (6,)), (1500, (2, 6))])
def test_a_small_index_has_no_trace_of_shards(small_shards, count, shape):
    """Below one and a half shards' keys there is one shard, and the layout is a single row."""
    index = RetrievalIndex.build(*random_pairs(count), code_bits=8, fingerprint_bits=8)
    assert index.tensors()["layout"].shape == shape


@functools.cache
def four_shards():
    """Layouts and cells of four small indexes, as if they were the shards of one."""
    shards = [RetrievalIndex.build(*random_pairs(500, seed=seed), code_bits=8, fingerprint_bits=5) for seed in range(4)]
    return np.stack([shard.tensors()["layout"] for shard in shards]), np.concatenate([shard.words for shard in shards])


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), HOSTILE), min_size=1, max_size=3))
def test_tampered_shards_are_refused_or_harmless(changes):
    """Whatever the layouts of shards claim, loading is refused or look-ups stay inside the arrays."""
    layout, cells = four_shards()
    layout = layout.copy()
    for shard, place, value in changes:
        layout[shard, place] = value
    try:
        loaded = RetrievalIndex.from_tensors({"layout": layout, "cells": cells})
    except IntegrityError:
        return
    codes_N = loaded.lookup(np.concatenate([random_pairs(2000)[0], np.array([0, 1, 2**63, 2**64 - 1], np.uint64)]))
    assert codes_N.min() >= -1


def test_shards_that_do_not_belong_together_are_refused():
    """Shards with different bits, or with no keys, are none of one index."""
    layout, cells = four_shards()
    for place, value in ((4, 7), (5, 6)):
        changed = layout.copy()
        changed[1, place] = value
        changed_words = sum(int(row[3] + 2) * int(row[2]) * int(row[4] + row[5]) // 32 for row in changed)
        with pytest.raises(IntegrityError, match="do not belong together"):
            RetrievalIndex.from_tensors({"layout": changed, "cells": np.resize(cells, changed_words)})


def test_a_single_shard_written_as_many_is_refused():
    """Several rows mean several shards: one row of a table is no layout that build writes."""
    tensors = RetrievalIndex.build(*random_pairs(200), code_bits=8, fingerprint_bits=8).tensors()
    with pytest.raises(IntegrityError, match="two shards or more"):
        RetrievalIndex.from_tensors({**tensors, "layout": tensors["layout"][None]})
