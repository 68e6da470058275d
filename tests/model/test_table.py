"""The embedding table: rows come, go, are taken out and put back."""

import numpy as np
import pytest
import torch

from saec.model.table import INITIAL_SCALE, EmbeddingTable, WorkingSet, first_values, shared_keys


def keys(rows, start=0):
    """Keys of rows, from one on."""
    return np.arange(start + 1, rows + 1, dtype=np.uint64)


def table_of(rows, width=4, seed=3):
    """A table of so many rows."""
    return EmbeddingTable(width, keys(rows), seed)


def test_first_values_repeat_and_follow_the_seed():
    """The same growth gives the same vectors, small and unlike each other; another seed gives others."""
    first, again, other = table_of(5000), table_of(5000), table_of(5000, seed=4)
    assert np.array_equal(first.vectors_VD, again.vectors_VD)
    assert not np.array_equal(first.vectors_VD, other.vectors_VD)
    assert abs(float(first.vectors_VD.std()) / INITIAL_SCALE - 1) < 0.02
    assert len(np.unique(first.vectors_VD, axis=0)) == 5000
    assert abs(np.corrcoef(first.vectors_VD.T) - np.eye(4)).max() < 0.05
    assert not first.squares_V.any()


def test_first_values_are_of_the_key_alone():
    """However the rows before it came, by ones or all at once, in whichever order, a key's row starts the same."""
    whole, order = table_of(40).vectors_VD, np.random.default_rng(0).permutation(40)
    grown = EmbeddingTable(4, keys(0), seed=3)
    for part in np.array_split(order, [1, 2, 17]):
        grown.grow(keys(40)[part])
    assert np.array_equal(grown.vectors_VD, whole[order])
    assert first_values(keys(1), 2, seed=3).tolist() == [pytest.approx([0.009442288428544998, 0.0030136986169964075])]


def test_shared_rows_are_of_their_field_alone():
    """The rows that a field's features share start alike, wherever the field stands among others."""
    some, others = shared_keys(["user", "article"], 3), shared_keys(["os", "article", "user"], 3)
    assert np.array_equal(some.reshape(3, 2), others.reshape(3, 3)[:, [2, 1]])
    assert len(np.unique(others)) == 9


def test_growth_leaves_older_rows_alone():
    """Rows keep their values and Adagrad sums through growth past the capacity, and through growth by nothing."""
    table = table_of(10)
    working = table.take(np.arange(10))
    working.vectors_UD += 1.0
    working.squares_U += 2.0
    table.put(working)
    before = table.vectors_VD.copy()
    for rows in (10, 11, 12, 500):
        table.grow(keys(rows, len(table)))
        assert len(table) == rows == len(table.vectors_VD) == len(table.squares_V)
    assert np.array_equal(table.vectors_VD[:10], before)
    assert (table.squares_V[:10] == 2.0).all()
    assert not table.squares_V[10:].any()


def test_growth_continues_the_same_from_a_restored_table():
    """A table read back grows into the same rows as the one that was written."""
    table = table_of(7)
    restored = EmbeddingTable.restore({"vectors_VD": table.vectors_VD, "squares_V": table.squares_V}, seed=3)
    for twin in (table, restored):
        twin.grow(keys(9, 7))
        twin.grow(keys(40, 9))
    assert np.array_equal(table.vectors_VD, restored.vectors_VD)


def test_take_copies_and_put_writes_back():
    """Training on a working set changes nothing of the table until it is put back, and then those rows only."""
    table = table_of(10)
    before = table.vectors_VD.copy()
    working = table.take(np.array([2, 5]))
    working.vectors_UD += 1.0
    working.squares_U += 3.0
    assert np.array_equal(table.vectors_VD, before)
    table.put(working)
    changed = np.flatnonzero((table.vectors_VD != before).any(1))
    assert changed.tolist() == [2, 5]
    assert np.flatnonzero(table.squares_V).tolist() == [2, 5]


def test_rows_that_are_drawn_close_up():
    """They stand in their order; growth afterwards appends behind them."""
    table = table_of(10)
    before = table.vectors_VD.copy()
    table.lay(0, table.drawn(np.array([0, 1, 4, 9]), None))
    assert np.array_equal(table.vectors_VD, before[[0, 1, 4, 9]])
    table.grow(keys(12, 10))
    assert len(table) == 6
    assert np.array_equal(table.vectors_VD[:4], before[[0, 1, 4, 9]])


def test_a_working_set_finds_places():
    """Rows of the table become places in the set."""
    working = WorkingSet(np.array([3, 8, 20]), torch.zeros(3, 2), torch.zeros(3))
    assert working.locate(np.array([20, 3, 8])).tolist() == [2, 0, 1]
