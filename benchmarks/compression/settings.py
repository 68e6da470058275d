"""Lists the methods at each size, and how each was tuned.

Decisions: every method, the original and Saec among them, is tuned on an earlier stretch, one choice after the other
and round again until none changes, at the sizes in `TUNED_AT`, since small versions want other rates than large ones.
The best choice at 1/30 is used above 1/100, that at 1/100 down to 1/1000, that at 1/300 below; at each the search
starts from the choice at the larger size. (The earlier stretch has fewer features, and so fewer bytes at the same
size.) The best choice has the largest AUC minus log loss. All other settings (network, admission) are the
configuration's. Saec has an original of its own beneath it, which learns as Saec chose. A peer that cannot be made so
small is left out at that size; one that needs fewer bytes is measured with fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from benchmarks.compression.beside import saec_config
from benchmarks.compression.cafe import Cafe
from benchmarks.compression.cce import CCE
from benchmarks.compression.coded import CodedPeer, Coder
from benchmarks.compression.filtered import FilteredTable
from benchmarks.compression.ftrl import FtrlPeer
from benchmarks.compression.full import FullTable, Quantiser, Storing, filtered, product_quantised
from benchmarks.compression.hashed import HashedTable, Hashing, QuotientRemainder
from benchmarks.compression.hashed_features import KeyDecoder, KeyedPeer
from benchmarks.compression.low_bits import LowBits
from benchmarks.compression.mixed_bits import MixedBitsPeer
from benchmarks.compression.robe import Robe
from benchmarks.compression.stored import filtered_bytes, row_bytes
from benchmarks.compression.stretch import HourRows, Served, Stretch
from benchmarks.compression.trained_pq import TrainedPQ
from saec.config import Config
from saec.tuning.dials import turned

RATIOS = (10, 30, 100, 200, 300, 500, 1000, 3000)
TUNED_AT = {10: 30, 30: 30, 100: 100, 200: 100, 300: 100, 500: 100, 1000: 100, 3000: 300}
"""The size at which a method's settings for a size are chosen."""
Choice = dict[str, Any]

AS_CONFIGURED = "as configured"
RATES = (1.0, 0.5, 0.25, 2.0, 4.0)
LEARNING: dict[str, tuple[Any, ...]] = {"start": (AS_CONFIGURED, 1.0), "prior": (AS_CONFIGURED, 0.5), "rate": RATES}
"""What every method with a network and Adagrad chooses, the original and Saec among them: `model.first_order`,
`training.table_prior`, and a factor on `training.table_learning_rate`."""
AXES: dict[str, dict[str, tuple[Any, ...]]] = {
    "saec": LEARNING,
    "hashing": {"table": ("shared", "by field"), **LEARNING},
    "quotient-remainder": {
        "combine": ("sum", "product"),
        "ids": ("as many as features", "as many as can be"),
        **LEARNING,
    },
    "filtered": {"rows": ("from the start", "at the cut"), **LEARNING},
    "cafe": {"hot_share": (0.7, 0.4, 0.9), "hashes": (1, 2), "half_life": (72.0, 12.0), **LEARNING},
    "robe": {"block": (8, 16, 4), **LEARNING},
    "cce": {"code": ("2x8", "1x8", "4x8", "2x6", "2x4"), "every": (6, 1, 24), **LEARNING},
    "mpe": {"search": ("first half", "throughout"), **LEARNING},
    "trained-pq": {
        "code": ("2x8", "1x8", "4x8", "8x8", "1x6", "1x4"),
        "codebooks": ("shared", "by field"),
        "tail": ("alike", "fewer codewords"),
        "fitted": ("each hour", "first hours"),
        "rows": ("from the start", "at the cut"),
        **LEARNING,
    },
    "int4": {"rows": ("from the start", "at the cut"), **LEARNING},
    "int2": {"rows": ("from the start", "at the cut"), **LEARNING},
    "ftrl": {"l1": (0.0, 1.0), "l2": (1.0, 10.0), "rate": (1.0, 0.3, 3.0)},
}
"""Choices of each method, tried in this order, the first of each being where it starts. `rate` goes on beyond the ends
as long as that helps; that of `ftrl` is a factor on its own."""

FEW: dict[str, dict[str, tuple[Any, ...]]] = AXES | {
    "hashing": {"table": ("shared",), **LEARNING},
    "quotient-remainder": {"combine": ("sum", "product"), "ids": ("as many as features",), **LEARNING},
    "filtered": {"rows": ("from the start",), **LEARNING},
    "cafe": {"hot_share": (0.7, 0.4), "hashes": (1,), "half_life": (72.0,), **LEARNING},
    "robe": {"block": (8, 16), **LEARNING},
    "cce": {"code": ("2x8", "1x8", "2x6", "2x4"), "every": (6,), **LEARNING},
    "mpe": {"search": ("first half",), **LEARNING},
    "trained-pq": {
        "code": ("2x8", "1x8", "4x8", "1x6"),
        "codebooks": ("shared", "by field"),
        "tail": ("alike",),
        "fitted": ("each hour",),
        "rows": ("from the start",),
        **LEARNING,
    },
    "int4": {"rows": ("from the start",), **LEARNING},
    "int2": {"rows": ("from the start",), **LEARNING},
    "ftrl": {"l1": (0.0,), "l2": (1.0, 10.0), "rate": (1.0, 0.3, 3.0)},
}
"""The choices that are tried unless all are asked for: those that mattered most in earlier tuning."""

STORED: dict[str, Storing] = {
    "int8": partial(filtered, threshold=0.0),
    "product-quantised@4x8": partial(product_quantised, quantiser=Quantiser(4, 8, 8)),
    "product-quantised@2x8": partial(product_quantised, quantiser=Quantiser(2, 8, 8)),
    "product-quantised@1x8": partial(product_quantised, quantiser=Quantiser(1, 8, 8)),
    "product-quantised@1x4": partial(product_quantised, quantiser=Quantiser(1, 4, 4)),
}
"""What shares the original's pass. Quantisers by parts x bits a code; the last also has a fingerprint of 4 bits, the
least that an index of Saec takes."""


@dataclass(frozen=True)
class Job:
    """One pass over a stretch: a method at a size, or the original with everything that shares its pass."""

    method: str
    ratio: int
    """Size aimed at; 0 for the original's pass, which has several."""
    seed: int
    choice: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Name of the contestant, of those of the pass in case of several."""
        return f"{self.method}@{self.ratio}" if self.ratio else self.method


class Contestant(Protocol):
    """A method that takes part in a pass."""

    def learn(self, given: HourRows) -> None:
        """One hour."""

    def serve(self, given: HourRows) -> Iterator[Served]:
        """Score an hour by what there is before it."""


def contestant(job: Job, stretch: Stretch, *, alone: bool = False) -> Contestant:
    """The method that takes part in a job's pass; the original can do so alone, without what is made from it.

    Raises:
        Unreachable: when the peer cannot be made so small.
    """
    choice = dict(job.choice)
    changes = {"training.table_learning_rate": choice.get("rate", 1.0) * stretch.config.training.table_learning_rate}
    for axis, dial in (("start", "model.first_order"), ("prior", "training.table_prior")):
        if (value := choice.pop(axis, AS_CONFIGURED)) != AS_CONFIGURED:
            changes[dial] = value
    config = turned(stretch.config.model_copy(update={"seed": job.seed}), changes)
    if job.method == "original":
        return FullTable(config, original=True, stored={} if alone else STORED)
    budget = stretch.census.original_bytes / job.ratio
    return _MAKERS.get(job.method, _coded)(job, config, stretch, budget, choice)


def _saec(job: Job, config: Config, stretch: Stretch, budget: float, choice: Choice) -> Contestant:
    return FullTable(config, saec={job.name: saec_config(config, job.ratio, stretch.hours)})


def _mixed_bits(job: Job, config: Config, stretch: Stretch, budget: float, choice: Choice) -> Contestant:
    learnt_alone = stretch.hours - stretch.scored
    searched = learnt_alone // 2 if choice["search"] == "first half" else stretch.hours
    return MixedBitsPeer(job.name, config, budget, searched)


def _by_key(job: Job, config: Config, stretch: Stretch, budget: float, choice: Choice) -> Contestant:
    maker: Callable[..., KeyDecoder] = Cafe if job.method == "cafe" else Robe
    settings = {axis: value for axis, value in choice.items() if axis != "rate"}
    return KeyedPeer(job.name, config, maker(config, budget, **settings))


def _linear(job: Job, config: Config, stretch: Stretch, budget: float, choice: Choice) -> Contestant:
    return FtrlPeer(job.name, config, budget, **choice)


def _coded(job: Job, config: Config, stretch: Stretch, budget: float, choice: Choice) -> Contestant:
    from_start = choice.get("rows", "from the start") == "from the start"
    return CodedPeer(job.name, config, _coder(job.method, config, choice), budget, from_start=from_start)


def _coder(method: str, config: Config, choice: Choice) -> Coder:
    if method in ("int4", "int2"):
        return LowBits(config, int(method[-1]))
    parts, bits = map(int, choice["code"].split("x"))
    if method == "cce":
        return CCE(config, parts, bits, choice["every"])
    return TrainedPQ(
        config,
        parts,
        bits,
        by_field=choice["codebooks"] == "by field",
        short_tail=choice["tail"] == "fewer codewords",
        each_hour=choice["fitted"] == "each hour",
    )


def _filtered(job: Job, config: Config, stretch: Stretch, budget: float, choice: Choice) -> Contestant:
    fields, width = len(config.field_names), config.model.width
    room = 1.01 * budget  # heads come in steps: rather a little larger than Saec at the same size than smaller
    threshold = stretch.census.threshold(lambda head: filtered_bytes(head, width, fields, 8), room)
    if choice["rows"] == "at the cut":
        return FullTable(config, stored={job.name: partial(filtered, threshold=threshold)})
    return FilteredTable(job.name, config, threshold)


def _hashed(job: Job, config: Config, stretch: Stretch, budget: float, choice: Choice) -> Contestant:
    rows = int(budget / row_bytes(config.model.width))
    features_F, slots = stretch.census.features_F, np.array(config.slot_fields, np.int64)
    if job.method == "hashing":
        layout = (
            Hashing.shared(rows, len(slots))
            if choice["table"] == "shared"
            else Hashing.by_field(rows, features_F, slots)
        )
        return HashedTable(job.name, config, rows, layout)
    ids = int(features_F.sum()) if choice["ids"] == "as many as features" else rows**2
    split = QuotientRemainder.within(rows, ids)
    return HashedTable(job.name, config, rows, split, combine=choice["combine"])


_MAKERS: dict[str, Callable[[Job, Config, Stretch, float, Choice], Contestant]] = {
    "saec": _saec,
    "hashing": _hashed,
    "quotient-remainder": _hashed,
    "filtered": _filtered,
    "mpe": _mixed_bits,
    "cafe": _by_key,
    "robe": _by_key,
    "ftrl": _linear,
}
"""Those of the methods that are not a `CodedPeer`."""
