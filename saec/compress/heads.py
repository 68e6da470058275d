"""The choice of the head: which features of an hour get a code of their own, when bytes are few.

An index entry costs the same for every feature, so entries go where they save the most loss:

    sightings expected  x  loss that a code saved a sighting lately

Both factors are measured, hour by hour, and nothing has to be set:
- `Returns`: features come back in ways of their own field. A reader of a month ago returns as likely as one of
  yesterday, a news article of yesterday is dead, a cross of two dead things is deader. So returns are counted by field,
  frequency and age.
- `Worth`: what the codes of a field are worth is what the loss on rows not yet learnt rises by when they are all taken
  away. A cross whose parts say as much already is worth next to nothing, however frequent it is.
A feature without a row of the original that was seen earlier in the hour is a newcomer, and all newcomers of a field
share one codeword. They are chosen among themselves: those of one hour are few, it takes codes to learn what their
codes are worth, and what is known of returns says little of them.

Shapes: N features, F fields, Q classes of frequency, A classes of age.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


FREQUENCIES = 24
"""Classes of frequency: half octaves of one plus the frequency."""
AGES = np.array([0, 1, 2, 3, 4, 7, 13, 25, 49, 97])
"""Hours since the last sighting at which the classes of age begin; 0 for what was seen within the hour."""
KEPT = 0.98
"""Share of what was measured that counts on after an hour: half of it for 34 hours."""
NEWCOMERS = 0.25
"""Share of the head that newcomers may take."""
LEAST_WORTH = 0.1
"""A field's worth, as a share of the mean over all sightings, below which it does not fall: a field without any codes
could never show what they would be worth."""


@dataclass(frozen=True)
class Candidates:
    """Features that may get a code, as they are at some moment of an hour."""

    fields_N: NDArray[np.int64]
    frequency_N: NDArray[np.float32]
    ages_N: NDArray[np.int64]
    """Hours since the last sighting; 0 for a feature seen within the hour."""
    own_N: NDArray[np.bool_]
    """Whether the original has a row for it."""

    def of(self, chosen: NDArray[np.bool_]) -> Candidates:
        """Some of them."""
        return Candidates(*(array[chosen] for array in vars(self).values()))

    def after(self, sightings_N: NDArray[np.int64]) -> Candidates:
        """The same features once they were seen so often in the hour."""
        return Candidates(
            self.fields_N,
            self.frequency_N + sightings_N.astype(np.float32),
            np.where(sightings_N > 0, 0, self.ages_N),
            self.own_N,
        )


@dataclass(frozen=True)
class Returns:
    """How often features came back, by field, frequency and age.

    Those not seen yet in the hour: from its start to its end. Those seen, by the cut: from the cut to its end.
    """

    known_FQA: NDArray[np.float64]
    """Features that there were."""
    sighted_FQA: NDArray[np.float64]
    """Their sightings."""

    @classmethod
    def start(cls, fields: int) -> Returns:
        """Nothing measured yet: every feature is expected once."""
        shape = (fields, FREQUENCIES, len(AGES))
        return cls(np.zeros(shape), np.zeros(shape))

    def learned(self, *parts: tuple[Candidates, NDArray[np.int64]]) -> Returns:
        """With one more hour: features as they were at some moment, and their sightings after it."""
        known, sighted = KEPT * self.known_FQA.ravel(), KEPT * self.sighted_FQA.ravel()
        for features, sightings_N in parts:
            cells_N = _cells(features, _half_octaves(features))
            known += np.bincount(cells_N, minlength=known.size)
            sighted += np.bincount(cells_N, sightings_N, known.size)
        return Returns(known.reshape(self.known_FQA.shape), sighted.reshape(self.known_FQA.shape))

    def expected(self, features: Candidates) -> NDArray[np.float64]:
        """Sightings expected of each feature.

        Classes that few features were in lean on their field's mean; within a class of frequency, sightings are taken
        to be proportional to it, so that a limit can fall between any two features.
        """
        mean_F = (self.sighted_FQA.sum((1, 2)) + 1) / (self.known_FQA.sum((1, 2)) + 1)
        rate_FQA = (self.sighted_FQA + mean_F[:, None, None]) / (self.known_FQA + 1)
        half_octaves_N = _half_octaves(features)
        cells_N = _cells(features, half_octaves_N)
        expected_N: NDArray[np.float64] = rate_FQA.ravel()[cells_N] * np.exp2(half_octaves_N % 1 / 2 - 0.25)
        return expected_N


def _half_octaves(features: Candidates) -> NDArray[np.float64]:
    """Frequency plus one, in half octaves: their whole part is the class."""
    half_octaves_N: NDArray[np.float64] = 2 * np.log2(1 + features.frequency_N.astype(np.float64))
    return half_octaves_N


def _cells(features: Candidates, half_octaves_N: NDArray[np.float64]) -> NDArray[np.int64]:
    """The cell of each feature among all F x Q x A."""
    frequency_class_N = np.minimum(half_octaves_N.astype(np.int64), FREQUENCIES - 1)
    age_class_N = np.searchsorted(AGES, features.ages_N, side="right") - 1
    return (features.fields_N * FREQUENCIES + frequency_class_N) * len(AGES) + age_class_N


@dataclass(frozen=True)
class Worth:
    """What codes saved: the first row for features with a vector of their own, the second for newcomers."""

    saved_2F: NDArray[np.float64]
    """Log loss (nats) that the codes of a field saved on rows not yet learnt."""
    sightings_2F: NDArray[np.float64]
    """Sightings of features with such codes on these rows."""

    @classmethod
    def start(cls, fields: int) -> Worth:
        """Nothing measured yet."""
        return cls(np.zeros((2, fields)), np.zeros((2, fields)))

    def learned(self, saved_2F: NDArray[np.float64], sightings_2F: NDArray[np.float64]) -> Worth:
        """With one more hour's rows."""
        return Worth(KEPT * self.saved_2F + saved_2F, KEPT * self.sightings_2F + sightings_2F)

    def of_sighting(self) -> NDArray[np.float64]:
        """Worth of one sighting (2, F); of what was hardly measured, the mean of everything."""
        mean = (max(float(self.saved_2F.sum()), 0.0) + 1e-3) / (float(self.sightings_2F.sum()) + 1)
        worth_2F: NDArray[np.float64] = (self.saved_2F + mean) / (self.sightings_2F + 1)
        return np.maximum(worth_2F, LEAST_WORTH * mean)


def scores(features: Candidates, returns: Returns, worth: Worth) -> NDArray[np.float64]:
    """What the sightings to come of each feature are expected to save, had it a code; -1 if it can have none.

    A feature without a row can have one only as a newcomer, seen within the hour.
    """
    newcomer_N = ~features.own_N
    scores_N = returns.expected(features) * worth.of_sighting()[newcomer_N.astype(np.int64), features.fields_N]
    return np.where(newcomer_N & (features.ages_N > 0), -1.0, scores_N)


def limits(
    known_N: NDArray[np.float64], newcomers_U: NDArray[np.float64], features: int
) -> tuple[float, float]:
    """The scores above which features have codes, no more of them than there is room for: known ones, newcomers."""
    newcomers = _limit(newcomers_U, int(NEWCOMERS * features))
    return _limit(known_N, features - int((newcomers_U > newcomers).sum())), newcomers


def _limit(scores_N: NDArray[np.float64], features: int) -> float:
    """The score above which there are no more than so many; 0 when all fit."""
    if len(scores_N) <= features:
        return 0.0
    place = len(scores_N) - features - 1
    return max(float(np.partition(scores_N, place)[place]), 0.0)
