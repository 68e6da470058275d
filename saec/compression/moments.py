"""The two moments of an hour at which codes are assigned, and the candidates for a code at each.

- The cut: what would be published if the hour ended there. The gate judges it on the rows after the cut, so neither its
  vectors nor its measurements (heads.py) contain anything from these rows.
- The hour's end: what is published, for the whole next hour.

Decisions: features that changed since the last whole checkpoint are examined one by one. The rest, which may be nearly
all, is examined in bundles of nearly equal features (saec.data.cohorts); a bundle is opened only if its least and its
most frequent feature are treated differently. The result equals that of examining each feature, to the byte: counts are
whole numbers, and limits between features are scores of examined features.

Shapes: B rows, S slots, U distinct features of the hour, N candidates for a code, M some of them, G bundles, F fields,
D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from saec.compression.heads import Candidates, Returns, frequency_class, limit
from saec.data.cohorts import bundle_of
from saec.data.hour_features import HourFeatures
from saec.data.paged import CHUNK
from saec.data.shards import LOCAL
from saec.data.vocabulary import Known
from saec.train.tensors import network_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from saec.data.hashing import Keys
    from saec.data.vocabulary import Vocabulary
    from saec.hours import Hour
    from saec.train.original import AtCut, Original
    from saec.train.tensors import Arrays

    Scores = Callable[[Candidates], NDArray[np.float64]]

_ROUNDING = 1e-9
"""By what share a feature's score may be beyond those of the least and the most frequent of its bundle, as they are
worked out; that is some 1e-15."""


@dataclass(frozen=True)
class Choice:
    """Some features that may have a code, at a moment of an hour."""

    candidates: Candidates
    keys_N: Keys
    rows_N: NDArray[np.int64]
    """Their rows of the table, -1 for newcomers."""

    @classmethod
    def of(cls, known: Known, hour: Hour, own_N: NDArray[np.bool_]) -> Choice:
        """What is known of some features as of an hour; `own_N` says which count as having a row."""
        ages_N = hour.index - known.last_seen_M
        return cls(Candidates(known.fields_M, known.frequency_M, ages_N, own_N), known.keys_M, known.rows_M)

    def __len__(self) -> int:
        """How many."""
        return len(self.keys_N)

    def __getitem__(self, chosen_N: NDArray[np.generic]) -> Choice:
        """Those of them at some places, or where a mask is true."""
        return Choice(self.candidates[chosen_N], self.keys_N[chosen_N], self.rows_N[chosen_N])

    @classmethod
    def joined(cls, parts: Sequence[Choice]) -> Choice:
        """All of some parts; one at least."""
        return cls(
            candidates_of([part.candidates for part in parts]),
            np.concatenate([part.keys_N for part in parts]),
            np.concatenate([part.rows_N for part in parts]),
        )


def candidates_of(parts: Sequence[Candidates]) -> Candidates:
    """All candidates of some parts; one at least."""
    return Candidates(
        *(np.concatenate(arrays) for arrays in zip(*(vars(part).values() for part in parts), strict=True))
    )


class Bundles:
    """The features of which nothing changed since the last whole checkpoint and that are not of the hour.

    Bundles of all shards follow each other.
    """

    def __init__(self, vocabulary: Vocabulary, changed: NDArray[np.int64]) -> None:
        """All but some, given by id, ascending."""
        self._vocabulary = vocabulary
        self._shards = [_OfShard(vocabulary, number, changed) for number in range(vocabulary.owners.shards)]
        self._ends = np.cumsum([len(shard.sizes_G) for shard in self._shards])

        def joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
            return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

        cohorts = [shard.cohorts for shard in self._shards]
        self.sizes_G = joined([shard.sizes_G for shard in self._shards])
        self.last_seen_G, self.own_G, self._fields_G, self._low_G, self._high_G = (
            joined([getattr(each, name) for each in cohorts])
            for name in ("last_seen_G", "own_G", "fields_G", "low_G", "high_G")
        )

    def ends(self, hour: Hour) -> tuple[Candidates, Candidates]:
        """The least and the most frequent feature of each bundle, or some beyond these, as of an hour."""
        ages_G = hour.index - self.last_seen_G
        low, high = (
            Candidates(self._fields_G, self._vocabulary.decayed(hour, end_G, self.last_seen_G), ages_G, self.own_G)
            for end_G in (self._low_G, self._high_G)
        )
        return low, high

    @property
    def alike_G(self) -> NDArray[np.bool_]:
        """Whether the same is known of all features of a bundle."""
        alike_G: NDArray[np.bool_] = self._low_G == self._high_G
        return alike_G

    @property
    def own_F(self) -> NDArray[np.int64]:
        """How many features have a row, by field."""
        fields_G, sizes_G = self._fields_G[self.own_G], self.sizes_G[self.own_G]
        return np.bincount(fields_G, sizes_G, self._vocabulary.fields).astype(np.int64)

    def opened(self, chosen_G: NDArray[np.bool_], hour: Hour) -> Choice:
        """The features of some bundles, as of an hour."""
        parts = []
        for shard, chosen in zip(self._shards, np.split(chosen_G, self._ends[:-1]), strict=True):
            keys_M, fields_M, frequency_M, last_seen_M, rows_M = shard.opened(chosen)
            frequency_M = self._vocabulary.decayed(hour, frequency_M, last_seen_M)
            parts.append(Choice.of(Known(keys_M, fields_M, frequency_M, last_seen_M, rows_M), hour, rows_M >= 0))
        return parts[0] if len(parts) == 1 else Choice.joined(parts)


class _OfShard:
    """The bundles of a shard."""

    def __init__(self, vocabulary: Vocabulary, number: int, changed: NDArray[np.int64]) -> None:
        self.cohorts = vocabulary.cohorts(number)
        gone = vocabulary.before(number, changed)
        numbers = bundle_of(gone.fields_M, gone.frequency_M, gone.last_seen_M, gone.rows_M)
        at = np.searchsorted(self.cohorts.numbers_G, numbers)
        there = at < len(self.cohorts.numbers_G)
        there[there] = self.cohorts.numbers_G[at[there]] == numbers[there]
        self.sizes_G = self.cohorts.sizes_G - np.bincount(at[there], minlength=len(self.cohorts.sizes_G))
        own = gone.rows_M >= 0
        self._gone_row = np.zeros(vocabulary.rows_in(number), bool)
        self._gone_row[gone.rows_M[own] & LOCAL] = True
        self._gone_keys = gone.keys_M[there & ~own]

    def opened(self, chosen_G: NDArray[np.bool_]) -> tuple[NDArray[Any], ...]:
        """Keys, fields, frequency, hour last seen and rows of the features of some bundles."""
        of_M, (keys_M, frequency_M, rows_M) = self.cohorts.members(np.flatnonzero(chosen_G))
        here_M = np.zeros(len(of_M), bool)
        own_M = rows_M >= 0
        here_M[own_M] = ~self._gone_row[rows_M[own_M] & LOCAL]
        here_M[~own_M] = ~np.isin(keys_M[~own_M], self._gone_keys)
        if not here_M.all():
            of_M, keys_M, frequency_M, rows_M = (array_M[here_M] for array_M in (of_M, keys_M, frequency_M, rows_M))
        return keys_M, self.cohorts.fields_G[of_M], frequency_M, self.cohorts.last_seen_G[of_M], rows_M


@dataclass(frozen=True)
class Moment:
    """The original at a moment of an hour, as codes are taken of it."""

    original: Original
    to_come: Hour
    """The hour after, for which codes are taken."""
    seen: Choice
    """Candidates that are not in `bundles`: what changed lately, the hour's newcomers among it."""
    bundles: Bundles
    own_F: NDArray[np.int64]
    """How many candidates have a row of the original, by field."""
    met: Choice
    """The hour's features up to the moment, as the hour met them; without a row of their own at their default row."""
    sightings_U: NDArray[np.int64]
    """How often each of them was seen."""
    at_cut: AtCut | None
    """What was otherwise, at the cut; None at the hour's end."""

    @cached_property
    def everything(self) -> Choice:
        """All features that may have a code, in memory."""
        return Choice.joined([self.bundles.opened(self.bundles.own_G, self.to_come), self.seen])

    @property
    def rows(self) -> int:
        """Rows of the original's table at the moment, default rows included."""
        return len(self.own_F) + int(self.own_F.sum())

    @property
    def defaults_FD(self) -> NDArray[np.float32]:
        """The original's default row of each field."""
        return self._rows(np.arange(len(self.own_F)))

    @property
    def network(self) -> Arrays:
        """The parameters of the original's network, as it scores."""
        return network_arrays(self.original.learner.averaged) if self.at_cut is None else self.at_cut.network

    def best(self, scores: Scores, features: int, trials: Sequence[int]) -> tuple[Choice, list[float]]:
        """The features of the highest scores, at most so many, by field and key, and the limits of smaller choices.

        The order is such that sums over them do not depend on who came first. Within a class of frequency a score rises
        with the frequency, so those of a bundle's ends are bounds of all of it; and what each limit would be, if all
        scores were at their lower bounds or all at their upper ones, are bounds of the limit. Whatever may be on either
        side of one is opened.
        """
        bundles, sizes_G, alike_G = self.bundles, self.bundles.sizes_G, self.bundles.alike_G
        low, high = bundles.ends(self.to_come)
        within_G = bundles.own_G & (sizes_G > 0) & (frequency_class(low) == frequency_class(high))
        near = Choice.joined([self.seen, bundles.opened(bundles.own_G & (sizes_G > 0) & ~within_G, self.to_come)])
        near_N = scores(near.candidates)
        low_G = scores(low) * np.where(alike_G, 1, 1 - _ROUNDING)
        high_G = scores(high) * np.where(alike_G, 1, 1 + _ROUNDING)

        def limits(bound_G: NDArray[np.float64], still_G: NDArray[np.bool_]) -> list[float]:
            times = np.concatenate([np.ones(len(near_N), np.int64), sizes_G[still_G]])
            joined = np.concatenate([near_N, bound_G[still_G]])
            return [limit(joined, count, times) for count in (features, *trials)]

        unclear_G = np.zeros(len(sizes_G), bool)
        for least, most in zip(limits(low_G, within_G), limits(high_G, within_G), strict=True):
            unclear_G |= within_G & ~alike_G & (high_G >= least) & (low_G <= most)
        near = Choice.joined([near, bundles.opened(unclear_G, self.to_come)])
        near_N = scores(near.candidates)
        bound, *trials_T = limits(low_G, within_G & ~unclear_G)
        above = bundles.opened(within_G & ~unclear_G & (low_G > bound), self.to_come)
        chosen = Choice.joined([near[near_N > bound], above])
        order_N = np.argsort(chosen.keys_N)
        fields_N = chosen.candidates.fields_N[order_N].astype(np.uint16)  # short numbers are sorted by counting them
        return chosen[order_N[np.argsort(fields_N, kind="stable")]], trials_T

    def vectors(self, chosen: Choice) -> NDArray[np.float32]:
        """Vectors of some candidates that have a row, as the original uses them in the hour to come."""
        known = chosen.candidates
        classes_M = self.original.vocabulary.class_rows(known.fields_N, known.frequency_N, known.ages_N)
        shared_MD = self._rows(np.arange(self.original.vocabulary.shared))  # few, and each is of many features
        vectors_MD = self._rows(chosen.rows_N)
        for start in range(0, len(vectors_MD), CHUNK):  # a head may be of gigabytes
            vectors_MD[start : start + CHUNK] += shared_MD[classes_M[start : start + CHUNK]]
        return vectors_MD

    def _rows(self, rows_M: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows of the table as they were at the moment."""
        vectors_MD = self.original.table.vectors(rows_M)
        return vectors_MD if self.at_cut is None else self.at_cut.vectors(rows_M, vectors_MD)


class HourPast:
    """An hour that the original has learnt whole: how it was before the hour, at the cut and at the end."""

    def __init__(self, original: Original, hour: Hour, keys_BS: Keys, cut: int, at_cut: AtCut) -> None:
        """Look the hour's features up.

        Args:
            original: after the hour.
            hour: which hour.
            keys_BS: its feature keys.
            cut: first gate row.
            at_cut: what the original was at the cut.
        """
        self.original, self.hour, self.cut, self.at_cut = original, hour, cut, at_cut.located(original.vocabulary)
        self.features = HourFeatures.of(keys_BS, np.array(original.config.slot_fields, np.int64))
        self._ids_U = original.vocabulary.find(self.features.keys_U, self.features.fields_U)
        self._rows_U = original.vocabulary.own_rows(self._ids_U)
        self._known_U = self._ids_U >= 0
        changed = np.union1d(original.vocabulary.changed(), self._ids_U[self._known_U])
        self._seen = original.vocabulary.alive(changed)
        """Ids of what is looked at feature by feature."""
        self._places = np.searchsorted(self._seen, self._ids_U[self._known_U])
        """Where the hour's features are among them."""
        self._bundles = Bundles(original.vocabulary, changed)

    def _as_of(self, hour: Hour, frequency_U: NDArray[np.float32], last_seen_U: NDArray[np.int64]) -> Known:
        """What is known, as of an hour, of what is looked at feature by feature, given it of the hour's features."""
        known = self.original.vocabulary.known(hour, self._seen)
        known.frequency_M[self._places] = frequency_U[self._known_U]
        known.last_seen_M[self._places] = last_seen_U[self._known_U]
        return known

    def returned(self, returns: Returns) -> Returns:
        """What is known of returns, with how the features known before the hour came back in it."""
        seen, bundles = self._as_of(self.hour, self.at_cut.frequency_U, self.at_cut.last_seen_U), self._bundles
        # Newcomers are of the hour before this one in which anything was seen.
        earlier = np.concatenate([seen.last_seen_M, bundles.last_seen_G])
        newest = int(earlier[earlier < self.hour.index].max(initial=0))
        own_M = seen.rows_M >= 0
        own_M[self._places] &= ~self.at_cut.given_U[self._known_U]
        sightings_M = np.zeros(len(own_M), np.int64)
        sightings_M[self._places] = self.features.counts_U[self._known_U]
        counted_M = own_M | (seen.last_seen_M == newest)
        low, high = bundles.ends(self.hour)
        counted_G = (bundles.sizes_G > 0) & (bundles.own_G | (bundles.last_seen_G == newest))
        whole_G = counted_G & (frequency_class(low) == frequency_class(high))
        one_by_one = Choice.joined(
            [
                Choice.of(seen, self.hour, own_M)[counted_M],
                bundles.opened(counted_G & ~whole_G, self.hour),
            ]
        ).candidates
        sightings_N, times_N = np.zeros((2, len(one_by_one.fields_N) + np.count_nonzero(whole_G)), np.int64)
        sightings_N[: np.count_nonzero(counted_M)] = sightings_M[counted_M]
        times_N[: len(one_by_one.fields_N)] = 1
        times_N[len(one_by_one.fields_N) :] = bundles.sizes_G[whole_G]
        return returns.aged().counted(candidates_of([one_by_one, low[whole_G]]), sightings_N, times_N)

    def before(self) -> Candidates:
        """The hour's distinct features as they were before it."""
        own_U = (self._rows_U >= 0) & ~self.at_cut.given_U
        ages_U = self.hour.index - self.at_cut.last_seen_U
        return Candidates(self.features.fields_U, self.at_cut.frequency_U, ages_U, own_U)

    def moment(self, *, end: bool) -> Moment:
        """The original at the cut or at the hour's end."""
        vocabulary, to_come = self.original.vocabulary, self.hour + 1
        seen_U = self.features.counts_U if end else self.features.sightings(slice(0, self.cut))
        frequency_U, last_seen_U = vocabulary.known_of(to_come, self._ids_U)
        if not end:
            decay = np.float32(2.0 ** (-1 / self.original.config.vocabulary.half_life))
            frequency_U = (self.at_cut.frequency_U + seen_U.astype(np.float32)) * decay
            last_seen_U = np.where(seen_U > 0, self.hour.index, self.at_cut.last_seen_U)
        seen = self._as_of(to_come, frequency_U, last_seen_U)
        own_M, newcomer_M = seen.rows_M >= 0, np.zeros(len(self._seen), bool)
        newcomer_M[self._places] = (seen_U[self._known_U] > 0) & ~own_M[self._places]
        # Had the hour ended at the cut, what only the gate rows brought back would have no row yet.
        own_M[self._places] &= (~self.at_cut.given_U | (seen_U > 0))[self._known_U]
        choice = Choice.of(seen, to_come, own_M)
        rows_U = np.where(self._rows_U < 0, self.features.fields_U, self._rows_U)
        met = Choice(self.before(), self.features.keys_U, rows_U)[seen_U > 0]
        fields = choice.candidates.fields_N[own_M]
        own_F = self._bundles.own_F + np.bincount(fields, minlength=vocabulary.fields)
        return Moment(
            self.original,
            to_come,
            choice[own_M | newcomer_M],
            self._bundles,
            own_F,
            met,
            seen_U[seen_U > 0],
            None if end else self.at_cut,
        )
