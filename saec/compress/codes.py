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
from typing import TYPE_CHECKING

import numpy as np

from saec.compress.codebooks import Centroids, Succession
from saec.compress.fields import cluster_fields
from saec.compress.heads import Candidates, Returns, Worth, limit, scores
from saec.compress.places import DEFAULT, NEWCOMER
from saec.data.vocabulary import HourFeatures
from saec.train.tensors import section

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from saec.compress.dial import Allowance
    from saec.data.hashing import Keys
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
            Centroids.empty(fields, width), np.full(fields, np.inf), Returns.start(fields), Worth.start(fields),
            np.zeros(fields, bool), np.zeros(0), 0,
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
class Moment:
    """The original at a moment of an hour, as codes are taken of it."""

    original: Original
    candidates: Candidates
    """Features that may have a code: all with a row of the original, then the hour's newcomers."""
    keys_N: Keys
    rows_N: NDArray[np.int64]
    """Their rows of the table, -1 for newcomers."""
    at_cut: AtCut | None
    """What was otherwise, at the cut; None at the hour's end."""

    @property
    def rows(self) -> int:
        """Rows of the original's table at the moment, default rows included."""
        return len(self.original.config.field_names) + int(self.candidates.own_N.sum())

    def vectors(self, chosen_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of some candidates that have a row, as the original uses them in the hour to come."""
        candidates = self.candidates
        classes_M = self.original.vocabulary.class_rows(
            candidates.fields_N[chosen_N], candidates.frequency_N[chosen_N], candidates.ages_N[chosen_N]
        )
        return self._rows(self.rows_N[chosen_N]) + self._rows(classes_M)

    def _rows(self, rows_M: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows of the table as they were at the moment."""
        vectors_MD = self.original.table.vectors_VD[rows_M]
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
        vocabulary, known = self.original.vocabulary, self._ids_U >= 0
        ids = self._ids_U[known]
        frequency_V, last_seen_V = vocabulary.frequency(self.hour), vocabulary.last_seen_V.astype(np.int64)
        frequency_V[ids], last_seen_V[ids] = self.at_cut.frequency_U[known], self.at_cut.last_seen_U[known]
        own_V = (vocabulary.row_V >= 0) & (vocabulary.row_V < self.at_cut.rows_before)
        # Newcomers are of the hour before this one in which anything was seen.
        newcomer_V = ~own_V & (last_seen_V == last_seen_V.max(initial=0))
        sightings_V = np.zeros(len(vocabulary), np.int64)
        sightings_V[ids] = self.features.counts_U[known]
        chosen = np.flatnonzero(own_V | newcomer_V)
        before = Candidates(
            vocabulary.fields_V[chosen].astype(np.int64), frequency_V[chosen], self.hour.index - last_seen_V[chosen],
            own_V[chosen],
        )
        return returns.learned(before, sightings_V[chosen])

    def before(self) -> Candidates:
        """The hour's distinct features as they were before it."""
        rows_U = np.append(self.original.vocabulary.row_V, -1)[self._ids_U]
        own_U = (rows_U >= 0) & (rows_U < self.at_cut.rows_before)
        ages_U = self.hour.index - self.at_cut.last_seen_U
        return Candidates(self.features.fields_U, self.at_cut.frequency_U, ages_U, own_U)

    def moment(self, *, end: bool) -> Moment:
        """The original at the cut or at the hour's end."""
        vocabulary, features, to_come = self.original.vocabulary, self.features, self.hour + 1
        known, seen_U = self._ids_U >= 0, features.counts_U if end else features.sightings(slice(0, self.cut))
        frequency_V, last_seen_V = vocabulary.frequency(to_come), vocabulary.last_seen_V.astype(np.int64)
        if not end:
            decay = np.float32(2.0 ** (-1 / self.original.config.vocabulary.half_life))
            then_U = (self.at_cut.frequency_U + seen_U.astype(np.float32)) * decay
            frequency_V[self._ids_U[known]] = then_U[known]
            last_U = np.where(seen_U > 0, self.hour.index, self.at_cut.last_seen_U)
            last_seen_V[self._ids_U[known]] = last_U[known]
        rows_U, own_V = np.append(vocabulary.row_V, -1)[self._ids_U], vocabulary.row_V >= 0
        # Had the hour ended at the cut, what only the gate rows brought back would have no row yet.
        own_V[self._ids_U[(rows_U >= self.at_cut.rows_before) & (seen_U == 0)]] = False
        ids_N = np.concatenate([np.flatnonzero(own_V), self._ids_U[known & (seen_U > 0) & (rows_U < 0)]])
        candidates = Candidates(
            vocabulary.fields_V[ids_N].astype(np.int64), frequency_V[ids_N], to_come.index - last_seen_V[ids_N],
            own_V[ids_N],
        )
        rows_N = vocabulary.row_V[ids_N].astype(np.int64)
        return Moment(self.original, candidates, vocabulary.keys_V[ids_N], rows_N, None if end else self.at_cut)


def code(moment: Moment, before: Standards, codes_before: CodesBefore, allowance: Allowance,
         trials: Sequence[Allowance] = ()) -> Coding:
    """Choose the head of a moment, cluster it field by field, and say how codewords follow from those before.

    Args:
        moment: of an hour.
        before: standards of the hour before, and all that has been measured by this moment.
        codes_before: the codes of the version made from the hour before.
        allowance: most codewords of a field and most features with a code.
        trials: smaller ones on trial.
    """
    candidates, config = moment.candidates, moment.original.config
    own_F = np.bincount(candidates.fields_N[candidates.own_N], minlength=len(config.field_names))
    direct_F = own_F <= allowance.codewords
    scores_N = _scores(candidates, before, direct_F)
    head_N = scores_N > limit(scores_N, allowance.features)
    own, newcomer = (_by_key(moment, head_N & which_N) for which_N in (candidates.own_N, ~candidates.own_N))
    fields_H, weights_H = candidates.fields_N[own], candidates.frequency_N[own]
    vectors_HD = moment.vectors(own)
    old_codes_H = codes_before(moment.keys_N[own], fields_H).astype(np.int16)
    clusters = cluster_fields(
        config, vectors_HD, fields_H, weights_H, before.centroids, before.drawn_errors_F, allowance.codewords,
        old_codes_H,
    )
    return Coding(
        standards=replace(
            before, centroids=clusters.centroids, drawn_errors_F=clusters.drawn_errors_F, direct_F=direct_F,
            trials_T=np.array([limit(scores_N, trial.features) for trial in trials]), hours=before.hours + 1,
        ),
        succession=Succession.of(
            before.centroids, clusters.centroids, old_codes_H, clusters.codes_H, fields_H, weights_H, vectors_HD
        ),
        head_keys_H=np.concatenate([moment.keys_N[own], moment.keys_N[newcomer]]),
        head_codes_H=np.concatenate([clusters.codes_H, np.full(len(newcomer), NEWCOMER, np.int16)]),
        churn=_churn(old_codes_H, clusters.codes_H, weights_H),
        figures_F=clusters.figures_F,
    )


def _by_key(moment: Moment, chosen_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Which candidates are chosen, by field and key: sums over them must not depend on who came first."""
    chosen = np.flatnonzero(chosen_N)
    return chosen[np.lexsort((moment.keys_N[chosen], moment.candidates.fields_N[chosen]))]


def _scores(candidates: Candidates, standards: Standards, direct_F: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What a code for each candidate is expected to save; without bound in fields all of whose features have one."""
    direct_N = candidates.own_N & direct_F[candidates.fields_N]
    return np.where(direct_N, np.inf, scores(candidates, standards.returns, standards.worth))


def _churn(old_codes_H: NDArray[np.int16], codes_H: NDArray[np.int16], weights_H: NDArray[np.float32]) -> float:
    """Share of the sightings of features that had a code which now have another."""
    had_H = old_codes_H != DEFAULT
    changed = weights_H[had_H] @ (old_codes_H != codes_H)[had_H].astype(np.float32)
    return float(changed / max(float(weights_H[had_H].sum()), 1e-30))
