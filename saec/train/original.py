"""The original model: the full embedding table under a CTR network, trained further every hour.

An hour goes through it in this order, so that every row is scored before it is learnt and learnt exactly once:
`prepare` the hour's rows (forget what is long unseen, admit features); score them all, as the hour meets the model;
`learn` them: those before the cut, then, once the gate's scores of the others are taken, those as well. What the model
was at the cut is set aside, so that codes can be taken of it then and at the hour's end.

Shapes: B rows, G gate rows, S slots, U distinct features of the hour, N rows of the table that the gate rows use, M any
rows of the table, V features known, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from saec.data.distinct import distinct
from saec.data.hour_features import HourFeatures
from saec.data.shards import LOCAL_BITS, Owners, within
from saec.data.vocabulary import CLASSES, Vocabulary
from saec.errors import IntegrityError
from saec.gate.metrics import weights_of
from saec.model.networks import build_network
from saec.model.table import EmbeddingTable, WorkingSet, shared_keys
from saec.train.batches import Pooling
from saec.train.carried import SHARED, carried_original
from saec.train.identity import following
from saec.train.learner import Learner
from saec.train.tensors import (
    LEARNER,
    Arrays,
    Snapshot,
    learner_state,
    network_arrays,
    restore_learner,
    section,
    shards_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from saec.config import Config
    from saec.data.paged import Column
    from saec.data.rows import EncodedRows
    from saec.hours import Hour

EVICTION_PERIOD = 24
"""Hours between evictions: they look at every feature."""
_IDENTITY, _OWNERS = "state.identity", "state.owners_FP"


@dataclass(frozen=True)
class AtCut:
    """What the original was at the cut of an hour that it has learnt whole, as far as it has changed since.

    Examples:
        >>> changed_ND, keys_N, none_U = np.ones((1, 2), np.float32), np.array([77], np.uint64), np.zeros(0)
        >>> at_cut = AtCut(np.array([0.2]), np.array([3]), keys_N, changed_ND, none_U, none_U, none_U > 0)
        >>> at_cut.vectors(np.array([2, 3]), np.zeros((2, 2), np.float32)).tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """

    scores_G: NDArray[np.float64]
    """Probability of a click for each gate row, by the model that had not learnt them."""
    rows_N: NDArray[np.int64]
    """Table rows that the gate rows use, ascending."""
    keys_N: NDArray[np.uint64]
    """Keys of the features whose rows they are; 0 for rows that features share."""
    vectors_ND: NDArray[np.float32]
    """Their vectors at the cut."""
    frequency_U: NDArray[np.float32]
    """Frequency of each of the hour's features before the hour, decayed to it."""
    last_seen_U: NDArray[np.int64]
    """Hour index at which each was last seen before the hour; `NEVER` for one that the hour brought."""
    given_U: NDArray[np.bool_]
    """Which of the hour's features have had a row only since the hour began."""
    network: Arrays = field(default_factory=dict)
    """The network's parameters, as they scored."""

    def vectors(self, rows_M: NDArray[np.int64], vectors_MD: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of any table rows as they were at the cut, given those at the hour's end."""
        then_MD, changed_M = vectors_MD.copy(), np.isin(rows_M, self.rows_N)
        then_MD[changed_M] = self.vectors_ND[np.searchsorted(self.rows_N, rows_M[changed_M])]
        return then_MD

    def located(self, vocabulary: Vocabulary) -> AtCut:
        """The same with the rows as they are now: a shard that was written whole has moved its own up."""
        rows_N, own_N = self.rows_N.copy(), self.keys_N > 0
        rows_N[own_N] = vocabulary.own_rows(vocabulary.find(self.keys_N[own_N]))
        order_N = np.argsort(rows_N)
        keys_N, vectors_ND = self.keys_N[order_N], self.vectors_ND[order_N]
        return replace(self, rows_N=rows_N[order_N], keys_N=keys_N, vectors_ND=vectors_ND)

    def arrays(self) -> Arrays:
        """Everything as named arrays."""
        own = {name: value for name, value in vars(self).items() if name != "network"}
        return own | {f"network.{name}": array for name, array in self.network.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> AtCut:
        """What `arrays` were made of."""
        own = {name: array for name, array in arrays.items() if not name.startswith("network.")}
        return cls(**own, network=section(arrays, "network."))


@dataclass
class PreparedRows:
    """An hour's rows as places in the working set of table rows they use.

    `Original.prepare` makes it, and the example of `Original` shows what it is for.
    """

    features: HourFeatures
    working: WorkingSet
    keys_U: NDArray[np.uint64]
    """Keys of the features whose rows these are; 0 for rows that features share."""
    places_BS: Tensor
    classes_BS: Tensor
    """Place of each slot's class row, which is added to its own."""
    given_U: NDArray[np.bool_]
    """Which of the hour's features got their row in it."""

    def used_by(self, chosen: slice) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.float32]]:
        """Table rows that training on some rows of the hour changes, their keys, and copies of their vectors."""
        places = _union([part_BS[chosen].numpy().ravel() for part_BS in (self.places_BS, self.classes_BS)])
        places = places[places >= 0]
        places = places[np.argsort(self.working.rows_U[places])]
        return self.working.rows_U[places], self.keys_U[places], self.working.vectors_UD.numpy()[places]


class Original:
    """Vocabulary, table, network and optimiser.

    Examples:
        >>> from saec.config import Config
        >>> from saec.data.rows import EncodedRows
        >>> from saec.hours import Hour
        >>> config = Config.model_validate(
        ...     {
        ...         "data": {"source": "clicks", "time_column": "time", "label_column": "clicked"},
        ...         "fields": [{"name": "user"}],
        ...         "model": {"width": 4, "hidden": [8]},
        ...     }
        ... )
        >>> original, hour = Original(config), Hour.parse("2026-03-01T08")
        >>> clicks, users = np.array([1, 0, 1], np.uint8), np.array([[5], [9], [5]], np.uint64)
        >>> rows = EncodedRows(clicks, hour.start_ms + np.arange(3), users)
        >>> prepared = original.prepare(hour, rows)
        >>> original.score(prepared).shape
        (3,)
        >>> original.learn(hour, rows, prepared, cut=2).scores_G.shape
        (1,)
    """

    def __init__(self, config: Config, owners: Owners | None = None) -> None:
        """A model that has seen nothing; in one shard, if none are given."""
        fields = len(config.field_names)
        self.config = config
        self.vocabulary = Vocabulary(config.vocabulary, fields, owners)
        self.table = EmbeddingTable(
            config.model.width, shared_keys(config.field_names, 1 + CLASSES), config.seed, self.shards
        )
        self.learner = Learner(
            build_network(config.model, fields, config.seed), Pooling.of(config.slot_fields), config.training
        )
        self._moved: set[int] = set()
        """Shards whose places are not those of the last snapshot."""
        self._touched_rows: list[NDArray[np.int64]] = []
        self._touched_features: list[NDArray[np.int64]] = []
        self.identity = ""
        """What this state is called, see `saec.train.identity`; empty before the first hour."""
        self.scratch: Path | None = None
        """Folder for what is large and short-lived; memory when None."""

    @classmethod
    def restore(
        cls,
        config: Config,
        arrays: Mapping[str, NDArray[Any] | Column],
        origin: str,
        sources_F: tuple[int, ...] | None = None,
    ) -> Original:
        """The model whose `snapshot` this was.

        Args:
            config: all settings.
            arrays: the snapshot; what is large in it is taken over, not copied.
            origin: names the file for error messages.
            sources_F: where it was of other fields, from which of these each goes on, -1 for a new one.
        """
        shards = shards_of(arrays)
        owners = Owners(np.asarray(arrays[_OWNERS]), len(shards)) if len(shards) > 1 and sources_F is None else None
        original = cls(config, owners)
        told = arrays.get(_IDENTITY)
        original.identity = following("", origin) if told is None else np.asarray(told).tobytes().hex()
        if sources_F is not None:
            original.identity = following(original.identity, f"carried over {config.field_names} {sources_F}")
            arrays = carried_original(config, {name: np.asarray(array) for name, array in arrays.items()}, sources_F)
            original.rebase(0, arrays)
            original.reshard(len(shards)) if len(shards) > 1 else original.touched_all()
        else:
            for number, part in enumerate(shards):
                original.rebase(number, part)
        wanted, rows = original.vocabulary.shared + original.vocabulary.admitted, len(original.table)
        # Features that are forgotten leave rows behind; states that do not tell of shared rows have none such.
        shared = arrays.get(SHARED)
        alike = (
            rows == wanted
            if shared is None
            else rows >= wanted and int(np.asarray(shared)) == original.vocabulary.shared
        )
        if not alike:
            raise IntegrityError(
                f"{origin} has a table of {rows} rows, wanted {wanted} for its "
                "vocabulary: a release of Saec with other class rows has written it; start the pipeline afresh"
            )
        learnt = {name: np.array(array) for name, array in arrays.items() if name.startswith(LEARNER)}
        restore_learner(original.learner, learnt, origin)
        return original

    def rebase(self, number: int, arrays: Mapping[str, NDArray[Any] | Column]) -> None:
        """Have a shard of vocabulary and table lie in these arrays, which are those of a snapshot of it.

        Args:
            number: of the shard.
            arrays: as for `restore`, of the shard alone.
        """
        features, table = section(arrays, "vocabulary."), section(arrays, "table.")
        self.vocabulary.lay(number, features, arrays, len(table["vectors_VD"]))
        self.table.lay(number, table)

    def snapshot(self) -> Snapshot:
        """Everything the next hour starts from, and which parts of it changed since the last snapshot."""
        common: dict[str, Any] = learner_state(self.learner)
        common[_IDENTITY] = np.frombuffer(bytes.fromhex(self.identity), np.uint8)
        common[SHARED] = np.array(self.vocabulary.shared)
        touched = {"table": _union(self._touched_rows), "vocabulary": _union(self._touched_features)}
        self._touched_rows, self._touched_features = [], []
        moved, self._moved = self._moved, set()
        if self.shards == 1:
            arrays, whole = {**self._shard(0), **common}, lambda: {**self._whole(0), **common}
            return Snapshot(arrays, None if moved else touched, whole, Vocabulary.DERIVED)
        parts = []
        for number in range(self.shards):
            here = {name: within(number, places) for name, places in touched.items()}
            whole = partial(self._whole, number)
            parts.append(Snapshot(self._shard(number), None if number in moved else here, whole, Vocabulary.DERIVED))
        return Snapshot({**common, _OWNERS: self.vocabulary.owners.owners_FP}, shards=tuple(parts))

    def _shard(self, number: int) -> dict[str, Column]:
        """The arrays of a shard."""
        parts = {"vocabulary": self.vocabulary.state(number), "table": self.table.state(number)}
        return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    def _whole(self, number: int) -> dict[str, Any]:
        """The same without what is forgotten, and what is derived of them."""
        if self.vocabulary.forgotten(number):
            ids = self.vocabulary.places()
            arrays, rows = self.vocabulary.drawn(ids[ids >> LOCAL_BITS == number], number, self.scratch)
            self.table.lay(number, self.table.drawn(rows, self.scratch))
            self.vocabulary.lay(number, arrays, rows=len(rows))
        return {**self._shard(number), **self.vocabulary.derived(number)}

    @property
    def shards(self) -> int:
        """In how many shards vocabulary and table lie."""
        return self.vocabulary.owners.shards

    def touched_all(self) -> None:
        """Have the next snapshot hold everything."""
        self._moved = set(range(self.shards))

    def reshard(self, shards: int) -> None:
        """Have vocabulary and table lie in so many shards; the state stays what it is, and so does its identity."""
        ids = self.vocabulary.places()
        vocabulary = Vocabulary(
            self.config.vocabulary, self.vocabulary.fields, Owners.by_size(self.vocabulary.sizes(), shards)
        )
        table = EmbeddingTable(self.config.model.width, np.zeros(0, np.uint64), self.config.seed, shards)
        homes = self.vocabulary.homes(vocabulary.owners, ids)
        for number in range(shards):
            arrays, rows = self.vocabulary.drawn(ids[homes == number], number, self.scratch)
            table.lay(number, self.table.drawn(rows, self.scratch))
            vocabulary.lay(number, arrays, rows=len(rows))
        self.vocabulary, self.table = vocabulary, table
        self.touched_all()

    def prepare(self, hour: Hour, rows: EncodedRows) -> PreparedRows:
        """Forget what is long unseen, admit an hour's features and find the table rows it uses."""
        if hour.index % EVICTION_PERIOD == 0:
            ids, keys = self.vocabulary.evict(hour)
            if len(ids):
                self._touched_features.append(ids)
                self.identity = following(self.identity, f"forgotten before hour {hour}", {"keys": keys})
        features = HourFeatures.of(rows.keys_BS, np.array(self.config.slot_fields, np.int64))
        rows_U, classes_U = self.vocabulary.admit(features), self.vocabulary.classes_of(hour, features)
        self.table.grow(*self.vocabulary.given)
        own_U = rows_U >= self.vocabulary.shared
        shared_N = _union([rows_U[~own_U], classes_U])
        # Shared rows, then those of features by key: an order that does not depend on where the rows lie.
        working = self.table.take(np.concatenate([shared_N, rows_U[own_U]]))
        places_U = np.searchsorted(shared_N, rows_U)
        places_U[own_U] = np.arange(len(shared_N), len(working.rows_U))
        places_BS, classes_BS = (
            torch.from_numpy(features.spread(used_U)) for used_U in (places_U, np.searchsorted(shared_N, classes_U))
        )
        keys = np.concatenate([np.zeros(len(shared_N), np.uint64), features.keys_U[own_U]])
        return PreparedRows(features, working, keys, places_BS, classes_BS, self.vocabulary.given_U)

    def score(self, prepared: PreparedRows, first: int = 0) -> NDArray[np.float64]:
        """Probability of a click for the rows from `first` on."""
        return self.learner.score(prepared.working.vectors_UD, prepared.places_BS[first:], prepared.classes_BS[first:])

    def learn(self, hour: Hour, rows: EncodedRows, prepared: PreparedRows, cut: int) -> AtCut:
        """Learn all rows of the hour in the order of their time, and count its features.

        Args:
            hour: which hour.
            rows: its rows.
            prepared: from `prepare`.
            cut: first gate row.

        Returns:
            What the model was when it had learnt the rows before the cut and no other.
        """
        self._fit(prepared, rows, slice(0, cut))
        scores_G = self.score(prepared, cut)
        used, network = prepared.used_by(slice(cut, None)), network_arrays(self.learner.averaged)
        self._fit(prepared, rows, slice(cut, None))
        ids_U = self.vocabulary.find(prepared.features.keys_U, prepared.features.fields_U)
        at_cut = AtCut(scores_G, *used, *self.vocabulary.known_of(hour, ids_U), prepared.given_U, network)
        self.vocabulary.observe(hour, prepared.features)
        ids_U = self.vocabulary.find(prepared.features.keys_U, prepared.features.fields_U)
        self._touched_rows.append(prepared.working.rows_U)
        self._touched_features.append(ids_U[ids_U >= 0])
        self.identity = following(self.identity, f"learnt hour {hour}", self._news(hour, prepared, ids_U[ids_U >= 0]))
        return at_cut

    def _news(self, hour: Hour, prepared: PreparedRows, ids_M: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """All that an hour has changed, given the ids of its features in the order of their keys."""
        known, working = self.vocabulary.known(hour, ids_M), prepared.working
        own_M, own_U = known.rows_M >= 0, working.rows_U >= self.vocabulary.shared
        learnt = learner_state(self.learner)
        return {
            "keys": known.keys_M,
            "fields": known.fields_M,
            "sightings": self.vocabulary.sightings(ids_M),
            "frequency": known.frequency_M,
            "rows": own_M,
            "shared rows": working.rows_U[~own_U],
            "vectors": working.vectors_UD.numpy(),
            "squares": working.squares_U.numpy(),
            **{name: learnt[name] for name in sorted(learnt)},
        }

    def _fit(self, prepared: PreparedRows, rows: EncodedRows, chosen: slice) -> None:
        self.learner.fit(
            prepared.working,
            prepared.places_BS[chosen],
            rows.labels_B[chosen],
            added_BS=prepared.classes_BS[chosen],
            weights_B=weights_of(rows.weights_B, chosen),
        )
        self.table.put(prepared.working)


def _union(places: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return distinct(np.concatenate([np.zeros(0, np.int64), *places]))
