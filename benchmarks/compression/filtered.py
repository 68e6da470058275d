"""Implements the peer that filters by frequency from the start: rare features always use the default row.

Shapes: U distinct features of the hour.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.compression.full import StoredTable, filtered
from benchmarks.compression.stretch import HourRows, Served
from saec.config import Config
from saec.data.hour_features import HourFeatures
from saec.data.vocabulary import Vocabulary
from saec.hours import Hour
from saec.train.original import Original


class HeadVocabulary(Vocabulary):
    """A vocabulary in which features below a frequency use their field's default row."""

    threshold = 0.0
    now = Hour(0)

    def rows_of(self, features: HourFeatures, ids_U: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The embedding row of each feature: its own where it is frequent enough, or its field's default row."""
        ids_U = self.find(features.keys_U) if ids_U is None else ids_U
        rows_U = super().rows_of(features, ids_U)
        own = np.flatnonzero(rows_U >= self.fields)
        rare = own[self.frequency(self.now, ids_U[own]) < self.threshold]
        rows_U[rare] = features.fields_U[rare]
        return rows_U

    def classes_of(self, hour: Hour, features: HourFeatures) -> NDArray[np.int64]:
        """The class row of each feature; rare features get that of unknown ones, in training and when served."""
        ids_U = self.find(features.keys_U)
        frequency_U, last_seen_U = self.known_of(hour, ids_U)
        frequency_U[self.rows_of(features, ids_U) < self.fields] = 0.0
        return self.class_rows(features.fields_U, frequency_U, hour.index - last_seen_U)


class FilteredTable:
    """The original over such a vocabulary, its frequent rows stored as int8."""

    def __init__(self, name: str, config: Config, threshold: float) -> None:
        """Rows for features of at least so high a frequency."""
        self.name = name
        self.original = Original(config)
        self.learner = self.original.learner
        self.vocabulary = HeadVocabulary(config.vocabulary, len(config.field_names))
        self.vocabulary.threshold = threshold
        self.original.vocabulary = self.vocabulary

    def learn(self, given: HourRows) -> None:
        """One hour."""
        self.vocabulary.now = given.hour
        prepared = self.original.prepare(given.hour, given.rows)
        self.original.learn(given.hour, given.rows, prepared, given.cut)

    def serve(self, given: HourRows) -> Iterator[Served]:
        """Score the whole hour by what there is before it."""
        self.vocabulary.now = given.hour
        yield filtered(self.name, StoredTable(self.original, given), self.vocabulary.threshold)
