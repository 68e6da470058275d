"""A compressed table: lookups of any shape, bags, what is refused, and files that are as they were written."""

import json

import numpy as np
import pytest
import torch

import saec
from saec.errors import InputError, IntegrityError
from saec.serving.files import CODEBOOKS, INDEX
from saec.serving.table import TABLE, CompressedTable

NAMES = [CODEBOOKS, INDEX, TABLE]


@pytest.fixture(scope="module")
def table():
    """Two fields of 300 vectors each, in six groups that are far apart."""
    points = np.arange(6)[:, None] * np.ones(4)
    vectors = np.tile(points[np.arange(300) % 6], (2, 1))
    vectors[300:] *= -1
    fields, keys = np.repeat(["item", "user"], 300), np.tile(np.arange(300), 2)
    return saec.compress(vectors, fields, keys, 1, ratio=3, fingerprint_bits=16, precision="float16")


def test_keys_of_another_kind_are_refused(table):
    """A text that reads like a key of the table is none: it would get the default vector without a word."""
    with pytest.raises(InputError, match="the table's keys are integers, got strings such as '6'; no key is cast"):
        table.lookup(table.fields[0], ["6"])
    assert table.lookup(table.fields[0], []).shape == (0, table.codewords_TD.shape[1])


def test_lookup_takes_any_shape_and_duplicates(table):
    """The shape of the keys, and the numbers of a vector."""
    keys = np.array([[7, 7, 8], [0, 299, 7]])
    vectors = table.lookup("item", keys)
    assert vectors.shape == (2, 3, 4)
    assert vectors[:, :, 0].tolist() == [[1, 1, 2], [0, 5, 1]]
    assert table.lookup("item", []).shape == (0, 4)
    assert table.lookup("item", 7).shape == (4,)


def test_each_key_may_have_its_own_field(table):
    """One name for all, or one each."""
    assert table.lookup(["item", "user", "item"], [4, 4, 3])[:, 0].tolist() == [4, -4, 3]


def test_absent_keys_get_the_default(table):
    """All unknown keys of a field share one vector: the mean of what has a code, where everything has."""
    assert table.codes("item", [300, -7, 2**62]).tolist() == [0, 0, 0]
    assert np.allclose(table.lookup("item", [300, 2**62])[:, 0], 2.5)


@pytest.mark.parametrize("mode", ["mean", "sum"])
@pytest.mark.parametrize("offsets", [[0, 3, 3, 5], [0, 0, 0, 7], [0], [0, 7, 7]])
def test_bags_are_those_of_torch(table, mode, offsets):
    """As an EmbeddingBag of the looked-up vectors gives them, empty bags among them."""
    keys = [1, 2, 2, 250, 4, 0, 999]
    weights = torch.from_numpy(table.lookup("user", keys))
    wanted = torch.nn.functional.embedding_bag(torch.arange(7), weights, torch.tensor(offsets), mode=mode)
    assert np.allclose(table.bags("user", keys, offsets, mode), wanted.numpy(), atol=1e-6)


def test_no_bags_at_all(table):
    """No keys and no bags, or bags of nothing."""
    assert table.bags("user", [], []).shape == (0, 4)
    assert table.bags("user", [], [0, 0]).tolist() == [[0] * 4] * 2


@pytest.mark.parametrize("offsets", [[1, 2], [0, 4], [0, 2, 1], [[0]]])
def test_offsets_that_do_not_fit_are_refused(table, offsets):
    """They ascend from 0 to the number of keys at most."""
    with pytest.raises(InputError, match="must ascend from 0 to at most 3"):
        table.bags("user", [1, 2, 3], offsets)


@pytest.mark.parametrize(
    ("fields", "keys", "said"),
    [
        ("usr", [1], "no field 'usr'; did you mean 'user'"),
        (["user", "x"], [1, 2], "no field 'x'; its fields: item, user"),
        ("user", [1.5], "all integers, or all strings; got float64"),
        ("user", [None, "a"], "got object"),
    ],
)
def test_what_cannot_be_looked_up_is_named(table, fields, keys, said):
    """An unknown field, or keys of another kind."""
    with pytest.raises(InputError, match=said):
        table.lookup(fields, keys)


def test_saved_and_opened_it_is_the_same(table, tmp_path):
    """In a folder that is not there yet, and over a table that is."""
    for _ in range(2):
        table.save(tmp_path / "new" / "table")
    opened = CompressedTable.open(tmp_path / "new" / "table")
    assert sorted(path.name for path in (tmp_path / "new" / "table").iterdir()) == NAMES
    assert np.array_equal(opened.lookup("user", np.arange(400)), table.lookup("user", np.arange(400)))
    assert opened.sizes == table.sizes


def test_sizes_are_those_of_the_files(table, tmp_path):
    """Every byte on disk counts, against vectors with keys and without."""
    table.save(tmp_path)
    on_disk = {name: (tmp_path / name).stat().st_size for name in NAMES}
    sizes = table.sizes
    assert (sizes.codebooks, sizes.index, sizes.description) == tuple(on_disk.values())
    assert sizes.ratio == 600 * (16 + 8) / sum(on_disk.values())
    assert sizes.ratio_without_keys == 600 * 16 / sum(on_disk.values())


@pytest.mark.parametrize("name", NAMES)
def test_an_altered_file_is_refused(table, tmp_path, name):
    """Cut short, changed by a bit, or gone: by name."""
    table.save(tmp_path)
    path = tmp_path / name
    data = path.read_bytes()
    for broken in (data[:-1], data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], b""):
        path.write_bytes(broken)
        with pytest.raises(IntegrityError, match=r"safetensors|table\.json"):
            CompressedTable.open(tmp_path)
    path.unlink()
    with pytest.raises(IntegrityError, match=name):
        CompressedTable.open(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"fields": ["item", "item"]},
        {"fields": ["item"]},
        {"fields": [1, 2]},
        {"width": 5},
        {"rows": "600"},
        {"files": {}},
    ],
    ids=str,
)
def test_a_description_of_something_else_is_refused(table, tmp_path, change):
    """Whatever it is that does not fit."""
    table.save(tmp_path)
    told = json.loads((tmp_path / TABLE).read_bytes())
    (tmp_path / TABLE).write_text(json.dumps(told | change))
    with pytest.raises(IntegrityError):
        CompressedTable.open(tmp_path)
