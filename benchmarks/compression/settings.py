"""Lists the methods at each size, and how each was tuned.

Decisions: every peer that has something to choose is tuned on an earlier stretch, one choice after the other, at the
sizes in `TUNED_AT`. The best choice at 1/30 is used from 1/10 to 1/300, that at 1/100 down to 1/1000, that at 1/300
below. (The earlier stretch has a tenth of the features, so that 1/30 of it has bytes for the codebooks of 1/400 of the
whole.) The best choice has the largest AUC minus log loss. The original's other settings (network, admission)
are the configuration's, and a peer has them too. A peer that cannot be made so small is left out at that size; one that
needs fewer bytes is measured with fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from benchmarks.compression.beside import saec_config
from benchmarks.compression.cafe import Cafe
from benchmarks.compression.cce import CCE
from benchmarks.compression.coded import CodedPeer, Coder
from benchmarks.compression.filtered import FilteredTable
from benchmarks.compression.ftrl import FtrlPeer
from benchmarks.compression.full import FullTable, Quantiser
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
TUNED_AT = {10: 30, 30: 30, 100: 30, 200: 30, 300: 30, 500: 100, 1000: 100, 3000: 300}
"""The size at which a peer's settings for a size are chosen."""
Choice = dict[str, Any]

AS_CONFIGURED = "as configured"
STARTS = (AS_CONFIGURED, 1.0)
RATES = (1.0, 0.5, 2.0, 4.0)
ORIGINAL: dict[str, tuple[Any, ...]] = {"start": STARTS, "rate": (1.0, 2.0, 4.0)}
"""Choices of the original and all that shares its pass, Saec included."""
AXES: dict[str, dict[str, tuple[Any, ...]]] = {
    "hashing": {"table": ("shared", "by field"), "start": STARTS, "rate": (*RATES, 8.0)},
    "quotient-remainder": {
        "combine": ("sum", "product"),
        "ids": ("as many as features", "as many as can be"),
        "start": STARTS,
        "rate": (*RATES, 8.0),
    },
    "filtered": {"rows": ("from the start", "at the cut"), "start": STARTS, "rate": (*RATES, 8.0)},
    "cafe": {"hot_share": (0.7, 0.4, 0.9), "hashes": (1, 2), "half_life": (72.0, 12.0), "start": STARTS, "rate": RATES},
    "robe": {"block": (8, 16, 4), "start": STARTS, "rate": RATES},
    "cce": {"code": ("2x8", "1x8", "4x8", "2x6", "2x4"), "every": (6, 1, 24), "start": STARTS, "rate": RATES},
    "mpe": {"search": ("first half", "throughout"), "start": STARTS, "rate": RATES},
    "trained-pq": {
        "code": ("2x8", "1x8", "4x8", "8x8", "1x6", "1x4"),
        "codebooks": ("shared", "by field"),
        "tail": ("alike", "fewer codewords"),
        "fitted": ("each hour", "first hours"),
        "rows": ("from the start", "at the cut"),
        "start": STARTS,
        "rate": RATES,
    },
    "int4": {"rows": ("from the start", "at the cut"), "start": STARTS, "rate": RATES},
    "int2": {"rows": ("from the start", "at the cut"), "start": STARTS, "rate": RATES},
    "ftrl": {"l1": (0.0, 1.0), "l2": (1.0, 10.0), "rate": (1.0, 0.3, 3.0)},
}
"""Choices of each tuned peer, tried in this order, the first of each being where it starts; `rate` is a factor on
`training.table_learning_rate`, for `ftrl` on its own; `start` is `model.first_order`."""

FEW: dict[str, dict[str, tuple[Any, ...]]] = {
    "hashing": {"table": ("shared",), "start": STARTS, "rate": (4.0, 2.0, 8.0)},
    "quotient-remainder": {
        "combine": ("sum", "product"),
        "ids": ("as many as features",),
        "start": STARTS,
        "rate": (4.0, 8.0),
    },
    "filtered": {"rows": ("from the start",), "start": STARTS, "rate": (4.0, 2.0, 8.0)},
    "cafe": {"hot_share": (0.7, 0.4), "hashes": (1,), "half_life": (72.0,), "start": STARTS, "rate": (1.0, 2.0, 4.0)},
    "robe": {"block": (8, 16), "start": STARTS, "rate": (1.0, 2.0, 4.0)},
    "cce": {"code": ("2x8", "1x8", "2x6", "2x4"), "every": (6,), "start": STARTS, "rate": (1.0, 2.0)},
    "mpe": {"search": ("first half",), "start": STARTS, "rate": (1.0, 2.0, 4.0)},
    "trained-pq": {
        "code": ("2x8", "1x8", "4x8", "1x6"),
        "codebooks": ("shared", "by field"),
        "tail": ("alike",),
        "fitted": ("each hour",),
        "rows": ("from the start",),
        "start": STARTS,
        "rate": (1.0, 2.0),
    },
    "int4": {"rows": ("from the start",), "start": STARTS, "rate": (1.0, 2.0, 4.0)},
    "int2": {"rows": ("from the start",), "start": STARTS, "rate": (1.0, 2.0, 4.0)},
    "ftrl": {"l1": (0.0,), "l2": (1.0, 10.0), "rate": (1.0, 0.3, 3.0)},
}
"""The choices that are tried unless all are asked for: those that mattered most in earlier tuning."""

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


class Contestant(Protocol):
    """A method that takes part in a pass."""

    def learn(self, given: HourRows) -> None:
        """One hour."""

    def serve(self, given: HourRows) -> Iterator[Served]:
        """Score an hour by what there is before it."""


def contestant(job: Job, stretch: Stretch, ratios: tuple[int, ...]) -> Contestant:
    """The method that takes part in a job's pass.

    Raises:
        Unreachable: when the peer cannot be made so small.
    """
    choice = dict(job.choice)
    changes = {"training.table_learning_rate": choice.get("rate", 1.0) * stretch.config.training.table_learning_rate}
    if (start := choice.pop("start", AS_CONFIGURED)) != AS_CONFIGURED:
        changes["model.first_order"] = start
    config = turned(stretch.config.model_copy(update={"seed": job.seed}), changes)
    if job.method == "original":
        saec = {f"saec@{ratio}": saec_config(config, ratio, stretch.hours) for ratio in ratios}
        return FullTable(config, saec, QUANTISERS, {})
    budget = stretch.census.original_bytes / job.ratio
    return _MAKERS.get(job.method, _coded)(job, config, stretch, budget, choice)


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
        return FullTable(config, {}, {}, {job.name: threshold})
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
    "hashing": _hashed,
    "quotient-remainder": _hashed,
    "filtered": _filtered,
    "mpe": _mixed_bits,
    "cafe": _by_key,
    "robe": _by_key,
    "ftrl": _linear,
}
"""Those of the peers that are not a `CodedPeer`."""
