"""Keeps the vocabulary, which maps feature keys to embedding rows and grows every hour.

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
- Ids and rows are places in shards (shards.py). What is forgotten keeps its place, marked, until its shard is written
  whole, and takes it again if it comes back before that: so forgetting writes only whom it forgot.
- One hour may bring at most `max_new_features` new features a field, the most frequent of them; others stay unknown.

Shapes: F fields, V features known, U distinct features of an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from saec.data.cohorts import COLUMNS, GONE, Cohorts, cohort_arrays
from saec.data.keymap import KeyMap, KeyRun, Merged
from saec.data.paged import Column, Paged
from saec.data.shards import LOCAL_BITS, PART_BITS, Owners, Sharded, by_shard, parts_of, placed, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from saec.config import VocabularyConfig
    from saec.data.cohorts import Arranged
    from saec.data.hour_features import HourFeatures
    from saec.hours import Hour

AGES = np.array([2, 6, 24, 72])
"""Hours from the last sighting to the hour at which the classes of age begin; the first begins at 1."""
OCTAVES = 8
"""Classes of frequency: octaves, the last one without an end."""
CLASSES = 1 + OCTAVES * (len(AGES) + 1)
"""Classes of frequency and age of a field's features; class 0 is that of the unknown ones."""
NEVER = -(1 << 31)
"""Hour index at which a feature that is not known was last seen."""


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


@dataclass
class _Found:
    """How the features of a shard are found, and how many have rows."""

    run: KeyRun
    """Keys of its base."""
    since: KeyMap = field(default_factory=KeyMap)
    """Keys that came since; their ids follow behind."""
    cohorts: Cohorts | None = None
    rows: int = 0
    """Of its table."""
    own: int = 0
    """Features that have one of these."""

    def find(self, keys_N: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places of features within the shard, -1 for one that is not there."""
        ids_N, since_N = self.run.find(keys_N), self.since.find(keys_N)
        return np.where(since_N >= 0, since_N + len(self.run), ids_N)


class Vocabulary:
    """What is known of every feature, and which of them own an embedding row.

    Arrays by id, in order of first sighting: `keys_V`, `fields_V`, `sightings_V` (all, undecayed),
    `frequency_V` (decayed to `last_seen_V`), `last_seen_V` (hour index), `row_V` (-1 without a row, `GONE` once
    forgotten). Each is a copy, made when it is asked for. Ids and rows are places (saec.data.shards).
    """

    ARRAYS = ("keys_V", "fields_V", "sightings_V", "frequency_V", "last_seen_V", "row_V")
    DERIVED = (*KeyRun.GROUPS, *Cohorts.GROUPS)
    """Groups of what `derived` gives."""
    _TYPES = (np.uint64, np.uint16, np.uint32, np.float32, np.int32, np.int64)

    def __init__(self, config: VocabularyConfig, fields: int, owners: Owners | None = None) -> None:
        """An empty vocabulary over so many fields: no features, only the shared rows; by default in one shard."""
        self._config = config
        self.fields = fields
        self.shared = fields * (1 + CLASSES)
        self.owners = owners or Owners.one(fields)
        self._known = Sharded([self._empty() for _ in range(self.owners.shards)])
        self._shards = [_Found(KeyRun.of(np.zeros(0, np.uint64))) for _ in range(self.owners.shards)]
        self._shards[0].rows = self.shared
        self._gone = np.zeros(0, np.int64)
        """Ids, ascending, of features that are forgotten and not yet dropped from their shard."""
        self.given: tuple[NDArray[np.uint64], NDArray[np.int64]] = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        """Keys of the features that the last `admit` gave rows to, and these rows, ascending."""
        self.given_U = np.zeros(0, bool)
        """Which of the hour's features they are."""

    @classmethod
    def _empty(cls) -> Paged:
        return Paged({name: np.zeros(0, kind) for name, kind in zip(cls.ARRAYS, cls._TYPES, strict=True)})

    @classmethod
    def restore(
        cls,
        config: VocabularyConfig,
        fields: int,
        arrays: Mapping[str, NDArray[Any] | Column],
        derived: Mapping[str, NDArray[Any] | Column] | None = None,
    ) -> Vocabulary:
        """The vocabulary of one shard whose `state` this was; arguments as for `lay`."""
        vocabulary = cls(config, fields)
        vocabulary.lay(0, arrays, derived)
        return vocabulary

    def lay(
        self,
        number: int,
        arrays: Mapping[str, NDArray[Any] | Column],
        derived: Mapping[str, NDArray[Any] | Column] | None = None,
        rows: int | None = None,
    ) -> None:
        """Have a shard lie in these arrays.

        Args:
            number: of the shard.
            arrays: by name; those of a `Paged` are taken over, not copied.
            derived: what `derived` gave when the base was written; what it lacks is made anew.
            rows: of the shard's table; as many as are in use, when left out.
        """
        derived = derived or {}
        if arrays["row_V"].dtype != np.int64:  # as checkpoints had them while there were fewer than 2^31 rows
            arrays = {name: np.asarray(arrays[name], np.int64 if name == "row_V" else None) for name in self.ARRAYS}
        known = self._known.shards[number] = Paged.of({name: arrays[name] for name in self.ARRAYS})
        run = KeyRun.restore(derived) if "run.keys_V" in derived else KeyRun.of(known.whole("keys_V"))
        found = self._shards[number] = _Found(run, KeyMap(known.take("keys_V", np.arange(len(run), len(known)))))
        if "bundles.numbers_G" in derived:  # a base that has these has nothing forgotten in it
            found.cohorts, since = Cohorts.restore(derived), known.since()
            row_M = known.take("row_V", since)
            dropped = np.count_nonzero(known.before("row_V", since[since < known.based]) >= 0)
            found.own = int(found.cohorts.rows - dropped + np.count_nonzero(row_M >= 0))
            gone = [since[row_M == GONE]]
        else:
            gone = [np.zeros(0, np.int64)]
            for start, (row_M,) in known.chunks("row_V"):
                found.own += int(np.count_nonzero(row_M >= 0))
                gone.append(start + np.flatnonzero(row_M == GONE))
        found.rows = (0 if number else self.shared) + found.own if rows is None else rows
        others = self._gone[self._gone >> LOCAL_BITS != number]
        self._gone = np.sort(np.concatenate([others, placed(number, np.concatenate(gone))]))

    def state(self, number: int = 0) -> dict[str, Column]:
        """The arrays in which a shard can `lay` again."""
        return self._known.state(number)

    def derived(self, number: int = 0) -> dict[str, NDArray[Any] | Merged | Arranged]:
        """Arrays of a shard, by `group.NAME`, that follow from its state and that a whole checkpoint holds besides."""
        known, run = self._known.shards[number], self._shards[number].run
        merged = run.merged(known.take("keys_V", np.arange(len(run), len(known))))
        return {**merged, **cohort_arrays(known)}

    def cohorts(self, number: int = 0) -> Cohorts:
        """The features of a shard's base, as they are there."""
        found = self._shards[number]
        if found.cohorts is None:
            found.cohorts = Cohorts.of(self._known.shards[number].base())
        return found.cohorts

    def __getattr__(self, name: str) -> NDArray[Any]:
        """The array of that name, whole in memory, shard by shard."""
        if name in Vocabulary.ARRAYS:
            return self._known.whole(name)
        raise AttributeError(name)

    def __len__(self) -> int:
        """Number of features known."""
        return len(self._known) - len(self._gone)

    @property
    def rows(self) -> int:
        """Rows of the table, those of forgotten features that it has not dropped yet among them."""
        return sum(found.rows for found in self._shards)

    @property
    def admitted(self) -> int:
        """Number of features that own a row (the default rows and class rows not counted)."""
        return sum(found.own for found in self._shards)

    def rows_in(self, number: int) -> int:
        """Rows of a shard's table."""
        return self._shards[number].rows

    def find(self, keys_N: NDArray[np.uint64], fields_N: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Ids of features, -1 for an unknown one.

        Args:
            keys_N: their keys.
            fields_N: their fields, which say in which shard to look; in each when left out.
        """
        ids_N = self._found(keys_N, fields_N)
        if len(self._gone):
            ids_N[np.isin(ids_N, self._gone)] = -1
        return ids_N

    def _found(self, keys_N: NDArray[np.uint64], fields_N: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """The same, of features that are forgotten too."""
        if len(self._shards) == 1:
            return self._shards[0].find(keys_N)
        ids_N = np.full(len(keys_N), -1, np.int64)
        shards_N = None if fields_N is None else self.owners.of(fields_N, keys_N)
        for number, found in enumerate(self._shards):
            chosen = np.flatnonzero(ids_N < 0 if shards_N is None else shards_N == number)
            local = found.find(keys_N[chosen])
            ids_N[chosen] = np.where(local >= 0, placed(number, local), -1)
        return ids_N

    def admit(self, features: HourFeatures) -> NDArray[np.int64]:
        """Give rows to the hour's features that were sighted often enough before, and return all their rows.

        Call before the hour itself is counted with `observe`.

        Returns:
            rows_U: for each feature its own row, or its field's default row.
        """
        ids_U = self.find(features.keys_U, features.fields_U)
        due_U = np.flatnonzero(ids_U >= 0)
        due_U = due_U[self._known.take("row_V", ids_U[due_U]) < 0]
        due_U = due_U[self._known.take("sightings_V", ids_U[due_U]) >= self._config.admit_after]
        due = np.sort(ids_U[due_U])  # rows in order of first sighting: neighbours in time are neighbours in memory
        rows = np.empty(len(due), np.int64)
        for number, chosen, _ in self._known.split(due):
            found, count = self._shards[number], len(due[chosen])
            rows[chosen] = placed(number, np.arange(found.rows, found.rows + count))
            found.rows, found.own = found.rows + count, found.own + count
        self._known.put(due, {"row_V": rows})
        self.given, self.given_U = (self._known.take("keys_V", due), rows), np.zeros(len(ids_U), bool)
        self.given_U[due_U] = True
        return self.rows_of(features, ids_U)

    def rows_of(self, features: HourFeatures, ids_U: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The embedding row of each feature: its own, or its field's default row."""
        ids_U = self.find(features.keys_U, features.fields_U) if ids_U is None else ids_U
        rows_U = self.own_rows(ids_U)
        return np.where(rows_U >= 0, rows_U, features.fields_U)

    def own_rows(self, ids_U: NDArray[np.int64]) -> NDArray[np.int64]:
        """The own row of each feature by id, -1 for one without and for an unknown one (-1)."""
        rows_U = np.full(len(ids_U), -1, np.int64)
        rows_U[ids_U >= 0] = self._known.take("row_V", ids_U[ids_U >= 0])
        return rows_U

    def classes_of(self, hour: Hour, features: HourFeatures) -> NDArray[np.int64]:
        """The class row of each of an hour's features, as of the hour's start: call it before `observe`."""
        frequency_U, last_seen_U = self.known_of(hour, self.find(features.keys_U, features.fields_U))
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
        ids_U = self.find(features.keys_U, features.fields_U)
        added = self._append(features, ids_U)
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
        return added

    def frequency(self, hour: Hour, ids: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Feature frequency as of an hour: sightings, each halved every `half_life` hours since."""
        ids = self._known.places() if ids is None else ids
        return self.decayed(hour, self._known.take("frequency_V", ids), self._known.take("last_seen_V", ids))

    def sightings(self, ids: NDArray[np.int64]) -> NDArray[np.uint32]:
        """How often some features were seen."""
        return self._known.take("sightings_V", ids)

    def chunks(self, hour: Hour) -> Iterator[tuple[int, Known]]:
        """All features as of an hour, part by part: the id that each part starts at, and what is known of it.

        Those that are forgotten and not yet dropped are among them: their row is `GONE`.
        """
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

    def alive(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some ids whose features are not forgotten."""
        return ids[~np.isin(ids, self._gone)] if len(self._gone) else ids

    def known(self, hour: Hour, ids: NDArray[np.int64]) -> Known:
        """What is known of some features as of an hour."""
        keys_M, fields_M, last_seen_M, rows_M = (
            self._known.take(name, ids) for name in ("keys_V", "fields_V", "last_seen_V", "row_V")
        )
        frequency_M = self.frequency(hour, ids)
        return Known(keys_M, fields_M.astype(np.int64), frequency_M, last_seen_M.astype(np.int64), rows_M)

    def before(self, number: int, ids: NDArray[np.int64]) -> Known:
        """What the `cohorts` of a shard have of some features, given ascending; frequency as of the hour last seen."""
        known = self._known.shards[number]
        local = within(number, ids)
        local = local[local < known.based]
        keys_M, fields_M, frequency_M, last_seen_M, rows_M = (known.before(name, local) for name in COLUMNS)
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

    def evict(self, hour: Hour) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Forget features unseen for `evict_after` hours, unless their frequency is at the floor or above.

        Their places stay until their shard is written whole (`kept`), so no hour has to write all shards.

        Returns:
            Ids of the forgotten, ascending, and their keys, ascending for themselves.
        """
        ids, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
        for start, part in self.chunks(hour):
            unseen_M = hour.index - part.last_seen_M > self._config.evict_after
            gone_M = unseen_M & (part.frequency_M < self._config.evict_floor) & (part.rows_M != GONE)
            ids.append(start + np.flatnonzero(gone_M))
            keys.append(part.keys_M[gone_M])
        gone = np.concatenate(ids)
        for number, chosen, _ in self._known.split(gone):
            row_M = self._known.take("row_V", gone[chosen])
            self._shards[number].own -= int(np.count_nonzero(row_M >= 0))
        self._known.put(gone, {"row_V": np.full(len(gone), GONE)})
        self._gone = np.union1d(self._gone, gone)
        return gone, np.sort(np.concatenate(keys))

    def forgotten(self, number: int) -> bool:
        """Whether a shard has features that are forgotten and not yet dropped."""
        return bool((self._gone >> LOCAL_BITS == number).any())

    def places(self) -> NDArray[np.int64]:
        """Ids, ascending, of all features that are not forgotten."""
        return self.alive(self._known.places())

    def sizes(self) -> NDArray[np.int64]:
        """How many features there are in each part of each field (F, P)."""
        sizes = np.zeros(self.fields << PART_BITS, np.int64)
        for _, (keys_M, fields_M) in self._known.chunks("keys_V", "fields_V"):
            sizes += np.bincount((fields_M.astype(np.int64) << PART_BITS) + parts_of(keys_M), minlength=len(sizes))
        return sizes.reshape(self.fields, -1)

    def homes(self, owners: Owners, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The shards that would hold some features."""
        return owners.of(self._known.take("fields_V", ids), self._known.take("keys_V", ids))

    def drawn(
        self, ids: NDArray[np.int64], number: int, scratch: Path | None
    ) -> tuple[dict[str, Column], NDArray[np.int64]]:
        """Columns of a shard of some features, given ascending, with new rows.

        Args:
            ids: of the features.
            number: of the shard that is to hold them.
            scratch: folder of a nameless file for them; in memory when left out.

        Returns:
            The columns, and the rows, ascending, that the shard's table is to consist of.
        """
        known = self._known.drawn(ids, scratch)
        row_V = known.whole("row_V")
        own = row_V >= 0
        rows = np.sort(row_V[own])
        if number == 0:
            rows = np.concatenate([np.arange(self.shared), rows])
        row_V[own] = placed(number, np.searchsorted(rows, row_V[own]))
        known = known.replaced("row_V", row_V)
        return {name: known.column(name) for name in known.names}, rows

    def _append(self, features: HourFeatures, ids_U: NDArray[np.int64]) -> int:
        """Start counting unknown features, at most the limit of each field; sets their ids, returns how many."""
        limit, unknown = self._config.max_new_features, np.flatnonzero(ids_U < 0)
        fields, counts = features.fields_U[unknown], features.counts_U[unknown]
        order = np.lexsort((features.keys_U[unknown], -counts, fields))
        rank = np.arange(len(order)) - np.searchsorted(fields[order], fields[order])
        chosen = np.sort(unknown[order[rank < limit]])
        if len(self._gone):  # one that was forgotten and comes back takes its old place
            ids_U[chosen] = self._found(features.keys_U[chosen], features.fields_U[chosen])
            back = ids_U[chosen][ids_U[chosen] >= 0]
            self._known.put(back, self._fresh(len(back)))
            self._gone = np.setdiff1d(self._gone, back)
        new = chosen[ids_U[chosen] < 0]
        keys, fields = features.keys_U[new], features.fields_U[new]
        shards = self.owners.of(fields, keys)
        ids_U[new] = self._known.append(
            shards, {"keys_V": keys, "fields_V": fields.astype(np.uint16), **self._fresh(len(new))}
        )
        for number, of_shard in by_shard(shards):
            self._shards[number].since.insert(keys[of_shard])
        return len(chosen)

    @staticmethod
    def _fresh(count: int) -> dict[str, NDArray[Any]]:
        """What there is to tell of features that were never seen."""
        return {
            "sightings_V": np.zeros(count, np.uint32),
            "frequency_V": np.zeros(count, np.float32),
            "last_seen_V": np.zeros(count, np.int32),
            "row_V": np.full(count, -1),
        }
