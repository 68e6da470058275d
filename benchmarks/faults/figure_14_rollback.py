"""Rollback: one command to any kept version, live within a second.

Decisions: timed is what `saec rollback` does once Python has started (it reads every byte of the version first), on a
disk, with real syncs; versions of five megabytes, as large as those of a model with some million coded features.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from benchmarks.record import Figures
from saec.store.model_store import ModelStore, open_store
from tests.store.drills import HOUR, commit_version

VERSIONS, ROLLBACKS, SHORT = 50, 100, 10
BYTES = 5_000_000
SECONDS = 1.0


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Roll back and time it."""
    draw = random.Random(seed)
    count = SHORT if short else ROLLBACKS
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "store")
        for number in range(VERSIONS):
            version = commit_version(store, HOUR + number, draw.randbytes(BYTES))
            store.publish(version, actor="run", reason="passed", fence=1)
        seconds = [_roll_back(store, draw.choice(store.versions())) for _ in range(count)]
    within = sum(taken <= SECONDS for taken in seconds)
    figures.add(
        f"14. rollbacks live within a second, of {VERSIONS} versions",
        within,
        "rollbacks",
        f"{count} of {count}",
        within == count,
    )
    figures.add("14. slowest rollback", max(seconds), "s")


def _roll_back(store: ModelStore, version: str) -> float:
    """Seconds until a reader sees the version live and held; endless when it does not."""
    started = time.perf_counter()
    store.rollback(version, actor="ann", reason="drill")
    live = open_store(store.objects.root).live()
    taken = time.perf_counter() - started
    return taken if live and live.version == version and live.held else float("inf")
