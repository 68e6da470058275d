"""`device`: what it means on this machine, and the code paths for a GPU, run without one.

No GPU has run them. Here they run on the processor where they can be asked to, and on a device that is not there
(torch's fake tensors), which tells a tensor left on the other device from one that was moved, and nothing of numbers.
"""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from saec import device
from saec.compression import nearest
from saec.config import ModelConfig, TrainingConfig
from saec.errors import ConfigError
from saec.model.networks import build_network
from saec.model.table import WorkingSet
from saec.train import batches
from saec.train.batches import Pooling, Touched
from saec.train.learner import Learner
from tests.conftest import Site

LISTS, ONE_EACH = Pooling.of((0, 1, 1, 1, 2, 3, 3)), Pooling.of((0, 1, 2))
ELSEWHERE = torch.device("lazy:0")
"""A device that this torch knows by name only."""


@pytest.fixture
def lacking(monkeypatch):
    """A function that says what is lacking for CUDA."""

    def set_(what):
        device.chosen.cache_clear()
        monkeypatch.setattr(device, "_lacking", lambda: what)

    yield set_
    device.chosen.cache_clear()


def a_batch(pooling, rows=500, vectors=40):
    """Places with repeats and padding."""
    draw = np.random.default_rng(1)
    places_BS = draw.integers(0, vectors, (rows, len(pooling.slot_fields)))
    if not pooling.trivial:
        places_BS[draw.random(places_BS.shape) < 0.3] = -1
    return torch.from_numpy(places_BS)


def test_the_processor_is_the_default():
    """And stays what it is by default."""
    assert device.chosen("cpu") == device.current == "cpu"
    assert device.model() is None


def test_cuda_that_is_not_there_is_refused_with_what_to_do(lacking):
    """The message says what is lacking and how to go on without."""
    lacking("torch sees no GPU: see whether nvidia-smi lists one")
    with pytest.raises(ConfigError, match=r"device: cuda, but torch sees no GPU: .* set device: cpu"):
        device.chosen("cuda")


def test_auto_takes_the_processor_and_says_why(lacking, caplog):
    """Once, however many steps ask."""
    lacking("torch is built without CUDA")
    assert device.chosen("auto") == device.chosen("auto") == "cpu"
    assert [record.message for record in caplog.records] == [
        "device: auto takes the processor, since torch is built without CUDA"
    ]


def test_an_hour_that_lacks_its_gpu_fails_by_its_settings(lacking, tmp_path):
    """FAILED(config), before anything is read."""
    lacking("torch sees no GPU")
    site = Site(tmp_path)
    site.simulate(1)
    config = site.config().model_copy(update={"device": "cuda"})
    row = site.advance(site.hours[0], config=config)[-1]
    assert (row.state, row.reason) == ("FAILED", "config")
    assert "set device: cpu" in row.message
    assert device.current == "cpu"


@pytest.mark.parametrize("name", ["cuda", "auto"])
def test_a_gpu_is_taken_where_there_is_one(lacking, monkeypatch, name):
    """And cuBLAS is told to go the same way every time."""
    lacking(None)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(device, "current", device.CPU)
    assert device.use(name) == "cuda:0"
    assert device.model() == "a GPU"
    assert device.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize("pooling", [LISTS, ONE_EACH], ids=["lists", "one each"])
def test_cells_are_grouped_alike(pooling):
    """Torch's sort finds what numpy's does."""
    flat = a_batch(pooling).flatten()
    for there, here in zip(batches._grouped_on_device(flat), batches._grouped(flat), strict=True):
        assert torch.equal(there, here)


@pytest.mark.parametrize("most", [1, 7, 128])
@pytest.mark.parametrize("pooling", [LISTS, ONE_EACH], ids=["lists", "one each"])
def test_sums_in_pieces_are_the_sums(pooling, most):
    """Whatever the size of the pieces: vectors of one cell, of whole pieces, and of ragged ones."""
    touched = Touched.of((a_batch(pooling), a_batch(pooling, vectors=3) + 100), pooling)
    gradient_BFD = torch.randn(500, pooling.fields, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        touched.sum_in_pieces(gradient_BFD.flatten(0, 1), most), touched.sum(gradient_BFD), rtol=1e-5, atol=1e-4
    )


def test_codewords_are_found_alike(monkeypatch):
    """In blocks and a ragged one, and with each codeword's own place left out."""
    monkeypatch.setattr(nearest, "_DISTANCES_THERE", 7 * 30)
    draw = np.random.default_rng(2)
    centroids_KD = draw.normal(size=(30, 4)).astype(np.float32)
    vectors_ND = draw.normal(size=(100, 4)).astype(np.float32)
    found_N = nearest._searched_on(device.CPU, vectors_ND, centroids_KD)
    assert found_N.tolist() == nearest.assign(vectors_ND, centroids_KD)[0].tolist()
    others_K = nearest._searched_on(device.CPU, centroids_KD, centroids_KD, np.arange(30))
    assert others_K.tolist() == nearest.nearest_other(centroids_KD)[0].tolist()


@pytest.fixture
def elsewhere(monkeypatch):
    """Learners train on a device that is not there."""
    monkeypatch.setattr(device, "current", str(ELSEWHERE))
    sizes = ShapeEnv(allow_dynamic_output_shape_ops=True, allow_scalar_outputs=True)
    with FakeTensorMode(shape_env=sizes):
        yield


@pytest.mark.parametrize("pooling", [LISTS, ONE_EACH], ids=["lists", "one each"])
def test_all_of_a_batch_is_moved(elsewhere, pooling, monkeypatch):
    """Network, vectors, rows, gradients and both optimisers meet on the device, and the vectors come back."""
    with ELSEWHERE:
        model = ModelConfig(width=4, hidden=[8], cross_rank=3)
        network, averaged = (build_network(model, pooling.fields, seed=1) for _ in range(2))
    monkeypatch.setattr(network, "to", lambda _: network)  # fake tensors cannot be swapped within a module
    monkeypatch.setattr("saec.train.learner.copy.deepcopy", lambda _: averaged)  # nor copied
    learner = Learner(network, pooling, TrainingConfig(batch_rows=4))
    working = WorkingSet(np.arange(9), torch.zeros(9, 4), torch.zeros(9))
    parts = tuple(torch.zeros(8, len(pooling.slot_fields), dtype=torch.int64, device=ELSEWHERE) for _ in range(2))
    with working.on(learner.device) as there:
        assert there.vectors_UD.device == ELSEWHERE
        labels_B = torch.zeros(8, device=ELSEWHERE)
        _, gradient_BFD = learner.gradients(there.vectors_UD, parts, labels_B, labels_B + 1, 8.0)
        found = Touched.of(parts, pooling)  # of so many vectors as nobody knows
        assert {array.device for array in vars(found).values() if array is not None} == {ELSEWHERE}
        places_N, cells_C = (torch.arange(count, device=ELSEWHERE) for count in (5, 16))
        touched = Touched(places_N, places_N, cells_C, torch.ones(16, device=ELSEWHERE))
        summed_ND = touched.sum_in_pieces(gradient_BFD.flatten(0, 1))
        learner.apply(there, places_N, summed_ND)
    assert working.vectors_UD.device == torch.device("cpu")
