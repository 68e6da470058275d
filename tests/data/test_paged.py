"""Paged columns behave like arrays, whether values are in the file or in memory."""

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saec.data.paged
from saec.data.paged import Column, Paged, give_back, mapped, pages_of
from tests.properties import examples

STEPS = st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 60), max_size=8, unique=True)), max_size=8)


def arrays_of(count, start=0):
    """Two columns of different types and shapes."""
    numbers = np.arange(start, start + count)
    return {"one": numbers.astype(np.uint16), "many": np.stack([numbers, -numbers], 1).astype(np.float32)}


@pytest.fixture
def small_chunks(monkeypatch):
    """Three chunks and a ragged one within a dozen elements."""
    monkeypatch.setattr(saec.data.paged, "CHUNK", 4)
    monkeypatch.setattr(saec.data.paged, "_GATHERED", 3)


def check(paged, wanted):
    """Every way of reading gives the array."""
    places = np.random.default_rng(0).permutation(len(wanted["one"]))
    for name, array in wanted.items():
        assert paged.whole(name).tolist() == array.tolist()
        assert paged.take(name, places).tolist() == array[places].tolist()
        assert np.asarray(paged.column(name)).dtype == array.dtype
        parts = list(paged.column(name).parts())
        assert len(parts) == -(-len(array) // saec.data.paged.CHUNK)
        assert [row for part in parts for row in part.tolist()] == array.tolist()


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 13), STEPS)
def test_it_equals_plain_arrays(base, steps):
    """Whatever is changed and appended is what arrays would hold."""
    wanted = arrays_of(base)
    paged = Paged(arrays_of(base))
    for number, (added, touched) in enumerate(steps):
        new = arrays_of(added, 100 * number)
        wanted = {name: np.concatenate([array, new[name]]) for name, array in wanted.items()}
        paged.append(new)
        places = np.array([place for place in touched if place < len(paged)], np.int64)
        wanted["one"][places] = 7 * number + places
        paged.put(places, {"one": 7 * number + places})
        assert len(paged) == len(wanted["one"])
    check(paged, wanted)


def test_parts_and_pages(tmp_path, small_chunks):
    """Over several chunks, from a mapped base, changed in its middle and longer than it."""
    path = tmp_path / "base"
    path.write_bytes(arrays_of(10)["many"].tobytes())
    with path.open("rb") as file:
        base = mapped(pages_of(file), np.dtype(np.float32), (10, 2), 0)
    path.unlink()
    paged = Paged({"many": base, "one": arrays_of(10)["one"]})
    wanted = {name: np.concatenate([array, array[:4]]) for name, array in arrays_of(10).items()}
    paged.append({name: array[10:] for name, array in wanted.items()})
    wanted["many"][[3, 9, 12]] = 5
    paged.put(np.array([12, 3, 9]), {"many": np.full((3, 2), 5, np.float32)})
    check(paged, wanted)
    assert not base.flags.writeable
    assert base[3].tolist() == [3, -3], "the file is as it was"


def test_what_was_asked_for_last_is_found_again_after_a_change():
    """The same elements, before and after others, and they themselves, are changed; the places given may be reused."""
    paged, places = Paged({"one": np.arange(9), "other": -np.arange(9)}), np.array([7, 2, 5])
    paged.put(np.array([5]), {"one": np.array([50]), "other": np.array([-50])})
    assert [paged.take(name, places).tolist() for name in paged.names] == [[7, 2, 50], [-7, -2, -50]]
    paged.put(np.array([2, 3]), {"one": np.array([20, 30]), "other": np.array([-20, -30])})
    assert [paged.take(name, places).tolist() for name in paged.names] == [[7, 20, 50], [-7, -20, -50]]
    places[0] = 3
    assert [paged.take(name, places).tolist() for name in paged.names] == [[30, 20, 50], [-30, -20, -50]]


def test_memory_is_what_was_changed():
    """A few of a million elements changed and appended take a few elements' bytes."""
    paged = Paged({"one": np.zeros(1_000_000)})
    paged.put(np.array([5, 500_000]), {"one": np.ones(2)})
    paged.append({"one": np.ones(3)})
    assert paged.in_memory < 200


def test_columns_of_one_are_taken_over_not_copied():
    """A state that is read back lies in the same files; arrays make a new one."""
    paged = Paged(arrays_of(5))
    columns = {name: paged.column(name) for name in paged.names}
    assert Paged.of(columns) is paged
    other = Paged.of(columns | {"one": np.arange(5)})
    assert other is not paged
    assert isinstance(columns["one"], Column)


def test_giving_back_what_is_not_mapped_is_nothing():
    """Plain arrays and views of them have no pages of a file."""
    give_back(np.zeros(4)[1:])
    assert mmap.MADV_DONTNEED
