"""Passes over a stretch, in processes, each kept as it finishes so that a broken run goes on where it stopped.

Decisions: what a pass came to goes into one JSON file, its scores into files of their own that only comparisons need;
a pass is found again by its name, seed, choices and by the stretch, whose settings the file names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.compression.full import Served
from benchmarks.compression.settings import ANCHORS, AXES, LAST_OF_FIRST_ANCHOR, Choice, Job, contestant
from benchmarks.compression.stretch import Stretch
from benchmarks.record import commit
from saec.gate.metrics import auc, logloss

Record = dict[str, Any]


@dataclass
class Kept:
    """What is known so far, in a file."""

    path: Path
    content: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, stretch: dict[str, Any]) -> Kept:
        """Read the file; one of another stretch is started afresh."""
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if content.get("stretch") != stretch:
            content = {"stretch": stretch, "tuning": [], "choices": {}, "runs": []}
        return cls(path, content)

    def save(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def add(self, kind: str, records: Iterable[Record]) -> None:
        """Keep the records of a pass, in place of earlier ones of the same name, seed and choices."""
        fresh = list(records)
        known = {_identity(record) for record in fresh}
        self.content[kind] = [old for old in self.content[kind] if _identity(old) not in known] + fresh
        self.save()

    def find(self, kind: str, job: Job) -> Record | None:
        """The record of a pass that was made before."""
        wanted = (job.name, job.seed, json.dumps(dict(job.choice), sort_keys=True))
        return next((record for record in self.content[kind] if _identity(record) == wanted), None)


def run(job: Job, stretch: Stretch, ratios: tuple[int, ...], scores: Path) -> list[Record]:
    """Make one pass.

    Returns:
        A record for each contestant that was scored.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    faiss.omp_set_num_threads(1)
    started = time.perf_counter()
    taking_part = contestant(job, stretch, ratios)
    served: dict[str, list[Served]] = {}
    for given in stretch:
        taking_part.learn(given)
        if given.scored:
            for one in taking_part.serve(given):
                served.setdefault(one.name, []).append(one)
    seconds = time.perf_counter() - started
    wanted = served if job.method == "original" else {job.name: served[job.name]}
    return [_record(name, job, hours, stretch, scores, seconds) for name, hours in wanted.items()]


def scores_file(scores: Path, name: str, seed: int) -> Path:
    """Where the scores of a contestant are kept."""
    return scores / f"{name}-seed{seed}.npy"


def run_all(
    kept: Kept, kind: str, jobs: list[Job], stretch: Stretch, ratios: tuple[int, ...], scores: Path, processes: int
) -> None:
    """Make the passes that are not known yet, so many at a time."""
    missing = [job for job in jobs if kept.find(kind, job) is None]
    work: Callable[[Job], list[Record]] = partial(run, stretch=stretch, ratios=ratios, scores=scores)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(work, job) for job in missing]):
            kept.add(kind, done.result())
            for record in done.result():
                Console(stderr=True).print(_line(record))


def tune(
    kept: Kept, methods: Iterable[str], stretch: Stretch, ratios: tuple[int, ...], scores: Path, processes: int
) -> None:
    """Choose the settings of each peer that has some, one after the other, on an earlier stretch."""
    for method in [method for method in methods if method in AXES]:
        for anchor in ANCHORS:
            choice: Choice = {axis: values[0] for axis, values in AXES[method].items()}
            for axis, values in AXES[method].items():
                jobs = [_job(method, anchor, {**choice, axis: value}) for value in values]
                run_all(kept, "tuning", jobs, stretch, ratios, scores, processes)
                choice = max((dict(job.choice) for job in jobs), key=lambda tried: _merit(kept, method, anchor, tried))
            kept.content["choices"][f"{method}@{anchor}"] = choice
            kept.save()


def chosen(kept: Kept, method: str, ratio: int) -> Choice:
    """The settings of a peer at a size; nothing for one that has none."""
    if method not in AXES:
        return {}
    anchor = ANCHORS[0] if ratio <= LAST_OF_FIRST_ANCHOR else ANCHORS[1]
    found: Choice = kept.content["choices"].get(f"{method}@{anchor}") or {
        axis: values[0] for axis, values in AXES[method].items()
    }
    return found


def jobs_of(kept: Kept, methods: Iterable[str], ratios: Iterable[int], seeds: Iterable[int]) -> list[Job]:
    """The passes of a run: the original's first, with everything that shares it."""
    alone = [(method, ratio) for method in methods for ratio in ratios if method in AXES]
    return [
        job
        for seed in seeds
        for job in (
            Job("original", 0, seed),
            *(Job(method, ratio, seed, tuple(chosen(kept, method, ratio).items())) for method, ratio in alone),
        )
    ]


def _job(method: str, ratio: int, choice: Choice) -> Job:
    return Job(method, ratio, 1, tuple(choice.items()))


def _merit(kept: Kept, method: str, anchor: int, choice: Choice) -> float:
    record = kept.find("tuning", _job(method, anchor, choice))
    assert record is not None, "tuned after its passes"
    return float(record["auc"] - record["logloss"])


def _record(name: str, job: Job, hours: list[Served], stretch: Stretch, scores: Path, seconds: float) -> Record:
    """Pool the hours of a contestant, and keep its scores."""
    scores_G: NDArray[np.float64] = np.concatenate([hour.scores_G for hour in hours])
    path = scores_file(scores, name, job.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, scores_G.astype(np.float32))
    size = float(np.mean([hour.bytes for hour in hours]))
    return {
        "name": name,
        "method": name.partition("@")[0],
        "seed": job.seed,
        "choice": dict(job.choice),
        "bytes": round(size),
        "ratio": stretch.census.original_bytes / size,
        "ratio_vectors": float(np.mean([hour.ratio_vectors for hour in hours])),
        "ratio_paper": float(np.mean([hour.ratio_paper for hour in hours])),
        "auc": auc(stretch.labels_G, scores_G),
        "logloss": logloss(stretch.labels_G, scores_G),
        "seconds": round(seconds, 1),
        "commit": commit(),
    }


def _identity(record: Record) -> tuple[str, int, str]:
    return record["name"], record["seed"], json.dumps(record["choice"], sort_keys=True)


def _line(record: Record) -> str:
    return (
        f"{record['name']} seed {record['seed']} {record['choice'] or ''}: 1/{record['ratio']:.0f}, "
        f"{record['auc']:.4f} / {record['logloss']:.4f}, {record['seconds']:.0f} s"
    )
