"""One pass of training does what the plain definition does, row by row, and says when it cannot."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from saec.config import ModelConfig, TrainingConfig
from saec.errors import TrainingError
from saec.model.networks import build_network
from saec.model.table import WorkingSet
from saec.train import learner as learner_module
from saec.train.batches import Pooling
from saec.train.learner import Learner

WIDTH, VECTORS = 4, 30
LISTS = Pooling.of((0, 1, 1, 2))
ONE_EACH = Pooling.of((0, 1, 2))


@pytest.fixture(autouse=True)
def one_thread():
    """Batches this small are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def a_learner(pooling=LISTS, batch_rows=4, network="dcnv2", **settings):
    config = TrainingConfig(batch_rows=batch_rows, **settings)
    model = ModelConfig(network=network, width=WIDTH, hidden=[8, 4], cross_rank=3)
    return Learner(build_network(model, pooling.fields, seed=7), pooling, config)


def some_rows(count=11, slots=4, seed=3):
    """Places from 3 on, padding in slot 2 (the second of field 1), and labels of both kinds."""
    draw = np.random.default_rng(seed)
    places_BS = draw.integers(3, VECTORS, (count, slots))
    if slots == 4:
        places_BS[draw.random(count) < 0.5, 2] = -1
    labels_B = (np.arange(count) % 3 == 0).astype(np.uint8)
    return torch.from_numpy(places_BS), labels_B


def some_vectors():
    vectors_UD = 0.3 * torch.randn(VECTORS, WIDTH, generator=torch.Generator().manual_seed(5))
    return WorkingSet(np.arange(VECTORS), vectors_UD, torch.zeros(VECTORS))


def plain_fit(learner, places_BS, labels_B):
    """The same pass by the book: a dict of vectors, a mean per row and field, autograd through all of it."""
    config, started = learner.config, some_vectors()
    vectors, squares = dict(enumerate(started.vectors_UD.clone())), dict.fromkeys(range(VECTORS), 0.0)
    optimiser = torch.optim.AdamW(
        learner.network.parameters(), lr=config.dense_learning_rate, weight_decay=config.weight_decay, foreach=False
    )
    losses = []
    for start in range(0, len(labels_B), config.batch_rows):
        batch = places_BS[start : start + config.batch_rows].tolist()
        leaves = {place: vectors[place].clone().requires_grad_() for row in batch for place in row if place >= 0}
        field_vectors_BFD = torch.stack(
            [
                torch.stack(
                    [
                        torch.stack(
                            [
                                leaves[place]
                                for place, owner in zip(row, learner.pooling.slot_fields, strict=True)
                                if owner == field and place >= 0
                            ]
                        ).mean(0)
                        for field in range(learner.pooling.fields)
                    ]
                )
                for row in batch
            ]
        )
        labels = torch.tensor(labels_B[start : start + config.batch_rows], dtype=torch.float32)
        row_losses_B = binary_cross_entropy_with_logits(learner.network(field_vectors_BFD), labels, reduction="none")
        optimiser.zero_grad()
        row_losses_B.mean().backward()
        optimiser.step()
        losses += row_losses_B.tolist()
        for place, leaf in leaves.items():
            gradient_D = leaf.grad * len(batch)  # of the sum over rows
            squares[place] += float(gradient_D.square().mean())
            step = config.table_learning_rate / (config.table_prior + squares[place]) ** 0.5
            vectors[place] = vectors[place] - step * gradient_D
    return torch.stack(list(vectors.values())), torch.tensor(list(squares.values())), float(np.mean(losses))


@pytest.mark.parametrize("network", ["dcnv2", "deepfm"])
@pytest.mark.parametrize("count", [8, 11], ids=["two whole batches", "two and a ragged one"])
def test_a_pass_is_what_the_definition_says(network, count):
    """Vectors, Adagrad sums, network and loss equal those of the plain pass."""
    fast, plain = a_learner(network=network), a_learner(network=network)
    places_BS, labels_B = some_rows(count)
    working = some_vectors()
    done = fast.fit(working, places_BS, labels_B)
    vectors_UD, squares_U, loss = plain_fit(plain, places_BS, labels_B)
    assert (done.rows, done.batches) == (count, -(-count // 4))
    assert done.loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(working.vectors_UD, vectors_UD, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(working.squares_U, squares_U, rtol=1e-4, atol=1e-7)
    for fitted, wanted in zip(fast.network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(fitted, wanted, rtol=1e-4, atol=1e-6)


def test_a_pass_learns():
    """A feature that decides the label is found: log loss falls far below that of the base rate."""
    draw = np.random.default_rng(1)
    places_BS = draw.integers(3, VECTORS, (4000, 3))
    labels_B = (places_BS[:, 0] < 12).astype(np.uint8)
    learner, working = a_learner(ONE_EACH, batch_rows=32, dense_learning_rate=0.01), some_vectors()
    places_BS = torch.from_numpy(places_BS)
    learner.fit(working, places_BS, labels_B)
    probability_B = learner.score(working.vectors_UD, places_BS)
    assert -np.log(np.where(labels_B, probability_B, 1 - probability_B)).mean() < 0.2  # base rate: 0.64


def test_same_rows_same_bytes():
    """Passes repeat to the last bit, on one thread and on two."""
    places_BS, labels_B = some_rows(300)

    def fitted(threads=1):
        torch.set_num_threads(threads)
        learner, working = a_learner(batch_rows=128), some_vectors()
        learner.fit(working, places_BS, labels_B)
        return working.vectors_UD.numpy().tobytes(), working.squares_U.numpy().tobytes()

    assert fitted() == fitted()
    assert fitted(threads=2) == fitted(threads=2)


def test_two_passes_are_one():
    """Cut between two batches, a stretch of rows trains to the same state as in one go."""
    places_BS, labels_B = some_rows(11)
    whole, parts = a_learner(), a_learner()
    whole_vectors, parts_vectors = some_vectors(), some_vectors()
    whole.fit(whole_vectors, places_BS, labels_B)
    for rows in (slice(0, 8), slice(8, None)):
        parts.fit(parts_vectors, places_BS[rows], labels_B[rows])
    assert torch.equal(whole_vectors.vectors_UD, parts_vectors.vectors_UD)


def test_only_used_vectors_move():
    """Vectors that no row uses stay to the bit; padding stands for none of them, not even the first or the last."""
    places_BS, labels_B = some_rows()
    places_BS[places_BS >= VECTORS - 1] = VECTORS - 2
    working, before = some_vectors(), some_vectors().vectors_UD
    a_learner().fit(working, places_BS, labels_B)
    used = np.unique(places_BS[places_BS >= 0])
    unused = np.setdiff1d(np.arange(VECTORS), used)
    assert {0, VECTORS - 1} <= set(unused.tolist())
    assert torch.equal(working.vectors_UD[unused], before[unused])
    assert not working.squares_U[unused].any()
    assert (working.squares_U[used] > 0).all()


@pytest.mark.fault(54)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_loss_fails_the_hour():
    """A loss that is no finite number raises, with the reason the ledger keeps and the knobs to turn."""
    places_BS, labels_B = some_rows()
    working = some_vectors()
    working.vectors_UD[places_BS[-1, 0]] = float("nan")
    with pytest.raises(TrainingError, match="became nan after 3 batches; lower training") as caught:
        a_learner().fit(working, places_BS, labels_B)
    assert caught.value.reason == "diverged"


def test_no_rows():
    """A pass over no rows changes nothing, and no rows have no scores."""
    learner, working = a_learner(), some_vectors()
    places_BS, labels_B = some_rows()
    done = learner.fit(working, places_BS[:0], labels_B[:0])
    assert (done.rows, done.batches, done.loss) == (0, 0, 0.0)
    assert torch.equal(working.vectors_UD, some_vectors().vectors_UD)
    assert learner.score(working.vectors_UD, places_BS[:0]).shape == (0,)


def test_scores_do_not_depend_on_the_batch(monkeypatch):
    """Scored four at a time with a ragged rest, or all at once: the same probabilities, in the rows' order."""
    learner, vectors_UD = a_learner(), some_vectors().vectors_UD
    places_BS, _ = some_rows(11)
    whole_B = learner.score(vectors_UD, places_BS)
    monkeypatch.setattr(learner_module, "SCORED_AT_ONCE", 4)
    assert whole_B.shape == (11,)
    assert ((whole_B > 0) & (whole_B < 1)).all()
    np.testing.assert_allclose(learner.score(vectors_UD, places_BS), whole_B, rtol=1e-6)
    np.testing.assert_allclose(learner.score(vectors_UD, places_BS.flip(0)), whole_B[::-1], rtol=1e-6)


def test_scoring_changes_nothing():
    """Scoring leaves vectors, network and optimiser as they were."""
    learner, working = a_learner(), some_vectors()
    places_BS, _ = some_rows()
    weights = [weight.clone() for weight in learner.network.parameters()]
    learner.score(working.vectors_UD, places_BS)
    assert torch.equal(working.vectors_UD, some_vectors().vectors_UD)
    assert all(torch.equal(*pair) for pair in zip(weights, learner.network.parameters(), strict=True))
    assert not learner.optimiser.started


def test_bfloat16_is_close_to_float32():
    """Half the bits in the products move the loss by little, the Adagrad sums and vectors stay float32."""
    places_BS, labels_B = some_rows(400)
    losses = {}
    for precision in ("float32", "bfloat16"):
        working = some_vectors()
        losses[precision] = a_learner(precision=precision, batch_rows=16).fit(working, places_BS, labels_B).loss
        assert working.vectors_UD.dtype == working.squares_U.dtype == torch.float32
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.01)


def test_the_average_scores():
    """Scores are those of the averaged network, which lies between the network's steps and is not trained on."""
    learner, working = a_learner(), some_vectors()
    places_BS, labels_B = some_rows(300)
    learner.fit(working, places_BS, labels_B)
    with torch.no_grad():
        pooled_BFD = learner.pooling.gather(working.vectors_UD, places_BS)
        averaged_B, last_B = (torch.sigmoid(net(pooled_BFD)).numpy() for net in (learner.averaged, learner.network))
    scores_B = learner.score(working.vectors_UD, places_BS)
    np.testing.assert_allclose(scores_B, averaged_B, rtol=1e-6)
    assert np.abs(scores_B - last_B).max() > 1e-4
