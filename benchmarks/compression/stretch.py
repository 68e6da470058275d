"""Encodes a stretch of hours once, reads it hour by hour, and counts its features.

Decisions: the census is a pass of the vocabulary alone; who owns a row and how frequent a feature is does not depend on
seeds or training, so sizes are known before anything is trained. Every contestant's size is the mean over the scored
hours, taken relative to the original's: rows it has admitted, 4 D bytes each and 8 of key.

Shapes: N features of the head, F fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saec.compression.dial import original_bytes
from saec.config import Config
from saec.data.hour_features import HourFeatures
from saec.data.ingest import RECORD_FILE, IngestRecord, ingest_hour
from saec.data.partitions import available_hours
from saec.data.rows import EncodedRows
from saec.data.vocabulary import Vocabulary
from saec.hours import Hour

CENSUS_EVERY = 6
"""The census keeps the frequencies of one scored hour in this many."""


class HourRows(NamedTuple):
    """One hour of a stretch."""

    hour: Hour
    rows: EncodedRows
    cut: int
    """First gate row."""
    scored: bool


class Served(NamedTuple):
    """One contestant in one hour, as it would serve."""

    name: str
    scores_B: NDArray[np.float64]
    """Probability of a click of each row."""
    bytes: float
    ratio_vectors: float
    """Rows of the original to vectors stored."""
    ratio_embedding: float
    """The paper's accounting: fp32 rows to codebooks and codes, no keys on either side; 0 where it does not apply."""
    scoring_seconds: float = 0.0
    """CPU seconds from the hour's distinct features to its scores."""


@dataclass(frozen=True)
class Census:
    """What the vocabulary holds in the scored hours, and at their start."""

    original_bytes: float
    """Mean bytes of the original's rows and keys."""
    frequencies: list[NDArray[np.float32]]
    """Of some scored hours, the frequencies of all admitted features, descending."""
    features_F: NDArray[np.int64]
    """Features known of each field when scoring starts."""

    def threshold(self, bytes_of: Callable[[int], float], budget: float) -> float:
        """The lowest feature frequency at which a head takes no more than so many bytes, in the mean of the hours.

        Args:
            bytes_of: bytes that a head of N features takes, growing with N.
            budget: bytes to stay within.
        """
        low, high = 0.0, float(max(frequency_N[0] for frequency_N in self.frequencies)) + 1.0
        for _ in range(60):
            middle = (low + high) / 2
            heads = [int(np.searchsorted(-frequency_N, -middle, "right")) for frequency_N in self.frequencies]
            if sum(map(bytes_of, heads)) > budget * len(heads):
                low = middle
            else:
                high = middle
        return high


@dataclass(frozen=True)
class Stretch:
    """Some hours before and including `last`, of which the last `scored` are scored."""

    config: Config
    last: Hour
    hours: int
    scored: int
    folder: Path
    """Where encoded hours are kept."""

    def __iter__(self) -> Iterator[HourRows]:
        """The hours that exist, in order."""
        for hour in self.present:
            folder = self.folder / hour.compact
            rows = IngestRecord.load(folder).load_rows(folder)
            cut = rows.cut(self.config.training.gate_share)
            yield HourRows(hour, rows, cut, self.last.index - hour.index < self.scored)

    @cached_property
    def present(self) -> list[Hour]:
        """Hours of the stretch that the log has."""
        first = self.last + (1 - self.hours)
        return list(available_hours(self.config.data, first, self.last))

    def encode(self) -> None:
        """Ingest the hours that are not in the folder yet."""
        for hour in self.present:
            folder = self.folder / hour.compact
            if not (folder / RECORD_FILE).exists():
                ingest_hour(self.config, hour, folder)

    @cached_property
    def census(self) -> Census:
        """Count the features of the hours, as the original's vocabulary does."""
        fields = len(self.config.field_names)
        vocabulary = Vocabulary(self.config.vocabulary, fields)
        frequencies: list[NDArray[np.float32]] = []
        admitted: list[int] = []
        features_F = np.zeros(fields, np.int64)
        for hour, rows, _, scored in self:
            features = HourFeatures.of(rows.keys_BS, np.array(self.config.slot_fields, np.int64))
            if scored:
                if not admitted:
                    features_F = np.bincount(vocabulary.fields_V, minlength=fields)
                if len(admitted) % CENSUS_EVERY == min(CENSUS_EVERY, self.scored) // 2:  # in the middle of its hours
                    own_V = np.flatnonzero(vocabulary.row_V >= 0)
                    frequencies.append(-np.sort(-vocabulary.frequency(hour, own_V)))
                admitted.append(vocabulary.rows)
            vocabulary.admit(features)
            vocabulary.observe(hour, features)
        return Census(float(np.mean(admitted)) * original_bytes(self.config, 1), frequencies, features_F)

    @cached_property
    def labels_B(self) -> NDArray[np.uint8]:
        """Labels of all rows of the scored hours."""
        return np.concatenate([rows.labels_B for _, rows, _, scored in self if scored])


def fuse_cells(keys: int) -> float:
    """Cells of a binary fuse index of so many keys, to plan with: as the dial foresees them."""
    return keys * (1.035 + 1.22 * keys**-0.25) if keys else 0.0


def bits_for(count: int) -> int:
    """Bits that number so many things."""
    return max(1, math.ceil(math.log2(max(count, 1))))
