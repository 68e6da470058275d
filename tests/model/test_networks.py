"""The networks compute the formulas they are named after."""

import itertools

import numpy as np
import pytest
import torch

from saec.config import ModelConfig
from saec.model.networks import CrossLayers, FactorisationMachine, build_network

FIELDS, WIDTH = 3, 4
NETWORKS = pytest.mark.parametrize("network", ["deepfm", "dcnv2"])


def vectors(rows=6, scale=1.0):
    return scale * torch.randn(rows, FIELDS, WIDTH, generator=torch.Generator().manual_seed(0))


def build(network, seed=1, **knobs):
    return build_network(ModelConfig(network=network, width=WIDTH, hidden=[5], cross_rank=2, **knobs), FIELDS, seed)


def test_factorisation_machine_sums_all_pairs():
    """Its linear-time formula equals the dot products of all pairs of fields."""
    rows_BFD = vectors()
    pairs = [(rows_BFD[:, f] * rows_BFD[:, g]).sum(1) for f, g in itertools.combinations(range(FIELDS), 2)]
    torch.testing.assert_close(FactorisationMachine()(rows_BFD), torch.stack(pairs).sum(0))


def test_cross_layers_equal_their_formula():
    """x_(l+1) = x_0 * (V (U x_l) + b) + x_l, then one linear unit, in double precision by numpy."""
    cross = CrossLayers(FIELDS * WIDTH, layers=3, rank=2)
    start = vectors().flatten(1).double().numpy()
    x = start
    for down, up in zip(cross.down, cross.up, strict=True):
        low = x @ down.weight.detach().double().numpy().T
        x = start * (low @ up.weight.detach().double().numpy().T + up.bias.detach().double().numpy()) + x
    wanted = x @ cross.out.weight.detach().double().numpy()[0] + cross.out.bias.item()
    np.testing.assert_allclose(cross(vectors()).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


@NETWORKS
def test_a_logit_is_the_sum_of_its_parts(network):
    """Bias, first-order part, interaction and deep part are added up, one logit a row."""
    model, rows_BFD = build(network), vectors()
    with torch.no_grad():
        model.bias.fill_(0.7)
        model.first_order_FD.copy_(torch.randn(FIELDS, WIDTH, generator=torch.Generator().manual_seed(2)))
        first = (rows_BFD * model.first_order_FD).sum((1, 2))
        deep = model.deep(rows_BFD.flatten(1)).squeeze(1)
        torch.testing.assert_close(model(rows_BFD), 0.7 + first + model.interaction(rows_BFD) + deep)


@NETWORKS
def test_a_first_order_start_adds_the_first_number_of_each_vector(network):
    """All else is drawn as without it, and a gradient reaches that number whole."""
    plain, started = build(network), build(network, first_order=0.5)
    rows_BFD = vectors().requires_grad_()
    added_B = started(rows_BFD) - plain(rows_BFD)
    torch.testing.assert_close(added_B, 0.5 * rows_BFD[:, :, 0].sum(1))
    added_B.sum().backward()
    wanted_D = torch.tensor([0.5] + [0.0] * (WIDTH - 1))
    torch.testing.assert_close(rows_BFD.grad, wanted_D.expand_as(rows_BFD), atol=1e-6, rtol=0)


@NETWORKS
def test_a_capped_logit_stays_near_the_bias(network):
    """Whatever the vectors, a logit is within the cap of the bias; small logits are hardly changed."""
    capped, free = build(network, logit_cap=2.0), build(network)
    with torch.no_grad():
        capped.bias.fill_(-3.0)
        free.bias.fill_(-3.0)
        assert (capped(vectors(scale=100.0)) + 3.0).abs().max() <= 2.0
        assert (free(vectors(scale=100.0)) + 3.0).abs().max() > 2.0
        torch.testing.assert_close(capped(vectors(scale=0.01)), free(vectors(scale=0.01)), atol=0.01, rtol=0)


@NETWORKS
def test_weights_follow_from_the_seed(network):
    """The same seed gives the same weights, another seed others."""
    first, again, other = build(network), build(network), build(network, seed=2)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(first.deep[0].weight, other.deep[0].weight)


@NETWORKS
def test_building_leaves_the_global_generator_alone(network):
    """Drawing weights neither uses nor moves torch's global random numbers."""
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    build(network)
    assert torch.equal(torch.rand(3), wanted)
    torch.manual_seed(6)
    torch.rand(1)
    assert torch.equal(build(network).deep[0].weight, build(network).deep[0].weight)


@NETWORKS
def test_rows_do_not_see_each_other(network):
    """A row's logit is the same alone as in a batch."""
    model, rows_BFD = build(network), vectors(7)
    with torch.no_grad():
        alone = torch.cat([model(row) for row in rows_BFD.split(1)])
        torch.testing.assert_close(model(rows_BFD), alone)
