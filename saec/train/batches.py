"""Pools vectors into the field vectors of a batch, and sums their gradients back.

Both models use it: the original's vectors are rows of its table, the challenger's are codewords.

Decisions: a field of one slot is that slot's vector, a list field is the mean of its used slots. This is a sparse
matrix from vectors to field vectors; `Pooling.gather` applies it and `Touched.sum` its transpose. Both are embedding
bags, a kernel that threads over bags and adds within each bag in a fixed order: fast, and the same bytes every time.
The transpose needs the cells of a batch in the order of their vectors. Sorting place and cell packed into one integer
gives that order, stable, several times faster than a stable argsort. On a GPU, which has one thread add up a bag, a
vector that all rows use would keep the others waiting; there its cells are added up in pieces, and then the pieces.
And there no shape follows from the data, because a graph of kernels (replayed.py) cannot change its shapes: N is then
room for as many vectors as there could be, and what is left of it writes nothing into `SPARE` rows behind the set's.

Shapes: B rows, S slots, F fields, U vectors, D width, N distinct vectors of a batch, C cells of a batch in use, P
pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import embedding, embedding_bag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_CELL_BITS = 32
PIECE = 128
"""Cells that are added up at once on a GPU."""
SPARE = 1024
"""Rows behind those of a working set on a GPU; with one, all that writes nothing would wait for the same place."""
_PADDING = 1 << 30
"""Place of padding where it is sorted behind all others."""


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
        first_slots_F = _layout(self, places_BS.device)[0]
        starts_BF = slots * torch.arange(rows, device=places_BS.device)[:, None] + first_slots_F
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
        _, fields_S, of_field_SF = _layout(self, places_BS.device)
        return used_BS / (used_BS @ of_field_SF).clamp_min(1.0)[:, fields_S]


@lru_cache(maxsize=64)
def _layout(pooling: Pooling, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The first slot of each field, the field of each slot, and 1 where a slot (S) is of a field (F); on a device."""
    fields_S = torch.tensor(pooling.slot_fields)
    first_slots_F = torch.searchsorted(fields_S, torch.arange(pooling.fields))
    of_field_SF = torch.nn.functional.one_hot(fields_S, pooling.fields).float()
    return first_slots_F.to(device), fields_S.to(device), of_field_SF.to(device)


@dataclass(frozen=True)
class Touched:
    """The distinct vectors of a batch, and the cells that each of them is used in."""

    places_N: Tensor
    """Places of the vectors, ascending; padding is none of them. On a GPU spare rows follow."""
    starts_N: Tensor
    """Where the cells of each vector start among all C."""
    field_vectors_C: Tensor
    """The field vector that each cell went into, counted through the batch (row * F + field)."""
    shares_C: Tensor | None
    """The share it went in with; None when all are 1."""

    @classmethod
    def of(cls, parts: Sequence[Tensor], pooling: Pooling, vectors: int = 0) -> Touched:
        """Sort the cells of a batch by vector.

        Args:
            parts: places [B, S] that are added up, no vector being in more than one of them.
            pooling: of each.
            vectors: how many there are; needed on a GPU.
        """
        flat = torch.cat(tuple(parts), 1).flatten()
        places_N, starts_N, cells_C = _grouped(flat) if flat.is_cpu else _grouped_in_room(flat, vectors)
        slots = len(pooling.slot_fields)
        if pooling.trivial and len(parts) == 1:
            return cls(places_N, starts_N, cells_C, None)
        row_C = cells_C.div(slots * len(parts), rounding_mode="floor")
        slot_C = (cells_C - row_C * (slots * len(parts))).remainder_(slots)
        if pooling.trivial:
            return cls(places_N, starts_N, row_C.mul_(slots).add_(slot_C), None)
        fields_S = _layout(pooling, flat.device)[1]
        shares_C = torch.cat([pooling.shares(part_BS) for part_BS in parts], 1).flatten()[cells_C]
        return cls(places_N, starts_N, row_C.mul_(pooling.fields).add_(fields_S[slot_C]), shares_C)

    def sum(self, gradient_BFD: Tensor) -> Tensor:
        """Gradient of each distinct vector (N, D), from the gradient of the batch's field vectors."""
        gradients = gradient_BFD.flatten(0, 1)
        if gradients.is_cpu:
            return _bags(self.field_vectors_C, gradients, self.starts_N, self.shares_C)
        return self.sum_in_pieces(gradients)

    def sum_in_pieces(self, gradients: Tensor, most: int = PIECE) -> Tensor:
        """The same sums, of at most so many cells at once: other rounding, and no bag that takes long.

        Args:
            gradients: of the field vectors, counted through the batch.
            most: cells of a piece.
        """
        cells, vectors = len(self.field_vectors_C), len(self.starts_N)
        ends_N = torch.cat([self.starts_N[1:], self.starts_N.new_full((1,), cells)])
        pieces_N = (ends_N - self.starts_N + most - 1).div(most, rounding_mode="floor").clamp_min_(1)
        last_N = pieces_N.cumsum(0)
        first_N = last_N - pieces_N
        room = vectors + cells // most
        place_P = torch.arange(room, device=gradients.device)
        vector_P = torch.searchsorted(last_N, place_P, right=True).clamp_max_(vectors - 1)
        starts_P = (self.starts_N[vector_P] + (place_P - first_N[vector_P]) * most).clamp_max_(cells)
        # Pieces that are left over hold nothing, but one bag of all of them would take long too.
        left = torch.arange(0, cells // most + 1, most, device=gradients.device)
        starts = torch.cat([first_N, (last_N[-1] + left).clamp_max_(room)])
        return _bags(place_P, _bags(self.field_vectors_C, gradients, starts_P, self.shares_C), starts, None)[:vectors]


def _bags(places_C: Tensor, vectors: Tensor, starts_N: Tensor, shares_C: Tensor | None) -> Tensor:
    """Sums of vectors, one from each start to the next."""
    return embedding_bag(places_C, vectors, starts_N, mode="sum", per_sample_weights=shares_C)


def _grouped(flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct places but for padding, where the cells of each start, and the cells in that order."""
    packed = (flat.numpy() << _CELL_BITS) | np.arange(len(flat))
    packed.sort()  # numpy's is several times as fast as torch's on a processor
    packed = packed[np.searchsorted(packed, 0) :]  # padding is negative
    places_C, cells_C = packed >> _CELL_BITS, packed & ((1 << _CELL_BITS) - 1)
    starts_C = np.empty(len(places_C), bool)
    starts_C[:1] = True
    np.not_equal(places_C[1:], places_C[:-1], out=starts_C[1:])
    first_N = np.flatnonzero(starts_C)
    return torch.from_numpy(places_C[first_N]), torch.from_numpy(first_N), torch.from_numpy(cells_C)


def _grouped_in_room(flat: Tensor, vectors: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same where the places are, in shapes that follow from the batch's and the number of vectors alone.

    Behind the distinct places are those of spare rows: one for all padding, and those that are left over, without
    cells.
    """
    places = torch.where(flat < 0, _PADDING, flat)
    packed = ((places << _CELL_BITS) | torch.arange(len(flat), device=flat.device)).sort().values
    places_C, cells_C = packed >> _CELL_BITS, packed & ((1 << _CELL_BITS) - 1)
    numbers_C = (places_C.diff(prepend=places_C[:1]) != 0).cumsum(0)
    numbers_N = torch.arange(min(len(flat), vectors) + 1, device=flat.device)
    starts_N = torch.searchsorted(numbers_C, numbers_N)
    places_N = places_C[starts_N.clamp_max(len(flat) - 1)]
    used_N = (starts_N < len(flat)) & (places_N < _PADDING)
    return torch.where(used_N, places_N, vectors + numbers_N % SPARE), starts_N, cells_C
