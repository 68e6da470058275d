"""Parts of the compression benchmark's newer peers: CAFE's sketch, sizes, levels of few bits, columns and pointers."""

import numpy as np
import pytest
import torch

from benchmarks.compression import stored
from benchmarks.compression.cafe import Cafe
from benchmarks.compression.coded import most
from benchmarks.compression.hot_sketch import AHEAD, HotSketch
from benchmarks.compression.low_bits import levels
from benchmarks.compression.robe import Robe
from saec.config import Config

CONFIG = Config.model_validate(
    {
        "data": {"source": "", "time_column": "event_time", "label_column": "clicked"},
        "fields": [{"name": "user"}, {"name": "item"}],
        "model": {"width": 8, "hidden": [8]},
    }
)
KEYS_N = np.random.default_rng(3).integers(1, 2**63, 500).astype(np.uint64)


def test_sketch_finds_the_most_important():
    """Ten keys of a stream of five hundred matter: they own the ten rows, in whatever batches they come."""
    sketch, random = HotSketch(50, 10), np.random.default_rng(1)
    for _ in range(40):
        rare_N = random.choice(KEYS_N[10:], 100, replace=False)
        sketch.add(np.r_[KEYS_N[:10], rare_N], np.r_[np.full(10, 5.0), np.full(100, 0.1)])
    keys, rows = sketch.give_out()
    assert set(keys.tolist()) == set(KEYS_N[:10].tolist())
    assert sorted(rows.tolist()) == list(range(10))
    assert (np.sort(sketch.find(KEYS_N[:10])) == np.arange(10)).all()
    assert (sketch.find(KEYS_N[10:]) == -1).all()


def test_a_row_changes_hands_only_for_much_more():
    """An owner that has faded keeps its row from one a little ahead, and loses it to one far ahead."""
    sketch = HotSketch(50, 1)
    first, second = KEYS_N[:1], KEYS_N[1:2]
    sketch.add(first, np.array([1.0]))
    sketch.give_out()
    sketch.add(second, np.array([0.9 * AHEAD]))
    assert len(sketch.give_out()[0]) == 0
    sketch.decay(0.5)
    sketch.add(second, np.array([AHEAD]))
    assert sketch.give_out()[0].tolist() == second.tolist()
    assert sketch.find(first).tolist() == [-1]


def test_full_bucket_gives_way_at_its_least():
    """A key without a slot takes that of the least and goes on from its score, as space-saving does."""
    sketch = HotSketch(1, 4)
    sketch.add(KEYS_N[:4], np.array([4.0, 1.0, 3.0, 2.0]))
    sketch.give_out()
    sketch.add(KEYS_N[4:5], np.array([0.5]))
    assert KEYS_N[1] not in sketch.keys_XS
    assert sketch.scores_XS[sketch.keys_XS == KEYS_N[4]].tolist() == [1.5]
    assert sketch.find(KEYS_N[4:5]).tolist() == [-1]


def test_hot_features_start_from_what_they_shared():
    """The row of a feature that becomes hot is the sum of its shared rows."""
    cafe = Cafe(CONFIG, 4000.0, hot_share=0.5, hashes=2, half_life=24.0)
    cafe.sketch.add(KEYS_N[:3], np.ones(3))
    cafe._give_out()
    rows = torch.from_numpy(cafe.sketch.find(KEYS_N[:3]))
    shared = cafe.rows.values_MW[torch.from_numpy(cafe.shared(KEYS_N[:3]))].sum(1)
    assert torch.equal(cafe.rows.values_MW[rows], shared)


def test_blocks_wrap_around_and_have_signs():
    """A vector's blocks are runs of weights, around the end as well, and all of a block has one sign."""
    robe = Robe(CONFIG, 200.0, 4)
    cells_UD, signs_UD = robe.cells(KEYS_N)
    assert robe.count == 192
    assert cells_UD.min() == 0 < cells_UD.max() == 191
    assert ((np.diff(cells_UD.reshape(-1, 4)) % 192) == 1).all()
    assert (signs_UD.reshape(-1, 4) == signs_UD.reshape(-1, 4)[:, :1]).all()
    assert set(np.unique(signs_UD)) == {-1.0, 1.0}


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_levels_are_as_stored_and_gradients_go_through(bits):
    """Training and storing agree on every level, of which there are 2^bits; only what is clipped has no gradient."""
    scaled = torch.linspace(-20, 20, 401, requires_grad=True)
    made = levels(scaled, bits)
    assert torch.allclose(made, torch.from_numpy(stored.as_levels(scaled.detach().numpy(), bits)), atol=1e-6)
    assert len(torch.unique(made.detach().round(decimals=3))) == 2**bits
    made.sum().backward()
    assert ((scaled.grad == 1) == (scaled.detach().abs() < 2 ** (bits - 1) - 2e-3)).float().mean() > 0.99


def test_as_many_features_as_there_is_room_for():
    """The most that fit; none of a method whose codebooks alone are too large."""
    assert most(lambda count: 10.0 + 3 * count, 100.0) == 30
    with pytest.raises(stored.Unreachable, match=r"200 bytes are taken before the first feature, 100 wanted"):
        most(lambda count: 200.0 + count, 100.0)


def test_size_is_met_by_building_again():
    """What is built is a tenth larger than planned: the second try is near enough; one that cannot grow is kept."""
    assert stored.sized(lambda wanted: (1.1 * wanted, "made"), 100.0) == (pytest.approx(100.0), "made")
    assert stored.sized(lambda _: (60.0, "all there is"), 100.0) == (60.0, "all there is")
