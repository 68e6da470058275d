"""The ensemble: the retrained model and the quantised original, two readings of the same codes.

The quantised original is the original after post-training quantisation: its network, not retrained, over the mean of
its vectors for each code. The retrained model forgets what single features taught and adapts to the codes; the
quantised original keeps the original's view of them. Where the two err on different rows, the mean of their logits is
better than either (docs/LOG.md: 0.003 of AUC on the real log), for one more network and one more codebook, but no
further index. Where the truth is as simple as the networks assume, it gains nothing, so each hour measures what it
would have gained, and a version has the second reading only if it is worth it.

Shapes: W shares, F fields, T codewords of all fields, D width, B rows, U distinct features of an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from saec.compression.heads import KEPT
from saec.compression.places import DEFAULT, NEWCOMER
from saec.gate.metrics import row_losses
from saec.train.learner import probabilities
from saec.train.tensors import section

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saec.compression.codebooks import Centroids, Succession
    from saec.compression.codes import CodesBefore
    from saec.compression.moments import Moment
    from saec.train.tensors import Arrays

SHARES_W = np.arange(8) / 8
"""Shares of the quantised original in the mean of the logits that are compared; 0 is the retrained model alone."""
LEAST_GAIN = 0.0005
"""Gain in log loss, as a share of it, below which no second reading is begun: it would not be worth its bytes and its
time. One that is there stays for half of that, so that sizes do not go up and down."""
ENOUGH_ROWS = 2_000
"""Rows of evidence for a second reading."""
_REMEMBERED = 0.9
"""Decay, per hour, of the sightings behind the codewords that features without a code share."""


@dataclass(frozen=True)
class QuantisedOriginal:
    """The original at a moment of an hour, quantised to the codes of that moment."""

    network: Arrays
    """Its parameters, as they score."""
    vectors_TD: NDArray[np.float32]
    """The mean of its vectors for each code."""
    sightings_2F: NDArray[np.float64]
    """Sightings behind the vectors of the default and the newcomer codewords; older ones count less."""

    @classmethod
    def of(
        cls,
        moment: Moment,
        succession: Succession,
        now: Centroids,
        codes_before: CodesBefore,
        before: QuantisedOriginal | None,
    ) -> QuantisedOriginal:
        """The original at a moment, over the clusters taken of it.

        Features without a code share two codewords of their field. Theirs are the means over the hour's features to
        which the version of the hour before gave these, averaged over hours; where there were none, the original's
        default row.

        Args:
            moment: of an hour.
            succession: how the moment's codewords follow from those of the hour before.
            now: the moment's clusters.
            codes_before: the codes of the version made from the hour before.
            before: the quantised original of the hour before.
        """
        fields, features = len(moment.own_F), moment.met
        vectors_TD = succession.new_means_TD.copy()
        codes_U = codes_before(features.keys_N, features.candidates.fields_N)
        vectors_UD = moment.vectors(features).astype(np.float64)
        sightings_2F = np.zeros((2, fields))
        defaults_FD = moment.defaults_FD
        for row, code in enumerate((DEFAULT, NEWCOMER)):
            chosen_U = codes_U == code
            fields_M, counts_M = features.candidates.fields_N[chosen_U], moment.sightings_U[chosen_U]
            new_F = np.bincount(fields_M, counts_M, fields)
            sums_DF = [np.bincount(fields_M, counts_M * column_M, fields) for column_M in vectors_UD[chosen_U].T]
            old_F, old_FD = np.zeros(fields), defaults_FD
            if before is not None:
                old_F = _REMEMBERED * before.sightings_2F[row]
                old_FD = before.vectors_TD[succession.old_starts_F + code]
            total_F = old_F + new_F
            mean_FD = (np.stack(sums_DF, 1) + old_F[:, None] * old_FD) / np.maximum(total_F, 1e-30)[:, None]
            vectors_TD[now.starts_F + code] = np.where(total_F[:, None] > 0, mean_FD, defaults_FD)
            sightings_2F[row] = total_F
        return cls(moment.network, vectors_TD, sightings_2F)

    def arrays(self) -> Arrays:
        """Everything as named arrays."""
        own: Arrays = {"vectors_TD": self.vectors_TD, "sightings_2F": self.sightings_2F}
        return own | {f"network.{name}": array for name, array in self.network.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> QuantisedOriginal:
        """What `arrays` were made of."""
        return cls(section(arrays, "network."), arrays["vectors_TD"], arrays["sightings_2F"])


@dataclass(frozen=True)
class Share:
    """The share of the quantised original, and the evidence for it (sums over rows, decayed)."""

    step: int
    """The share's place in `SHARES_W`; it moves by one an hour at most, towards the best."""
    rows: float
    losses: float
    """Log loss of the retrained model alone."""
    gained_W: NDArray[np.float64]
    """Log loss that each share would have saved."""
    gained_squared_W: NDArray[np.float64]

    @classmethod
    def start(cls) -> Share:
        """Nothing seen yet."""
        return cls(0, 0.0, 0.0, np.zeros(len(SHARES_W)), np.zeros(len(SHARES_W)))

    @property
    def value(self) -> float:
        """The share."""
        return float(SHARES_W[self.step])

    @property
    def models(self) -> int:
        """Models that a version is to hold, if there are codewords enough for both."""
        return 2 if self.step else 1

    @property
    def best(self) -> int:
        """The share with the least log loss, by its place; 0 unless it is shown to gain enough."""
        best = int(self.gained_W.argmax())
        gain = self.gained_W[best] - np.sqrt(self.gained_squared_W[best])
        wanted = LEAST_GAIN * self.losses / (2 if self.step else 1)
        return best if self.rows >= ENOUGH_ROWS and gain >= wanted else 0

    def learned(
        self,
        labels_B: NDArray[np.uint8],
        retrained_B: NDArray[np.float64],
        quantised_B: NDArray[np.float64],
        shares_B: NDArray[np.float64] | float = 1.0,
    ) -> Share:
        """With the evidence of rows that neither model has learnt.

        Args:
            labels_B: their clicks.
            retrained_B: logits of the retrained model.
            quantised_B: logits of the quantised original.
            shares_B: what each row counts, 1 in the mean.
        """
        losses_WB = [
            row_losses(labels_B, probabilities(mixed(retrained_B, quantised_B, share))) * shares_B for share in SHARES_W
        ]
        gained_WB = losses_WB[0] - np.array(losses_WB)
        found = Share(
            self.step,
            KEPT * self.rows + len(labels_B),
            KEPT * self.losses + float(losses_WB[0].sum()),
            KEPT * self.gained_W + gained_WB.sum(1),
            KEPT * self.gained_squared_W + np.square(gained_WB).sum(1),
        )
        return replace(found, step=self.step + int(np.sign(found.best - self.step)))

    def arrays(self) -> Arrays:
        """Everything as named arrays."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Share:
        """What `arrays` were made of; nothing seen yet for no arrays."""
        if not arrays:
            return cls.start()
        return cls(
            int(arrays["step"]),
            float(arrays["rows"]),
            float(arrays["losses"]),
            arrays["gained_W"],
            arrays["gained_squared_W"],
        )


def mixed(retrained_B: NDArray[np.float64], quantised_B: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The ensemble's logits."""
    return (1 - share) * retrained_B + share * quantised_B
