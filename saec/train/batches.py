"""How the rows of an hour meet a set of vectors: places, pooling of list fields, batches in time order.

Both models use it: the original's vectors are rows of its table, the challenger's are codewords.
Shapes: B rows, S slots, F fields, U vectors, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True)
class Pooling:
    """Slots to fields: a field of one slot is that vector, a list field is the mean of its used slots."""

    slot_fields: tuple[int, ...]
    fields: int

    @classmethod
    def of(cls, slot_fields: Sequence[int]) -> Pooling:
        """The pooling for a layout of slots (ascending field numbers from 0)."""
        return cls(tuple(slot_fields), slot_fields[-1] + 1)

    @property
    def trivial(self) -> bool:
        """Whether every field has exactly one slot."""
        return len(self.slot_fields) == self.fields

    def shares(self, places_BS: Tensor) -> Tensor | None:
        """The share of each slot in its field's mean (B, S), 0 for padding; None when every share is 1."""
        if self.trivial:
            return None
        used_BS = (places_BS >= 0).float()
        fields_S = torch.tensor(self.slot_fields)
        used_BF = used_BS.new_zeros(len(used_BS), self.fields).index_add_(1, fields_S, used_BS)
        return used_BS / used_BF.clamp_min(1.0)[:, fields_S]

    def pool(self, slots_BSD: Tensor, shares_BS: Tensor | None) -> Tensor:
        """Field vectors (B, F, D)."""
        if shares_BS is None:
            return slots_BSD
        fields_S = torch.tensor(self.slot_fields)
        empty_BFD = slots_BSD.new_zeros(len(slots_BSD), self.fields, slots_BSD.shape[2])
        return empty_BFD.index_add(1, fields_S, slots_BSD * shares_BS.unsqueeze(2))
