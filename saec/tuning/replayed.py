"""Encodes hours of the log once into a scratch folder, and runs passes of the original over them.

Decisions: a trial is one pass of the original, not of the pipeline. It takes a quarter of the time, and a better
original gives a better compressed version (the final comparison checks this on versions). Each hour is scored before it
is learnt, as in service; the first third of the hours is only learnt. Each trial's scores are kept in a file, so a
killed search continues with the trial it was running.

Shapes: B rows of an hour.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from saec import device
from saec.data.ingest import RECORD_FILE, IngestRecord, ingest_hour
from saec.durable import make_folder, write_file
from saec.errors import HourHeld, InputError
from saec.gate.evidence import Evidence
from saec.gate.paired import Paired, pooled
from saec.train.original import Original
from saec.tuning.dials import Changes, turned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from saec.config import Config
    from saec.data.rows import EncodedRows
    from saec.hours import Hour

Told = Callable[[float], None]
"""Told which part of a piece of work is done, from 0 to 1."""


@dataclass(frozen=True)
class Rows:
    """The rows of some hours, in a folder."""

    config: Config
    folder: Path

    def encode(self, hours: Sequence[Hour], told: Told) -> list[Hour]:
        """Encode the hours that are not there yet.

        Returns:
            Those that can be learnt from.
        """
        for place, hour in enumerate(hours):
            folder = self.folder / hour.compact
            if not (folder / RECORD_FILE).exists() and not (folder / "unfit").exists():
                make_folder(folder)
                try:
                    ingest_hour(self.config, hour, folder)
                except (InputError, HourHeld) as error:  # the pipeline would pass it over as well
                    write_file(folder / "unfit", str(error).encode())
            told((place + 1) / len(hours))
        return [hour for hour in hours if (self.folder / hour.compact / RECORD_FILE).exists()]

    def of(self, hour: Hour) -> EncodedRows:
        """The rows of an hour."""
        folder = self.folder / hour.compact
        return IngestRecord.load(folder).load_rows(folder)


@dataclass(frozen=True)
class Trials:
    """Passes over the hours that are searched."""

    config: Config
    rows: Rows
    hours: Sequence[Hour]
    folder: Path
    """Where the trials' scores are kept."""

    @property
    def scored(self) -> Sequence[Hour]:
        """Hours whose scores count."""
        return self.hours[-(-len(self.hours) // 3) :]

    @cached_property
    def _labels(self) -> list[tuple[NDArray[np.uint8], NDArray[np.float64] | None]]:
        """Labels and weights of the scored hours."""
        return [(rows.labels_B, rows.weights_B) for rows in map(self.rows.of, self.scored)]

    def gap(self, changes: Changes, over: Changes, told: Told) -> Paired:
        """The original with some changes minus that with others, on the scored hours."""
        first, second = self._scores(changes, told), self._scores(over, told)
        return paired(self._labels, first, second)

    def seconds(self) -> float:
        """Processor's seconds that all trials took."""
        return float(sum(json.loads(path.read_text())["seconds"] for path in self.folder.glob("*.json")))

    def _scores(self, changes: Changes, told: Told) -> list[NDArray[np.float32]]:
        """Scores of the scored hours, from the trial's file or from a pass."""
        name = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / f"{name}.f4"
        if not path.exists():
            started = time.process_time()
            scores_B = np.concatenate(self._pass(turned(self.config, changes), told))
            make_folder(self.folder)
            said = {"changes": changes, "seconds": round(time.process_time() - started, 3)}
            write_file(path.with_suffix(".json"), json.dumps(said).encode())
            write_file(path, scores_B.astype("<f4").tobytes())
        ends = np.cumsum([len(labels_B) for labels_B, _ in self._labels])
        return np.split(np.fromfile(path, "<f4"), ends[:-1])

    def _pass(self, config: Config, told: Told) -> list[NDArray[np.float64]]:
        """Learn all hours, scoring those that count before they are learnt."""
        torch.set_num_threads(config.threads)
        device.deterministic()
        original, scores, first = Original(config), [], self.scored[0]
        for place, hour in enumerate(self.hours):
            rows = self.rows.of(hour)
            prepared = original.prepare(hour, rows)
            if hour >= first:
                scores.append(original.score(prepared))
            original.learn(hour, rows, prepared, rows.cut(config.training.gate_share))
            told((place + 1) / len(self.hours))
        return scores


def paired(
    labels: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64] | None]],
    first: Sequence[NDArray[np.floating]],
    second: Sequence[NDArray[np.floating]],
) -> Paired:
    """Two models' scores of the same hours, first minus second, with 95% intervals.

    Args:
        labels: uint8 [B] and weights of each hour.
        first: scores [B] of each hour.
        second: scores [B] of each hour.
    """
    sums: list[Mapping[str, Any]] = []
    for (labels_B, weights_B), first_B, second_B in zip(labels, first, second, strict=True):
        scores = {"second": second_B.astype(np.float64)}
        evidence = Evidence().with_stratum(labels_B, first_B.astype(np.float64), scores, weights_B)
        sums.append(asdict(evidence.pairs["second"]))
    found = pooled(sums)
    assert found is not None, "there are hours to compare on"
    return found
