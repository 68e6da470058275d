"""Runs passes over a stretch in processes; keeps each as it finishes, so that a broken run can continue.

Decisions: the results of all passes go into one JSON file; scores go into files of their own, which only comparisons
need. A pass is found again by its name, seed and choices and by the stretch, whose settings the file names.
A peer is scored by its network's average, as the original and Saec are, and by its last step, and keeps the better on
the very rows it is judged on: the average may lag behind codes that are fitted anew (it costs MPE at 1/1000 some 0.03
of log loss), and no peer shall lose by what was chosen for others.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
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
from threadpoolctl import threadpool_limits

from benchmarks.compression.settings import FEW, LEARNING, TUNED_AT, Choice, Contestant, Job, contestant
from benchmarks.compression.stored import Unreachable, timed
from benchmarks.compression.stretch import HourRows, Served, Stretch
from benchmarks.record import commit
from saec import device
from saec.gate.metrics import auc, logloss
from saec.train.learner import Learner

Record = dict[str, Any]
RATE_WITHIN = (1 / 16, 16.0)
"""The limits up to which a rate is halved or doubled while the smallest or the largest tried is the best."""
LAST = ", last step"
"""Follows the name of a contestant that is scored by its network's last step."""


@dataclass
class Kept:
    """What is known so far, in a file."""

    path: Path
    content: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, stretch: dict[str, Any] | None = None) -> Kept:
        """Read the file; one of another stretch than this is started afresh."""
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if stretch is not None and content.get("stretch") != stretch:
            content = {"stretch": stretch, "tuning": [], "choices": {}, "runs": [], "left_out": [], "compared": []}
        return cls(path, content)

    def save(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def add(self, kind: str, records: Iterable[Record]) -> None:
        """Keep the records of a pass: in tuning one for each choice, of the runs only the last."""
        fresh = list(records)
        if kind == "runs" and any("left_out" in record for record in fresh):
            kind = "left_out"
            self.content.setdefault(kind, [])
        if kind != "tuning":
            known = {(record["name"], record["seed"]) for record in fresh}
            self.content[kind] = [old for old in self.content[kind] if (old["name"], old["seed"]) not in known]
            compared = self.content.get("compared", [])
            self.content["compared"] = [old for old in compared if not {*_sides(old)} & known]  # of former runs
        self.content[kind] += fresh
        self.save()

    def find(self, kind: str, job: Job) -> Record | None:
        """The record of a pass that was made before."""
        wanted = {"name": job.name, "seed": job.seed, "choice": dict(job.choice)}
        return next((record for record in self.content.get(kind, []) if wanted.items() <= record.items()), None)

    def forget(self, methods: Iterable[str]) -> None:
        """Have the passes of some methods made again."""
        gone = set(methods)
        self.content["runs"] = [run for run in self.content["runs"] if run["pass"] not in gone]


def _sides(compared: Record) -> tuple[tuple[str, int], tuple[str, int]]:
    """The runs of a comparison, by name and seed."""
    return (compared["first"], compared["seed"]), (compared["second"], compared["seed"])


def run(job: Job, stretch: Stretch, scores: Path | None) -> list[Record]:
    """Make one pass, and keep its scores if there is a folder for them.

    Returns:
        A record for each contestant that was scored.
    """
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")  # threads of numpy wait for each other busily where others use the cores
    device.deterministic()
    faiss.omp_set_num_threads(1)
    started = time.perf_counter()
    asked = {"name": job.name, "pass": job.method, "seed": job.seed, "choice": dict(job.choice)}
    try:
        taking_part = contestant(job, stretch, alone=scores is None)
    except Unreachable as missing:
        return [{**asked, "left_out": str(missing)}]
    served: dict[str, list[Served]] = {}
    learning = 0.0
    for given in stretch:
        if given.scored:
            for one in _served(taking_part, given):
                served.setdefault(one.name, []).append(one)
        learning += timed(partial(taking_part.learn, given))[1]
    seconds = time.perf_counter() - started
    settings = {name: beside.config.compression for name, beside in getattr(taking_part, "saec", {}).items()}
    records = []
    for name in [name for name in served if not name.endswith(LAST)]:
        hours = _better(served[name], served.get(name + LAST), stretch)
        scores_B = _scores(hours)
        if scores is not None:
            path = scores_file(scores, name, job.seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, scores_B.astype(np.float32))
        setting = settings[name].model_dump(exclude_defaults=True) if name in settings else {}
        figures = {
            **_sizes(hours, stretch),
            **_metrics(scores_B, stretch),
            "seconds": round(seconds, 1),
            "learning_seconds": round(_learning(taking_part, name, learning), 1),
            "scoring_us": sum(hour.scoring_seconds for hour in hours) / len(scores_B) * 1e6,
            "last_step": hours[0].name.endswith(LAST),
        }
        records.append({**asked, "name": name, "setting": setting, **figures, "commit": commit()})
    return records


def _served(taking_part: Contestant, given: HourRows) -> Iterator[Served]:
    """What a method serves, and once more by the last step of its network where it is averaged."""
    yield from taking_part.serve(given)
    learner: Learner | None = getattr(taking_part, "learner", None)
    if learner is not None:
        averaged, learner.averaged = learner.averaged, learner.network
        for one in taking_part.serve(given):
            yield one._replace(name=one.name + LAST)
        learner.averaged = averaged


def _better(averaged: list[Served], last: list[Served] | None, stretch: Stretch) -> list[Served]:
    return max(filter(None, (averaged, last)), key=lambda hours: _merit_of(_metrics(_scores(hours), stretch)))


def _scores(hours: list[Served]) -> NDArray[np.float64]:
    return np.concatenate([hour.scores_B for hour in hours])


def scores_file(scores: Path, name: str, seed: int) -> Path:
    """Where the scores of a contestant are kept."""
    return scores / f"{name}-seed{seed}.npy"


def run_all(kept: Kept, jobs: list[Job], stretch: Stretch, scores: Path | None, processes: int) -> None:
    """Make the passes that are not known yet, some at a time; without a folder for scores they are for tuning."""
    kind = "tuning" if scores is None else "runs"
    kinds = ("tuning",) if scores is None else ("runs", "left_out")
    missing = [job for job in jobs if not any(kept.find(known, job) for known in kinds)]
    work: Callable[[Job], list[Record]] = partial(run, stretch=stretch, scores=scores)
    for records in _made(work, missing, processes):
        kept.add(kind, records)
        for record in records:
            Console(stderr=True).print(_line(record))


def _made(work: Callable[[Job], list[Record]], jobs: list[Job], processes: int) -> Iterator[list[Record]]:
    """What passes come to, as they finish; in this process where one is enough."""
    if processes == 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(work, job) for job in jobs]):
            yield done.result()


def tune(
    kept: Kept,
    method: str,
    axes: dict[str, tuple[Any, ...]],
    stretch: Stretch,
    ratios: tuple[int, ...],
    processes: int,
) -> None:
    """Choose what is not chosen yet of a method on an earlier stretch, in rounds until one changes nothing."""
    choices: dict[str, Choice] = kept.content["choices"]
    choice: Choice = {axis: values[0] for axis, values in axes.items()}
    for anchor in [0] if method == "original" else sorted({TUNED_AT[ratio] for ratio in ratios}):
        name = Job(method, anchor, 1).name
        known = choices.get(name, {})
        choice, before = choice | known, {}  # else from the choice at the larger size
        while choice != before:
            before = choice
            for axis in [axis for axis in axes if axis not in known]:
                choice = _turned(kept, _job(method, anchor, choice), axis, axes[axis], stretch, processes)
        choices[name] = choice
        kept.save()


def _turned(kept: Kept, at: Job, axis: str, values: tuple[Any, ...], stretch: Stretch, processes: int) -> Choice:
    """The best choice along an axis, the others as they are."""
    choice = dict(at.choice)
    jobs = [_job(at.method, at.ratio, {**choice, axis: value}) for value in dict.fromkeys((choice[axis], *values))]
    while len(jobs) > 1:
        run_all(kept, jobs, stretch, None, processes)
        choice = max((dict(job.choice) for job in jobs), key=lambda tried: _merit(kept, at.method, at.ratio, tried))
        tried = [dict(job.choice)[axis] for job in jobs]
        if axis != "rate":
            break
        beyond = {min(tried): min(tried) / 2, max(tried): 2 * max(tried)}.get(choice[axis])
        if beyond is None or not RATE_WITHIN[0] <= beyond <= RATE_WITHIN[1]:
            break
        jobs.append(_job(at.method, at.ratio, {**choice, axis: beyond}))  # the best may lie there
    return choice


def choices_of(path: Path) -> dict[str, Choice]:
    """The settings that peers were tuned to in other results."""
    choices: dict[str, Choice] = json.loads(path.read_text(encoding="utf-8"))["choices"]
    return choices


def chosen(kept: Kept, method: str, ratio: int) -> Choice:
    """The settings of a method at a size, as tuned or the first of the few."""
    name = f"{method}@{TUNED_AT[ratio]}" if ratio else method
    found: Choice | None = kept.content["choices"].get(name)
    return found or {axis: values[0] for axis, values in FEW.get(method, LEARNING).items()}


def originals(kept: Kept, seeds: Iterable[int]) -> list[Job]:
    """The original's passes, with everything that shares them."""
    return [Job("original", 0, seed, tuple(chosen(kept, "original", 0).items())) for seed in seeds]


def jobs_of(kept: Kept, method: str, ratios: Iterable[int], seeds: Iterable[int]) -> list[Job]:
    """The passes of a peer, in the order of the seeds and then of the sizes given."""
    return [Job(method, ratio, seed, tuple(chosen(kept, method, ratio).items())) for seed in seeds for ratio in ratios]


def _job(method: str, ratio: int, choice: Choice) -> Job:
    return Job(method, ratio, 1, tuple(choice.items()))


def _merit(kept: Kept, method: str, anchor: int, choice: Choice) -> float:
    record = kept.find("tuning", _job(method, anchor, choice))
    assert record is not None, "tuned after its passes"
    if "left_out" in record:
        return -math.inf
    return _merit_of(record)


def _merit_of(figures: Record) -> float:
    return float(figures["auc"] - figures["logloss"])


def _sizes(hours: list[Served], stretch: Stretch) -> dict[str, float]:
    """Sizes in the mean of the hours."""
    size = float(np.mean([hour.bytes for hour in hours]))
    return {
        "bytes": round(size),
        "ratio": stretch.census.original_bytes / size,
        "ratio_vectors": float(np.mean([hour.ratio_vectors for hour in hours])),
        "ratio_embedding": float(np.mean([hour.ratio_embedding for hour in hours])),
    }


def _learning(taking_part: object, name: str, whole: float) -> float:
    """The processor's seconds that a contestant took to learn, its share where several are in one pass."""
    shares: dict[str, float] = getattr(taking_part, "seconds", {})
    return shares["original"] + (shares[name] if name.startswith("saec@") else 0.0) if shares else whole


def _metrics(scores_B: NDArray[np.float64], stretch: Stretch) -> dict[str, float]:
    return {"auc": auc(stretch.labels_B, scores_B), "logloss": logloss(stretch.labels_B, scores_B)}


def _line(record: Record) -> str:
    if "left_out" in record:
        return f"{record['name']} {record['choice']}: left out, {record['left_out']}"
    return (
        f"{record['name']} seed {record['seed']} {record['choice'] or ''}: 1/{record['ratio']:.0f}, "
        f"{record['auc']:.4f} / {record['logloss']:.4f}, {record['seconds']:.0f} s"
    )
