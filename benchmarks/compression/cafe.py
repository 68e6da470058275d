"""Implements the peer CAFE, compact, adaptive and fast embedding (Zhang et al., SIGMOD 2024, arXiv 2312.03256).

A sketch of the stream (hot_sketch.py) finds the features with the largest gradients, the hot ones. Each of them owns a
row; all others share rows by hash. A feature that becomes hot starts from its shared vector, and one that cools falls
back to it. Scores fade, so the hot features follow the stream.

Decisions:
- The stream changes little, because CAFE is made for one. Scores fade by the hour; rows are given out every few
  batches.
- The sketch has four slots for each hot row, and is training state: what is served is a keyless index of the hot keys
  with row numbers, so the sketch and the keys in it are not counted, in CAFE's favour.
- `shared`: others have one shared row, or the sum of two by two hashes. CAFE-ML, which gives a third kind of feature
  more hashes than the rest, would have to tell the three apart when served, by an index that holds far more keys.
- What is known of newcomers: class rows by frequency and age are added to hot rows and stored with them; the others are
  taken for unknown, in training and when served, with one row a field, stored and counted.
- int8 rows throughout.

Shapes: U features of the hour, N vectors of a batch, H hot rows, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.compression import stored
from benchmarks.compression.coded import most
from benchmarks.compression.decoding import Rows
from benchmarks.compression.hashed_features import KeyDecoder
from benchmarks.compression.hot_sketch import SLOTS, HotSketch
from benchmarks.compression.stored import HeadIndex
from benchmarks.compression.stretch import bits_for, fuse_cells
from saec.data.hashing import mixed
from saec.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from saec.config import Config
    from saec.data.hour_features import HourFeatures
    from saec.hours import Hour
    from saec.model.table import WorkingSet

FINGERPRINT_BITS = 6
SLOTS_PER_ROW = 4
GIVEN_OUT_EVERY = 16
"""Batches from one change of who owns rows to the next."""
_STEP = np.uint64(0x9E3779B97F4A7C15)


class Cafe(KeyDecoder):
    """Hot rows and shared rows."""

    def __init__(self, config: Config, budget: float, *, hot_share: float, hashes: int, half_life: float) -> None:
        """Rows within so many bytes, this share of them for the hot; scores are halved every so many hours."""
        self.config, self.hashes, self.fading = config, hashes, 0.5 ** (1 / half_life)
        self.fields, row = len(config.field_names), stored.row_bytes(config.model.width)
        room = budget - self.fields * row

        def bytes_of(count: int) -> float:
            return fuse_cells(count) * (FINGERPRINT_BITS + bits_for(count)) / 8 + count * row

        if hot_share * room < bytes_of(1) or (1 - hot_share) * room < hashes * row:
            raise stored.Unreachable(
                f"{self.fields * row:,} bytes are taken before the first feature, {budget:,.0f} wanted"
            )
        self.hot = most(bytes_of, hot_share * room)
        self.cold = max(int((room - bytes_of(self.hot)) / row), hashes)
        self.sketch = HotSketch(-(-self.hot * SLOTS_PER_ROW // SLOTS), self.hot)
        self.vocabulary = Vocabulary(config.vocabulary, self.fields)
        width, training, seed = config.model.width, config.training, config.seed
        self.rows = Rows.drawn(self.hot + self.cold, width, training, seed)
        self.classes = Rows.drawn(self.vocabulary.shared, width, training, seed + 1)
        self.batches = 0

    def begin(self, hour: Hour, features: HourFeatures) -> None:
        """Keys, fields and classes of the hour's features."""
        self._keys_U, self._fields_U = features.keys_U, features.fields_U
        self._classes_U = self.vocabulary.classes_of(hour, features)

    def finish(self, hour: Hour, features: HourFeatures) -> None:
        """Count sightings, fade, give out rows."""
        self.vocabulary.observe(hour, features)
        self.sketch.decay(self.fading)
        self._give_out()

    def shared(self, keys_N: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Shared rows (N, hashes) of keys, each hash in a part of its own."""
        part = self.cold // self.hashes
        seeds = (np.arange(self.hashes, dtype=np.uint64) + np.uint64(1)) * _STEP
        rows = (mixed(keys_N[:, None] ^ seeds) % np.uint64(part)).astype(np.int64)
        return self.hot + np.arange(self.hashes) * part + rows

    def vectors(self, working: WorkingSet, places_N: Tensor, classes_N: Tensor) -> Tensor:
        """Rows, own or shared, with class rows."""
        places = places_N.numpy()
        keys_N, hot_N = self._keys_U[places], self.sketch.find(self._keys_U[places])
        rows_NR = self.shared(keys_N)
        rows_NR[hot_N >= 0] = -1
        rows_NR[:, 0] = np.where(hot_N >= 0, hot_N, rows_NR[:, 0])
        unknown_N = self._unknown(self._fields_U[places])
        self._keys_N, self._rows_NR = keys_N, torch.from_numpy(rows_NR)
        self._classes_N = torch.from_numpy(np.where(hot_N >= 0, self._classes_U[places], unknown_N))
        vectors_ND = self.classes.values_MW[self._classes_N]
        for rows_N in self._rows_NR.T:
            used = torch.nonzero(rows_N >= 0)[:, 0]
            vectors_ND[used] += self.rows.values_MW[rows_N[used]]
        return vectors_ND

    def learn(self, working: WorkingSet, gradient_ND: Tensor) -> None:
        """Rows by their gradients, the sketch by how large these are."""
        for rows_N in self._rows_NR.T:
            used = torch.nonzero(rows_N >= 0)[:, 0]
            self.rows.learn(rows_N[used], gradient_ND[used])
        self.classes.learn(self._classes_N, gradient_ND)
        self.sketch.add(self._keys_N, gradient_ND.norm(dim=1).double().numpy())
        self.batches += 1
        if self.batches % GIVEN_OUT_EVERY == 0:
            self._give_out()

    def stored(self, hour: Hour, features: HourFeatures) -> tuple[NDArray[np.float32], float, float]:
        """Hot rows with their classes as of the hour, shared rows, and the unknown's, in int8."""
        keys_H, rows_H = self.sketch.hot()
        ids_H = self.vocabulary.find(keys_H)
        frequency_H, last_seen_H = self.vocabulary.known_of(hour, ids_H)
        known_H = ids_H >= 0
        fields_H = np.zeros(len(ids_H), np.int64)
        fields_H[known_H] = self.vocabulary.fields_V[ids_H[known_H]]
        classes_H = self.vocabulary.class_rows(fields_H, frequency_H, hour.index - last_seen_H)
        values_MD = self.rows.values_MW.numpy().copy()
        values_MD[rows_H[known_H]] += self.classes.values_MW.numpy()[classes_H[known_H]]
        values_MD = stored.as_int8(values_MD)
        unknown_FD = stored.as_int8(self.classes.values_MW.numpy()[self._unknown(np.arange(self.fields))])
        index = HeadIndex.build(keys_H, rows_H, FINGERPRINT_BITS)
        own_U = self.sketch.find(features.keys_U)

        def found() -> NDArray[np.float32]:
            hot_U = index.serve(features.keys_U, own_U, np.full(len(own_U), -1))
            cold_UD = values_MD[self.shared(features.keys_U)].sum(1) + unknown_FD[features.fields_U]
            return np.where(hot_U[:, None] >= 0, values_MD[hot_U], cold_UD)

        vectors_UD, seconds = stored.timed(found)
        row = stored.row_bytes(self.config.model.width)
        size = index.bytes(bits_for(self.hot)) + (len(rows_H) + self.cold + self.fields) * row
        return vectors_UD, size, seconds

    def _give_out(self) -> None:
        """New owners start from their shared vectors."""
        keys_N, rows_N = self.sketch.give_out()
        if len(keys_N):
            rows = torch.from_numpy(rows_N)
            self.rows.values_MW[rows] = self.rows.values_MW[torch.from_numpy(self.shared(keys_N))].sum(1)
            self.rows.squares_M[rows] = 0.0

    def _unknown(self, fields_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """The class rows of the unknown."""
        return self.vocabulary.class_rows(fields_N, np.zeros(len(fields_N), np.float32), np.zeros(len(fields_N), int))
