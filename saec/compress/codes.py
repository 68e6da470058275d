"""The codes of one hour: clusters of the head, lagged codes to retrain through, fresh codes to serve with.

The rule that everything rests on: a code that has seen a row's label is never used to retrain on that row. The vector
of a rare feature memorises the labels it was trained on, so its code carries them, and codebooks retrained on the same
rows learn to trust the leak (FINDINGS: AUC 0.60 instead of 0.71). Hence two sets of codes:
- lagged: for each stretch of the train rows, the vectors as they were before it, against the centroids of the hour
  before. Nothing of the stretch, or of later rows, is in them. The challenger is retrained through these. Short
  stretches bring them near to the fresh codes that are served, which know what happened minutes ago.
- fresh: the vectors at the cut, against this hour's centroids. They have seen the train rows, not the gate rows. The
  artifact is published with these, the gate judges with these, and the gate rows are later absorbed through these.
The same holds for who is in the head (heads.py): sightings are counted up to the cut, or up to some stretches before
the one that is coded. That delay matters: who was seen a minute ago clicks more than who was seen ten minutes ago, and
codewords retrained on the first would serve the second. The delay is that of the gate rows, on average.

The index takes a few unknown features for known ones and gives them any code. Both sets of codes have their share of
such errors, drawn anew each hour, so that codewords are retrained on what they will be served for.

Shapes: B rows, S slots, U distinct features of the hour, N features with a row of their own, H features of the head, W
newcomers of the head, F fields, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saec.compress.codebooks import Centroids, Succession
from saec.compress.dial import Allowance
from saec.compress.fields import cluster_fields
from saec.compress.heads import Candidates, Returns, Worth, limits, scores
from saec.compress.places import CLUSTERS, DEFAULT, NEWCOMER
from saec.data.vocabulary import HourFeatures
from saec.train.tensors import section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from saec.config import Config, TrainingConfig
    from saec.data.vocabulary import Vocabulary
    from saec.hours import Hour
    from saec.train.original import Original, Untouched
    from saec.train.tensors import Arrays

PADDING_CODE = -1
"""Code of an unused slot of a list field."""
_PLAIN = ("lagged_BS", "fresh_BS", "trials_BS", "head_keys_H", "head_codes_H")


@dataclass(frozen=True)
class Standards:
    """By what the features of an hour are coded: what one hour leaves for the next."""

    centroids: Centroids
    drawn_errors_F: NDArray[np.float64]
    """Relative error of each field's clusters when they were last drawn from nothing."""
    returns: Returns
    worth: Worth
    """What has been measured up to now."""
    limits: tuple[float, float]
    """A feature has a code when its sightings are expected to save more than this: known ones, newcomers."""
    limit_returns: Returns
    limit_worth: Worth
    """What had been measured when the limits were set: scores by later measures are no match for them."""
    hours: int
    """Hours coded so far."""

    @classmethod
    def start(cls, fields: int, width: int) -> Standards:
        """Those of the first hour, by which no feature has a code."""
        none = Centroids.empty(fields, width)
        returns, worth = Returns.start(fields), Worth.start(fields)
        return cls(none, np.full(fields, np.inf), returns, worth, (np.inf, np.inf), returns, worth, 0)

    def coded(self, features: Candidates) -> NDArray[np.bool_]:
        """Which features have a code by these limits."""
        limits_N = np.where(features.own_N, *self.limits)
        return scores(features, self.limit_returns, self.limit_worth) > limits_N

    def arrays(self) -> Arrays:
        """The standards as named arrays."""
        arrays: Arrays = {name: np.asarray(getattr(self, name)) for name in ("drawn_errors_F", "limits", "hours")}
        for name in ("centroids", "returns", "worth", "limit_returns", "limit_worth"):
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
            (float(arrays["limits"][0]), float(arrays["limits"][1])),
            Returns(**section(arrays, "limit_returns.")),
            Worth(**section(arrays, "limit_worth.")),
            int(arrays["hours"]),
        )


@dataclass(frozen=True)
class HourCodes:
    """What clustering hands to retraining; codes are int16 as in codebooks.py, -1 for padding."""

    standards: Standards
    """The hour's own, by which the published version codes."""
    succession: Succession
    """How the hour's codewords follow from those that were retrained."""
    lagged_BS: NDArray[np.int16]
    """Codes of the train rows, each stretch's from before it."""
    fresh_BS: NDArray[np.int16]
    """Codes of the gate rows, as the published version gives them."""
    trials_BS: NDArray[np.int8]
    """In how many of the trials, of smaller and smaller heads, each cell of the gate rows keeps its code."""
    head_keys_H: NDArray[np.uint64]
    """Keys of all features that have a code, newcomers among them."""
    head_codes_H: NDArray[np.int16]
    """Their fresh codes."""
    churn: float
    """Share of the train rows' coded cells whose fresh code is not the one they were trained through."""
    figures_F: Arrays
    """How the clusters of each field live (fields.py)."""

    def arrays(self) -> Arrays:
        """The codes as named arrays."""
        own = {name: getattr(self, name) for name in _PLAIN}
        parts = {"standards": self.standards.arrays(), "succession": vars(self.succession), "figures": self.figures_F}
        nested = {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
        return {**own, "churn": np.array([self.churn]), **nested}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> HourCodes:
        """The codes whose `arrays` these are."""
        own = {name: arrays[name] for name in _PLAIN}
        return cls(
            standards=Standards.from_arrays(section(arrays, "standards.")),
            succession=Succession(**section(arrays, "succession.")),
            **own,
            churn=float(arrays["churn"][0]),
            figures_F=section(arrays, "figures."),
        )


def code_hour(
    original: Original,
    untouched: Untouched,
    before: Standards,
    hour: Hour,
    keys_BS: NDArray[np.uint64],
    cut: int,
    ratio: float,
    trials: Sequence[float] = (),
) -> HourCodes:
    """Cluster the head of every field of the original at the cut, and code the hour's rows.

    Args:
        original: trained on the hour's rows before the cut.
        untouched: the vectors that each stretch of the train rows uses, as they were before it.
        before: standards of the hour before.
        hour: the hour.
        keys_BS: its feature keys.
        cut: first gate row.
        ratio: wanted bytes of the original's rows and keys to bytes of the files that replace them.
        trials: larger ratios, ascending, of which the heads are wanted too.
    """
    config, vocabulary = original.config, original.vocabulary
    allowance, *smaller = [Allowance.of(config, vocabulary.rows, wanted) for wanted in (ratio, *trials)]
    features = HourFeatures.of(keys_BS, np.array(config.slot_fields, np.int64))
    ids_U = vocabulary.find(features.keys_U)
    present = _candidates(vocabulary, hour, ids_U, features.fields_U)
    own_N = np.flatnonzero(vocabulary.row_V >= 0)
    known = _candidates(vocabulary, hour, own_N, vocabulary.fields_V[own_N].astype(np.int64))
    place_U = np.where(present.own_N, np.searchsorted(own_N, ids_U), len(own_N))

    # The head at the cut.
    seen_U = features.sightings(slice(0, cut))
    at_cut = known.after(_placed(seen_U, place_U, len(own_N)))
    direct_F = np.bincount(known.fields_N, minlength=vocabulary.fields) <= allowance.codewords
    scored_N = np.where(direct_F[known.fields_N], np.inf, scores(at_cut, before.returns, before.worth))
    present_at_cut = present.after(seen_U)
    scored_U = np.where(present.own_N, -1.0, scores(present_at_cut, before.returns, before.worth))
    newcomers = scored_U[scored_U >= 0.0]
    limits_now = limits(scored_N, newcomers, allowance.features)
    head_N, newcomer_U = scored_N > limits_now[0], scored_U > limits_now[1]

    # Its clusters and codes, and how they follow from those before.
    fields_H, weights_H = known.fields_N[head_N], at_cut.frequency_N[head_N]
    rows_H = vocabulary.row_V[own_N[head_N]].astype(np.int64)
    vectors_HD = original.table.vectors_VD[rows_H]
    was_coded_H = before.coded(known.of(head_N)) | direct_F[fields_H]
    nearest_before_H = before.centroids.codes(untouched.restored(rows_H, vectors_HD), fields_H)
    old_codes_H = np.where(was_coded_H, nearest_before_H, np.int16(DEFAULT))
    clusters = cluster_fields(
        config, vectors_HD, fields_H, weights_H, before.centroids, before.drawn_errors_F, allowance.codewords,
        nearest_before_H,
    )
    succession = Succession.of(
        before.centroids, clusters.centroids, old_codes_H, clusters.codes_H, fields_H, weights_H, vectors_HD
    )

    fresh_N = np.append(np.zeros(len(own_N), np.int64), DEFAULT)
    fresh_N[:-1][head_N] = clusters.codes_H
    errors_U = _false_accepts(config, hour, features.fields_U, clusters.centroids.counts_F)
    fresh_U = np.where(newcomer_U, NEWCOMER, fresh_N[place_U])
    fresh_U = np.where(fresh_U == DEFAULT, errors_U, fresh_U)
    fresh_BS = features.spread(fresh_U, PADDING_CODE).astype(np.int16)
    rows_U = np.append(vocabulary.row_V, -1)[ids_U].astype(np.int64)
    errors_U = _false_accepts(config, hour, features.fields_U, before.centroids.counts_F)
    lagged_BS = _lagged(features, present, rows_U, untouched, before, direct_F, errors_U, _delay(config.training))
    head_of_U = np.append(head_N, False)[place_U]
    present_U = np.where(present.own_N, np.append(scored_N, -1.0)[place_U], scored_U)
    kept_U = np.zeros(len(ids_U), np.int64)
    for trial in smaller:
        kept_U += present_U > np.where(present.own_N, *limits(scored_N, newcomers, trial.features))
    coded_BS = features.spread(head_of_U.astype(np.int64), 0)[:cut] > 0
    to_come_U = features.sightings(slice(cut, None))
    sightings_N = _placed(seen_U + to_come_U, place_U, len(own_N))
    return HourCodes(
        standards=Standards(
            centroids=clusters.centroids,
            drawn_errors_F=clusters.drawn_errors_F,
            returns=before.returns.learned(
                (known, sightings_N), (present_at_cut.of(seen_U > 0), to_come_U[seen_U > 0])
            ),
            worth=before.worth,
            limits=limits_now,
            limit_returns=before.returns,
            limit_worth=before.worth,
            hours=before.hours + 1,
        ),
        succession=succession,
        lagged_BS=lagged_BS,
        fresh_BS=fresh_BS[cut:],
        trials_BS=features.spread(kept_U, 0)[cut:].astype(np.int8),
        head_keys_H=np.concatenate([vocabulary.keys_V[own_N[head_N]], features.keys_U[newcomer_U]]),
        head_codes_H=np.concatenate([clusters.codes_H, np.full(newcomer_U.sum(), NEWCOMER, np.int16)]),
        churn=float((lagged_BS != fresh_BS[:cut])[coded_BS].mean()) if coded_BS.any() else 0.0,
        figures_F=clusters.figures_F,
    )


def _candidates(
    vocabulary: Vocabulary, hour: Hour, ids_N: NDArray[np.int64], fields_N: NDArray[np.int64]
) -> Candidates:
    """Features as they are at the start of an hour; `ids_N` is -1 for those not known yet."""
    known_N = ids_N >= 0
    frequency_N, ages_N = np.zeros(len(ids_N), np.float32), np.ones(len(ids_N), np.int64)
    frequency_N[known_N] = vocabulary.frequency(hour, ids_N[known_N])
    ages_N[known_N] = hour.index - vocabulary.last_seen_V[ids_N[known_N]]
    return Candidates(fields_N, frequency_N, ages_N, np.append(vocabulary.row_V, -1)[ids_N] >= 0)


def _placed(sightings_U: NDArray[np.int64], place_U: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Sightings of the hour's features, laid out among all features with a row of their own."""
    sightings_N = np.zeros(count + 1, np.int64)
    sightings_N[place_U] = sightings_U
    return sightings_N[:count]


def _false_accepts(
    config: Config, hour: Hour, fields_U: NDArray[np.int64], counts_F: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each feature the code that it would get were it unknown: nearly always the default one (artifact.py)."""
    rng = np.random.default_rng([config.seed, hour.index])
    accepted_U = rng.random(len(fields_U)) < 0.5**config.compression.fingerprint_bits
    values = 1 << int(counts_F.max(initial=0)).bit_length()
    codes_U = 1 + rng.integers(0, values, len(fields_U))
    return np.where(accepted_U & (codes_U < counts_F[fields_U] + CLUSTERS), codes_U, DEFAULT)


def _delay(training: TrainingConfig) -> int:
    """Stretches after which sightings count: as old as they are, on average, for the gate rows."""
    return round(training.gate_share / 2 / (1 - training.gate_share) * training.stretches)


def _lagged(
    features: HourFeatures,
    present: Candidates,
    rows_U: NDArray[np.int64],
    untouched: Untouched,
    before: Standards,
    direct_F: NDArray[np.bool_],
    errors_U: NDArray[np.int64],
    delay: int,
) -> NDArray[np.int16]:
    """Codes of the train rows, each stretch's from sightings and vectors before it.

    Args:
        features: distinct features of the hour.
        present: the same as candidates, as they are at its start.
        rows_U: their rows in the table, -1 without one.
        untouched: vectors before each stretch.
        before: standards of the hour before.
        direct_F: fields all of whose features have codes.
        errors_U: codes of those that have none.
        delay: stretches by which sightings come late.
    """
    codes, starts = [], [stretch.start for stretch, _, _ in untouched.stretches()]
    for number, (stretch, rows, vectors) in enumerate(untouched.stretches()):
        moment = present.after(features.sightings(slice(0, starts[max(number - delay, 0)])))
        coded_U = before.coded(moment) | (present.own_N & direct_F[present.fields_N])
        inverse_BS = features.inverse_BS[stretch]
        used = np.unique(inverse_BS[inverse_BS >= 0])
        lagged_U = np.where(coded_U, NEWCOMER, errors_U)
        coded = used[(coded_U & present.own_N)[used]]
        lagged_U[coded] = before.centroids.codes(
            vectors[np.searchsorted(rows, rows_U[coded])], features.fields_U[coded]
        )
        codes.append(np.append(lagged_U, PADDING_CODE)[inverse_BS].astype(np.int16))
    return np.concatenate(codes)
