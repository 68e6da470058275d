"""The original model: the full embedding table under a CTR network, trained further every hour.

An hour goes through it in this order, so that every row is scored before it is learnt and learnt exactly once:
`absorb` the gate rows left over from the hour before and count that hour's features; `prepare` the new hour's rows
(admit features); score them all (progressive validation); `train` on those before the cut. The rows after the cut are
left for the gate, and for the next hour's `absorb`.

Shapes: B rows, S slots, U rows of the table that the hour uses, D width, V rows of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from saec.data.rows import EncodedRows
from saec.data.vocabulary import HourFeatures, Vocabulary
from saec.hours import Hour
from saec.model.networks import build_network
from saec.model.table import EmbeddingTable, WorkingSet
from saec.train.batches import Pooling
from saec.train.learner import Learner, Pass
from saec.train.tensors import Arrays, Snapshot, learner_state, restore_learner, section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from saec.config import Config

EVICTION_PERIOD = 24
"""Hours between evictions: they renumber the table, which costs as much as its size."""


@dataclass(frozen=True)
class Pending:
    """The hour last trained on, of which the rows from `cut` on are still to be learnt."""

    hour: Hour
    rows: EncodedRows
    cut: int


@dataclass(frozen=True)
class Untouched:
    """The vectors that each stretch of an hour's train rows uses, set aside before anything was trained on the stretch.

    P stretches; `ends_P` are the rows at which they end, `counts_P` says how many of the `rows_N` (ascending within a
    stretch) and `vectors_ND` are theirs.
    """

    ends_P: NDArray[np.int64]
    counts_P: NDArray[np.int64]
    rows_N: NDArray[np.int64]
    vectors_ND: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: list[tuple[int, NDArray[np.int64], NDArray[np.float32]]]) -> Untouched:
        """Stretches given as end, table rows, vectors."""
        ends, rows, vectors = zip(*parts, strict=True)
        counts_P = np.array([len(part) for part in rows], np.int64)
        return cls(np.array(ends, np.int64), counts_P, np.concatenate(rows), np.concatenate(vectors))

    def restored(self, rows_M: NDArray[np.int64], vectors_MD: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of any table rows as they were before the hour: as set aside the first time, else as given."""
        first_rows, first = np.unique(self.rows_N, return_index=True)
        places_M = np.minimum(np.searchsorted(first_rows, rows_M), len(first_rows) - 1)
        touched_M = first_rows[places_M] == rows_M
        restored_MD = vectors_MD.copy()
        restored_MD[touched_M] = self.vectors_ND[first[places_M[touched_M]]]
        return restored_MD

    def stretches(self) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.float32]]]:
        """For each stretch its rows of the hour, the table rows these use, and the vectors set aside for them."""
        starts_P, first = np.cumsum(self.counts_P) - self.counts_P, 0
        for end, start, count in zip(self.ends_P, starts_P, self.counts_P, strict=True):
            yield slice(first, int(end)), self.rows_N[start : start + count], self.vectors_ND[start : start + count]
            first = int(end)


@dataclass
class PreparedRows:
    """An hour's rows as places in the working set of table rows they use."""

    features: HourFeatures
    working: WorkingSet
    places_BS: Tensor
    defaults_S: Tensor
    """Place of each slot's default row."""

    def used_by(self, chosen: slice) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Table rows that some rows of the hour use, and a copy of their vectors as they are now."""
        places = np.unique(self.places_BS[chosen].numpy())
        places = places[places >= 0]
        return self.working.rows_U[places], self.working.vectors_UD.numpy()[places]


class Original:
    """Vocabulary, table, network and optimiser, and the hour whose gate rows are still to be learnt."""

    def __init__(self, config: Config) -> None:
        """A model that has seen nothing."""
        fields = len(config.field_names)
        self.config = config
        self.vocabulary = Vocabulary(config.vocabulary, fields)
        self.table = EmbeddingTable(config.model.width, fields, config.seed)
        self.learner = Learner(
            build_network(config.model, fields, config.seed), Pooling.of(config.slot_fields), config.training
        )
        self.pending: Pending | None = None
        self._touched_rows: list[NDArray[np.int64]] | None = []
        self._touched_features: list[NDArray[np.int64]] = []

    @classmethod
    def restore(cls, config: Config, arrays: Arrays, origin: str) -> Original:
        """The model whose `snapshot` this was; `origin` names the file for error messages."""
        original = cls(config)
        features = section(arrays, "vocabulary.")
        original.vocabulary = Vocabulary.restore(config.vocabulary, original.vocabulary.fields, features)
        table = section(arrays, "table.")
        original.table = EmbeddingTable.restore(table["vectors_VD"], table["squares_V"], config.seed)
        restore_learner(original.learner, arrays, origin)
        pending = section(arrays, "pending.")
        hour, cut = (int(number) for number in pending["hour_cut"])
        rows = EncodedRows(pending["labels_B"], pending["times_B"], pending["keys_BS"])
        original.pending = Pending(Hour(hour), rows, cut)
        return original

    def snapshot(self) -> Snapshot:
        """Everything the next hour starts from, and which parts of it changed since the last snapshot."""
        assert self.pending is not None, "a snapshot is taken at the cut of an hour"
        arrays: Arrays = {f"vocabulary.{name}": array for name, array in self.vocabulary.state().items()}
        arrays |= {"table.vectors_VD": self.table.vectors_VD, "table.squares_V": self.table.squares_V}
        arrays |= learner_state(self.learner)
        rows = self.pending.rows
        arrays |= {"pending.labels_B": rows.labels_B, "pending.times_B": rows.times_B, "pending.keys_BS": rows.keys_BS}
        arrays["pending.hour_cut"] = np.array([self.pending.hour.index, self.pending.cut], np.int64)
        touched = None
        if self._touched_rows is not None:
            touched = {"table": _union(self._touched_rows), "vocabulary": _union(self._touched_features)}
        self._touched_rows, self._touched_features = [], []
        return Snapshot(arrays, touched)

    def absorb(self) -> int:
        """Learn the rows left over from the last hour and count its features.

        Returns:
            Number of features that hour brought.
        """
        if self.pending is None:
            return 0
        rows, cut, hour = self.pending.rows, self.pending.cut, self.pending.hour
        prepared = self.prepare(rows)
        self._fit(prepared, rows.labels_B, slice(cut, None), seed=2 * hour.index + 1)
        added = self.vocabulary.observe(hour, prepared.features)
        self._touch(prepared)
        self.pending = None
        if hour.index % EVICTION_PERIOD == 0 and (kept_rows := self.vocabulary.evict(hour)) is not None:
            self.table.keep(kept_rows)
            self._touched_rows = None  # everything moved
        return added

    def prepare(self, rows: EncodedRows) -> PreparedRows:
        """Admit an hour's features and find the table rows it uses."""
        slot_fields_S = np.array(self.config.slot_fields, np.int64)
        features = HourFeatures.of(rows.keys_BS, slot_fields_S)
        rows_U = self.vocabulary.admit(features)
        self.table.grow(self.vocabulary.rows)
        working = self.table.take(np.union1d(rows_U, slot_fields_S))
        places_BS = torch.from_numpy(features.spread(working.locate(rows_U)))
        return PreparedRows(features, working, places_BS, torch.from_numpy(working.locate(slot_fields_S)))

    def score(self, prepared: PreparedRows, first: int = 0) -> NDArray[np.float64]:
        """Probability of a click for the rows from `first` on."""
        return self.learner.score(prepared.working.vectors_UD, prepared.places_BS[first:])

    def train(self, hour: Hour, rows: EncodedRows, prepared: PreparedRows, cut: int) -> tuple[Pass, Untouched]:
        """Learn the rows before the cut, stretch by stretch; the others become the pending ones.

        Returns:
            What the pass came to, and the vectors that each stretch uses as they were before it.
        """
        stretches = self.config.training.stretches
        bounds = [cut * number // stretches for number in range(stretches + 1)]
        done, parts = Pass(0, 0, 0.0), []
        for number, (first, end) in enumerate(pairwise(bounds)):
            parts.append((end, *prepared.used_by(slice(first, end))))
            seed = stretches * 2 * hour.index + number
            done += self._fit(prepared, rows.labels_B, slice(first, end), seed=seed)
        self.pending = Pending(hour, rows, cut)
        self._touch(prepared)
        return done, Untouched.joined(parts)

    def _touch(self, prepared: PreparedRows) -> None:
        """Note which table rows and features a snapshot must hold anew."""
        if self._touched_rows is not None:
            self._touched_rows.append(prepared.working.rows_U)
            ids_U = self.vocabulary.find(prepared.features.keys_U)
            self._touched_features.append(ids_U[ids_U >= 0])

    def _fit(self, prepared: PreparedRows, labels_B: NDArray[np.uint8], chosen: slice, *, seed: int) -> Pass:
        done = self.learner.fit(
            prepared.working,
            prepared.places_BS[chosen],
            labels_B[chosen],
            seed=self.config.seed * 1_000_003 + seed,
            dropped_to_S=prepared.defaults_S,
        )
        self.table.put(prepared.working)
        return done


def _union(places: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate([np.zeros(0, np.int64), *places]))
