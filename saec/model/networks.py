"""The CTR networks, DCN-v2 and DeepFM: from the F field vectors of a row to the logit of a click.

Decisions: a network sees only vectors, never ids, so the same network works on the full table (original) and on
codebooks (challenger); first-order weights are a projection of each field's vector, so a row stays one vector wide.
They start at 0, or with `model.first_order` at the first number of each vector, which then is what DeepFM and the wide
part of Wide & Deep (Cheng et al. 2016, arXiv 1606.07792) call the weight of a feature: a gradient reaches it from the
first row on, and not through a network that has yet to learn what a vector's numbers are for.
Shapes: B rows, F fields, D width, R rank. Sources: DeepFM (Guo et al. 2017, arXiv 1703.04247); DCN v2, low-rank cross
layers (Wang et al. 2021, arXiv 2008.13535).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from saec.config import ModelConfig


class CtrNetwork(nn.Module):
    """First-order part, interaction part and deep part, added up into one logit."""

    def __init__(
        self,
        fields: int,
        width: int,
        hidden: Iterable[int],
        interaction: nn.Module,
        logit_cap: float = 0.0,
        first_order: float = 0.0,
    ) -> None:
        """A network over `fields` vectors of `width` numbers.

        Args:
            fields: how many vectors a row has.
            width: numbers of each.
            hidden: units of each layer of the deep part.
            interaction: makes one number of a row's vectors.
            logit_cap: bound on the logit; 0 sets none.
            first_order: first-order weight of each vector's first number at the start; those of the others are 0.
        """
        super().__init__()
        self.logit_cap = logit_cap
        weights_FD = torch.zeros(fields, width)
        weights_FD[:, 0] = first_order
        self.first_order_FD = nn.Parameter(weights_FD)
        self.bias = nn.Parameter(torch.zeros(()))
        self.interaction = interaction
        layers: list[nn.Module] = []
        units = fields * width
        for count in hidden:
            layers += [nn.Linear(units, count), nn.ReLU()]
            units = count
        self.deep = nn.Sequential(*layers, nn.Linear(units, 1))

    def forward(self, vectors_BFD: Tensor) -> Tensor:
        """Logits of a click, shape (B,), for field vectors of shape (B, F, D)."""
        flat = vectors_BFD.flatten(1)
        first_order = flat @ self.first_order_FD.flatten()
        logits_B: Tensor = first_order + self.interaction(vectors_BFD) + self.deep(flat).squeeze(1)
        if self.logit_cap:
            logits_B = self.logit_cap * torch.tanh(logits_B / self.logit_cap)
        return logits_B + self.bias


class FactorisationMachine(nn.Module):
    """Sum over all pairs of fields of the dot product of their vectors, in O(F D)."""

    def forward(self, vectors_BFD: Tensor) -> Tensor:
        """One number a row, shape (B,)."""
        total_BD = vectors_BFD.sum(1)
        pairs_B: Tensor = 0.5 * (total_BD.square() - vectors_BFD.square().sum(1)).sum(1)
        return pairs_B


class CrossLayers(nn.Module):
    """x_(l+1) = x_0 * (V (U x_l) + b) + x_l, with U and V of low rank; then one linear unit."""

    def __init__(self, units: int, layers: int, rank: int) -> None:
        """So many cross layers over `units` numbers a row."""
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(units, rank, bias=False) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(rank, units) for _ in range(layers))
        self.out = nn.Linear(units, 1)

    def forward(self, vectors_BFD: Tensor) -> Tensor:
        """One number a row, shape (B,)."""
        flat = vectors_BFD.flatten(1)
        crossed = flat
        for down, up in zip(self.down, self.up, strict=True):
            crossed = torch.addcmul(crossed, flat, up(down(crossed)))
        result: Tensor = self.out(crossed).squeeze(1)
        return result


def build_network(config: ModelConfig, fields: int, seed: int) -> CtrNetwork:
    """The network that the configuration names, with weights drawn from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        interaction: nn.Module = (
            FactorisationMachine()
            if config.network == "deepfm"
            else CrossLayers(fields * config.width, config.cross_layers, config.cross_rank)
        )
        return CtrNetwork(fields, config.width, config.hidden, interaction, config.logit_cap, config.first_order)


def field_axis(name: str) -> int | None:
    """Along which axis a parameter is laid out by fields (D numbers each, or a row each); None for one that is not."""
    if name == "first_order_FD" or name.startswith("interaction.up."):
        return 0
    return 1 if name in ("deep.0.weight", "interaction.out.weight") or name.startswith("interaction.down.") else None
