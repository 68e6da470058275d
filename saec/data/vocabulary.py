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
- What is known lies in a checkpoint's file but for what hours changed since (paged.py), and so do the keys (`KeyRun`);
  nothing here goes over all features but forgetting and what asks for a whole array.
- One hour may bring at most `max_new_features` new features a field, the most frequent of them; others stay unknown.

Shapes: B rows of an hour, S slots, F fields, V features known, U distinct features of an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saec.data.cohorts import COLUMNS, Cohorts, cohort_arrays
from saec.data.keymap import KeyMap, KeyRun, Merged
from saec.data.paged import Column, Paged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from saec.config import VocabularyConfig
    from saec.data.cohorts import Arranged
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


@dataclass(frozen=True)
class Known:
    """Some features, by what is known of them; arrays of M."""

    keys_M: NDArray[np.uint64]
    fields_M: NDArray[np.int64]
    frequency_M: NDArray[np.float32]
    """As of an hour."""
    last_seen_M: NDArray[np.int64]
    """Hour index of the last sighting."""
    rows_M: NDArray[np.int64]
    """Rows of the table, -1 for those without one."""


class Vocabulary:
    """What is known of every feature, and which of them own an embedding row.

    Arrays by id, in order of first sighting: `keys_V`, `fields_V`, `sightings_V` (all, undecayed),
    `frequency_V` (decayed to `last_seen_V`), `last_seen_V` (hour index), `row_V` (-1 without a row). Each is a copy,
    made when it is asked for.
    """

    ARRAYS = ("keys_V", "fields_V", "sightings_V", "frequency_V", "last_seen_V", "row_V")
    DERIVED = (*KeyRun.GROUPS, *Cohorts.GROUPS)
    """Groups of what `derived` gives."""
    _TYPES = (np.uint64, np.uint16, np.uint32, np.float32, np.int32, np.int64)

    def __init__(self, config: VocabularyConfig, fields: int) -> None:
        """An empty vocabulary over so many fields: no features, only the shared rows."""
        self._config = config
        self.fields = fields
        self.shared = fields * (1 + CLASSES)
        self.rows = self.shared
        self._known = Paged({name: np.zeros(0, kind) for name, kind in zip(self.ARRAYS, self._TYPES, strict=True)})
        self._run = KeyRun.of(np.zeros(0, np.uint64))
        self._keymap = KeyMap()
        self._cohorts: Cohorts | None = None
        self.given_N = np.zeros(0, np.uint64)
        """Keys of the features that the last `admit` gave rows to, in the order of these."""
        self.forgotten_N = np.zeros(0, np.uint64)
        """Keys, ascending, of the features that the last `evict` has forgotten."""

    @classmethod
    def restore(
        cls,
        config: VocabularyConfig,
        fields: int,
        arrays: Mapping[str, NDArray[Any] | Column],
        derived: Mapping[str, NDArray[Any] | Column] | None = None,
    ) -> Vocabulary:
        """The vocabulary whose `state` this was.

        Args:
            config: its settings.
            fields: number of fields.
            arrays: by name; those of a `Paged` are taken over, not copied.
            derived: what `derived` gave when the base was written; what it lacks is made anew.
        """
        vocabulary, derived = cls(config, fields), derived or {}
        if arrays["row_V"].dtype != np.int64:  # as checkpoints had them while there were fewer than 2^31 rows
            arrays = {name: np.asarray(arrays[name], np.int64 if name == "row_V" else None) for name in cls.ARRAYS}
        known = vocabulary._known = Paged.of({name: arrays[name] for name in cls.ARRAYS})
        if "bundles.numbers_G" in derived:
            vocabulary._cohorts, since = Cohorts.restore(derived), known.since()
            own = vocabulary._cohorts.rows - np.count_nonzero(known.before("row_V", since[since < known.based]) >= 0)
            vocabulary.rows += int(own + np.count_nonzero(known.take("row_V", since) >= 0))
        else:
            parts = known.chunks("row_V")
            vocabulary.rows += sum(int(np.count_nonzero(row_M >= 0)) for _, (row_M,) in parts)
        run = KeyRun.restore(derived) if "run.keys_V" in derived else KeyRun.of(known.whole("keys_V"))
        vocabulary._run = run
        vocabulary._keymap = KeyMap(known.take("keys_V", np.arange(len(run), len(known))))
        return vocabulary

    def state(self) -> dict[str, Column]:
        """The arrays from which `restore` makes the same vocabulary."""
        return {name: self._known.column(name) for name in self.ARRAYS}

    def derived(self) -> dict[str, NDArray[Any] | Merged | Arranged]:
        """Arrays, by `group.NAME`, that follow from the state and that a whole checkpoint holds besides."""
        run = self._run.merged(self._known.take("keys_V", np.arange(len(self._run), len(self))))
        return {**run, **cohort_arrays(self._known)}

    @property
    def cohorts(self) -> Cohorts:
        """The features of the base, as they are there."""
        if self._cohorts is None:
            self._cohorts = Cohorts.of(self._known.base())
        return self._cohorts

    def __getattr__(self, name: str) -> NDArray[Any]:
        """The array of that name, whole in memory."""
        if name in Vocabulary.ARRAYS:
            return self._known.whole(name)
        raise AttributeError(name)

    def __len__(self) -> int:
        """Number of features known."""
        return len(self._known)

    @property
    def admitted(self) -> int:
        """Number of features that own a row (the default rows and class rows not counted)."""
        return self.rows - self.shared

    def find(self, keys_N: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Ids of features, -1 for an unknown one."""
        ids_N = self._run.find(keys_N)
        since_N = self._keymap.find(keys_N)
        return np.where(since_N >= 0, since_N + len(self._run), ids_N)

    def admit(self, features: HourFeatures) -> NDArray[np.int64]:
        """Give rows to the hour's features that were sighted often enough before, and return all their rows.

        Call before the hour itself is counted with `observe`.

        Returns:
            rows_U: for each feature its own row, or its field's default row.
        """
        ids_U = self.find(features.keys_U)
        known = ids_U[ids_U >= 0]
        rowless = known[self._known.take("row_V", known) < 0]
        due = rowless[self._known.take("sightings_V", rowless) >= self._config.admit_after]
        due.sort()  # rows in order of first sighting: neighbours in time are neighbours in memory
        self._known.put(due, {"row_V": np.arange(self.rows, self.rows + len(due))})
        self.given_N = self._known.take("keys_V", due)
        self.rows += len(due)
        return self.rows_of(features, ids_U)

    def rows_of(self, features: HourFeatures, ids_U: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The embedding row of each feature: its own, or its field's default row."""
        ids_U = self.find(features.keys_U) if ids_U is None else ids_U
        rows_U = self.own_rows(ids_U)
        return np.where(rows_U >= 0, rows_U, features.fields_U)

    def own_rows(self, ids_U: NDArray[np.int64]) -> NDArray[np.int64]:
        """The own row of each feature by id, -1 for one without and for an unknown one (-1)."""
        rows_U = np.full(len(ids_U), -1, np.int64)
        rows_U[ids_U >= 0] = self._known.take("row_V", ids_U[ids_U >= 0])
        return rows_U

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
        self._known.put(
            ids,
            {
                "frequency_V": self.frequency(hour, ids) + counts.astype(np.float32),
                "sightings_V": self._known.take("sightings_V", ids) + counts.astype(np.uint32),
                "last_seen_V": np.full(len(ids), hour.index, np.int32),
            },
        )
        return len(added)

    def frequency(self, hour: Hour, ids: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Feature frequency as of an hour: sightings, each halved every `half_life` hours since."""
        ids = np.arange(len(self)) if ids is None else ids
        return self.decayed(hour, self._known.take("frequency_V", ids), self._known.take("last_seen_V", ids))

    def sightings(self, ids: NDArray[np.int64]) -> NDArray[np.uint32]:
        """How often some features were seen."""
        return self._known.take("sightings_V", ids)

    def chunks(self, hour: Hour) -> Iterator[tuple[int, Known]]:
        """All features as of an hour, part by part: the id that each part starts at, and what is known of it."""
        for start, (keys_M, fields_M, frequency_M, last_seen_M, rows_M) in self._known.chunks(
            "keys_V", "fields_V", "frequency_V", "last_seen_V", "row_V"
        ):
            yield (
                start,
                Known(
                    keys_M,
                    fields_M.astype(np.int64),
                    self.decayed(hour, frequency_M, last_seen_M),
                    last_seen_M.astype(np.int64),
                    rows_M,
                ),
            )

    def changed(self) -> NDArray[np.int64]:
        """Ids, ascending, of the features that are not, or not as they are now, among the `cohorts`."""
        return self._known.since()

    def known(self, hour: Hour, ids: NDArray[np.int64]) -> Known:
        """What is known of some features as of an hour."""
        keys_M, fields_M, last_seen_M, rows_M = (
            self._known.take(name, ids) for name in ("keys_V", "fields_V", "last_seen_V", "row_V")
        )
        frequency_M = self.frequency(hour, ids)
        return Known(keys_M, fields_M.astype(np.int64), frequency_M, last_seen_M.astype(np.int64), rows_M)

    def before(self, ids: NDArray[np.int64]) -> Known:
        """What the `cohorts` have of some features, given ascending; frequency as of the hour last seen."""
        ids = ids[ids < self._known.based]
        keys_M, fields_M, frequency_M, last_seen_M, rows_M = (self._known.before(name, ids) for name in COLUMNS)
        return Known(keys_M, fields_M.astype(np.int64), frequency_M, last_seen_M.astype(np.int64), rows_M)

    def decayed(
        self, hour: Hour, frequency_M: NDArray[np.float32], last_seen_M: NDArray[np.signedinteger]
    ) -> NDArray[np.float32]:
        """Frequency as of an hour of features that had so much of it in the hour in which they were last seen."""
        age_M = (hour.index - last_seen_M).astype(np.float32)
        decayed_M: NDArray[np.float32] = frequency_M * np.exp2(-age_M / np.float32(self._config.half_life))
        return decayed_M

    def known_of(self, hour: Hour, ids_U: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Frequency as of an hour and the hour index last seen, of features by id; 0 and `NEVER` for the unknown."""
        known = ids_U >= 0
        frequency_U, last_seen_U = np.zeros(len(ids_U), np.float32), np.full(len(ids_U), NEVER, np.int64)
        frequency_U[known] = self.frequency(hour, ids_U[known])
        last_seen_U[known] = self._known.take("last_seen_V", ids_U[known])
        return frequency_U, last_seen_U

    def evict(self, hour: Hour, scratch: Path | None = None) -> NDArray[np.bool_] | None:
        """Forget features unseen for `evict_after` hours, unless their frequency is at the floor or above.

        Args:
            hour: which hour.
            scratch: folder of a nameless file for what is left; in memory when left out.

        Returns:
            Which rows are left, in their order, for the table; None when all stay.
        """
        stays_V, row_stays = np.ones(len(self), bool), np.zeros(self.rows, bool)
        row_stays[: self.shared] = True
        forgotten = [np.zeros(0, np.uint64)]
        for start, part in self.chunks(hour):
            unseen_M = hour.index - part.last_seen_M > self._config.evict_after
            stays_M = ~(unseen_M & (part.frequency_M < self._config.evict_floor))
            stays_V[start : start + len(stays_M)] = stays_M
            forgotten.append(part.keys_M[~stays_M])
            row_stays[part.rows_M[stays_M & (part.rows_M >= 0)]] = True
        self.forgotten_N = np.sort(np.concatenate(forgotten))
        if stays_V.all():
            return None
        known = self._known.kept(stays_V, scratch)
        place_of_row = np.cumsum(row_stays) - 1
        row_V = known.whole("row_V")
        row_V[row_V >= 0] = place_of_row[row_V[row_V >= 0]]
        self._known = known.replaced("row_V", row_V)
        self.rows = int(np.count_nonzero(row_stays))
        self._run, self._keymap, self._cohorts = KeyRun.of(known.whole("keys_V")), KeyMap(), None
        return row_stays

    def _append(self, features: HourFeatures, unknown: NDArray[np.int64]) -> NDArray[np.int64]:
        """Start counting features, at most the limit of each field; returns which of the hour's they are."""
        limit = self._config.max_new_features
        fields, counts = features.fields_U[unknown], features.counts_U[unknown]
        order = np.lexsort((features.keys_U[unknown], -counts, fields))
        rank = np.arange(len(order)) - np.searchsorted(fields[order], fields[order])
        chosen = np.sort(unknown[order[rank < limit]])
        self._known.append(
            {
                "keys_V": features.keys_U[chosen],
                "fields_V": features.fields_U[chosen].astype(np.uint16),
                "sightings_V": np.zeros(len(chosen), np.uint32),
                "frequency_V": np.zeros(len(chosen), np.float32),
                "last_seen_V": np.zeros(len(chosen), np.int32),
                "row_V": np.full(len(chosen), -1),
            }
        )
        self._keymap.insert(features.keys_U[chosen])
        return chosen
