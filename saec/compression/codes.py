"""The codes of one hour: who has one, and which, from the original as it was at a moment of the hour.

The rule that everything rests on: a code that has seen a row's label is never used to retrain on that row. The vector
of a rare feature memorises the labels it was trained on, so its code carries them, and codebooks retrained on the same
rows learn to trust the leak (FINDINGS: AUC 0.60 instead of 0.71). Hence the hour's rows are learnt through the codes of
the version made from the hour before, looked up in its own files: just the codes through which users met it, its few
false accepts among them. What is retrained on is what is served, an hour old on both sides.

Codes are taken of two moments, in the same way:
- the cut: what would be published if the hour ended there. The gate judges it on the rows after the cut, so nothing of
  these is in it, neither in vectors nor in what is measured (heads.py).
- the hour's end: what is published, for the whole hour that follows.

Shapes: B rows, S slots, U distinct features of the hour, V features known, N candidates for a code, H features of the
head, F fields, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from saec.compression.codebooks import Centroids, Succession
from saec.compression.fields import cluster_fields
from saec.compression.heads import Candidates, Returns, Worth, limit, scores
from saec.compression.places import DEFAULT, NEWCOMER
from saec.data.paged import CHUNK
from saec.data.vocabulary import HourFeatures
from saec.train.tensors import section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from saec.compression.dial import Allowance
    from saec.data.hashing import Keys
    from saec.data.vocabulary import Known
    from saec.hours import Hour
    from saec.train.original import AtCut, Original
    from saec.train.tensors import Arrays

    CodesBefore = Callable[[Keys, NDArray[np.int64]], NDArray[np.int64]]
    """Keys and their fields to the codes that the version of the hour before gives them."""


@dataclass(frozen=True)
class Standards:
    """By what the features of an hour are coded: what one hour leaves for the next."""

    centroids: Centroids
    drawn_errors_F: NDArray[np.float64]
    """Relative error of each field's clusters when they were last drawn from nothing."""
    returns: Returns
    worth: Worth
    """What has been measured up to now."""
    direct_F: NDArray[np.bool_]
    """Fields all of whose features with a row have a code."""
    trials_T: NDArray[np.float64]
    """Scores that features of smaller and smaller heads, on trial for `ratio: auto`, would have to be above."""
    hours: int
    """Hours coded so far."""

    @classmethod
    def start(cls, fields: int, width: int) -> Standards:
        """Those before the first hour, by which no feature has a code."""
        return cls(
            Centroids.empty(fields, width),
            np.full(fields, np.inf),
            Returns.start(fields),
            Worth.start(fields),
            np.zeros(fields, bool),
            np.zeros(0),
            0,
        )

    def arrays(self) -> Arrays:
        """The standards as named arrays."""
        plain = ("drawn_errors_F", "direct_F", "trials_T", "hours")
        arrays: Arrays = {name: np.asarray(getattr(self, name)) for name in plain}
        for name in ("centroids", "returns", "worth"):
            arrays |= {f"{name}.{key}": array for key, array in vars(getattr(self, name)).items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Standards:
        """The standards whose `arrays` these are."""
        return cls(
            Centroids(**section(arrays, "centroids.")),
            arrays["drawn_errors_F"],
            Returns(**section(arrays, "returns.")),
            Worth(**section(arrays, "worth.")),
            arrays["direct_F"],
            arrays["trials_T"],
            int(arrays["hours"]),
        )

    def tried(self, features: Candidates) -> NDArray[np.int64]:
        """In how many of the heads on trial each feature is that has a code."""
        scores_N = _scores(features, self, self.direct_F)
        tried_N: NDArray[np.int64] = (scores_N[:, None] > self.trials_T).sum(1)
        return tried_N


@dataclass(frozen=True)
class Coding:
    """Who has a code at one moment of an hour, and which."""

    standards: Standards
    succession: Succession
    """How the codewords follow from those of the hour before."""
    head_keys_H: Keys
    """Keys of all features that have a code, newcomers among them."""
    head_codes_H: NDArray[np.int16]
    churn: float
    """Share of the head's sightings by features that had another code in the hour before."""
    figures_F: Arrays
    """How the clusters of each field live (fields.py)."""

    def arrays(self) -> Arrays:
        """Everything as named arrays."""
        own: Arrays = {name: np.asarray(getattr(self, name)) for name in ("head_keys_H", "head_codes_H", "churn")}
        parts = {"standards": self.standards.arrays(), "succession": vars(self.succession), "figures": self.figures_F}
        return own | {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Coding:
        """The coding whose `arrays` these are."""
        return cls(
            Standards.from_arrays(section(arrays, "standards.")),
            Succession(**section(arrays, "succession.")),
            arrays["head_keys_H"],
            arrays["head_codes_H"],
            float(arrays["churn"]),
            section(arrays, "figures."),
        )


@dataclass(frozen=True)
class Choice:
    """Some features that may have a code, at a moment of an hour."""

    candidates: Candidates
    keys_N: Keys
    rows_N: NDArray[np.int64]
    """Their rows of the table, -1 for newcomers."""

    def __getitem__(self, chosen_N: NDArray[np.generic]) -> Choice:
        """Those of them at some places, or where a mask is true."""
        known = Candidates(*(array_N[chosen_N] for array_N in vars(self.candidates).values()))
        return Choice(known, self.keys_N[chosen_N], self.rows_N[chosen_N])

    @classmethod
    def joined(cls, parts: Sequence[Choice]) -> Choice:
        """All of some parts; one at least."""
        known = (vars(part.candidates).values() for part in parts)
        return cls(
            Candidates(*(np.concatenate(arrays) for arrays in zip(*known, strict=True))),
            np.concatenate([part.keys_N for part in parts]),
            np.concatenate([part.rows_N for part in parts]),
        )


@dataclass(frozen=True)
class Moment:
    """The original at a moment of an hour, as codes are taken of it."""

    original: Original
    parts: Callable[[], Iterator[Choice]]
    """All features that may have a code, part by part: those with a row of the original, then the hour's newcomers."""
    own_F: NDArray[np.int64]
    """How many of them have a row of the original, by field."""
    at_cut: AtCut | None
    """What was otherwise, at the cut; None at the hour's end."""

    @cached_property
    def everything(self) -> Choice:
        """All of them at once, in memory."""
        return Choice.joined(list(self.parts()))

    @property
    def rows(self) -> int:
        """Rows of the original's table at the moment, default rows included."""
        return len(self.own_F) + int(self.own_F.sum())

    def best(
        self, scores: Callable[[Candidates], NDArray[np.float64]], features: int, trials: Sequence[int]
    ) -> tuple[Choice, list[float]]:
        """The features of the highest scores, at most so many, by field and key, and the limits of smaller choices.

        Which is not among the best of what has been gone through is dropped, so memory follows what is chosen. The
        order is such that sums over them do not depend on who came first.
        """
        kept: list[Choice] = []
        kept_N, bound, total = [np.zeros(0)], 0.0, 0
        for part in self.parts():
            scores_N = scores(part.candidates)
            total += len(scores_N)
            above_N = scores_N > bound
            kept.append(part[above_N])
            kept_N.append(scores_N[above_N])
            if sum(map(len, kept_N)) > features + max(features // 4, CHUNK):
                joined_N = np.concatenate(kept_N)
                bound = limit(joined_N, features)
                above_N = joined_N > bound
                kept, kept_N = [Choice.joined(kept)[above_N]], [joined_N[above_N]]
        joined_N, everything = np.concatenate(kept_N), Choice.joined(kept)
        kept.clear()

        def limit_of(count: int) -> float:
            return limit(joined_N, count) if len(joined_N) > count else bound if total > count else 0.0

        chosen = everything[joined_N > limit_of(features)]
        order_N = np.lexsort((chosen.keys_N, chosen.candidates.fields_N))
        return chosen[order_N], [limit_of(count) for count in trials]

    def vectors(self, chosen: Choice) -> NDArray[np.float32]:
        """Vectors of some candidates that have a row, as the original uses them in the hour to come."""
        known = chosen.candidates
        classes_M = self.original.vocabulary.class_rows(known.fields_N, known.frequency_N, known.ages_N)
        return self._rows(chosen.rows_N) + self._rows(classes_M)

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
        self.original, self.hour, self.cut, self.at_cut = original, hour, cut, at_cut
        self.features = HourFeatures.of(keys_BS, np.array(original.config.slot_fields, np.int64))
        self._ids_U = original.vocabulary.find(self.features.keys_U)

    def returned(self, returns: Returns) -> Returns:
        """What is known of returns, with how the features known before the hour came back in it."""
        known = self._ids_U >= 0
        before = self.at_cut.frequency_U[known], self.at_cut.last_seen_U[known]
        sightings = self.features.counts_U[known]
        # Newcomers are of the hour before this one in which anything was seen.
        newest = max(self.original.vocabulary.newest_before(self.hour), int(before[1].max(initial=0)))
        returns = returns.aged()
        for part, (seen, at) in self._parts(self.hour, *before):
            own_M = (part.rows_M >= 0) & (part.rows_M < self.at_cut.rows_before)
            chosen = np.flatnonzero(own_M | (part.last_seen_M == newest))
            sightings_M = np.zeros(len(own_M), np.int64)
            sightings_M[at] = sightings[seen]
            returns = returns.counted(
                Candidates(
                    part.fields_M[chosen],
                    part.frequency_M[chosen],
                    self.hour.index - part.last_seen_M[chosen],
                    own_M[chosen],
                ),
                sightings_M[chosen],
            )
        return returns

    def _parts(
        self, hour: Hour, frequency: NDArray[np.float32] | None = None, last_seen: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[Known, tuple[NDArray[np.int64], NDArray[np.int64]]]]:
        """All features as of an hour, part by part.

        Args:
            hour: which hour.
            frequency: of those of this hour that are known, where it is otherwise for them; `last_seen` likewise.
            last_seen: see `frequency`.

        Yields:
            What is known of the features of a part, which of this hour's known features are in it, and where.
        """
        ids = self._ids_U[self._ids_U >= 0]
        order = np.argsort(ids)
        for start, known in self.original.vocabulary.chunks(hour):
            first, end = np.searchsorted(ids, (start, start + len(known.keys_M)), sorter=order)
            seen = order[first:end]
            at = ids[seen] - start
            if frequency is not None and last_seen is not None:
                known.frequency_M[at], known.last_seen_M[at] = frequency[seen], last_seen[seen]
            yield known, (seen, at)

    def before(self) -> Candidates:
        """The hour's distinct features as they were before it."""
        rows_U = self.original.vocabulary.own_rows(self._ids_U)
        own_U = (rows_U >= 0) & (rows_U < self.at_cut.rows_before)
        ages_U = self.hour.index - self.at_cut.last_seen_U
        return Candidates(self.features.fields_U, self.at_cut.frequency_U, ages_U, own_U)

    def moment(self, *, end: bool) -> Moment:
        """The original at the cut or at the hour's end."""
        vocabulary, features, to_come = self.original.vocabulary, self.features, self.hour + 1
        known, seen_U = self._ids_U >= 0, features.counts_U if end else features.sightings(slice(0, self.cut))
        frequency_U, last_seen_U = vocabulary.known_of(to_come, self._ids_U)
        if not end:
            decay = np.float32(2.0 ** (-1 / self.original.config.vocabulary.half_life))
            frequency_U = (self.at_cut.frequency_U + seen_U.astype(np.float32)) * decay
            last_seen_U = np.where(seen_U > 0, self.hour.index, self.at_cut.last_seen_U)
        rows_U = vocabulary.own_rows(self._ids_U)
        # Had the hour ended at the cut, what only the gate rows brought back would have no row yet.
        to_be_U = (rows_U >= self.at_cut.rows_before) & (seen_U == 0)

        def parts() -> Iterator[Choice]:
            for part, (seen, at) in self._parts(to_come, frequency_U[known], last_seen_U[known]):
                own_M = part.rows_M >= 0
                own_M[at[to_be_U[known][seen]]] = False
                ages_M = to_come.index - part.last_seen_M
                known_M = Candidates(part.fields_M, part.frequency_M, ages_M, own_M)
                choice = Choice(known_M, part.keys_M, part.rows_M)
                yield choice if own_M.all() else choice[own_M]
            newcomer_U = known & (seen_U > 0) & (rows_U < 0)
            yield Choice(
                Candidates(features.fields_U, frequency_U, to_come.index - last_seen_U, rows_U >= 0),
                features.keys_U,
                rows_U,
            )[newcomer_U]

        own_F = self._own_F - np.bincount(features.fields_U[to_be_U], minlength=len(self._own_F))
        return Moment(self.original, parts, own_F, None if end else self.at_cut)

    @cached_property
    def _own_F(self) -> NDArray[np.int64]:
        """Features with a row, by field, at the hour's end."""
        return self.original.vocabulary.owned()


def code(
    moment: Moment, before: Standards, codes_before: CodesBefore, allowance: Allowance, trials: Sequence[Allowance] = ()
) -> Coding:
    """Choose the head of a moment, cluster it field by field, and say how codewords follow from those before.

    Args:
        moment: of an hour.
        before: standards of the hour before, and all that has been measured by this moment.
        codes_before: the codes of the version made from the hour before.
        allowance: most codewords of a field and most features with a code.
        trials: smaller ones on trial.
    """
    config, direct_F = moment.original.config, moment.own_F <= allowance.codewords
    head, trials_T = moment.best(
        lambda candidates: _scores(candidates, before, direct_F),
        allowance.features,
        [trial.features for trial in trials],
    )
    own, newcomers = head[head.candidates.own_N], head[~head.candidates.own_N]
    fields_H, weights_H = own.candidates.fields_N, own.candidates.frequency_N
    vectors_HD = moment.vectors(own)
    old_codes_H = codes_before(own.keys_N, fields_H).astype(np.int16)
    clusters = cluster_fields(
        config,
        vectors_HD,
        fields_H,
        weights_H,
        before.centroids,
        before.drawn_errors_F,
        allowance.codewords,
        old_codes_H,
    )
    return Coding(
        standards=replace(
            before,
            centroids=clusters.centroids,
            drawn_errors_F=clusters.drawn_errors_F,
            direct_F=direct_F,
            trials_T=np.array(trials_T),
            hours=before.hours + 1,
        ),
        succession=Succession.of(
            before.centroids, clusters.centroids, old_codes_H, clusters.codes_H, fields_H, weights_H, vectors_HD
        ),
        head_keys_H=np.concatenate([own.keys_N, newcomers.keys_N]),
        head_codes_H=np.concatenate([clusters.codes_H, np.full(len(newcomers.keys_N), NEWCOMER, np.int16)]),
        churn=_churn(old_codes_H, clusters.codes_H, weights_H),
        figures_F=clusters.figures_F,
    )


def _scores(candidates: Candidates, standards: Standards, direct_F: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What a code for each candidate is expected to save; without bound in fields all of whose features have one."""
    direct_N = candidates.own_N & direct_F[candidates.fields_N]
    return np.where(direct_N, np.inf, scores(candidates, standards.returns, standards.worth))


def _churn(old_codes_H: NDArray[np.int16], codes_H: NDArray[np.int16], weights_H: NDArray[np.float32]) -> float:
    """Share of the sightings of features that had a code which now have another."""
    had_H = old_codes_H != DEFAULT
    changed = weights_H[had_H] @ (old_codes_H != codes_H)[had_H].astype(np.float32)
    return float(changed / max(float(weights_H[had_H].sum()), 1e-30))
