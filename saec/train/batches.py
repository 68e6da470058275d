"""How the rows of a batch meet a set of vectors: which vectors its fields are made of, and back again.

Both models use it: the original's vectors are rows of its table, the challenger's are codewords.

Decisions: a field of one slot is that slot's vector, a list field is the mean of its used slots. This is a sparse
matrix from vectors to field vectors; `Pooling.gather` applies it and `Touched.sum` its transpose. Both are embedding
bags, a kernel that threads over bags and adds within each bag in a fixed order: fast, and the same bytes every time.
The transpose needs the cells of a batch in the order of their vectors. Sorting place and cell packed into one integer
gives that order, stable, several times faster than a stable argsort.

Shapes: B rows, S slots, F fields, U vectors, D width, N distinct vectors of a batch, C cells of a batch in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import embedding, embedding_bag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_CELL_BITS = 32


@dataclass(frozen=True)
class Pooling:
    """Slots to fields: which of the S slots make up each of the F fields."""

    slot_fields: tuple[int, ...]
    fields: int

    @classmethod
    def of(cls, slot_fields: Sequence[int]) -> Pooling:
        """The pooling for a layout of slots (ascending field numbers from 0)."""
        return cls(tuple(slot_fields), slot_fields[-1] + 1)

    @property
    def trivial(self) -> bool:
        """Whether every field has exactly one slot; such a layout has no padding."""
        return len(self.slot_fields) == self.fields

    def gather(self, vectors_UD: Tensor, places_BS: Tensor) -> Tensor:
        """Field vectors (B, F, D): means of the vectors at the places of the field's slots.

        Args:
            vectors_UD: the vectors.
            places_BS: int64 places among them, -1 for padding; a field of nothing but padding becomes zeros.
        """
        if self.trivial:
            return embedding(places_BS, vectors_UD)
        rows, slots = places_BS.shape
        first_slots_F = torch.from_numpy(np.searchsorted(self.slot_fields, np.arange(self.fields)))
        starts_BF = slots * torch.arange(rows)[:, None] + first_slots_F
        pooled = embedding_bag(
            places_BS.clamp_min(0).flatten(),
            vectors_UD,
            starts_BF.flatten(),
            mode="sum",
            per_sample_weights=self.shares(places_BS).flatten(),
        )
        return pooled.view(rows, self.fields, vectors_UD.shape[1])

    def shares(self, places_BS: Tensor) -> Tensor:
        """The share of each slot in its field's mean (B, S), 0 for padding."""
        used_BS = (places_BS >= 0).float()
        fields_S = torch.tensor(self.slot_fields)
        used_BF = used_BS.new_zeros(len(used_BS), self.fields).index_add_(1, fields_S, used_BS)
        return used_BS / used_BF.clamp_min(1.0)[:, fields_S]


@dataclass(frozen=True)
class Touched:
    """The distinct vectors of a batch, and the cells that each of them is used in."""

    places_N: Tensor
    """Places of the vectors, ascending; padding is none of them."""
    starts_N: Tensor
    """Where the cells of each vector start among all C."""
    field_vectors_C: Tensor
    """The field vector that each cell went into, counted through the batch (row * F + field)."""
    shares_C: Tensor | None
    """The share it went in with; None when all are 1."""

    @classmethod
    def of(cls, parts: Sequence[Tensor], pooling: Pooling) -> Touched:
        """Sort the cells of a batch by vector.

        Args:
            parts: places [B, S] that are added up, no vector being in more than one of them.
            pooling: of each.
        """
        first, *others = (part_BS.numpy() for part_BS in parts)
        flat = np.concatenate([first, *others], axis=1).ravel() if others else first.ravel()
        packed = (flat << _CELL_BITS) | np.arange(len(flat))
        packed.sort()
        packed = packed[np.searchsorted(packed, 0) :]  # padding is negative
        places_C, cells_C = packed >> _CELL_BITS, packed & ((1 << _CELL_BITS) - 1)
        starts_C = np.empty(len(places_C), bool)
        starts_C[:1] = True
        np.not_equal(places_C[1:], places_C[:-1], out=starts_C[1:])
        first_N = np.flatnonzero(starts_C)
        places_N, starts_N = torch.from_numpy(places_C[first_N]), torch.from_numpy(first_N)
        slots = len(pooling.slot_fields)
        if pooling.trivial and not others:
            return cls(places_N, starts_N, torch.from_numpy(cells_C), None)
        row_C, slot_C = np.divmod(cells_C, slots * len(parts))
        slot_C %= slots
        if pooling.trivial:
            return cls(places_N, starts_N, torch.from_numpy(row_C * slots + slot_C), None)
        field_vectors_C = row_C * pooling.fields + np.array(pooling.slot_fields)[slot_C]
        shares_C = torch.cat([pooling.shares(part_BS) for part_BS in parts], 1).flatten()[cells_C]
        return cls(places_N, starts_N, torch.from_numpy(field_vectors_C), shares_C)

    def sum(self, gradient_BFD: Tensor) -> Tensor:
        """Gradient of each distinct vector (N, D), from the gradient of the batch's field vectors."""
        gradients = gradient_BFD.flatten(0, 1)
        return embedding_bag(
            self.field_vectors_C, gradients, self.starts_N, mode="sum", per_sample_weights=self.shares_C
        )
