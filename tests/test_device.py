"""`device`: what it means on this machine, and the code paths for a GPU, run without one.

What needs a GPU is checked by `benchmarks.gpu`. Here the paths run on the processor where they can be asked to, and on
a device that is not there (torch's fake tensors), which tells a tensor left on the other device from one that was
moved, and nothing of numbers.
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
from saec.train.parts import Rows
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


@pytest.mark.parametrize("vectors", [40, 100_000], ids=["few", "many"])
@pytest.mark.parametrize("pooling", [LISTS, ONE_EACH], ids=["lists", "one each"])
def test_cells_are_grouped_alike(pooling, vectors):
    """Torch's sort finds what numpy's does; what is left of the room is spare rows, without cells but for padding."""
    flat = a_batch(pooling).flatten()
    places_N, starts_N, cells_C = batches._grouped(flat)
    in_room, starts, cells = batches._grouped_in_room(flat, vectors)
    count, used = len(places_N), len(cells_C)
    assert torch.equal(in_room[:count], places_N)
    assert torch.equal(starts[:count], starts_N)
    assert torch.equal(cells[:used], cells_C)
    assert len(in_room) == len(starts) == min(len(flat), vectors) + 1
    assert vectors <= in_room[count:].min() <= in_room[count:].max() < vectors + batches.SPARE
    assert starts[count:].tolist()[1:] == [len(flat)] * (len(in_room) - count - 1)
    assert (flat[cells[used:]] == -1).all()


@pytest.mark.parametrize("pooling", [LISTS, ONE_EACH], ids=["lists", "one each"])
def test_a_step_in_a_room_is_the_step(pooling, monkeypatch):
    """Over vectors with spare rows behind them, which stay what they were."""
    learned = []
    for in_room in (False, True):
        learner = Learner(build_network(ModelConfig(width=4, hidden=[8]), pooling.fields, 1), pooling, TrainingConfig())
        vectors_UD = torch.randn(140, 4, generator=torch.Generator().manual_seed(3))
        working = WorkingSet(np.arange(140), vectors_UD, torch.zeros(140))
        parts = (a_batch(pooling), a_batch(pooling, vectors=3) + 100)
        weights_B = torch.rand(500, generator=torch.Generator().manual_seed(4)) + 0.5
        batch = Rows(parts, (parts[0][:, 0] > 20).float(), weights_B)
        with working.on(torch.device("cpu"), batches.SPARE) as there:
            if in_room:
                monkeypatch.setattr(batches, "_grouped", lambda flat: batches._grouped_in_room(flat, 140))
                monkeypatch.setattr(Touched, "sum", lambda touched, g: touched.sum_in_pieces(g.flatten(0, 1)))
            loss = learner.step(there, batch)
            assert (there.vectors_UD[140:] == 0).all()
            assert (there.squares_U[140:] == 0).all()
        learned.append((loss, working.vectors_UD, working.squares_U, *learner.network.parameters()))
    for there, here in zip(*learned, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-6)


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
    labels_B = torch.zeros(8, device=ELSEWHERE)
    with working.on(learner.device, batches.SPARE) as there:
        assert there.vectors_UD.device == ELSEWHERE
        found = Touched.of(parts, pooling, 9)
        assert {array.device for array in vars(found).values() if array is not None} == {ELSEWHERE}
        assert learner.step(there, Rows(parts, labels_B, labels_B + 1)).device == ELSEWHERE
    assert working.vectors_UD.device == torch.device("cpu")
