"""AdamW on all parameters of a network, with torch's fused kernel, and the average of its last steps.

Decisions: the arithmetic is that of `torch.optim.AdamW(fused=True)`, bit for bit (a test compares). At every step that
class collects and groups the parameters again, which takes three times as long as the kernel for a network of this
size. Here all parameters always step together, so one step count is enough.

The parameters of one moment carry the noise of the last batches; their average does not, and it is what scores. It is
an exponential one over the last `AVERAGED` steps, fewer at the start, where a network still learns fast: over the first
two days of a log an average of that length costs more than it gains (docs/LOG.md).

Source: Loshchilov and Hutter 2019, arXiv 1711.05101; Polyak and Juditsky 1992, "Acceleration of stochastic
approximation by averaging".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""torch's own defaults."""
AVERAGED, SHARE = 64, 1 / 32
"""Steps that an average is over: at most so many, and of those taken so far at most this share and one."""


class AdamW:
    """The moments of some parameters, and steps by their gradients."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        weight_decay: float,
        averages: Iterable[nn.Parameter] = (),
    ) -> None:
        """An optimiser that has taken no step.

        Args:
            parameters: what steps are taken on.
            learning_rate: of a step.
            weight_decay: share of the learning rate by which each step shrinks a parameter.
            averages: what follows the parameters as their average, in their order; none when left out.
        """
        self.parameters: list[Tensor] = list(parameters)
        self.averages: list[Tensor] = list(averages)
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
        if self.averages:
            window = (self.steps * SHARE).add_(1 - SHARE).clamp_(max=AVERAGED)  # a tensor: nobody waits for a GPU
            torch._foreach_lerp_(self.averages, self.parameters, [window.reciprocal_()] * len(self.averages))
