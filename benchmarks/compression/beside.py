"""Runs Saec beside an original that other methods share, and gives its settings at each size.

Shapes: B rows, S slots, F fields.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.compression.stored import timed
from benchmarks.compression.stretch import HourRows, Served
from saec.compression.artifact import compression_figures, write_artifact
from saec.compression.challenger import Challenger
from saec.compression.codes import Coding, code
from saec.compression.dial import Allowance
from saec.compression.moments import HourPast
from saec.config import Config
from saec.serving.model import ORIGINAL_NETWORK
from saec.train.original import AtCut, Original


class SaecBeside:
    """The compressed model under one setting, beside an original that others share."""

    def __init__(self, config: Config) -> None:
        """Nothing learnt yet."""
        assert config.compression.ratio != "auto", "the benchmark names its sizes"
        self.config = config
        self.challenger = Challenger(config)
        self.coding: Coding | None = None
        self.sizes: dict[str, int] = {}

    def learn(self, original: Original, at_cut: AtCut, scores_B: NDArray[np.float64], given: HourRows) -> None:
        """Cluster, retrain and write the files, as the steps of an hour do for the version that they publish."""
        own = copy.copy(original)
        own.config = self.config
        labels_B, challenger = given.rows.labels_B, self.challenger
        past = HourPast(own, given.hour, given.rows.keys_BS, given.cut, at_cut)
        codes_BS = challenger.codes(given.rows.keys_BS).astype(np.int16)
        challenger.measure(past, codes_BS, labels_B, scores_B)
        allowance = Allowance.of(self.config, own.vocabulary.rows, challenger.ratio, models=challenger.share.models)
        moment = past.moment(end=True)
        self.coding = code(moment, challenger.standards, challenger.codes, allowance, quantised=challenger.quantised)
        for part in (slice(0, given.cut), slice(given.cut, None)):
            challenger.learn(codes_BS[part], labels_B[part])
        self.challenger = challenger.moved_on(self.coding)
        with tempfile.TemporaryDirectory() as folder:
            self.sizes = write_artifact(
                Path(folder), self.challenger, self.coding.head_keys_H, self.coding.head_codes_H
            )
            self.challenger.files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}

    def serve(self, name: str, rows: int, keys_BS: NDArray[np.uint64]) -> Served:
        """Score with the files; `rows` is how many the original had when they were written.

        No method's network is counted; the second one of an ensemble is, as no other method has two.
        """
        version = self.challenger.version
        assert version is not None, "learn an hour first"
        assert self.coding is not None, "learn an hour first"
        figures = compression_figures(
            rows=rows,
            width=self.config.model.width,
            network=sum(parameter.numel() for parameter in self.challenger.learner.network.parameters()),
            codewords=self.challenger.models * self.coding.standards.centroids.codewords,
            head=len(self.coding.head_keys_H),
            slots=len(self.config.slot_fields),
            sizes=self.sizes,
        )
        scores_B, seconds = timed(lambda: version.score_keys(keys_BS))
        size = figures["bytes_compressed"] + self.sizes.get(ORIGINAL_NETWORK, 0)
        return Served(name, scores_B, size, figures["ratio_vectors"], figures["ratio_embedding"], seconds)


def saec_config(config: Config, ratio: int, hours: int) -> Config:
    """Settings of Saec at a given share of the original's bytes; the dial reaches it a quarter through the hours."""
    update = {"ratio": float(ratio), "doubling_hours": hours // 20}
    return config.model_copy(update={"compression": config.compression.model_copy(update=update)})
