"""Assigns the codes of an hour: which features get one, and which, from the original at a moment of the hour.

The basic rule: a code that has seen a row's label is never used to retrain on that row. The vector of a rare feature
memorises the labels it was trained on, so its code carries them, and codebooks retrained on the same rows learn to
trust the leak (docs/LOG.md: AUC 0.60 instead of 0.71). The hour's rows are therefore learnt through the codes of the
version made from the hour before, looked up in its own files. Users were served through exactly these codes, including
a few false accepts, so training and serving both use codes that are up to an hour old.

Codes are assigned at two moments, in the same way (moments.py): the cut and the hour's end.

Shapes: N candidates for a code, H features of the head, F fields, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from saec.compression.codebooks import Centroids, Succession
from saec.compression.ensemble import QuantisedOriginal
from saec.compression.fields import cluster_fields
from saec.compression.heads import Candidates, Returns, Worth, scores
from saec.compression.places import DEFAULT, NEWCOMER
from saec.train.tensors import section

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from saec.compression.dial import Allowance
    from saec.compression.moments import Moment
    from saec.data.hashing import Keys
    from saec.train.tensors import Arrays

    CodesBefore = Callable[[Keys, NDArray[np.int64]], NDArray[np.int64]]
    """Keys and their fields to the codes that the version of the hour before gives them."""


@dataclass(frozen=True)
class Standards:
    """The state that decides which features get codes; one hour passes it to the next."""

    centroids: Centroids
    drawn_errors_F: NDArray[np.float64]
    """Relative error of each field's clusters when they were last drawn from scratch."""
    returns: Returns
    worth: Worth
    """What has been measured up to now."""
    direct_F: NDArray[np.bool_]
    """Fields in which every feature with a row has a code."""
    trials_T: NDArray[np.float64]
    """Score limits of the smaller heads on trial for `ratio: auto`, in descending size of head."""
    hours: int
    """Hours coded so far."""

    @classmethod
    def start(cls, fields: int, width: int) -> Standards:
        """The state before the first hour, in which no feature has a code."""
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
        """For each feature with a code, the number of heads on trial that contain it."""
        scores_N = _scores(features, self, self.direct_F)
        tried_N: NDArray[np.int64] = (scores_N[:, None] > self.trials_T).sum(1)
        return tried_N


@dataclass(frozen=True)
class Coding:
    """The features with a code at one moment of an hour, and their codes."""

    standards: Standards
    succession: Succession
    """How the codewords follow from those of the hour before."""
    head_keys_H: Keys
    """Keys of all features that have a code, newcomers among them."""
    head_codes_H: NDArray[np.int16]
    churn: float
    """Share of the head's sightings by features that had another code in the hour before."""
    figures_F: Arrays
    """Figures of each field's clusters (fields.py)."""
    quantised: QuantisedOriginal | None
    """The original, quantised to these codes; None where there are too few codewords."""

    def arrays(self) -> Arrays:
        """Everything as named arrays."""
        own: Arrays = {name: np.asarray(getattr(self, name)) for name in ("head_keys_H", "head_codes_H", "churn")}
        parts = {"standards": self.standards.arrays(), "succession": vars(self.succession), "figures": self.figures_F}
        if self.quantised:
            parts["quantised"] = self.quantised.arrays()
        return own | {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Coding:
        """The coding whose `arrays` these are."""
        quantised = section(arrays, "quantised.")
        return cls(
            Standards.from_arrays(section(arrays, "standards.")),
            Succession(**section(arrays, "succession.")),
            arrays["head_keys_H"],
            arrays["head_codes_H"],
            float(arrays["churn"]),
            section(arrays, "figures."),
            QuantisedOriginal.from_arrays(quantised) if quantised else None,
        )


def code(
    moment: Moment,
    before: Standards,
    codes_before: CodesBefore,
    allowance: Allowance,
    trials: Sequence[Allowance] = (),
    quantised: QuantisedOriginal | None = None,
) -> Coding:
    """Choose the head of a moment, cluster it field by field, and link its codewords to those of the hour before.

    Args:
        moment: of an hour.
        before: standards of the hour before, and all that has been measured by this moment.
        codes_before: the codes of the version made from the hour before.
        allowance: most codewords of a field and most features with a code.
        trials: smaller ones on trial.
        quantised: the quantised original of the hour before.
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
    succession = Succession.of(
        before.centroids, clusters.centroids, old_codes_H, clusters.codes_H, fields_H, weights_H, vectors_HD
    )
    over_codes = (
        QuantisedOriginal.of(moment, succession, clusters.centroids, codes_before, quantised)
        if allowance.ensemble
        else None
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
        succession=succession,
        head_keys_H=np.concatenate([own.keys_N, newcomers.keys_N]),
        head_codes_H=np.concatenate([clusters.codes_H, np.full(len(newcomers.keys_N), NEWCOMER, np.int16)]),
        churn=_churn(old_codes_H, clusters.codes_H, weights_H),
        figures_F=clusters.figures_F,
        quantised=over_codes,
    )


def _scores(candidates: Candidates, standards: Standards, direct_F: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The expected saving of a code for each candidate; infinite in fields in which every feature has one."""
    direct_N = candidates.own_N & direct_F[candidates.fields_N]
    return np.where(direct_N, np.inf, scores(candidates, standards.returns, standards.worth))


def _churn(old_codes_H: NDArray[np.int16], codes_H: NDArray[np.int16], weights_H: NDArray[np.float32]) -> float:
    """Of the sightings of features that had a code, the share whose feature has another code now."""
    had_H = old_codes_H != DEFAULT
    changed = weights_H[had_H] @ (old_codes_H != codes_H)[had_H].astype(np.float32)
    return float(changed / max(float(weights_H[had_H].sum()), 1e-30))
