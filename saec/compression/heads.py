"""Chooses the head: the features that get a code of their own, within a limit of bytes.

An index entry costs the same for every feature, so entries go where they save the most loss in the next hour, which is
the hour that the version serves:

    sightings expected in it  x  loss that a code saved a sighting lately

Both factors are measured every hour on the whole hour, so there is nothing to set:

- `Returns`: features of different fields come back differently. A reader from a month ago is as likely to return as one
  from yesterday, while yesterday's news article is dead. So returns are counted by field, frequency and age.
- `Worth`: the rise in loss on rows not yet learnt when all codes of a field are removed. A cross that adds nothing to
  its parts is worth almost nothing, however frequent it is.

A newcomer is a feature that was seen in the hour but has no row in the original. All newcomers of a field share one
codeword; their returns and worth are counted separately, and they get entries only if these justify it.

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
"""Decay of measurements per hour; half remains after 34 hours."""
LEAST_WORTH = 0.3
"""Minimum worth of a field, as a share of the mean over all sightings that were measured: a field without any codes
could never show what they would be worth. At 0.1 chance decided when users of a young log got codes at all, for 0.003
of AUC (docs/LOG.md)."""


@dataclass(frozen=True)
class Candidates:
    """Candidates for a code, in their state before an hour."""

    fields_N: NDArray[np.int64]
    frequency_N: NDArray[np.float32]
    ages_N: NDArray[np.int64]
    """Hours from the last sighting to the hour; 1 for features seen in the hour before."""
    own_N: NDArray[np.bool_]
    """Whether the original has a row for the feature; otherwise it is a newcomer."""

    def __getitem__(self, chosen_N: NDArray[np.generic]) -> Candidates:
        """A selection of the features, by index or mask."""
        return Candidates(*(array_N[chosen_N] for array_N in vars(self).values()))

    @property
    def kinds_N(self) -> NDArray[np.int64]:
        """The kind of each feature in the measurements: 0 with a row, 1 newcomer."""
        return np.where(self.own_N, np.int64(0), np.int64(1))


@dataclass(frozen=True)
class Returns:
    """How often features came back in the hour after, by kind, field, frequency and age."""

    known_2FQA: NDArray[np.float64]
    """Number of features: those with a row in the original, then newcomers."""
    sighted_2FQA: NDArray[np.float64]
    """Their sightings."""

    @classmethod
    def start(cls, fields: int) -> Returns:
        """Nothing measured yet: every feature is expected once."""
        shape = (2, fields, FREQUENCIES, len(AGES))
        return cls(np.zeros(shape), np.zeros(shape))

    def learned(self, features: Candidates, sightings_N: NDArray[np.int64]) -> Returns:
        """Add one hour: features in their state before it, and their sightings in it."""
        return self.aged().counted(features, sightings_N)

    def aged(self) -> Returns:
        """Begin one more hour, with nothing counted yet."""
        return Returns(KEPT * self.known_2FQA, KEPT * self.sighted_2FQA)

    def counted(
        self, features: Candidates, sightings_N: NDArray[np.int64], times_N: NDArray[np.int64] | None = None
    ) -> Returns:
        """Add an hour's features, in their state before it, and their sightings in it.

        Args:
            features: each feature, or one that represents several equal ones.
            sightings_N: how often each was seen; the total of those it represents.
            times_N: how many features each represents; 1 by default.
        """
        cells_N, shape = self._cells(features, _half_octaves(features)), self.known_2FQA.shape
        known = np.bincount(cells_N, times_N, self.known_2FQA.size).reshape(shape)
        sighted = np.bincount(cells_N, sightings_N, self.known_2FQA.size).reshape(shape)
        return Returns(self.known_2FQA + known, self.sighted_2FQA + sighted)

    def expected(self, features: Candidates) -> NDArray[np.float64]:
        """Sightings expected of each feature in the next hour.

        Classes with few features are shrunk towards their field's mean. Within a frequency class, sightings are assumed
        proportional to frequency, so that a limit can fall between any two features.
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
    """The frequency class of each; within a class the expectation rises with the frequency."""
    return _class(_half_octaves(features))


@dataclass(frozen=True)
class Worth:
    """The loss that codes saved: the first row for features with their own vector, the second for newcomers."""

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
        """Worth of one sighting (2, F); the overall mean for what was hardly measured."""
        mean = (max(float(self.saved_2F.sum()), 0.0) + 1e-3) / (float(self.sightings_2F.sum()) + 1)
        worth_2F: NDArray[np.float64] = (self.saved_2F + mean) / (self.sightings_2F + 1)
        return np.maximum(worth_2F, LEAST_WORTH * mean)


def scores(features: Candidates, returns: Returns, worth: Worth) -> NDArray[np.float64]:
    """The expected saving of a code for each feature in the next hour."""
    scores_N: NDArray[np.float64] = (
        returns.expected(features) * worth.of_sighting()[features.kinds_N, features.fields_N]
    )
    return scores_N


def limit(scores_N: NDArray[np.float64], features: int, times_N: NDArray[np.int64] | None = None) -> float:
    """The score above which there are at most this many features; 0 if all fit.

    Args:
        scores_N: of features.
        features: how many.
        times_N: how many features have each score; 1 by default.
    """
    order_N = np.argsort(-scores_N)
    place = features if times_N is None else int(np.searchsorted(np.cumsum(times_N[order_N]), features, side="right"))
    return max(float(scores_N[order_N[place]]), 0.0) if place < len(order_N) else 0.0
