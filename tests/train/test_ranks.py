"""Several processes train as one does: the same losses within rounding, the same bytes every time."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from saec.config import ModelConfig, TrainingConfig
from saec.errors import ConfigError, TrainingError
from saec.model.networks import build_network
from saec.model.table import WorkingSet
from saec.train import ranks
from saec.train.batches import Pooling
from saec.train.learner import Learner
from saec.train.parts import Cut
from saec.train.passes import TRAIN, training
from saec.train.tensors import learner_state
from tests.over_ranks import led

SLOTS, VECTORS, WIDTH, BATCH = (0, 1, 1, 2), 60, 8, 32
PASSES, ROWS = 20, 9 * BATCH + 1
"""Rows of a pass: ten batches, the last of one row, so that one rank has none of it."""


class Trained(NamedTuple):
    """What passes of training came to."""

    losses: list[float]
    arrays: dict[str, np.ndarray]


def a_learner(network="dcnv2"):
    config = TrainingConfig(batch_rows=BATCH, precision="float32")
    model = ModelConfig(network=network, width=WIDTH, hidden=[16, 8], cross_rank=3)
    return Learner(build_network(model, 3, seed=7), Pooling.of(SLOTS), config)


def trained(*, weighted=True, passes=PASSES):
    """Passes over planted rows: lists with padding, vectors of a class beside each, and weights."""
    torch.set_num_threads(1)
    draw = np.random.default_rng(5)
    vectors_UD = 0.1 * draw.standard_normal((VECTORS, WIDTH), np.float32)
    working = WorkingSet(np.arange(VECTORS), torch.from_numpy(vectors_UD), torch.zeros(VECTORS))
    learner, losses = a_learner(), []
    for _ in range(passes):
        places_BS = 3 + (40 * draw.random((ROWS, len(SLOTS))) ** 2).astype(np.int64)
        labels_B = (draw.random(ROWS) < np.where(places_BS[:, 0] % 3, 0.1, 0.6)).astype(np.uint8)
        places_BS[draw.random(ROWS) < 0.5, 2] = -1
        added_BS = np.where(places_BS < 0, -1, 50 + draw.integers(0, 10, places_BS.shape))
        done = learner.fit(
            working,
            torch.from_numpy(places_BS),
            labels_B,
            added_BS=torch.from_numpy(added_BS),
            weights_B=1 + draw.random(ROWS) * 9 if weighted else None,
        )
        losses.append(done.loss)
    return Trained(
        losses, learner_state(learner) | {"vectors": working.vectors_UD.numpy(), "squares": working.squares_U.numpy()}
    )


def test_every_row_is_in_one_part():
    """Parts are contiguous, in the order of ranks, and as large as each other but for one row."""
    cut = Cut(rows=23, batch_rows=5, size=3)
    parts = [cut.chosen(rank) for rank in range(3)]
    assert sorted(np.concatenate(parts)) == list(range(23))
    for place, batch in enumerate(cut.batches):
        of_batch = [part[part // 5 == place] for part in parts]
        assert (np.concatenate(of_batch) == place * 5 + np.arange(batch)).all()
        assert np.ptp([len(part) for part in of_batch]) <= 1


@pytest.mark.parametrize("given", ["soon", "0", "-1", "inf", "nan"])
def test_a_timeout_is_seconds(given, monkeypatch):
    """Anything else is refused by the variable's name."""
    monkeypatch.setenv(ranks.TIMEOUT, given)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="SAEC_RANKS_TIMEOUT must be seconds above 0"):
        ranks.Ranks.join("settings")


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_train_as_one_process_does(size, tmp_path):
    """Losses of 200 steps within 1e-5, with weights and lists; and the same bytes when done again."""
    with led(duties, size, tmp_path):
        weighted, unweighted, first, again = (
            trained(**settings) for settings in ({}, {"weighted": False}, {"passes": 2}, {"passes": 2})
        )
    for found, alone in ((weighted, trained()), (unweighted, trained(weighted=False))):
        assert PASSES * -(-ROWS // BATCH) == 200
        assert alone.losses[-1] < alone.losses[0] - 0.02
        np.testing.assert_allclose(found.losses, alone.losses, rtol=0, atol=1e-5)
        for name, array in alone.arrays.items():
            np.testing.assert_allclose(found.arrays[name], array, rtol=0, atol=1e-3, err_msg=name)
    assert first.losses == again.losses
    assert {name: array.tobytes() for name, array in first.arrays.items()} == {
        name: array.tobytes() for name, array in again.arrays.items()
    }


def duties():
    """What each of the other ranks of these tests does."""
    return {TRAIN: training(a_learner())}


@pytest.mark.slow  # four processes
def test_four_ranks_come_to_the_losses_of_one(tmp_path, short_words):
    """Within 1e-5, and nearly to its scores."""
    with led(duties, 4, tmp_path):
        found = trained(passes=1)
    alone = trained(passes=1)
    np.testing.assert_allclose(found.losses, alone.losses, rtol=0, atol=1e-5)
    for name, array in alone.arrays.items():
        np.testing.assert_allclose(found.arrays[name], array, rtol=0, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("fault", ["ranks.followed:kill@3", "ranks.waiting:exit"])
def test_a_rank_that_is_killed_ends_the_pass_and_nothing_is_kept(tmp_path, short_words, fault):
    """By its name, for every pass from then on; and the next ones come to the bytes of undisturbed ones."""
    for name in "abc":
        (tmp_path / name).mkdir()
    with led(duties, 2, tmp_path / "a", fault), pytest.raises(TrainingError, match="rank 1 of 2 is lost") as lost:
        trained(passes=1)
    assert lost.value.reason == "rank-lost"
    with led(duties, 2, tmp_path / "b"):
        again = trained(passes=1)
    with led(duties, 2, tmp_path / "c"):
        undisturbed = trained(passes=1)
    assert again.losses == undisturbed.losses
    assert all((array == undisturbed.arrays[name]).all() for name, array in again.arrays.items())
