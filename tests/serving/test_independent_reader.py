"""docs/format.md is enough to read a version: a reader written from it alone scores as we do."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from saec.compression import index_build
from saec.compression.index import RetrievalIndex
from saec.serving import Model
from saec.serving.files import CODEBOOKS, INDEX, NETWORK, SCHEMA
from tests.serving.odd_version import odd_config, odd_rows, write_odd_version
from tests.serving.reader import Reader, live, open_manifest, tensors

PAGE = Path(__file__).parents[2] / "docs" / "format.md"
DTYPES = {
    "layout": np.uint64,
    "cells": np.uint32,
    "counts_F": np.uint16,
    "codewords_TD": np.int8,
    "scale_T": np.float16,
    "packed": np.uint8,
}


def plain_rows(table):
    """The rows as the reader wants them: plain values, the time in milliseconds."""
    rows = table.to_pylist()
    for row in rows:
        for name, value in row.items():
            if hasattr(value, "timestamp"):
                row[name] = round(value.timestamp() * 1000)
    return rows


def check_agreement(folder, table):
    """Keys and codes are the same, scores to 1e-6; returns the codes."""
    model, reader = Model.read(folder), Reader(folder)
    rows = plain_rows(table)
    keys = [reader.keys(row) for row in rows]
    assert keys == model.encode(table).tolist()
    codes_BS = model.codes(np.array(keys, np.uint64))
    assert [reader.codes(each) for each in keys] == codes_BS.tolist()
    np.testing.assert_allclose([reader.score(row) for row in rows], model.score(table), rtol=0, atol=1e-6)
    return codes_BS


def test_a_published_version_of_the_site(done):
    """The live version is found, verified, and scores raw rows, known and unknown, nulls too, as ours does."""
    version = live(done.folder / "workspace" / "store")
    folder = done.folder / "workspace" / "store" / "versions" / version
    assert version == done.live
    assert open_manifest(folder)["hour"] == str(done.hours[4])
    rows = pq.read_table(done.file(done.hours[5]), partitioning=None).slice(0, 60)
    codes_BS = check_agreement(folder, rows.drop_columns(["impression_id", "clicked", "event_time"]))
    assert {-1, 0, 2, 3} <= {*codes_BS.ravel().tolist()}, "padding, unknown features and clusters all occur"


def test_the_recorded_rows_give_their_scores(done):
    """Of the keys that a version records, the probabilities are those in its manifest."""
    folder = done.folder / "workspace" / "store" / "versions" / done.live
    reader, recorded = Reader(folder), open_manifest(folder)["recorded"]["scores"]
    (rows, slots), keys, _ = tensors(folder / "recorded.safetensors")["keys_RS"]
    assert rows == len(recorded) == 8
    scores = [reader.probability(reader.codes(keys[row * slots : (row + 1) * slots])) for row in range(rows)]
    np.testing.assert_allclose(scores, recorded, rtol=0, atol=1e-6)


def test_the_manifest_is_read_as_the_page_says(site):
    """A manifest whose version does not follow from it, or a file of other bytes, is refused."""
    folder = site.folder / "workspace" / "store" / "versions" / site.live
    manifest = folder / "manifest.json"
    plain = manifest.read_text()
    manifest.write_text(plain.replace('"hour":"2026', '"hour":"2025'))
    with pytest.raises(AssertionError):
        open_manifest(folder)
    manifest.write_text(plain)
    open_manifest(folder)
    (folder / NETWORK).write_bytes((folder / NETWORK).read_bytes() + b"\0")
    with pytest.raises(AssertionError, match="network"):
        open_manifest(folder)


@pytest.mark.parametrize(
    "changed",
    [
        {"network": "dcnv2"},
        {"network": "deepfm"},
        {"precision": "float16"},
        {"precision": "int8"},
        {"logit_cap": 0.0, "hidden": ()},
        {"network": "dcnv2", "share": 0.4},
        {"network": "deepfm", "share": 0.4, "precision": "float16"},
    ],
    ids=str,
)
def test_every_kind_of_field_and_network(tmp_path, changed):
    """Lists, strings, numbers, booleans, clocks, crosses and nulls, half of the rows unseen, in both networks."""
    changed = dict(changed)
    share = changed.pop("share", None)
    write_odd_version(tmp_path, odd_config(**changed), odd_rows(30), share=share)
    rows = odd_rows(60)
    codes_BS = check_agreement(tmp_path, rows)
    assert {-1, 0, 1, 2} <= {*codes_BS.ravel().tolist()}
    model = Model.read(tmp_path)
    assert np.ptp(model.score(rows)) > 0.1, "scores that are all the same would prove nothing"
    entries_BS = model.index.lookup(model.encode(rows))
    assert ((codes_BS == 0) & (entries_BS >= 0)).any(), "some unknown feature passes with a code beyond its field"


@pytest.mark.parametrize(("code_bits", "fingerprint_bits"), [(1, 0), (3, 6), (8, 8), (9, 4), (16, 16), (5, 16)])
@pytest.mark.parametrize("shards", [1, 3])
def test_an_index_of_any_width_in_any_number_of_shards(
    tmp_path, done, monkeypatch, code_bits, fingerprint_bits, shards
):
    """Look-ups of known and unknown keys agree, whatever the bits of a cell and however many shards there are."""
    monkeypatch.setattr(index_build, "_SHARD_KEYS", 4_500 // shards)
    rng = np.random.default_rng(code_bits)
    keys_N = rng.integers(1, 2**64, 4_500, np.uint64)
    index = RetrievalIndex.build(
        keys_N, rng.integers(0, 2**code_bits, 4_500), code_bits=code_bits, fingerprint_bits=fingerprint_bits
    )
    assert len(index.layouts) == shards
    folder = shutil.copytree(done.folder / "workspace" / "store" / "versions" / done.live, tmp_path / "version")
    save_file(index.tensors(), folder / INDEX)
    reader = Reader(folder)
    asked_N = np.concatenate([keys_N[:100], rng.integers(1, 2**64, 100, np.uint64)])
    found = [reader.entry(key) for key in asked_N.tolist()]
    assert [-1 if entry is None else entry for entry in found] == index.lookup(asked_N).tolist()


def test_an_empty_index(tmp_path):
    """Where no feature has a code, every one has the default codeword."""
    write_odd_version(tmp_path, odd_config(), odd_rows(0))
    assert check_agreement(tmp_path, odd_rows(20)).max() == 0


@pytest.fixture
def example(tmp_path):
    """The page's worked example and the folder of its version."""
    (text,) = re.findall(r"## Worked example.*?```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    parts = json.loads(text)
    (tmp_path / SCHEMA).write_text(json.dumps(parts["schema"]))
    for name, file in (("index", INDEX), ("codebooks", CODEBOOKS), ("network", NETWORK)):
        arrays = {key: np.array(value, DTYPES.get(key, np.float32)) for key, value in parts[name].items()}
        save_file(arrays, tmp_path / file)
    return parts, tmp_path


def test_the_worked_example(example):
    """Keys, codes and scores of the page are what its version gives, by the second reader and by us."""
    parts, folder = example
    reader, model = Reader(folder), Model.read(folder)
    keys = [reader.keys(row) for row in parts["rows"]]
    assert [[f"{key:016x}" for key in each] for each in keys] == parts["keys"]
    keys_BS = np.array(keys, np.uint64)
    assert [reader.codes(each) for each in keys] == model.codes(keys_BS).tolist() == parts["codes"]
    for scores in ([reader.score(row) for row in parts["rows"]], model.score_keys(keys_BS)):
        np.testing.assert_allclose(scores, parts["scores"], rtol=0, atol=1e-6)
