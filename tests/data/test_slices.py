"""Slices: the most frequent values by name, the others and nulls apart, in whatever order rows come."""

import numpy as np
import pyarrow as pa
import pytest

from saec.data.slices import LONGEST, MOST, NULL, OTHER, sliced


def members(values, kind=None):
    """Slice names to the rows in them."""
    found = sliced(pa.chunked_array([pa.array(values, kind)]))
    assert len(found.codes_B) == len(values)
    return {name: np.flatnonzero(found.codes_B == place).tolist() for place, name in enumerate(found.names)}


def test_the_most_frequent_are_told_apart_and_the_others_are_one():
    """Ten values: the eight most frequent, then the rest, then nulls."""
    values = [value for value in range(10) for _ in range(20 - value)] + [None, None]
    found = members(values)
    assert list(found) == [*map(str, range(MOST)), OTHER, NULL]
    assert [len(rows) for rows in found.values()] == [20 - value for value in range(8)] + [12 + 11, 2]
    assert found[NULL] == [len(values) - 2, len(values) - 1]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_says_nothing(seed):
    """Equally frequent values are chosen by name."""
    values = np.array(list("abcdefghijklmnop"))
    shuffled = np.random.default_rng(seed).permutation(values)
    assert list(members(shuffled.tolist())) == [*"abcdefgh", OTHER]


def test_names_are_readable():
    """Bytes that are no text, long names that end alike, dictionaries, booleans."""
    assert list(members([b"\xff", b"a", b"a"], pa.binary())) == ["a", "\ufffd"]
    assert members(["x" * 60, "x" * 70, "y"]) == {"x" * (LONGEST - 1) + "…": [0, 1], "y": [2]}
    assert members([True, None, True]) == {"True": [0, 2], NULL: [1]}
    encoded = pa.array(["b", "a", "b"]).dictionary_encode()
    assert members(encoded, encoded.type) == {"b": [0, 2], "a": [1]}
    assert members([None, None], pa.int64()) == {NULL: [0, 1]}
