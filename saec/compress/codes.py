"""The codes of one hour: clusters of the head, lagged codes to retrain through, fresh codes to serve with.

The rule that everything rests on: a code that has seen a row's label is never used to retrain on that row. The vector
of a rare feature memorises the labels it was trained on, so its code carries them, and codebooks retrained on the same
rows learn to trust the leak (FINDINGS: AUC 0.60 instead of 0.71). Hence two sets of codes:
- lagged: for each stretch of the train rows, the vectors as they were before it, against the centroids of the hour
  before. Nothing of the stretch, or of later rows, is in them. The challenger is retrained through these. Short
  stretches bring them near to the fresh codes that are served, which know what happened minutes ago.
- fresh: the vectors at the cut, against this hour's centroids. They have seen the train rows, not the gate rows. The
  artifact is published with these, the gate judges with these, and the gate rows are later absorbed through these.
Which features are in the head is decided by frequency over strictly earlier hours, for both.

Shapes: B rows, S slots, U distinct features of the hour, N features of the head, V features known, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saec.compress.clustering import cluster
from saec.compress.codebooks import Centroids, Succession
from saec.data.vocabulary import HourFeatures
from saec.train.tensors import section

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saec.hours import Hour
    from saec.train.original import Original, Untouched
    from saec.train.tensors import Arrays

PADDING_CODE = -1
"""Code of an unused slot of a list field."""


@dataclass(frozen=True)
class HourCodes:
    """What clustering hands to retraining; codes are int16, 0 for the default codeword, -1 for padding."""

    centroids: Centroids
    succession: Succession
    """How the hour's codewords follow from those that were retrained."""
    lagged_BS: NDArray[np.int16]
    """Codes of the train rows, each stretch's from before it."""
    fresh_BS: NDArray[np.int16]
    """Codes of the gate rows, as the published version gives them."""
    head_keys_N: NDArray[np.uint64]
    """Keys of all features that have a code of their own."""
    head_codes_N: NDArray[np.uint8]
    """Their fresh codes."""
    churn: float
    """Share of the train rows' coded features whose fresh code is not the one they were trained through."""
    utilisation: float
    """Share of the codewords that some feature uses."""

    def arrays(self) -> Arrays:
        """The codes as named arrays."""
        own = {name: getattr(self, name) for name in ("lagged_BS", "fresh_BS", "head_keys_N", "head_codes_N")}
        figures = np.array([self.churn, self.utilisation])
        centroids = {f"centroids.{name}": array for name, array in vars(self.centroids).items()}
        succession = {f"succession.{name}": array for name, array in vars(self.succession).items()}
        return {**own, "figures": figures, **centroids, **succession}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> HourCodes:
        """The codes whose `arrays` these are."""
        own = {name: arrays[name] for name in ("lagged_BS", "fresh_BS", "head_keys_N", "head_codes_N")}
        churn, utilisation = arrays["figures"].tolist()
        return cls(
            Centroids(**section(arrays, "centroids.")),
            Succession(**section(arrays, "succession.")),
            **own,
            churn=churn,
            utilisation=utilisation,
        )


def code_hour(
    original: Original, untouched: Untouched, before: Centroids, hour: Hour, keys_BS: NDArray[np.uint64], cut: int
) -> HourCodes:
    """Cluster the head of every field of the original at the cut, and code the hour's rows.

    Args:
        original: trained on the hour's rows before the cut.
        untouched: the vectors that each stretch of the train rows uses, as they were before it.
        before: centroids of the hour before.
        hour: the hour.
        keys_BS: its feature keys.
        cut: first gate row.
    """
    vocabulary = original.vocabulary
    frequency_V = vocabulary.frequency(hour)
    head_V = (vocabulary.row_V >= 0) & (frequency_V >= original.config.compression.head_frequency)
    head_N = np.flatnonzero(head_V)
    fields_N = vocabulary.fields_V[head_N].astype(np.int64)
    vectors_ND = original.table.vectors_VD[vocabulary.row_V[head_N]]
    centroids = _cluster_fields(original, vectors_ND, fields_N, frequency_V[head_N], before)

    codes_N = centroids.codes(vectors_ND, fields_N)
    rows_N = vocabulary.row_V[head_N].astype(np.int64)
    old_codes_N = before.codes(untouched.restored(rows_N, vectors_ND), fields_N)
    fresh_V = np.zeros(len(vocabulary) + 1, np.int16)
    fresh_V[head_N] = codes_N

    features = HourFeatures.of(keys_BS, np.array(original.config.slot_fields, np.int64))
    ids_U = vocabulary.find(features.keys_U)
    coded_U = np.append(head_V, False)[ids_U]  # id -1, the unknown, finds the appended value
    rows_U = np.where(coded_U, np.append(vocabulary.row_V, -1)[ids_U], -1).astype(np.int64)
    lagged_BS = _lagged(features, rows_U, untouched, before)
    fresh_BS = features.spread(fresh_V[ids_U].astype(np.int64), PADDING_CODE).astype(np.int16)
    coded_BS = features.spread(coded_U.astype(np.int64), 0)[:cut] > 0
    return HourCodes(
        centroids=centroids,
        succession=Succession.of(
            before, centroids, old_codes_N, codes_N, fields_N, frequency_V[head_N], vectors_ND
        ),
        lagged_BS=lagged_BS,
        fresh_BS=fresh_BS[cut:],
        head_keys_N=vocabulary.keys_V[head_N],
        head_codes_N=codes_N,
        churn=float((lagged_BS != fresh_BS[:cut])[coded_BS].mean()) if coded_BS.any() else 0.0,
        utilisation=len(np.unique(fields_N * 256 + codes_N)) / max(int(centroids.counts_F.sum()), 1),
    )


def _lagged(
    features: HourFeatures, rows_U: NDArray[np.int64], untouched: Untouched, before: Centroids
) -> NDArray[np.int16]:
    """Codes of the train rows, each stretch's from the vectors before it; `rows_U` is -1 where there is no code."""
    codes = []
    for stretch, rows, vectors in untouched.stretches():
        inverse_BS = features.inverse_BS[stretch]
        used = np.unique(inverse_BS[inverse_BS >= 0])
        coded = used[rows_U[used] >= 0]
        lagged_U = np.zeros(len(rows_U), np.int16)
        lagged_U[coded] = before.codes(vectors[np.searchsorted(rows, rows_U[coded])], features.fields_U[coded])
        codes.append(np.append(lagged_U, np.int16(PADDING_CODE))[inverse_BS])
    return np.concatenate(codes)


def _cluster_fields(
    original: Original,
    vectors_ND: NDArray[np.float32],
    fields_N: NDArray[np.int64],
    frequency_N: NDArray[np.float32],
    before: Centroids,
) -> Centroids:
    """The centroids of every field, each started from its last hour's."""
    by_field = []
    for field, name in enumerate(original.config.field_names):
        chosen, start_KD = fields_N == field, before.of(field)
        if not chosen.any():
            by_field.append(start_KD)
            continue
        by_field.append(
            cluster(
                vectors_ND[chosen],
                frequency_N[chosen],
                original.config.compression.codewords,
                start_KD=start_KD if len(start_KD) else None,
                seed=original.config.seed + field,
                field=name,
            )
        )
    return Centroids.joined(by_field)
