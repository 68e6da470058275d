"""Compares serving with the uncompressed model: rows per second, latency, memory, time to load.

    python -m benchmarks.serving                            # 1 and 20 million features
    python -m benchmarks.serving --features 100000 --rounds 3

Decisions: every engine is a process on one core and one thread; they take turns, a round of each size at a time, so
that a busy machine is busy for all. The first requests of a round find the processor's caches full of what the other
engines used, as those of a server at work do not: five are left out, and the first is a figure of its own. A request
is one user with 1, 100 or 1,000 candidates, as dicts, and counts whole: from values to keys to rows or codes to scores.
By the clock a request is also whatever else ran on its core meanwhile, so the 99th of a hundred is held to its aim by
CPU time, which is the clock of a quiet core; both are told. Memory is what a process holds more than after its imports,
once it has scored 1,000 rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT, Figures
from benchmarks.serving.engines import ENGINES
from benchmarks.serving.world import write

FEATURES = (1_000_000, 20_000_000)
REQUESTS = {1: 300, 100: 60, 1000: 10}
"""Requests of a round, by candidates."""
WARMING = 5
"""Requests before them: the other engines have just emptied the processor's caches."""
ALONE, SETTLING = 600, 60
"""Requests of 100 candidates that each engine answers alone, and how many of them fill the caches first."""
OURS, KEYS = "saec", " with compiled keys"
WANTED = {1: 5.0, 100: 3.0, 1000: 2.5}
"""How many times as fast as the best uncompressed peer we want to be, by candidates."""
WANTED_WITH_KEYS = 2.0
"""The same, where peers use our compiled keys."""


class Engine:
    """One engine's process."""

    def __init__(self, name: str, folder: Path, features: int) -> None:
        command = [sys.executable, "-m", "benchmarks.serving.engines", name, str(folder), str(features)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        core = min(os.sched_getaffinity(0))
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | threads,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - nothing here has threads yet
        )
        self.loaded = self._answer()
        self.seconds: dict[int, list[float]] = {candidates: [] for candidates in REQUESTS}
        self.cpu: dict[int, list[float]] = {candidates: [] for candidates in REQUESTS}
        self.first: dict[int, list[float]] = {candidates: [] for candidates in REQUESTS}
        self.alone: list[float] = []
        self.sums: list[float] = []

    def round(self, candidates: int, seed: int) -> None:
        """Time the requests of one round."""
        answer = self._ordered(WARMING + REQUESTS[candidates], candidates, seed)
        self.first[candidates].append(answer["cpu"][0])
        self.seconds[candidates] += answer["seconds"][WARMING:]
        self.cpu[candidates] += answer["cpu"][WARMING:]
        self.sums.append(answer["sum"])

    def by_itself(self, seed: int) -> None:
        """Time many requests while no other engine works."""
        self.alone = self._ordered(SETTLING + ALONE, 100, seed)["cpu"][SETTLING:]

    def end(self) -> None:
        """No more orders."""
        self._process.communicate(timeout=60)

    def _ordered(self, count: int, candidates: int, seed: int) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"count": count, "candidates": candidates, "seed": seed}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("an engine has ended; it says why above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure(figures: Figures, folder: Path, features: int, rounds: int) -> None:
    """All figures of one number of features."""
    title = f"{features:,} features"
    for what, value in write(folder, features).items():
        figures.add(f"{title}: {what}", value, "bytes" if "bytes" in what else "")
    engines = {name: Engine(name, folder, features) for name in ENGINES}
    for seed in range(rounds):
        for candidates in REQUESTS:
            for engine in engines.values():
                engine.round(candidates, seed)
    for engine in engines.values():
        engine.by_itself(rounds)
        engine.end()
    peers = [engine for name, engine in engines.items() if not name.startswith(OURS)]
    ours = [engines[OURS], engines[f"{OURS} in numpy"]]
    assert all(np.allclose(engine.sums, ours[0].sums, rtol=1e-6) for engine in ours), "both of ours score alike"
    assert all(np.allclose(engine.sums, peers[0].sums, rtol=1e-4) for engine in peers), "peers score alike"
    report(figures, engines, title, final=features == max(FEATURES))


def report(figures: Figures, engines: dict[str, Engine], title: str, *, final: bool) -> None:
    """Each engine's figures, then ours against the best of the others."""
    for candidates in REQUESTS:
        rates = {}
        for name, engine in engines.items():
            p50, p99 = np.percentile(engine.seconds[candidates], (50, 99)) * 1000
            rates[name] = candidates / p50 * 1000
            where = f"{title}, {candidates} candidates: {name}"
            figures.add(f"{where}, rows a second", rates[name], "rows/s")
            figures.add(f"{where}, p50", p50, "ms")
            figures.add(f"{where}, p99", p99, "ms")
            p50, p99 = np.percentile(engine.cpu[candidates], (50, 99)) * 1000
            figures.add(f"{where}, CPU p50", p50, "ms")
            figures.add(f"{where}, CPU of the first of a round", np.median(engine.first[candidates]) * 1000, "ms")
            figures.add(f"{where}, CPU p99", p99, "ms")
        for keys, least in (("", WANTED[candidates]), (KEYS, WANTED_WITH_KEYS)):
            best = max(
                rate for name, rate in rates.items() if not name.startswith(OURS) and name.endswith(KEYS) == bool(keys)
            )
            ratio = rates[OURS] / best
            figures.add(
                f"{title}, {candidates} candidates: ours over the best uncompressed{keys}",
                ratio,
                "x",
                f">= {least:g}" if final else None,
                ratio >= least if final else None,
            )
    for name, engine in engines.items():
        p50, p99 = np.percentile(engine.alone, (50, 99)) * 1000
        wanted = name in (OURS, f"{OURS}, an ensemble")
        figures.add(f"{title}, 100 candidates alone: {name}, CPU p50", p50, "ms")
        target, holds = ("< 0.5", bool(p99 < 0.5)) if wanted else (None, None)
        figures.add(f"{title}, 100 candidates alone: {name}, CPU p99", p99, "ms", target, holds)
    for name, engine in engines.items():
        figures.add(f"{title}: {name}, loaded and first answer", engine.loaded["load_s"], "s")
        figures.add(f"{title}: {name}, memory beyond imports", engine.loaded["bytes"], "bytes")
        figures.add(f"{title}: {name}, memory after imports", engine.loaded["before"], "bytes")
    least = min(engine.loaded["bytes"] for name, engine in engines.items() if not name.startswith(OURS))
    ratio = least / engines[OURS].loaded["bytes"]
    figures.add(
        f"{title}: memory beyond imports, least uncompressed over ours",
        ratio,
        "x",
        ">= 100" if final else None,
        ratio >= 100 if final else None,
    )


def main() -> None:
    """Measure each number of features."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=int, nargs="+", default=list(FEATURES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--work", type=Path, default=Path("workspace/serving"))
    options = parser.parse_args()
    figures = Figures("serving")
    for features in options.features:
        measure(figures, options.work / str(features), features, options.rounds)
    figures.finish()


if __name__ == "__main__":
    main()
