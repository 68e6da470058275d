"""Which contestants there are at which size, and how each was tuned.

Decisions: every peer that has something to choose is tuned on an earlier stretch, one choice after the other, at three
sizes: what is best at 1/30 is used down to 1/100, what is best at 1/300 down to that, what is best at 1/1000 beyond.
Best is AUC minus log loss. The original's own settings (network, rates, dropout, admission) are the configuration's; a
peer starts from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.compression.beside import saec_config
from benchmarks.compression.filtered import FilteredTable
from benchmarks.compression.full import FullTable, Quantiser
from benchmarks.compression.hashed import HashedTable, Hashing, QuotientRemainder
from benchmarks.compression.stored import filtered_bytes, row_bytes
from benchmarks.compression.stretch import Stretch
from saec.config import Config

RATIOS = (30, 100, 200, 300, 500, 1000)
TUNED_AT = {30: 30, 100: 30, 200: 300, 300: 300, 500: 1000, 1000: 1000}
"""The size at which a peer's settings for a size are chosen."""
Choice = dict[str, Any]

AXES: dict[str, dict[str, tuple[Any, ...]]] = {
    "hashing": {"table": ("shared", "by field"), "dropout": (True, False), "rate": (1.0, 0.5, 2.0, 4.0, 8.0)},
    "quotient-remainder": {
        "combine": ("sum", "product"),
        "ids": ("as many as features", "as many as can be"),
        "dropout": (True, False),
        "rate": (1.0, 0.5, 2.0, 4.0, 8.0),
    },
    "filtered": {"rows": ("from the start", "at the cut"), "rate": (1.0, 0.5, 2.0, 4.0, 8.0)},
}
"""Choices of each tuned peer, tried in this order, the first of each being where it starts; `rate` is a factor on
`training.table_learning_rate`."""

QUANTISERS = {
    "product-quantised@4x8": Quantiser(4, 8, 8),
    "product-quantised@2x8": Quantiser(2, 8, 8),
    "product-quantised@1x8": Quantiser(1, 8, 8),
    "product-quantised@1x4": Quantiser(1, 4, 4),
}
"""Parts x bits a code; the last also has a fingerprint of 4 bits, the least that an index of Saec takes."""


@dataclass(frozen=True)
class Job:
    """One pass over a stretch: a peer at a size, or the original with everything that shares its pass."""

    method: str
    ratio: int
    """Size aimed at; 0 for the original's pass, which has several."""
    seed: int
    choice: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Name of the contestant, of those of the pass in case of several."""
        return f"{self.method}@{self.ratio}" if self.ratio else self.method


def contestant(job: Job, stretch: Stretch, ratios: tuple[int, ...]) -> FullTable | FilteredTable | HashedTable:
    """Whoever takes part in a job's pass."""
    config = stretch.config.model_copy(update={"seed": job.seed})
    if job.method == "original":
        saec = {f"saec@{ratio}": saec_config(config, ratio, stretch.hours) for ratio in ratios}
        return FullTable(config, saec, QUANTISERS, {})
    choice = dict(job.choice)
    rate = choice["rate"] * config.training.table_learning_rate
    training = config.training.model_copy(update={"table_learning_rate": rate})
    config = config.model_copy(update={"training": training})
    budget = stretch.census.original_bytes / job.ratio
    if job.method == "filtered":
        return _filtered(job.name, config, stretch, budget, choice)
    return _hashed(job, config, stretch, int(budget / row_bytes(config.model.width)), choice)


def _filtered(
    name: str, config: Config, stretch: Stretch, budget: float, choice: Choice
) -> FilteredTable | FullTable:
    fields, width = len(config.field_names), config.model.width
    room = 1.01 * budget  # heads come in steps: rather a little larger than Saec at the same size than smaller
    threshold = stretch.census.threshold(lambda head: filtered_bytes(head, width, fields, 8), room)
    if choice["rows"] == "at the cut":
        return FullTable(config, {}, {}, {name: threshold})
    return FilteredTable(name, config, threshold)


def _hashed(job: Job, config: Config, stretch: Stretch, rows: int, choice: Choice) -> HashedTable:
    features_F, slots = stretch.census.features_F, np.array(config.slot_fields, np.int64)
    if job.method == "hashing":
        layout = (
            Hashing.shared(rows, len(slots))
            if choice["table"] == "shared"
            else Hashing.by_field(rows, features_F, slots)
        )
        return HashedTable(job.name, config, rows, layout, dropout=choice["dropout"])
    ids = int(features_F.sum()) if choice["ids"] == "as many as features" else rows**2
    split = QuotientRemainder.within(rows, ids)
    return HashedTable(job.name, config, rows, split, combine=choice["combine"], dropout=choice["dropout"])
