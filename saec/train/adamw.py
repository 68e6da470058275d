"""AdamW on all parameters of a network, with torch's fused kernel.

Decisions: the arithmetic is that of `torch.optim.AdamW(fused=True)`, bit for bit (a test compares). At every step that
class collects and groups the parameters again, which takes three times as long as the kernel for a network of this
size. Here all parameters always step together, so one step count is enough.

Source: Loshchilov and Hutter 2019, arXiv 1711.05101.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""torch's own defaults."""


class AdamW:
    """The moments of some parameters, and steps by their gradients."""

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> None:
        """An optimiser that has taken no step."""
        self.parameters: list[Tensor] = list(parameters)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.steps = torch.zeros((), device=self.parameters[0].device)
        """Steps taken, a float32 beside the parameters as the kernel wants it."""
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]

    @property
    def started(self) -> bool:
        """Whether a step has been taken."""
        return bool(self.steps > 0)

    def forget_gradients(self) -> None:
        """Call it before each backward pass, because gradients accumulate."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step by the gradients of all parameters."""
        gradients: list[Tensor] = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        self.steps += 1
        torch._fused_adamw_(
            self.parameters,
            gradients,
            self.means,
            self.squares,
            [],
            [self.steps] * len(gradients),
            lr=self.learning_rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )
