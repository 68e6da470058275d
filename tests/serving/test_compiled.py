"""The compiled kernel: numpy's scores for anything, refusals for the rest, and never a way out of its memory."""

import dataclasses
import json
import os
import shutil
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from saec import build_kernel
from saec.compression import index_build, peeling
from saec.compression.index import RetrievalIndex
from saec.compression.index_layout import GOLDEN, Layout
from saec.errors import ConfigError, InputError
from saec.serving import Model, compiled, kernel
from saec.serving import model as model_module
from saec.serving.compiled import Compiled
from saec.serving.files import CODEBOOKS, INDEX, NETWORK, ORIGINAL_CODEBOOKS, ORIGINAL_NETWORK, SCHEMA
from saec.serving.network import parameter_shapes
from saec.serving.rounding import rounded
from saec.serving.rows import columns_of
from tests.serving.conftest import Published

SAME = {"rtol": 0, "atol": 1e-6}
COUNT_OF_SCHEMAS = int(os.environ.get("SAEC_FUZZ_SCHEMAS", "12"))
"""Random versions that are compared; each with all vectors, networks and requests of several kinds."""
QUICK_SCHEMAS = 4


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The kernel, built for these tests; `SAEC_TEST_KERNEL` names one that is, such as under a sanitizer."""
    if path := os.environ.get("SAEC_TEST_KERNEL"):
        return Path(path)
    if not any(map(shutil.which, build_kernel.COMPILERS)):
        pytest.skip("there is no C compiler")
    return build_kernel.build(tmp_path_factory.mktemp("kernel") / "kernel.so", ("-Wall", "-Wextra", "-Werror"))


@pytest.fixture(scope="session", params=[4, 8, 16])
def library(built, request) -> kernel.Library:
    """The kernel with vectors of some length, where this processor has them."""
    found = kernel.load(built, request.param)
    if found.lanes != request.param:
        pytest.skip(f"this processor has no vectors of {request.param} numbers")
    return found


class Odd:
    """A version of random fields, networks and codewords, made in memory, and rows for it; most are ensembles."""

    def __init__(self, seed: int) -> None:
        self.draw = draw = np.random.default_rng(seed)
        kinds = ["int", "capped", "string", "bool", "strings", "ints", "float", "number", "bounded", "hour", "day"]
        self.kinds = [str(draw.choice(kinds)) for _ in range(draw.integers(1, 9))]
        fields = [self._field(number, kind) for number, kind in enumerate(self.kinds)]
        plain = [field["name"] for field in fields if field["kind"] != "list"]
        crosses = {
            tuple(draw.choice(plain, draw.integers(2, min(len(plain), 8) + 1), replace=False).tolist())
            for _ in range(draw.integers(0, 4))
            if len(plain) > 1
        }
        self.schema = {
            "format": 3,
            "fields": fields,
            "crosses": sorted(map(list, crosses)),
            "data": {"hash_key": "k" * int(draw.integers(0, 70)), "time_column": "at", "label_column": "clicked"},
            "model": {
                "network": str(draw.choice(["deepfm", "dcnv2"])),
                "width": int(draw.integers(2, 20)),
                "hidden": [int(units) for units in draw.integers(1, 70, draw.integers(0, 4))],
                "logit_cap": float(draw.choice([0.0, 2.0])),
                "cross_layers": int(draw.integers(1, 5)),
                "cross_rank": int(draw.integers(1, 40)),
            },
        }
        files = {SCHEMA: json.dumps(self.schema).encode(), CODEBOOKS: b"", NETWORK: b"", INDEX: b""}
        schema = model_module._schema(files[SCHEMA], Path("schema"))
        count, width = len(schema.field_names), schema.model.width
        counts_F = draw.integers(0, 9, count).astype(np.uint16)
        codewords = int((counts_F.astype(int) + 2).sum())
        tensors = {"counts_F": counts_F}
        if draw.random() < 0.5:
            tensors |= {
                "codewords_TD": draw.integers(-127, 128, (codewords, width)).astype(np.int8),
                "scale_T": np.full(codewords, 0.002, np.float16),
            }
        else:
            tensors["codewords_TD"] = draw.normal(0, 0.2, (codewords, width)).astype(np.float16)
        parameters = {
            name: np.asarray(draw.normal(0, shape[-1] ** -0.5 if shape else 0.2, shape), np.float32)
            for name, shape in parameter_shapes(schema.model, count).items()
        }
        files[CODEBOOKS], files[NETWORK] = save(tensors), save(rounded(parameters, 8.0))
        if seed % 3:
            reversed_TD = np.ascontiguousarray(tensors["codewords_TD"][::-1])
            tensors |= {"codewords_TD": reversed_TD, "share": np.array(draw.uniform(0.1, 0.9), np.float32)}
            parameters = {name: -0.8 * array for name, array in parameters.items()}
            files |= {ORIGINAL_CODEBOOKS: save(tensors), ORIGINAL_NETWORK: save(rounded(parameters, 8.0))}
        files[INDEX] = save(RetrievalIndex.build(np.zeros(0, np.uint64), [], code_bits=4, fingerprint_bits=3).tensors())
        keys_BS = Model(Path("odd"), {}, files).encode(self.rows(80))
        keys_N = np.setdiff1d(keys_BS, [0])[: int(draw.integers(0, 500))]
        index = RetrievalIndex.build(
            keys_N,
            draw.integers(0, 12, len(keys_N)),
            code_bits=int(draw.integers(4, 17)),
            fingerprint_bits=int(draw.integers(0, 17)),
        )
        files[INDEX] = save(index.tensors())
        self.model = Model(Path("odd"), {}, files)

    def compiled(self, library: kernel.Library) -> Compiled:
        """Its compiled scoring."""
        model = self.model
        return Compiled(library, model.schema, model.index, model.counts_F, model.members)

    def rows(self, count: int) -> list[dict]:
        """Rows with all that fields may hold."""
        return [{name: self._value(kind) for name, kind in self._names()} for _ in range(count)]

    def _names(self) -> list[tuple[str, str]]:
        clock = [("at", "at")] * bool({"hour", "day"} & set(self.kinds))
        return [(f"f{number}", kind) for number, kind in enumerate(self.kinds) if kind not in ("hour", "day")] + clock

    def _field(self, number: int, kind: str) -> dict:
        draw = self.draw
        settings = {
            "int": {},
            "capped": {"cap": 50},
            "string": {"type": "string"},
            "bool": {"type": "bool"},
            "strings": {"kind": "list", "type": "string"},
            "ints": {"kind": "list"},
            "float": {"kind": "numeric", "type": "float"},
            "number": {"kind": "numeric"},
            "bounded": {"kind": "numeric", "type": "float", "boundaries": [-1.5, 0.0, 0.7, 50.0]},
            "hour": {"kind": "hour_of_day"},
            "day": {"kind": "day_of_week"},
        }[kind]
        return {
            "name": f"f{number}",
            "kind": "categorical",
            "column": None,
            "type": "int",
            "nullable": True,
            "cap": None,
            "boundaries": [],
            "max_values": int(draw.integers(1, 5)),
        } | settings

    def _value(self, kind: str):
        draw = self.draw
        if kind == "at":
            return datetime(1969, 12, 28, tzinfo=UTC) + timedelta(minutes=int(draw.integers(0, 20_000)))
        if draw.random() < 0.1:
            return None
        if kind in ("strings", "ints"):
            return [self._value(kind[:-1]) for _ in range(draw.integers(0, 7))]
        few = int(draw.integers(0, 30))
        texts = ["", "é", "\0", "12345678", "x" * 255, "x" * 256, "y" * 257, "z" * 300, "\ud800"]
        numbers = [0, -1, 49, 50, 51, 2**63 - 1, -(2**63)]
        floats = [
            0.0,
            -0.0,
            1.0,
            0.7,
            0.5**0.5,
            2.0**0.5,
            1e-320,
            -1e300,
            1.7e308,
            3.4028235e38,
            3.4028236e38,
            50.0,
            -1.5,
        ]
        return (
            {
                "int": few,
                "capped": few * 4,
                "string": f"v{few}",
                "bool": few % 2 == 1,
                "float": few / 7,
                "number": few * 3,
                "bounded": few - 3.1,
            }[kind]
            if draw.random() < 0.6
            else {
                "int": numbers,
                "capped": numbers,
                "number": numbers,
                "string": texts,
                "bool": [True],
                "float": floats,
                "bounded": floats,
            }[kind][
                int(draw.integers(0, 99))
                % {"bool": 1, "string": len(texts), "float": len(floats), "bounded": len(floats)}.get(
                    kind, len(numbers)
                )
            ]
        )


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=[pytest.mark.slow] * (seed >= QUICK_SCHEMAS)) for seed in range(COUNT_OF_SCHEMAS)],
)
def test_scores_and_keys_are_numpys(library, seed):
    """Random fields, networks, codebooks, indexes and requests: the same keys to the bit, the same scores to 1e-6."""
    odd = Odd(seed)
    scoring, sharing, model = odd.compiled(library), odd.compiled(library), odd.model
    plan = sharing._plan
    sharing._plan = lambda mask: dataclasses.replace(plan(mask), worth=0.0)  # also where it is not worth it
    for count in (1, 2, 3, 47, 48, 49, 150):
        rows = odd.rows(count)
        names = list(rows[0])
        columns = columns_of(rows, model.schema)
        wanted_B, keys_BS = model.score(rows), model.encode(rows)
        assert wanted_B.shape == (count,)
        np.testing.assert_array_equal(np.concatenate(scoring.encoder.encode_fields(*columns, count), axis=1), keys_BS)
        np.testing.assert_allclose(scoring.score(*columns, count), wanted_B, **SAME)
        np.testing.assert_allclose(scoring.score_keys(keys_BS), wanted_B, **SAME)
        holes_BS = keys_BS * odd.draw.integers(0, 2, keys_BS.shape).astype(np.uint64)
        np.testing.assert_allclose(scoring.score_keys(holes_BS), model.score_keys(holes_BS), **SAME)
        user = {name: rows[0][name] for name in names if odd.draw.random() < 0.6}
        own = [{name: value for name, value in row.items() if name not in user} for row in rows]
        if user and len(user) < len(names):
            columns = columns_of(own, model.schema, shared=user)
            wanted_B = model.score_candidates(user, own)
            for either in (scoring, sharing):
                np.testing.assert_allclose(either.score(*columns, count), wanted_B, **SAME)
            for found, wanted in zip(
                scoring.encoder.encode_fields(*columns, count), model.encoder.encode_fields(*columns), strict=True
            ):
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("seed", range(4))
def test_a_buffer_that_lies_is_refused(built, seed):
    """Whatever the bytes of a request say, the kernel reads nothing beyond them and answers or refuses."""
    odd = Odd(seed)
    encoder, draw, count = odd.compiled(kernel.load(built)).encoder, np.random.default_rng(seed), 5
    buffer, sharing = encoder.request(*columns_of(odd.rows(count), odd.model.schema), count)
    room = count * sharing.own_slots
    keys, answers = np.zeros(room + 1, np.uint64), []
    odd_words = [0, 1, -1, 2, 7, 2**31, 2**62, -(2**63), 2**63 - 1, len(buffer), len(buffer) - 8, len(buffer) + 8]
    for turn in range(400):
        damaged = bytearray(buffer[: int(draw.integers(0, len(buffer)))] if turn % 4 == 0 else buffer)
        for _ in range(draw.integers(1, 4)):
            place = 8 * int(draw.integers(0, max(1, len(damaged) // 8)))
            word = struct.pack("<q", odd_words[draw.integers(0, len(odd_words))])
            damaged[place : place + 8] = word[: len(damaged) - place]
        answers.append(encoder.keys(bytes(damaged), sharing, count, keys.ctypes.data, room))
        assert keys[room] == 0, "nothing is written beyond the keys' room"
    assert set(answers) <= {0, 1}
    assert sum(answers) > 100
    assert encoder.keys(buffer, sharing, count, keys.ctypes.data, room) == 0
    assert encoder.keys(buffer, sharing, count, keys.ctypes.data, room - 1) == 1
    assert encoder.keys(buffer, sharing, count + 1, keys.ctypes.data, room) == 1


class Misled:
    """The functions of a kernel, whose `saec_score` is told some number wrongly."""

    ARGUMENTS = ("models", "plans", "members", "keys", "count", "own", "rows", "scratch", "room", "scores")

    def __init__(self, functions, **changed) -> None:
        self.functions, self.changed = functions, changed

    def __getattr__(self, name):
        return getattr(self.functions, name)

    def saec_score(self, *given) -> int:
        told = dict(zip(self.ARGUMENTS, given, strict=True))
        return self.functions.saec_score(*(told | {n: told[n] + by for n, by in self.changed.items()}).values())


def test_scores_of_too_few_keys_are_refused(built):
    """Keys and working memory must be as many as rows and fields want."""
    odd, library = Odd(3), kernel.load(built)
    keys_BS = odd.model.encode(odd.rows(3))
    assert odd.compiled(library).score_keys(keys_BS[:, :-1]) is None
    assert odd.compiled(library).score_keys(keys_BS[:0]) is None
    for changed in ({"count": -1}, {"rows": 1}, {"rows": -3}, {"rows": -6}, {"room": -2}):
        misled = dataclasses.replace(library, functions=Misled(library.functions, **changed))
        assert odd.compiled(misled).score_keys(keys_BS) is None, changed
    right = dataclasses.replace(library, functions=Misled(library.functions))
    assert len(odd.compiled(right).score_keys(keys_BS)) == 3


def test_shards_are_told_apart(library, monkeypatch):
    """An index of several shards gives each key the code that numpy gives it."""
    monkeypatch.setattr(index_build, "_SHARD_KEYS", 1500)
    odd = Odd(5)
    draw, model = np.random.default_rng(0), odd.model
    keys_N = np.unique(draw.integers(1, 2**63, 9_000, np.uint64))
    model.index = RetrievalIndex.build(keys_N, draw.integers(0, 8, len(keys_N)), code_bits=3, fingerprint_bits=9)
    assert len(model.index.layouts) > 2
    keys_BS = draw.choice(keys_N, (600, len(model.schema.slot_fields)))
    assert len(np.unique(model.codes(keys_BS))) > 2
    np.testing.assert_allclose(odd.compiled(library).score_keys(keys_BS), model.score_keys(keys_BS), **SAME)


@pytest.mark.parametrize("keys", [1, 2, 3, 17, 300, 8_000])
def test_an_index_is_built_the_same(built, monkeypatch, keys):
    """Keys leave in numpy's order and take numpy's cells; sets that do not peel are told alike."""
    library, draw = kernel.load(built), np.random.default_rng(keys)
    pairs = np.unique(draw.integers(1, 2**63, keys, np.uint64)), draw.integers(0, 8, keys)
    hash_N = pairs[0] * np.uint64(GOLDEN)
    for segments in (1 + keys // 20, 4 + keys // 12):  # too few, and more than enough
        layout = Layout(0, keys, 16, segments, 3, 9)
        slow, fast = peeling._peeled(hash_N, layout), peeling._peeled_compiled(library, hash_N, layout)
        assert (slow is None) == (fast is None)
        if slow and fast:
            np.testing.assert_array_equal(fast[:2], slow[:2])
    built_with = []
    for kind in (library, None):
        monkeypatch.setattr(kernel, "found", lambda kind=kind: (kind, ""))
        built_with.append(RetrievalIndex.build(*pairs, code_bits=3, fingerprint_bits=9).tensors())
    for name, tensor in built_with[0].items():
        np.testing.assert_array_equal(tensor, built_with[1][name])


@pytest.fixture
def in_use(built, monkeypatch) -> kernel.Library:
    """The kernel as if it were installed."""
    found = kernel.load(built)
    monkeypatch.setattr(kernel, "found", lambda: (found, found.name))
    monkeypatch.delenv(kernel.ENGINE_VARIABLE, raising=False)
    return found


@pytest.mark.parametrize("kind", [{}, {"share": 0.3}, {"share": 0.3, "network": "deepfm"}], ids=str)
def test_a_version_scores_the_same_with_either(in_use, tmp_path, kind):
    """Rows, columns, candidates and keys; and the gate's reading of files is numpy's, whatever is installed."""
    published = Published(tmp_path, **kind)
    fast, slow = Model.open(published.folder), Model.open(published.folder, engine="numpy")
    assert fast.engine == in_use.name
    assert slow.engine == Model.read(published.folder).engine == "numpy"
    rows, columns = published.rows, {name: [row[name] for row in published.rows] for name in published.rows[0]}
    user = {name: rows[0][name] for name in ("user", "at", "tags")}
    own = [{name: value for name, value in row.items() if name not in user} for row in rows]
    for score in (
        lambda model: model.score(rows),
        lambda model: model.score(columns),
        lambda model: model.score_candidates(user, own),
        lambda model: model.score_candidates({}, rows),
        lambda model: model.score_candidates(rows[0], [{}] * 3),
        lambda model: model.score([]),
        lambda model: model.score_keys(published.keys_BS),
    ):
        np.testing.assert_allclose(score(fast), score(slow), **SAME)
    fast.check()
    assert fast.engine == in_use.name


def test_what_is_wrong_is_said_by_numpy(in_use, published, row):
    """The kernel refuses without words; the message is the same with either."""
    said = []
    for model in (Model.open(published.folder), Model.open(published.folder, engine="numpy")):
        with pytest.raises(InputError) as error:
            model.score([row | {"price": float("nan")}])
        said.append((error.value.reason, str(error.value)))
    assert said[0] == said[1]
    assert said[0][0] == "non-finite"


def test_compiled_code_that_is_off_gives_way_to_numpy(in_use, published):
    """Should it not give the recorded scores where numpy does, numpy scores from then on."""
    model = Model.open(published.folder)
    model._compiled._structs[0].bias += 1.0
    model.check()
    assert model.engine.startswith("numpy (compiled code")
    np.testing.assert_array_equal(
        model.score(published.rows), Model.open(published.folder, engine="numpy").score(published.rows)
    )


def test_the_engine_may_be_chosen(in_use, published, monkeypatch):
    """`SAEC_ENGINE` decides unless the caller does; what cannot be had is an error, not another engine."""
    monkeypatch.setenv(kernel.ENGINE_VARIABLE, "numpy")
    assert Model.open(published.folder).engine == "numpy"
    assert Model.open(published.folder, engine="compiled").engine == in_use.name
    monkeypatch.setenv(kernel.ENGINE_VARIABLE, "fast")
    with pytest.raises(ConfigError, match="SAEC_ENGINE to one of auto, numpy, compiled"):
        Model.open(published.folder)
    monkeypatch.setenv(kernel.ENGINE_VARIABLE, "compiled")
    monkeypatch.setattr(kernel, "found", lambda: (None, "it is not built"))
    with pytest.raises(ConfigError, match="SAEC_ENGINE=compiled: it is not built"):
        Model.open(published.folder)
    monkeypatch.setenv(kernel.ENGINE_VARIABLE, "auto")
    assert Model.open(published.folder).engine == "numpy (it is not built)"


def test_a_table_too_large_is_left_to_numpy(in_use, published, monkeypatch):
    """The products of all codewords are worked out only where they fit."""
    monkeypatch.setattr(compiled, "MOST_TABLE_BYTES", 1000)
    assert Model.open(published.folder).engine.startswith("numpy (")


def test_the_tables_of_an_ensemble_count_together(in_use, tmp_path, monkeypatch):
    """A limit that either table would keep is too low for both."""
    model = Model.open(Published(tmp_path, share=0.3).folder)
    size = 4 * sum(len(member.codewords_TD) + 1 for member in model.members)
    size *= compiled._Row.of(in_use, model.schema).size
    for limit, taken in ((size, True), (size - 1, False)):
        monkeypatch.setattr(compiled, "MOST_TABLE_BYTES", limit)
        assert compiled.takes(in_use, model.schema, model.members) == taken
        assert compiled.takes(in_use, model.schema, model.members[:1])


def test_a_kernel_of_another_source_is_not_taken(built, monkeypatch, tmp_path):
    """An old build, and a file that is none, are told from the right one."""
    (tmp_path / "none.so").write_bytes(b"\x7fELF no library")
    with pytest.raises(OSError, match=r"none\.so"):
        kernel.load(tmp_path / "none.so")
    monkeypatch.setattr(kernel, "stamp", lambda: "another")
    with pytest.raises(OSError, match="another source"):
        kernel.load(built)
    kernel.found.cache_clear()
    try:
        for path, said in ((built, "another source"), (tmp_path / "absent", "not built")):
            monkeypatch.setattr(kernel, "library_path", lambda path=path: path)
            library, why = kernel.found()
            assert library is None
            assert said in why
            kernel.found.cache_clear()
    finally:
        kernel.found.cache_clear()


def test_without_a_compiler_nothing_fails(monkeypatch, capsys, tmp_path):
    """`make install` goes on; who asks for the kernel is told what is missing."""
    monkeypatch.setattr(build_kernel, "COMPILERS", ("no-such-compiler",))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("sys.argv", ["build", "--if-possible"])
    assert build_kernel.main() == 0
    assert "numpy" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["build"])
    assert build_kernel.main() == 1
    monkeypatch.setenv("CC", "false")
    with pytest.raises(OSError, match="failed"):
        build_kernel.build(tmp_path / "kernel.so")
    assert list(tmp_path.iterdir()) == []
