"""Our AdamW is torch's."""

import torch
from torch import nn

from saec.train.adamw import AdamW


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
