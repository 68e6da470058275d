"""Shares code among the peers whose vectors are made from a feature's key.

Shapes: U distinct features of the hour, N vectors of a batch, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.compression import stored
from benchmarks.compression.decoding import Decoder, DecodingLearner
from benchmarks.compression.stretch import HourRows, Served
from saec.data.hour_features import HourFeatures
from saec.model.networks import build_network
from saec.model.table import WorkingSet
from saec.train.batches import Pooling

if TYPE_CHECKING:
    from saec.config import Config
    from saec.hours import Hour


class KeyDecoder(Decoder):
    """Vectors of the hour's features, by their keys."""

    @abstractmethod
    def begin(self, hour: Hour, features: HourFeatures) -> None:
        """An hour's features are to be learnt."""

    @abstractmethod
    def finish(self, hour: Hour, features: HourFeatures) -> None:
        """An hour has been learnt."""

    @abstractmethod
    def stored(self, hour: Hour, features: HourFeatures) -> tuple[NDArray[np.float32], float, float]:
        """Vectors (U, D) of features as they come back from what is stored, its bytes, and the seconds to find them."""


class KeyedPeer:
    """A contestant with such a decoder."""

    def __init__(self, name: str, config: Config, decoder: KeyDecoder) -> None:
        """Nothing learnt yet."""
        self.name, self.config, self.decoder = name, config, decoder
        self._slot_fields_S = np.array(config.slot_fields, np.int64)
        network = build_network(config.model, len(config.field_names), config.seed)
        self.learner = DecodingLearner(network, Pooling.of(config.slot_fields), config.training, decoder)

    def learn(self, given: HourRows) -> None:
        """One hour."""
        features = HourFeatures.of(given.rows.keys_BS, self._slot_fields_S)
        self.decoder.begin(given.hour, features)
        nothing = WorkingSet(np.zeros(0, np.int64), torch.zeros(0), torch.zeros(0))
        self.learner.fit(
            nothing,
            torch.from_numpy(features.spread(np.arange(len(features.keys_U)))),
            given.rows.labels_B,
            weights_B=given.rows.weights_B,
        )
        self.decoder.finish(given.hour, features)

    def serve(self, given: HourRows) -> Iterator[Served]:
        """Score the whole hour with what is stored before it."""
        features = HourFeatures.of(given.rows.keys_BS, self._slot_fields_S)
        vectors_UD, size, finding = self.decoder.stored(given.hour, features)
        places_BS = torch.from_numpy(features.spread(np.arange(len(vectors_UD))))
        scores_B, seconds = stored.timed(lambda: self.learner.score(torch.from_numpy(vectors_UD), places_BS))
        yield Served(self.name, scores_B, size, 0.0, 0.0, finding + seconds)
