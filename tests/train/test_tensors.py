"""A learner as named arrays and back."""

import numpy as np
import pytest
import torch

from saec.config import ModelConfig, TrainingConfig
from saec.errors import IntegrityError
from saec.model.networks import build_network
from saec.model.table import WorkingSet
from saec.train.batches import Pooling
from saec.train.learner import Learner
from saec.train.tensors import learner_state, load_network, network_arrays, restore_learner, section


def learner(seed=1):
    network = build_network(ModelConfig(width=2, hidden=[4], cross_rank=2), 2, seed)
    return Learner(network, Pooling.of((0, 1)), TrainingConfig(batch_rows=8))


def train(learner):
    """A pass over twenty rows of two features each; returns the vectors after it."""
    working = WorkingSet(np.arange(4), torch.linspace(-1, 1, 8).reshape(4, 2).clone(), torch.zeros(4))
    places_BS = torch.arange(40).reshape(20, 2) % 4
    labels_B = (np.arange(20) % 3 == 0).astype(np.uint8)
    learner.fit(working, places_BS, labels_B)
    return working.vectors_UD


def test_a_restored_learner_goes_on_as_the_one_it_was():
    """Parameters and moments come back: further training gives the same bits, and without moments it does not."""
    first, second, third = learner(), learner(seed=2), learner(seed=3)
    train(first)
    saved = {name: array.copy() for name, array in learner_state(first).items()}
    restore_learner(second, saved, "saved")
    load_network(third.network, section(saved, "network."), "saved")
    assert torch.equal(train(first), train(second))
    after = learner_state(second)
    assert all(np.array_equal(array, after[name]) for name, array in learner_state(first).items())
    train(third)
    assert not np.array_equal(learner_state(third)["network.deep.0.weight"], after["network.deep.0.weight"])


def test_a_learner_that_never_trained_has_no_moments():
    """Its state is its parameters, and restoring these starts the optimiser afresh."""
    first, second = learner(), learner(seed=2)
    assert all(name.startswith("network.") for name in learner_state(first))
    restore_learner(second, learner_state(first), "saved")
    assert torch.equal(train(first), train(second))


def test_a_state_without_an_average_starts_it_at_the_parameters():
    """As states have that were written before there were averages."""
    first, second = learner(), learner(seed=2)
    train(first)
    saved = learner_state(first)
    restore_learner(second, {name: saved[name] for name in saved if not name.startswith("averaged.")}, "saved")
    found, wanted = network_arrays(second.averaged), network_arrays(first.network)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    restore_learner(second, saved, "saved")
    found, wanted = network_arrays(second.averaged), network_arrays(first.averaged)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_the_state_is_a_copy():
    """Training on does not reach arrays that were taken before, nor arrays that were restored from."""
    first = learner()
    train(first)
    saved = learner_state(first)
    copies = {name: array.copy() for name, array in saved.items()}
    second = learner()
    restore_learner(second, saved, "saved")
    train(first)
    train(second)
    assert all(np.array_equal(array, copies[name]) for name, array in saved.items())


@pytest.mark.parametrize(("found", "said"), [(None, "has nothing"), (np.zeros((3, 3), np.float32), "has shape .3, 3.")])
def test_parameters_that_do_not_fit_are_refused_by_name(found, said):
    """A parameter that is missing or of another shape names itself, where it came from and what was wanted."""
    arrays = network_arrays(learner().network)
    arrays.pop("first_order_FD")
    if found is not None:
        arrays["first_order_FD"] = found
    with pytest.raises(IntegrityError, match=rf"file F {said} .*'first_order_FD', wanted shape \(2, 2\)"):
        load_network(learner().network, arrays, "file F")


def test_sections_are_taken_by_prefix():
    """Names lose their prefix, other arrays are left out."""
    assert section({"a.x": 1, "a.y.z": 2, "ab.x": 3, "b": 4}, "a.") == {"x": 1, "y.z": 2}
