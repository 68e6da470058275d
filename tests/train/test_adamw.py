"""Our AdamW is torch's."""

import numpy as np
import torch
from torch import nn

from saec.train.adamw import AVERAGED, AdamW


def test_steps_are_those_of_torch():
    """Three steps on parameters of odd sizes, down to a single number, end in the same bits."""
    nets = []
    for _ in range(2):
        torch.manual_seed(1)
        nets.append(nn.Sequential(nn.Linear(7, 33), nn.ReLU(), nn.Linear(33, 1)))
    ours = AdamW(nets[0].parameters(), 0.01, 0.1)
    theirs = torch.optim.AdamW(nets[1].parameters(), lr=0.01, weight_decay=0.1, fused=True)
    assert not ours.started
    for seed in range(3):
        rows = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed))
        ours.forget_gradients()
        theirs.zero_grad()
        for net in nets:
            net(rows).square().mean().backward()
        ours.step()
        theirs.step()
    assert ours.started
    for place, (own, other) in enumerate(zip(nets[0].parameters(), nets[1].parameters(), strict=True)):
        assert torch.equal(own, other)
        assert torch.equal(ours.means[place], theirs.state[other]["exp_avg"])
        assert torch.equal(ours.squares[place], theirs.state[other]["exp_avg_sq"])
        assert torch.equal(ours.steps, theirs.state[other]["step"])


def test_the_average_is_over_few_steps_first_and_over_the_last_ones_later():
    """After one step it is the parameters; its window grows by one in 32 steps, and ends at 64."""
    torch.manual_seed(1)
    net = nn.Linear(3, 2)
    average = [parameter.detach().clone() for parameter in net.parameters()]
    optimiser = AdamW(net.parameters(), 0.01, 0.1, average)
    wanted = None
    for step in range(1, 2101):
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape)
        optimiser.step()
        now = np.concatenate([parameter.detach().double().numpy().ravel() for parameter in net.parameters()])
        window = min(AVERAGED, 1 + (step - 1) / 32)
        wanted = now if wanted is None else wanted + (now - wanted) / window
        if step in (1, 2, 1000, 2100):
            found = np.concatenate([value.numpy().ravel() for value in average])
            np.testing.assert_allclose(found, wanted, atol=1e-6)
            assert np.array_equal(found, now.astype(np.float32)) == (step == 1)
    assert window == AVERAGED
