"""The choice of the head: which features of an hour get a code of their own, when bytes are few.

An index entry costs the same for every feature, so entries go where they save the most loss in the hour to come, which
is the one that the version serves:

    sightings expected in it  x  loss that a code saved a sighting lately

Both factors are measured, hour by hour, on the whole of that hour, and nothing has to be set:
- `Returns`: features come back in ways of their own field. A reader of a month ago returns as likely as one of
  yesterday, a news article of yesterday is dead, a cross of two dead things is deader. So returns are counted by field,
  frequency and age.
- `Worth`: what the codes of a field are worth is what the loss on rows not yet learnt rises by when they are all taken
  away. A cross whose parts say as much already is worth next to nothing, however frequent it is.
A feature without a row of the original that was seen in the hour is a newcomer. All newcomers of a field share one
codeword; their returns and their worth are counted apart, and they take entries only where these say so.

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
AGES = np.array([1, 2, 3, 4, 7, 13, 25, 49, 97])
"""Hours from the last sighting to the hour to come at which the classes of age begin."""
_CLASS_OF_AGE = np.searchsorted(AGES, np.arange(AGES[-1] + 1), side="right") - 1
KEPT = 0.98
"""Share of what was measured that counts on after an hour: half of it for 34 hours."""
LEAST_WORTH = 0.1
"""A field's worth, as a share of the mean over all sightings, below which it does not fall: a field without any codes
could never show what they would be worth."""


@dataclass(frozen=True)
class Candidates:
    """Features that may get a code, as they are before some hour."""

    fields_N: NDArray[np.int64]
    frequency_N: NDArray[np.float32]
    ages_N: NDArray[np.int64]
    """Hours from the last sighting to the hour, 1 for what was seen in the hour before it."""
    own_N: NDArray[np.bool_]
    """Whether the original has a row for it; the others are newcomers."""

    def __getitem__(self, chosen_N: NDArray[np.generic]) -> Candidates:
        """Those of them at some places, or where a mask is true."""
        return Candidates(*(array_N[chosen_N] for array_N in vars(self).values()))

    @property
    def kinds_N(self) -> NDArray[np.int64]:
        """Which of the two rows of what is measured is about each: 0 features with a row, 1 newcomers."""
        return np.where(self.own_N, np.int64(0), np.int64(1))


@dataclass(frozen=True)
class Returns:
    """How often features came back in the hour after, by kind, field, frequency and age."""

    known_2FQA: NDArray[np.float64]
    """Features that there were: those with a row of the original, then newcomers."""
    sighted_2FQA: NDArray[np.float64]
    """Their sightings."""

    @classmethod
    def start(cls, fields: int) -> Returns:
        """Nothing measured yet: every feature is expected once."""
        shape = (2, fields, FREQUENCIES, len(AGES))
        return cls(np.zeros(shape), np.zeros(shape))

    def learned(self, features: Candidates, sightings_N: NDArray[np.int64]) -> Returns:
        """With one more hour: features as they were before it, and their sightings in it."""
        return self.aged().counted(features, sightings_N)

    def aged(self) -> Returns:
        """With one more hour, of which nothing has been counted yet."""
        return Returns(KEPT * self.known_2FQA, KEPT * self.sighted_2FQA)

    def counted(
        self, features: Candidates, sightings_N: NDArray[np.int64], times_N: NDArray[np.int64] | None = None
    ) -> Returns:
        """With all of an hour's features, as they were before it, and their sightings in it.

        Args:
            features: each, or one in the place of several that are alike.
            sightings_N: how often each was seen; all of those that are alike together.
            times_N: for how many each stands; for itself when left out.
        """
        cells_N, shape = self._cells(features, _half_octaves(features)), self.known_2FQA.shape
        known = np.bincount(cells_N, times_N, self.known_2FQA.size).reshape(shape)
        sighted = np.bincount(cells_N, sightings_N, self.known_2FQA.size).reshape(shape)
        return Returns(self.known_2FQA + known, self.sighted_2FQA + sighted)

    def expected(self, features: Candidates) -> NDArray[np.float64]:
        """Sightings expected of each feature in the hour to come.

        Classes that few features were in lean on their field's mean; within a class of frequency, sightings are taken
        to be proportional to it, so that a limit can fall between any two features.
        """
        mean_2F = (self.sighted_2FQA.sum((2, 3)) + 1) / (self.known_2FQA.sum((2, 3)) + 1)
        rate_2FQA = (self.sighted_2FQA + mean_2F[:, :, None, None]) / (self.known_2FQA + 1)
        half_octaves_N = _half_octaves(features)
        cells_N = self._cells(features, half_octaves_N)
        expected_N: NDArray[np.float64] = rate_2FQA.ravel()[cells_N] * np.exp2(half_octaves_N % 1 / 2 - 0.25)
        return expected_N

    def _cells(self, features: Candidates, half_octaves_N: NDArray[np.float64]) -> NDArray[np.int64]:
        """The cell of each feature among all 2 x F x Q x A."""
        frequency_class_N = _class(half_octaves_N)
        age_class_N = _CLASS_OF_AGE[np.minimum(features.ages_N, AGES[-1])]
        kind_and_field_N = features.kinds_N * self.known_2FQA.shape[1] + features.fields_N
        cells_N: NDArray[np.int64] = (kind_and_field_N * FREQUENCIES + frequency_class_N) * len(AGES) + age_class_N
        return cells_N


def _half_octaves(features: Candidates) -> NDArray[np.float64]:
    """Frequency plus one, in half octaves: their whole part is the class."""
    half_octaves_N: NDArray[np.float64] = 2 * np.log2(1 + features.frequency_N.astype(np.float64))
    return half_octaves_N


def _class(half_octaves_N: NDArray[np.float64]) -> NDArray[np.int64]:
    classes_N: NDArray[np.int64] = np.minimum(half_octaves_N.astype(np.int64), FREQUENCIES - 1)
    return classes_N


def frequency_class(features: Candidates) -> NDArray[np.int64]:
    """The class of frequency of each, in which what is expected of a feature rises with its frequency."""
    return _class(_half_octaves(features))


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
    """What the sightings to come of each feature are expected to save, had it a code."""
    scores_N: NDArray[np.float64] = (
        returns.expected(features) * worth.of_sighting()[features.kinds_N, features.fields_N]
    )
    return scores_N


def limit(scores_N: NDArray[np.float64], features: int, times_N: NDArray[np.int64] | None = None) -> float:
    """The score above which there are no more features than so many; 0 when all fit.

    Args:
        scores_N: of features.
        features: how many.
        times_N: how many features have each score; one when left out.
    """
    order_N = np.argsort(-scores_N)
    place = features if times_N is None else int(np.searchsorted(np.cumsum(times_N[order_N]), features, side="right"))
    return max(float(scores_N[order_N[place]]), 0.0) if place < len(order_N) else 0.0
