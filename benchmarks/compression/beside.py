"""Saec beside an original that others share, and what it is set to at each size.

Shapes: G gate rows, S slots, F fields.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.compression.stretch import HourRows, Served
from saec.compress.artifact import compression_figures, write_artifact
from saec.compress.challenger import Challenger
from saec.compress.codes import HourCodes, code_hour
from saec.compress.dial import warmed
from saec.config import Config
from saec.serving import Model
from saec.train.original import Original, Untouched


class SaecBeside:
    """The compressed model under one setting, beside an original that others share."""

    def __init__(self, config: Config) -> None:
        """Nothing learnt yet."""
        self.config = config
        self.challenger: Challenger | None = None
        self.codes: HourCodes | None = None

    def learn(self, original: Original, untouched: Untouched, given: HourRows) -> None:
        """Cluster and retrain, as the steps of an hour do."""
        own = copy.copy(original)
        own.config = self.config
        before = (self.challenger or Challenger(self.config)).standards
        dial = self.config.compression
        assert dial.ratio != "auto", "the benchmark names its sizes"
        ratio = warmed(dial, dial.ratio, before.hours)
        self.codes = code_hour(own, untouched, before, given.hour, given.rows.keys_BS, given.cut, ratio)
        if self.challenger is None:
            self.challenger = Challenger.start(own)
            self.challenger.retrain(self.codes, given.rows.labels_B, learn=False)
        else:
            self.challenger.absorb()
            self.challenger.retrain(self.codes, given.rows.labels_B)

    def serve(self, name: str, rows: int, keys_GS: NDArray[np.uint64]) -> Served:
        """Write the files, read them back, score; `rows` is how many the original has."""
        assert self.challenger is not None, "learn an hour first"
        assert self.codes is not None, "learn an hour first"
        with tempfile.TemporaryDirectory() as folder:
            sizes = write_artifact(Path(folder), self.challenger, self.codes.head_keys_H, self.codes.head_codes_H)
            scores_G = Model.read(Path(folder)).score_keys(keys_GS)
        figures = compression_figures(
            rows=rows,
            width=self.config.model.width,
            network=sum(parameter.numel() for parameter in self.challenger.learner.network.parameters()),
            codewords=self.codes.standards.centroids.codewords,
            head=len(self.codes.head_keys_H),
            slots=len(self.config.slot_fields),
            sizes=sizes,
        )
        return Served(
            name, scores_G, figures["bytes_compressed"], figures["ratio_vectors"], figures["ratio_embedding"]
        )


def saec_config(config: Config, ratio: int, hours: int) -> Config:
    """Settings of Saec at so small a share of the original: the dial, reached a quarter through so many hours."""
    update = {"ratio": float(ratio), "doubling_hours": hours // 20}
    return config.model_copy(update={"compression": config.compression.model_copy(update=update)})
