"""Implements the peers that store no keys: a key's hash names the rows of one table that make up its vector.

    hashing                one row, key mod M, in a table that all fields share or in a part of it for each field
    quotient-remainder     two rows: id = key mod H, row id mod m and row m + id div m, added or multiplied by element
                           (Shi et al. 2020, arXiv 1909.02107)

Decisions: trained in fp32, served as int8 rows with a scale each.

Shapes: B rows, S slots, F fields, M rows of the table, D width, R rows that make up one vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.compression import stored
from benchmarks.compression.stored import row_bytes
from benchmarks.compression.stretch import HourRows, Served
from saec.config import Config
from saec.model.networks import build_network
from saec.model.table import INITIAL_SCALE, WorkingSet
from saec.train.batches import Pooling
from saec.train.learner import Learner

SMALL_FIELD_ROWS = 4
"""Rows for each feature of a field that is small, where fields have parts of their own."""


@dataclass(frozen=True)
class Hashing:
    """One row a key: each slot's part of the table, by first row and rows."""

    starts_S: NDArray[np.int64]
    sizes_S: NDArray[np.int64]

    @classmethod
    def shared(cls, rows: int, slots: int) -> Hashing:
        """All fields in one table."""
        return cls(np.zeros(slots, np.int64), np.full(slots, rows))

    @classmethod
    def by_field(cls, rows: int, features_F: NDArray[np.int64], slot_fields_S: NDArray[np.int64]) -> Hashing:
        """A part for each field: half of the rows alike, small fields with room to spare, the rest by features."""
        wanted_F = SMALL_FIELD_ROWS * features_F
        sizes_F = np.clip(wanted_F, 1, max(rows // (2 * len(features_F)), 1))
        large_F = np.where(wanted_F > sizes_F, features_F, 0)
        sizes_F += (rows - int(sizes_F.sum())) * large_F // max(int(large_F.sum()), 1)
        starts_F = np.cumsum(sizes_F) - sizes_F
        return cls(starts_F[slot_fields_S], sizes_F[slot_fields_S])

    def rows(self, keys_BS: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Rows (B, S, 1) of the keys."""
        return (self.starts_S + (keys_BS % self.sizes_S.astype(np.uint64)).astype(np.int64))[:, :, None]


@dataclass(frozen=True)
class QuotientRemainder:
    """Two rows a key."""

    ids: int
    remainders: int

    @classmethod
    def within(cls, rows: int, ids: int) -> QuotientRemainder:
        """The split of a table that tells so many ids apart, or as many as it can, with the most remainders."""
        ids = min(ids, (rows // 2) ** 2)
        remainders = int((rows + np.sqrt(max(rows**2 - 4.0 * ids, 0.0))) / 2)
        return cls(ids, remainders)

    def rows(self, keys_BS: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Rows (B, S, 2) of the keys: remainder, quotient."""
        ids_BS = (keys_BS % np.uint64(self.ids)).astype(np.int64)
        return np.stack([ids_BS % self.remainders, self.remainders + ids_BS // self.remainders], axis=2)


class Combined(nn.Module):
    """A network over fields whose slots are two vectors each, added or multiplied; a list field is their mean."""

    def __init__(self, network: nn.Module, slot_fields: tuple[int, ...], *, product: bool) -> None:
        """The network beneath which the vectors are combined."""
        super().__init__()
        self.network, self.product = network, product
        self.fields_S = torch.tensor(slot_fields)
        self.fields = slot_fields[-1] + 1

    def forward(self, vectors_BXD: Tensor) -> Tensor:
        """Logits (B,) from vectors (B, 2 S, D), zeros where there is padding."""
        first_BSD, second_BSD = vectors_BXD[:, ::2], vectors_BXD[:, 1::2]
        slots_BSD = first_BSD * second_BSD if self.product else first_BSD + second_BSD
        if slots_BSD.shape[1] > self.fields:
            used_BS = (second_BSD != 0).any(2).float()
            total_BFD = slots_BSD.new_zeros(len(slots_BSD), self.fields, slots_BSD.shape[2])
            used_BF = used_BS.new_zeros(len(used_BS), self.fields).index_add_(1, self.fields_S, used_BS)
            slots_BSD = total_BFD.index_add_(1, self.fields_S, slots_BSD) / used_BF.clamp_min(1.0)[:, :, None]
        logits_B: Tensor = self.network(slots_BSD)
        return logits_B


class EverySlot(Pooling):
    """Slots as they are, padding as zeros."""

    @property
    def trivial(self) -> bool:
        """Never taken for a layout without padding."""
        return False


class HashedTable:
    """A table without keys under the network."""

    def __init__(
        self,
        name: str,
        config: Config,
        rows: int,
        layout: Hashing | QuotientRemainder,
        *,
        combine: Literal["none", "sum", "product"] = "none",
    ) -> None:
        """So many rows, of which the layout names one or two for each key."""
        self.name, self.config, self.layout, self.count = name, config, layout, rows
        slot_fields = config.slot_fields
        network: nn.Module = build_network(config.model, slot_fields[-1] + 1, config.seed)
        pooling = Pooling.of(slot_fields)
        if combine != "none":
            network = Combined(network, slot_fields, product=combine == "product")
            pooling = EverySlot.of(range(2 * len(slot_fields)))
        self.learner = Learner(network, pooling, config.training)  # type: ignore[arg-type]
        self.table = self._start(rows, ones=combine == "product")

    def learn(self, given: HourRows) -> None:
        """One hour."""
        self.learner.fit(self.table, self._places(given.rows.keys_BS), given.rows.labels_B)

    def serve(self, given: HourRows) -> Iterator[Served]:
        """Score the whole hour with the table as stored."""
        vectors_MD = torch.from_numpy(stored.as_int8(self.table.vectors_UD.numpy()))
        scores_B, seconds = stored.timed(lambda: self.learner.score(vectors_MD, self._places(given.rows.keys_BS)))
        yield Served(self.name, scores_B, self.count * row_bytes(self.config.model.width), 0.0, 0.0, seconds)

    def _start(self, rows: int, *, ones: bool) -> WorkingSet:
        """First values: near zero; where quotients multiply, they start near one."""
        random = np.random.default_rng(self.config.seed)
        vectors_MD = INITIAL_SCALE * random.standard_normal((rows, self.config.model.width), np.float32)
        if ones and isinstance(self.layout, QuotientRemainder):
            vectors_MD[self.layout.remainders : self.count] += 1.0
        return WorkingSet(np.arange(rows), torch.from_numpy(vectors_MD), torch.zeros(rows))

    def _places(self, keys_BS: NDArray[np.uint64]) -> Tensor:
        """Rows of each slot (B, S R), -1 for padding."""
        rows_BSR = np.where((keys_BS == 0)[:, :, None], -1, self.layout.rows(keys_BS))
        return torch.from_numpy(rows_BSR.reshape(len(keys_BS), -1))
