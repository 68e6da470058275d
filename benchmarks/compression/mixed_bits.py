"""Implements the peer MPE, mixed-precision embeddings: 0 to 6 bits a number by group of frequency (arXiv 2409.20305).

Features of like frequency are a group; each group has a probability for every width from 0 to 6 bits, a softmax that is
learnt with the model: in the search, a vector is the mean of its quantised forms by these probabilities, and expected
bits are penalised. Steps and offsets of every width are learnt. Then the likeliest width of each group is taken and the
model goes on with it.

Decisions:
- A group is an octave of frequency within a field; there is a step and an offset for each field and width.
- What the stream changes: the search takes the first half of the hours before the scored ones, or goes on to the
  end (`search`); rows are not trained anew after it, the stream has no second pass. Groups follow the features hour by
  hour, as their frequencies change.
- The penalty is a price of all bytes that is moved each hour towards the size aimed at. One pass is too short for
  probabilities to become certain, and the likeliest width of a group of few features is chance. So they are read as how
  many bits a group needs: a width serves a feature as well as it is likely to be enough. What is stored serves most
  sightings, `frequency x P(needed <= width) - price x bytes`, at the price at which the size is met; the group on the
  edge is split by frequency. (The likeliest widths at a price gave frequent features one bit: AUC 0.54 against 0.71.)
- No keys, no row numbers, no group numbers: a keyless index for each width, its values the `bits x D` of the rows. An
  unknown key asks them all, most bits first. Features of 0 bits are in none, and are served as unknown ones are.

Shapes: N vectors, D width, F fields, G groups, J widths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.compression import stored
from benchmarks.compression.coded import CodedPeer, Coder, Scalars, steps_for
from benchmarks.compression.full import StoredTable
from benchmarks.compression.low_bits import FITTED_HOURS, SCALAR_RATE, centred, levels
from benchmarks.compression.stored import HeadIndex
from benchmarks.compression.stretch import HourRows, Served, fuse_cells

if TYPE_CHECKING:
    from saec.config import Config
    from saec.hours import Hour
    from saec.train.original import Original

FINGERPRINT_BITS = 8
"""Two more than the other peers: an unknown key asks up to six indexes."""
WIDTHS = np.arange(7)
OCTAVES = 12
EVERY = 1 << 60
"""A number above that of all features, so that all admitted ones take part."""
WIDTH_RATE = 0.01
"""Adam's rate on the logits of widths."""
PRICE = 1e-3
"""The first price of all the bytes aimed at, in nats a row."""


class MixedBits(Coder):
    """Rows of as many bits as their group has."""

    value_bits = 0

    def __init__(self, config: Config, budget: float, searched_hours: int) -> None:
        """All widths alike."""
        super().__init__(config)
        self.budget, self.searched_hours = budget, searched_hours
        shape = (self.fields, len(WIDTHS))
        self.log_steps_FJ = Scalars(np.full(shape, np.log(0.01)), SCALAR_RATE)
        self.offsets_FJ = Scalars(np.zeros(shape), SCALAR_RATE)
        self.logits_GJ = Scalars(np.zeros((self.fields * OCTAVES, len(WIDTHS))), WIDTH_RATE)
        self.price = PRICE
        self.hours = 0
        self.widths_V = np.zeros(self.shared, np.int64)
        self.counts_G = np.zeros(self.fields * OCTAVES, np.float32)
        self.unknown_FD = torch.zeros(self.fields, self.width)

    @property
    def searching(self) -> bool:
        """Whether widths are still learnt."""
        return self.hours < self.searched_hours

    def besides(self) -> float:
        """Steps and offsets of each field and width but 0."""
        return 4.0 * self.fields * (len(WIDTHS) - 1)

    def begin(self, original: Original, hour: Hour, threshold: float) -> None:
        """Groups and widths of the rows, and what features of 0 bits get."""
        super().begin(original, hour, threshold)
        own_V = np.arange(len(self.fields_V)) >= self.shared
        self.counts_G = np.bincount(self.groups(np.flatnonzero(own_V)), minlength=len(self.counts_G)).astype("f4")
        self.widths_V = self.chosen_widths(self.budget)
        fields_F = np.arange(self.fields)
        unknown_F = original.vocabulary.class_rows(fields_F, np.zeros(self.fields, np.float32), fields_F)
        self.unknown_FD = torch.from_numpy(original.table.vectors_VD[fields_F] + original.table.vectors_VD[unknown_F])

    def groups(self, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """The group of each row."""
        octaves_N = np.log2(np.maximum(self.frequency_V[rows_N], 1)).astype(np.int64)
        return self.fields_V[rows_N] * OCTAVES + np.minimum(octaves_N, OCTAVES - 1)

    def decoded(self, vectors_ND: Tensor, rows_N: NDArray[np.int64]) -> Tensor:
        """In the search the mean over widths, afterwards by the width of each."""
        fields_N = torch.from_numpy(self.fields_V[rows_N])
        step_NJ = self.log_steps_FJ.values.exp()[fields_N]
        offset_NJ = self.offsets_FJ.values[fields_N]
        zero_ND = self.unknown_FD[fields_N]
        if self.searching:
            forms = [
                zero_ND,
                *(_through(vectors_ND, step_NJ[:, [bits]], offset_NJ[:, [bits]], bits) for bits in WIDTHS[1:]),
            ]
            share_NJ = self.logits_GJ.values.softmax(1)[torch.from_numpy(self.groups(rows_N))]
            return (torch.stack(forms, 2) * share_NJ[:, None, :]).sum(2)
        width_N1 = torch.from_numpy(self.widths_V[rows_N])[:, None]
        step_N1, offset_N1 = step_NJ.gather(1, width_N1), offset_NJ.gather(1, width_N1)
        quantised_ND = _through(vectors_ND, step_N1, offset_N1, width_N1.clamp_min(1))
        return torch.where(width_N1 > 0, quantised_ND, zero_ND)

    def learn_codes(self) -> None:
        """Steps and offsets; in the search also widths, by the rows' gradient and the price of their bytes."""
        if self.searching:
            (self.price * self.config.training.batch_rows * self.expected_share()).backward()
            self.logits_GJ.learn()
        self.log_steps_FJ.learn()
        self.offsets_FJ.learn()

    def refit(self, vectors: Callable[[], NDArray[np.float32]], rows_N: NDArray[np.int64], hours: int) -> None:
        """In the first hours, steps and offsets as the vectors want them; the price by what would be stored."""
        self.hours = hours
        if hours <= FITTED_HOURS:
            with torch.no_grad():
                for field, offset, centred_ND in centred(vectors(), self.fields_V[rows_N]):
                    self.offsets_FJ.values[field] = offset
                    for bits in WIDTHS[1:]:
                        self.log_steps_FJ.values[field, bits] = np.log(steps_for(centred_ND, int(bits)))
        self.price *= float(np.clip(self.expected_share().item(), 0.8, 1.25))

    def expected_share(self) -> Tensor:
        """Expected bytes of all features, as a share of those aimed at."""
        cost_J = torch.from_numpy(_bytes_of(WIDTHS, self.width).astype(np.float32))
        return (torch.from_numpy(self.counts_G) @ (self.logits_GJ.values.softmax(1) @ cost_J)) / self.budget

    def chosen_widths(self, budget: float) -> NDArray[np.int64]:
        """Widths of all rows that meet so many bytes, 0 for the shared rows."""
        rows_N = np.arange(self.shared, len(self.fields_V))
        widths_V = np.zeros(len(self.fields_V), np.int64)
        room = budget - self.besides() - self.fields * stored.row_bytes(self.width)
        groups_N, cost_J = self.groups(rows_N), _bytes_of(WIDTHS, self.width)
        frequency_G = np.bincount(groups_N, self.frequency_V[rows_N], len(self.counts_G)) / np.maximum(self.counts_G, 1)
        enough_GJ = self.logits_GJ.values.detach().softmax(1).cumsum(1).numpy() * frequency_G[:, None]

        def at(price: float) -> NDArray[np.int64]:
            return WIDTHS[np.argmax(enough_GJ - price * cost_J, 1)]

        low, high = 0.0, float(frequency_G.max(initial=1.0))  # sightings a byte: as wide as can be, nothing stored
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if self.counts_G @ cost_J[at(middle)] <= room else (middle, high)
        fitting_N, over_N = at(high)[groups_N], at(low)[groups_N]
        more_N = cost_J[over_N] - cost_J[fitting_N]
        order = np.argsort(-self.frequency_V[rows_N] * (more_N > 0), kind="stable")
        afford = np.cumsum(more_N[order]) <= room - cost_J[fitting_N].sum()
        fitting_N[order[afford]] = over_N[order[afford]]
        widths_V[rows_N] = fitting_N
        return widths_V

    def restored(self, vectors_ND: NDArray[np.float32], rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """By the levels of each row's width."""
        restored_ND = vectors_ND.copy()
        step_FJ = stored.as_float16(self.log_steps_FJ.values.detach().exp().numpy())
        offset_FJ = stored.as_float16(self.offsets_FJ.values.detach().numpy())
        fields_N, widths_N = self.fields_V[rows_N], self.widths_V[rows_N]
        for bits in WIDTHS[1:]:
            of = np.flatnonzero(widths_N == bits)
            step_N1, offset_N1 = step_FJ[fields_N[of], bits][:, None], offset_FJ[fields_N[of], bits][:, None]
            restored_ND[of] = stored.as_levels((vectors_ND[of] - offset_N1) / step_N1, int(bits)) * step_N1 + offset_N1
        return restored_ND


class MixedBitsPeer(CodedPeer):
    """MPE, served by an index for each width."""

    coder: MixedBits

    def __init__(self, name: str, config: Config, budget: float, searched_hours: int) -> None:
        """So many bytes; widths are searched in so many hours."""
        super().__init__(name, config, MixedBits(config, budget, searched_hours), budget, from_start=False)
        self.head = EVERY

    def serve(self, given: HourRows) -> Iterator[Served]:
        """Score the whole hour with what is stored before it."""
        coder, vocabulary = self.coder, self.vocabulary
        vocabulary.now, vocabulary.threshold = given.hour, 0.0
        table = StoredTable(self.original, given)
        coder.begin(self.original, given.hour, 0.0)
        own_V = np.flatnonzero(vocabulary.row_V >= 0)
        rows_N, keys_N = vocabulary.row_V[own_V].astype(np.int64), vocabulary.keys_V[own_V]

        def built(budget: float) -> tuple[float, tuple[list[HeadIndex], NDArray[np.int64]]]:
            widths_V, indexes = coder.chosen_widths(budget), []
            size = coder.besides() + coder.fields * stored.row_bytes(coder.width)
            for bits in WIDTHS[:0:-1]:
                of = widths_V[rows_N] == bits
                if of.any():
                    indexes.append(HeadIndex.build(keys_N[of], rows_N[of], FINGERPRINT_BITS))
                    size += indexes[-1].bytes(int(bits) * coder.width)
            return size, (indexes, widths_V)

        size, (indexes, coder.widths_V) = stored.sized(built, self.budget)
        vectors_VD = table.vectors_VD
        vectors_VD[: coder.fields] = stored.as_int8(vectors_VD[: coder.fields])
        vectors_VD[rows_N] = coder.restored(vectors_VD[rows_N], rows_N)
        kept = sum(len(index.rows_N) for index in indexes)
        scores_B, seconds = stored.timed(lambda: _score(table, vectors_VD, indexes))
        yield Served(self.name, scores_B, size, len(self.original.table) / max(kept, 1), 0.0, seconds)


def _score(table: StoredTable, vectors_VD: NDArray[np.float32], indexes: list[HeadIndex]) -> NDArray[np.float64]:
    """Ask the indexes in turn; the first that takes a key for its own is believed."""
    served_U = table.features.fields_U.copy()
    open_U = np.arange(len(served_U))
    for index in indexes:
        found = index.serve(table.features.keys_U[open_U], table.rows_U[open_U], np.full(len(open_U), -1))
        served_U[open_U[found >= 0]] = found[found >= 0]
        open_U = open_U[found < 0]
    return table.score_rows(vectors_VD[served_U])


def _through(vectors_ND: Tensor, step_N1: Tensor, offset_N1: Tensor, bits: int | Tensor) -> Tensor:
    return levels((vectors_ND - offset_N1) / step_N1, bits) * step_N1 + offset_N1


def _bytes_of(widths_N: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Bytes that a feature takes in the index of its width; nothing at 0 bits."""
    cells = fuse_cells(20_000) / 20_000
    return np.where(widths_N > 0, cells * (FINGERPRINT_BITS + widths_N * width) / 8, 0.0)
