"""The vocabulary: from feature key to embedding row, growing every hour.

Decisions:
- Every feature ever seen (and not evicted) is counted; only features sighted `admit_after` times get a row of their
  own.
- Sightings count in strictly earlier hours only. Counting in the hour being trained on would tell the model how often
  the feature is still to come in it: a leak (AUC 0.675 against 0.702 on the globo log).
- Row f < F is the default row of field f: features unknown or not yet admitted train it and are scored with it.
- The rows from F on are class rows: those that all features of a field share that are of like frequency and age as of
  the hour's start, the unknown ones being a class of their own. A feature's vector is its row (its own, or the default
  row) plus its class row. Who was here an hour ago clicks otherwise than who was here last week, and what few sightings
  have taught a row is a correction to what is usual for features of its class (AUC 0.733 to 0.745, docs/LOG.md).
  Rows of features follow behind.
- Frequency is a count of sightings that halves every `half_life` hours; it is stored as of the hour a feature was last
  seen and decayed on reading, so an hour costs what its own features cost.
- One hour may bring at most `max_new_features` new features a field, the most frequent of them; others stay unknown.

Shapes: B rows of an hour, S slots, F fields, V features known, U distinct features of an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saec.data.keymap import KeyMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saec.config import VocabularyConfig
    from saec.hours import Hour

PADDING_ROW = -1
"""Row of an unused slot of a list field."""
AGES = np.array([2, 6, 24, 72])
"""Hours from the last sighting to the hour at which the classes of age begin; the first begins at 1."""
OCTAVES = 8
"""Classes of frequency: octaves, the last one without an end."""
CLASSES = 1 + OCTAVES * (len(AGES) + 1)
"""Classes of frequency and age of a field's features; class 0 is that of the unknown ones."""
NEVER = -(1 << 31)
"""Hour index at which a feature that is not known was last seen."""


@dataclass(frozen=True)
class HourFeatures:
    """The distinct features of one hour and where they stand in its key matrix.

    `keys_U` ascend; `fields_U` are their fields; `counts_U` their sightings in the hour;
    `inverse_BS` gives for each cell of the key matrix its place in `keys_U`, or -1 for padding.
    """

    keys_U: NDArray[np.uint64]
    fields_U: NDArray[np.int64]
    counts_U: NDArray[np.int64]
    inverse_BS: NDArray[np.int64]

    @classmethod
    def of(cls, keys_BS: NDArray[np.uint64], slot_fields_S: NDArray[np.int64]) -> HourFeatures:
        """Sort an hour's keys into distinct features."""
        keys_U, first_U, inverse, counts_U = np.unique(
            keys_BS, return_index=True, return_inverse=True, return_counts=True
        )
        inverse_BS = inverse.reshape(keys_BS.shape)
        fields_U = slot_fields_S[first_U % keys_BS.shape[1]] if len(keys_U) else np.zeros(0, np.int64)
        if len(keys_U) and keys_U[0] == 0:
            return cls(keys_U[1:], fields_U[1:], counts_U[1:], inverse_BS - 1)
        return cls(keys_U, fields_U, counts_U, inverse_BS)

    def sightings(self, rows: slice) -> NDArray[np.int64]:
        """Sightings of each distinct feature (U) in some rows of the hour."""
        cells = self.inverse_BS[rows].ravel()
        return np.bincount(cells[cells >= 0], minlength=len(self.keys_U))

    def spread(self, values_U: NDArray[np.int64], padding: int = PADDING_ROW) -> NDArray[np.int64]:
        """One value per distinct feature, laid out as the key matrix."""
        return np.append(values_U, padding)[self.inverse_BS]


class Vocabulary:
    """What is known of every feature, and which of them own an embedding row.

    Arrays by id, in order of first sighting: `keys_V`, `fields_V`, `sightings_V` (all, undecayed),
    `frequency_V` (decayed to `last_seen_V`), `last_seen_V` (hour index), `row_V` (-1 without a row).
    """

    ARRAYS = ("keys_V", "fields_V", "sightings_V", "frequency_V", "last_seen_V", "row_V")

    def __init__(self, config: VocabularyConfig, fields: int) -> None:
        """An empty vocabulary over so many fields: no features, only the shared rows."""
        self._config = config
        self.fields = fields
        self.shared = fields * (1 + CLASSES)
        self.rows = self.shared
        self.keys_V = np.zeros(0, np.uint64)
        self.fields_V = np.zeros(0, np.uint16)
        self.sightings_V = np.zeros(0, np.uint32)
        self.frequency_V = np.zeros(0, np.float32)
        self.last_seen_V = np.zeros(0, np.int32)
        self.row_V = np.zeros(0, np.int32)
        self._keymap = KeyMap()

    @classmethod
    def restore(cls, config: VocabularyConfig, fields: int, arrays: dict[str, NDArray[np.generic]]) -> Vocabulary:
        """The vocabulary whose `state` this was."""
        vocabulary = cls(config, fields)
        for name in cls.ARRAYS:
            setattr(vocabulary, name, arrays[name])
        vocabulary.rows += int((vocabulary.row_V >= 0).sum())
        vocabulary._keymap = KeyMap(vocabulary.keys_V)
        return vocabulary

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The arrays from which `restore` makes the same vocabulary."""
        return {name: getattr(self, name) for name in self.ARRAYS}

    def __len__(self) -> int:
        """Number of features known."""
        return len(self.keys_V)

    @property
    def admitted(self) -> int:
        """Number of features that own a row (the default rows and class rows not counted)."""
        return self.rows - self.shared

    def find(self, keys_N: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Ids of features, -1 for an unknown one."""
        return self._keymap.find(keys_N)

    def admit(self, features: HourFeatures) -> NDArray[np.int64]:
        """Give rows to the hour's features that were sighted often enough before, and return all their rows.

        Call before the hour itself is counted with `observe`.

        Returns:
            rows_U: for each feature its own row, or its field's default row.
        """
        ids_U = self.find(features.keys_U)
        known = ids_U[ids_U >= 0]
        due = known[(self.row_V[known] < 0) & (self.sightings_V[known] >= self._config.admit_after)]
        due.sort()  # rows in order of first sighting: neighbours in time are neighbours in memory
        self.row_V[due] = np.arange(self.rows, self.rows + len(due), dtype=np.int32)
        self.rows += len(due)
        return self.rows_of(features, ids_U)

    def rows_of(self, features: HourFeatures, ids_U: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The embedding row of each feature: its own, or its field's default row."""
        ids_U = self.find(features.keys_U) if ids_U is None else ids_U
        rows_U = np.full(len(ids_U), -1, np.int64)
        rows_U[ids_U >= 0] = self.row_V[ids_U[ids_U >= 0]]
        return np.where(rows_U >= 0, rows_U, features.fields_U)

    def classes_of(self, hour: Hour, features: HourFeatures) -> NDArray[np.int64]:
        """The class row of each of an hour's features, as of the hour's start: call it before `observe`."""
        frequency_U, last_seen_U = self.known_of(hour, self.find(features.keys_U))
        return self.class_rows(features.fields_U, frequency_U, hour.index - last_seen_U)

    def class_rows(
        self, fields_N: NDArray[np.int64], frequency_N: NDArray[np.float32], ages_N: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The class rows of some features.

        Args:
            fields_N: their fields.
            frequency_N: their frequencies as of an hour, 0 for the unknown.
            ages_N: hours from their last sightings to that hour.
        """
        octaves_N = np.minimum(np.log2(np.maximum(frequency_N, 1)).astype(np.int64), OCTAVES - 1)
        classes_N = 1 + octaves_N * (len(AGES) + 1) + np.searchsorted(AGES, ages_N, side="right")
        return self.fields * (1 + np.where(frequency_N > 0, classes_N, 0)) + fields_N

    def observe(self, hour: Hour, features: HourFeatures) -> int:
        """Count an hour's sightings, once everything that trains on the hour is done with it.

        Returns:
            Number of features seen for the first time.
        """
        ids_U = self.find(features.keys_U)
        added = self._append(features, np.flatnonzero(ids_U < 0))
        ids_U[added] = np.arange(len(self) - len(added), len(self))
        held = ids_U >= 0
        ids, counts = ids_U[held], features.counts_U[held]
        self.frequency_V[ids] = self.frequency(hour, ids) + counts.astype(np.float32)
        self.sightings_V[ids] += counts.astype(np.uint32)
        self.last_seen_V[ids] = hour.index
        return len(added)

    def frequency(self, hour: Hour, ids: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Feature frequency as of an hour: sightings, each halved every `half_life` hours since."""
        chosen: NDArray[np.int64] | slice = slice(None) if ids is None else ids
        age = (hour.index - self.last_seen_V[chosen]).astype(np.float32)
        decayed: NDArray[np.float32] = self.frequency_V[chosen] * np.exp2(-age / np.float32(self._config.half_life))
        return decayed

    def known_of(self, hour: Hour, ids_U: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Frequency as of an hour and the hour index last seen, of features by id; 0 and `NEVER` for the unknown."""
        known = ids_U >= 0
        frequency_U, last_seen_U = np.zeros(len(ids_U), np.float32), np.full(len(ids_U), NEVER, np.int64)
        frequency_U[known] = self.frequency(hour, ids_U[known])
        last_seen_U[known] = self.last_seen_V[ids_U[known]]
        return frequency_U, last_seen_U

    def evict(self, hour: Hour) -> NDArray[np.int64] | None:
        """Forget features unseen for `evict_after` hours, unless their frequency is at the floor or above.

        Returns:
            The old row of each row that is left, in its new order, for moving the table's rows; None when all stay.
        """
        unseen = hour.index - self.last_seen_V > self._config.evict_after
        gone_V = unseen & (self.frequency(hour) < self._config.evict_floor)
        if not gone_V.any():
            return None
        for name in self.ARRAYS:
            setattr(self, name, getattr(self, name)[~gone_V])
        own = np.flatnonzero(self.row_V >= 0)
        own = own[np.argsort(self.row_V[own], kind="stable")]
        kept_rows = np.concatenate([np.arange(self.shared), self.row_V[own].astype(np.int64)])
        self.row_V[own] = np.arange(self.shared, self.shared + len(own), dtype=np.int32)
        self.rows = self.shared + len(own)
        self._keymap = KeyMap(self.keys_V)
        return kept_rows

    def _append(self, features: HourFeatures, unknown: NDArray[np.int64]) -> NDArray[np.int64]:
        """Start counting features, at most the limit of each field; returns which of the hour's they are."""
        limit = self._config.max_new_features
        fields, counts = features.fields_U[unknown], features.counts_U[unknown]
        order = np.lexsort((features.keys_U[unknown], -counts, fields))
        rank = np.arange(len(order)) - np.searchsorted(fields[order], fields[order])
        chosen = np.sort(unknown[order[rank < limit]])
        fresh: dict[str, NDArray[np.generic]] = {
            "keys_V": features.keys_U[chosen],
            "fields_V": features.fields_U[chosen].astype(np.uint16),
            "sightings_V": np.zeros(len(chosen), np.uint32),
            "frequency_V": np.zeros(len(chosen), np.float32),
            "last_seen_V": np.zeros(len(chosen), np.int32),
            "row_V": np.full(len(chosen), -1, np.int32),
        }
        for name, values in fresh.items():
            setattr(self, name, np.concatenate([getattr(self, name), values]))
        self._keymap.insert(features.keys_U[chosen])
        return chosen
