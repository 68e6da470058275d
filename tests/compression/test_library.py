"""Compressing a table by one call: what comes out is near what went in, as small as asked for, and the same twice."""

import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import saec
from saec.compression.library import as_array
from saec.errors import ConfigError, InputError
from saec.serving.files import CODEBOOKS, INDEX
from saec.serving.table import TABLE

WIDTH = 8


def planted(rows=4000, groups=20, seed=0, noise=0.05):
    """Vectors near a few points, and Zipf frequencies."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(groups, WIDTH))
    vectors = points[random.integers(0, groups, rows)] + noise * random.normal(size=(rows, WIDTH))
    return vectors.astype(np.float32), 1.0 / np.arange(1, rows + 1)


def error(table, vectors, fields, keys, frequency):
    """Weighted squared error, as a share of the vectors' own."""
    squared = np.square(table.lookup(fields, keys) - vectors).sum(1)
    return float(frequency @ squared / (frequency @ np.square(vectors).sum(1)))


def test_planted_clusters_are_found():
    """Twenty points with a little noise are all that is left, and lookups come near what was there."""
    vectors, frequency = planted()
    table = saec.compress(vectors, "user", np.arange(4000), frequency, ratio=12)
    assert table.sizes.coded == 4000
    assert error(table, vectors, "user", np.arange(4000), frequency) < 0.01


@pytest.mark.parametrize("ratio", [1, 10, 30, 100])
@pytest.mark.parametrize("precision", ["float16", "int8", "int4"])
def test_the_ratio_is_kept_by_all_files(tmp_path, ratio, precision):
    """What lies on disk, counted there, is at most the table with its keys over the ratio."""
    vectors, frequency = planted()
    table = saec.compress(vectors, "user", np.arange(4000), frequency, ratio=ratio, precision=precision)
    table.save(tmp_path)
    on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert on_disk == table.sizes.total
    assert on_disk <= 4000 * (4 * WIDTH + 8) / ratio
    assert table.sizes.ratio >= ratio


def test_a_larger_ratio_loses_more():
    """Error grows with the ratio, and from 1 to 100 it grows a lot."""
    vectors, frequency = planted(noise=0.5)
    errors = [
        error(
            saec.compress(vectors, "user", np.arange(4000), frequency, ratio=ratio),
            vectors,
            "user",
            np.arange(4000),
            frequency,
        )
        for ratio in (1, 10, 30, 100)
    ]
    assert errors == sorted(errors)
    assert errors[-1] > 2 * errors[0]


def test_room_left_goes_to_codewords():
    """Where every vector has a code and bytes are left, there are more codewords than a code of eight bits has."""
    vectors, frequency = planted(6000, groups=3000, noise=0.3)
    few, many = (saec.compress(vectors, "user", np.arange(6000), frequency, ratio=ratio) for ratio in (30, 4))
    assert few.sizes.codewords <= 257 < many.sizes.codewords
    assert many.sizes.coded == 6000


def test_those_that_cost_most_have_codes():
    """The code goes to the frequent vectors; what is left shares the default, the weighted mean of what shares it."""
    vectors, frequency = planted(noise=0.5)
    table = saec.compress(
        vectors, "user", np.arange(4000), frequency, ratio=80, fingerprint_bits=16, precision="float16"
    )
    coded = table.codes("user", np.arange(4000)) > 0
    assert 0 < coded.sum() == table.sizes.coded < 1000
    assert coded[:100].mean() > 0.9 > 0.1 > coded[-1000:].mean()
    mean = np.average(vectors[~coded], axis=0, weights=frequency[~coded])
    assert table.lookup("user", [-1])[0] == pytest.approx(mean, abs=1e-3)


def test_fields_do_not_mix():
    """The same key in two fields has two vectors, and a field as small as a codebook keeps its own."""
    vectors, frequency = planted(1000)
    small = np.eye(3, WIDTH, dtype=np.float32) * 7
    table = saec.compress(
        np.concatenate([vectors, small]),
        np.repeat(["user", "device"], [1000, 3]),
        np.concatenate([np.arange(1000), np.arange(3)]),
        np.concatenate([frequency, np.full(3, 1e-6)]),
        ratio=10,
    )
    assert table.fields == ("device", "user")
    assert table.lookup("device", np.arange(3)) == pytest.approx(small, abs=0.01)
    assert table.lookup(["device", "user"], [0, 0])[1] == pytest.approx(vectors[0], abs=0.5)


def test_the_same_arguments_give_the_same_bytes():
    """Twice the same, in any order of the rows the same vectors within the codewords' choice, another seed others."""
    vectors, frequency = planted(noise=0.5)
    first, again, other = (
        saec.compress(vectors, "user", np.arange(4000), frequency, ratio=30, seed=seed) for seed in (0, 0, 1)
    )
    assert first._files == again._files
    assert first._files != other._files


def test_keys_are_integers_or_strings():
    """Names of users do as well as numbers, in any case."""
    vectors, frequency = planted(1000)
    names = np.array([f"ü-{number}" for number in range(1000)])
    by_name = saec.compress(vectors, "user", names, frequency, ratio=5)
    by_number = saec.compress(vectors, "user", np.arange(1000), frequency, ratio=5)
    assert np.array_equal(by_name.lookup("user", names), by_number.lookup("user", np.arange(1000)))


def test_nobody_knows_how_often():
    """One number for all frequencies is as good as many equal ones."""
    vectors, _ = planted(1000)
    one, many = (saec.compress(vectors, "u", np.arange(1000), given, ratio=20) for given in (5, np.full(1000, 3.0)))
    assert one._files == many._files


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"vectors": np.zeros((0, 4))}, InputError, "vectors must be"),
        ({"vectors": np.full((100, 4), np.nan)}, InputError, "vector 0 has numbers that are not finite"),
        ({"vectors": np.full((100, 4), 1e6)}, InputError, "beyond 65,504"),
        ({"keys": np.zeros(100, int)}, InputError, "99 keys repeat within their field, such as .*0.* of 'user'"),
        ({"keys": np.arange(99)}, InputError, r"must be \[100\]"),
        ({"keys": np.arange(100.0)}, InputError, "all integers, or all strings"),
        ({"fields": ["user"] * 3}, InputError, r"fields and keys must be \[100\]"),
        ({"frequency": np.ones(3)}, InputError, "frequency must be"),
        ({"frequency": -np.ones(100)}, InputError, "0 or more"),
        ({"frequency": 0}, InputError, "more than 0 for some"),
        ({"ratio": 1000}, ConfigError, "give a smaller ratio"),
        ({"ratio": 0}, ConfigError, "ratio must be above 0"),
    ],
)
def test_what_cannot_be_compressed_is_refused(changed, error, said):
    """By name, with what was wanted."""
    given = {
        "vectors": np.random.default_rng(0).normal(size=(100, 4)),
        "fields": "user",
        "keys": np.arange(100),
        "frequency": np.ones(100),
    }
    with np.errstate(all="ignore"), pytest.raises(error, match=said):
        saec.compress(**{**given, **changed})


def test_modules_and_state_dicts_of_torch_are_read():
    """A module's embeddings, its tables by name, or TorchRec's state dict all give the same rows."""
    bags = torch.nn.ModuleDict({"user": torch.nn.EmbeddingBag(5, 4), "item": torch.nn.EmbeddingBag(3, 4)})
    model = torch.nn.ModuleDict({"embedding_bags": bags, "over": torch.nn.Linear(4, 4)})
    user, item = (bags[name].weight.detach().numpy() for name in ("user", "item"))
    for given in (model, model.state_dict(), dict(bags.items()), {"user": user, "item": item}):
        rows = saec.rows_of(given)
        assert np.array_equal(rows.vectors, np.concatenate([user, item]))
        assert rows.fields.tolist() == ["user"] * 5 + ["item"] * 3
        assert rows.keys.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


def test_tables_of_one_name_keep_their_path():
    """Where the last part of a name does not tell two tables apart, all of it does."""
    state = {"a.embeddings.user.weight": np.zeros((2, 2)), "b.embeddings.user.weight": np.ones((1, 2))}
    assert saec.rows_of(state).fields.tolist() == ["a.embeddings.user", "a.embeddings.user", "b.embeddings.user"]


def test_a_single_module_is_a_table():
    """A lone embedding has no name of its own."""
    assert saec.rows_of(torch.nn.Embedding(2, 3)).fields.tolist() == ["table", "table"]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({}, "no embedding table"),
        (torch.nn.Linear(2, 2), "no embedding table"),
        ({"user": np.zeros(3)}, r"must be \[rows, width\]"),
        ({"user": np.zeros((3, 2)), "item": np.zeros((3, 4))}, "widths"),
        ([1, 2], "mapping"),
    ],
)
def test_what_holds_no_tables_is_refused(tables, said):
    """With what to give instead."""
    with pytest.raises(InputError, match=said):
        saec.rows_of(tables)


def test_half_precision_is_widened():
    """bfloat16, which numpy lacks, and tensors that want gradients."""
    weight = torch.tensor([[1.5, 2.0]], dtype=torch.bfloat16, requires_grad=True)
    assert as_array(SimpleNamespace(weight=weight)).tolist() == [[1.5, 2.0]]


ALONE = """
import sys
import saec
assert not {"numpy", "torch"} & set(sys.modules), "import saec is to be light"
for name in ("torch", "scipy", "sklearn", "pandas", "pyarrow", "pydantic", "prefect"):
    sys.modules[name] = None
import numpy as np
vectors = np.random.default_rng(0).normal(size=(3000, 8))
table = saec.compress(vectors, "user", np.arange(3000), 1 / np.arange(1, 3001), ratio=20)
print(table.sizes.ratio >= 20, table.lookup("user", [1, 1, -5]).shape)
"""


NUMPY_ALONE = """
import sys
from pathlib import Path
sys.modules["torch"] = None
import numpy as np, saec
from safetensors.numpy import load_file
folder = Path(sys.argv[1])
given = load_file(folder / "given")
saec.compress(given["vectors"], "user", np.arange(4000), given["frequency"], ratio=15).save(folder / "table")
"""


def test_numpy_is_all_that_it_takes():
    """Nothing but numpy and safetensors need be installed, and `import saec` alone imports nothing."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True (3, 8)\n", "")


def test_without_torch_the_same_comes_out(tmp_path):
    """Products by numpy round otherwise; between clusters that lie apart that changes no code."""
    vectors, frequency = planted()
    save_file({"vectors": vectors, "frequency": frequency}, tmp_path / "given")
    subprocess.run([sys.executable, "-c", NUMPY_ALONE, tmp_path], check=True)
    alone = saec.CompressedTable.open(tmp_path / "table")
    table = saec.compress(vectors, "user", np.arange(4000), frequency, ratio=15)
    assert error(alone, vectors, "user", np.arange(4000), frequency) == pytest.approx(
        error(table, vectors, "user", np.arange(4000), frequency), rel=0.05
    )


def test_names_are_handed_out():
    """All that the package promises is there, and nothing else."""
    assert {type(getattr(saec, name)).__name__ for name in saec.__all__} <= {"function", "type", "ABCMeta"}
    assert set(saec.__all__) <= set(dir(saec))
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        _ = saec.compres


@pytest.mark.parametrize("document", ["README.md", "docs/library.md"])
def test_the_lines_of_the_documents_run(root, tmp_path, monkeypatch, document):
    """As they stand there, on two tables of torch; the one that makes a million vectors is left out."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (root / document).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    blocks = [block for block in blocks if "saec." in block and "1_000_000" not in block]
    assert blocks
    monkeypatch.chdir(tmp_path)
    known = {
        "model": SimpleNamespace(users=torch.nn.Embedding(6000, 8), items=torch.nn.EmbeddingBag(4000, 8)),
        "frequency": np.arange(10_000, 0, -1),
        "offsets": [0, 3],
    }
    for block in blocks:
        exec(compile(block, document, "exec"), known)
    assert sorted(path.name for path in (tmp_path / "compressed").iterdir()) == sorted([CODEBOOKS, INDEX, TABLE])
