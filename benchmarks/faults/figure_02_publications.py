"""SIGKILL while publishing, with readers that look every millisecond: no partial version, never one that is older.

Decisions: half of the kills are at a fail point, drawn from all that a publication reaches, half at a random instant.
The next child tries a killed publication again and sweeps first, as a run would. Readers verify every byte of the live
version and know what it must contain. Now and then a publication is not killed; after it the store may contain nothing
but whole versions and releases.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults import children
from benchmarks.record import Figures
from saec.errors import SaecError
from saec.store.manifest import version_hour
from saec.store.model_store import ModelStore, open_store
from tests.store.drills import HOUR, publish

KILLS, READS = 1_000, 100_000
KILLS_SHORT, READS_SHORT = 50, 5_000
READERS = 3
UNDISTURBED_EVERY = 100
KEPT = 8
BYTES = 200_000


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Kill writers under the eyes of readers."""
    kills_wanted, reads_wanted = (KILLS_SHORT, READS_SHORT) if short else (KILLS, READS)
    draw = random.Random(seed)
    kills = orphans = 0
    with children.scratch() as folder:
        places = len(children.places(lambda: _publication(folder / "measured", 1)))
        seconds = children.do(lambda: _publication(folder / "measured", 2))
        root = folder / "store"
        children.do(lambda: _publication(root, 0))
        with _readers(root) as readers:
            while kills < kills_wanted or readers.reads < reads_wanted:
                kills += _killed(root, places, seconds, draw)
                if kills % UNDISTURBED_EVERY == 0 or kills == kills_wanted:
                    children.do(lambda: _publication(root, _next(root)))
                    orphans += len(_orphans(root))
    figures.add("2. kills while publishing", kills, "kills", f">= {kills_wanted:,}", kills >= kills_wanted)
    figures.add("2. reads meanwhile", readers.reads, "reads", f">= {reads_wanted:,}", readers.reads >= reads_wanted)
    figures.add("2. reads of a version that was not whole", readers.partial, "reads", "0", readers.partial == 0)
    figures.add("2. reads of an older version than before", readers.backward, "reads", "0", readers.backward == 0)
    figures.add("2. orphans after a publication that was left alone", orphans, "files", "0", orphans == 0)


def _publication(root: Path, number: int) -> None:
    """What a run does with the store."""
    store = open_store(root)
    store.remove_orphans()
    publish(store, HOUR + number, _content(number))
    store.retain(KEPT)


def _content(number: int) -> bytes:
    """What the version of an hour must say."""
    return b"%07d\n" % number * (BYTES // 8)


def _next(root: Path) -> int:
    """The hour that is to be published next."""
    live = open_store(root).live()
    assert live
    assert live.version
    return version_hour(live.version).index - HOUR.index + 1


def _killed(root: Path, places: int, seconds: float, draw: random.Random) -> bool:
    """Kill a publication; whether it was not done before."""
    work = lambda: _publication(root, _next(root))
    if draw.random() < 0.5:
        return children.killed_after(work, draw.uniform(0, seconds))
    return children.was_killed(children.fork(work, _nth(draw.randint(1, places))))


def _nth(left: int) -> Callable[[str], None]:
    """Kills this process at the Nth fail point, whichever that is."""

    def reach(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return reach


def _orphans(root: Path) -> list[str]:
    """What lies in the store and belongs to nothing."""
    store = open_store(root)
    whole = {root / "versions" / version for version in store.versions() if not store.verify(version)}
    found = [*(root / "versions").iterdir(), *(root / ".staging").iterdir(), *(root / "releases").glob(".*")]
    return [path.name for path in found if path not in whole]


@dataclass
class _Seen:
    """What the readers have seen, together."""

    counts: Any

    reads = property(lambda self: self.counts[0])
    partial = property(lambda self: self.counts[1])
    backward = property(lambda self: self.counts[2])


@contextmanager
def _readers(root: Path) -> Iterator[_Seen]:
    """Processes that read for as long as this lasts."""
    context = multiprocessing.get_context("fork")
    counts, stop = context.Array("l", 3), context.Event()
    processes = [context.Process(target=_read, args=(open_store(root), counts, stop)) for _ in range(READERS)]
    for process in processes:
        process.start()
    try:
        yield _Seen(counts)
    finally:
        stop.set()
        for process in processes:
            process.join()


def _read(store: ModelStore, counts: Any, stop: Any) -> None:
    """Look at what is live, again and again."""
    newest = 0
    while not stop.is_set():
        partial, sequence = _look(store)
        with counts.get_lock():
            counts[0] += 1
            counts[1] += partial
            counts[2] += sequence < newest
        newest = max(newest, sequence)
        time.sleep(0.001)


def _look(store: ModelStore) -> tuple[bool, int]:
    """Whether what is live is not whole, and the number of its release."""
    live = store.live()
    if live is None or live.version is None:
        return True, 0
    try:
        data = (store.open(live.version) / "codes.bin").read_bytes()
    except (SaecError, OSError):
        return True, live.sequence
    return data != _content(version_hour(live.version).index - HOUR.index), live.sequence
