"""A version as ONNX: a checked graph that scores in onnxruntime as saec.serving does."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from safetensors.numpy import save_file

from saec.compression import index_build
from saec.compression.index import RetrievalIndex
from saec.export.onnx import export_onnx
from saec.serving import Model
from saec.serving.files import INDEX, SCHEMA
from tests.serving.odd_version import keys_of, odd_config, odd_rows, write_odd_version

ROWS = 10_000


def session(graph):
    """The graph, loaded by onnxruntime."""
    return ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


def check_agreement(model, keys_BS):
    """Graphs of keys and of codes both score as the model does, to 1e-6."""
    scores_B, codes_BS = model.score_keys(keys_BS), model.codes(keys_BS)
    for inputs, given in (("keys", keys_BS), ("codes", codes_BS)):
        (found_B,) = session(export_onnx(model, inputs)).run(["score"], {inputs: given})
        assert found_B.dtype == np.float64
        np.testing.assert_allclose(found_B, scores_B, rtol=0, atol=1e-6)
    return codes_BS


@pytest.mark.parametrize(
    "changed",
    [
        {"network": "dcnv2"},
        {"network": "deepfm"},
        {"network": "dcnv2", "share": 0.4},
        {"network": "deepfm", "share": 0.4},
        pytest.param({"precision": "float16"}, marks=pytest.mark.slow),
        pytest.param({"logit_cap": 0.0, "hidden": ()}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_ten_thousand_rows_of_every_kind(tmp_path, changed):
    """Known, unknown and evicted features, newcomers, lists, nulls, and unknown ones whose fingerprint passes."""
    changed = dict(changed)
    share = changed.pop("share", None)
    config = odd_config(**changed)
    write_odd_version(tmp_path, config, odd_rows(200), share=share)
    model = Model.read(tmp_path)
    keys_BS = keys_of(odd_rows(ROWS, seed=1), config)
    codes_BS = check_agreement(model, keys_BS)
    assert {-1, 0, 1, 2} <= {*codes_BS.ravel().tolist()}
    assert ((codes_BS == 0) & (model.index.lookup(keys_BS) >= 0)).any()
    assert np.ptp(model.score_keys(keys_BS)) > 0.1


def test_a_published_version_of_the_site(done):
    """The live version, its id and its schema in the metadata; one row will do, too."""
    folder = done.folder / "workspace" / "store" / "versions" / done.live
    model = Model.open(folder)
    graph = export_onnx(model)
    onnx.checker.check_model(graph, full_check=True)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert metadata == {"saec_version": done.live, "saec_schema": (folder / SCHEMA).read_text()}
    rng = np.random.default_rng(0)
    for rows in (1, 500):
        check_agreement(model, rng.integers(1, 2**64, (rows, len(model.schema.slot_fields)), np.uint64))


def test_the_same_version_gives_the_same_graph(done):
    """Exported twice, the bytes are equal."""
    model = Model.open(done.folder / "workspace" / "store" / "versions" / done.live)
    assert export_onnx(model).SerializeToString() == export_onnx(model).SerializeToString()


@pytest.mark.parametrize(("code_bits", "fingerprint_bits"), [(1, 0), (3, 6), (9, 4), (16, 16)])
@pytest.mark.parametrize("shards", [1, 3])
def test_an_index_of_any_width_in_any_number_of_shards(tmp_path, monkeypatch, code_bits, fingerprint_bits, shards):
    """The look-up in the graph finds what ours finds, for every key it was built from and for unknown ones."""
    config = odd_config()
    write_odd_version(tmp_path, config, odd_rows(0))
    monkeypatch.setattr(index_build, "_SHARD_KEYS", 1_800 // shards)
    keys_BS = keys_of(odd_rows(900), config)
    keys_N = np.unique(keys_BS[:600])
    keys_N = keys_N[keys_N > 0][:1_800]
    rng = np.random.default_rng(code_bits)
    index = RetrievalIndex.build(
        keys_N,
        rng.integers(0, min(2**code_bits, 300), keys_N.size),
        code_bits=code_bits,
        fingerprint_bits=fingerprint_bits,
    )
    assert (len(index.layouts) > 1) == (shards > 1)
    save_file(index.tensors(), tmp_path / INDEX)
    check_agreement(Model.read(tmp_path), keys_BS)


def test_a_version_without_codes(tmp_path):
    """With an empty index every feature has its field's default codeword."""
    write_odd_version(tmp_path, odd_config(), odd_rows(0))
    assert check_agreement(Model.read(tmp_path), keys_of(odd_rows(50), odd_config())).max() == 0
