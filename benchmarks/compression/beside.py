"""Saec beside an original that others share, and what it is set to at each size.

Shapes: G gate rows, S slots, F fields.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.compression.stretch import HourRows, Served, Stretch, fuse_cells
from saec.compress.artifact import Artifact, compression_figures, write_artifact
from saec.compress.challenger import Challenger
from saec.compress.codebooks import Centroids
from saec.compress.codes import HourCodes, code_hour
from saec.config import Config
from saec.train.original import Original, Untouched

FINGERPRINT_BITS = {30: 8, 100: 8, 200: 6, 300: 5, 500: 5, 1000: 4}
"""Of Saec, by size: the smaller, the more of the bits go to codes."""
CODEWORDS = (255, 127, 63, 31, 15, 7)
CODEBOOK_SHARE = 0.2
"""Of Saec's bytes, at most; the number of codewords follows."""
HEADERS = 500
"""Bytes of the headers of Saec's files, about."""


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
        before = Centroids.empty(len(self.config.field_names), self.config.model.width)
        if self.challenger is not None:
            before = self.challenger.centroids
        self.codes = code_hour(own, untouched, before, given.hour, given.rows.keys_BS, given.cut)
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
            sizes = write_artifact(Path(folder), self.challenger, self.codes.head_keys_N, self.codes.head_codes_N)
            scores_G = Artifact.read(Path(folder)).score(keys_GS)
        figures = compression_figures(
            rows=rows,
            width=self.config.model.width,
            codewords=self.codes.centroids.codewords,
            head=len(self.codes.head_keys_N),
            sizes=sizes,
        )
        return Served(
            name, scores_G, figures["bytes_compressed"], figures["ratio_vectors"], figures["ratio_embedding"]
        )


def saec_config(config: Config, stretch: Stretch, ratio: int) -> Config:
    """Settings of Saec with which its files come to a little less than so small a share of the original."""
    census, budget = stretch.census, 0.97 * stretch.census.original_bytes / ratio
    sizes = {codewords: _codebook_bytes(config, census.features_F, codewords) for codewords in CODEWORDS}
    codewords = next((count for count in CODEWORDS if sizes[count] <= CODEBOOK_SHARE * budget), CODEWORDS[-1])
    cell_bits = codewords.bit_length() + FINGERPRINT_BITS[ratio]
    left = budget - sizes[codewords]
    update = {
        "codewords": codewords,
        "fingerprint_bits": FINGERPRINT_BITS[ratio],
        "codebook_precision": "int8",
        "head_frequency": census.threshold(lambda head: fuse_cells(head) * cell_bits / 8, left),
    }
    return config.model_copy(update={"compression": config.compression.model_copy(update=update)})


def _codebook_bytes(config: Config, features_F: NDArray[np.int64], codewords: int) -> int:
    """Bytes of int8 codebooks with a scale and of default codewords, headers of the files included."""
    counts_F = np.minimum(features_F, codewords) + 1
    return int(counts_F.sum()) * (config.model.width + 4) + HEADERS
