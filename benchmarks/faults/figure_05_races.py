"""Races: of eight writers that publish at the same moment, one wins, and all see the same winner.

Decisions: all decide on the same release, as two runs of an hour would. Writers to a folder are processes, those to S3
(moto on loopback) threads of this one. Two sets of eight versions of one hour take turns, so that each publication
changes what is live; a new store every so many turns keeps the log, which each of them lists, short.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults.children import scratch
from benchmarks.record import Figures
from saec.errors import ReleaseConflict
from saec.store.model_store import ModelStore, open_store
from tests.store.drills import commit_version
from tests.store.s3 import empty_bucket, s3_server

WRITERS = 8
LOCAL, LOCAL_SHORT, S3, S3_SHORT = 1_000, 50, 200, 10
TURNS = 50
"""Races in one store."""
SECONDS = 60.0
"""So long a writer waits for the others, one of which may have broken."""


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Race in folders, then in S3."""
    del seed  # who wins is up to the machine
    local, remote = (LOCAL_SHORT, S3_SHORT) if short else (LOCAL, S3)
    with scratch() as folder:
        won = sum(_race_of_processes(folder / f"{turn}", min(TURNS, local - turn)) for turn in range(0, local, TURNS))
    _add(figures, "a folder", won, local)
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch, scratch() as folder:
        won = 0
        for turn in range(0, remote, TURNS):
            store = open_store(empty_bucket(endpoint, patch), cache=folder / f"{turn}")
            won += _race_of_threads(store, min(TURNS, remote - turn))
    _add(figures, "S3", won, remote)


def _add(figures: Figures, where: str, won: int, races: int) -> None:
    figures.add(
        f"5. races of {WRITERS} writers in {where} with one winner", won, "races", f"{races} of {races}", won == races
    )


def _race_of_processes(folder: Path, turns: int) -> int:
    """Races in one folder; how many had one winner."""
    context = multiprocessing.get_context("fork")
    store = open_store(folder)
    versions, barrier, told = _versions(store), context.Barrier(WRITERS), context.SimpleQueue()
    processes = [
        context.Process(target=_write, args=(open_store(folder), writer, versions, turns, barrier, told.put))
        for writer in range(WRITERS)
    ]
    for process in processes:
        process.start()
    winners = [winner for _ in processes for winner in told.get()]
    for process in processes:
        process.join()
    return _single_winners(store, winners)


def _race_of_threads(store: ModelStore, turns: int) -> int:
    """Races in one object store; how many had one winner."""
    versions, barrier, told = _versions(store), threading.Barrier(WRITERS), []
    threads = [
        threading.Thread(target=_write, args=(store, writer, versions, turns, barrier, told.append))
        for writer in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _single_winners(store, [winner for winners in told for winner in winners])


def _versions(store: ModelStore) -> list[list[str]]:
    """Two sets of a version for each writer."""
    return [[commit_version(store, writer=writer, set=which) for writer in range(WRITERS)] for which in range(2)]


def _write(
    store: ModelStore,
    writer: int,
    versions: list[list[str]],
    turns: int,
    barrier: Any,
    tell: Callable[[list[tuple[int, str]]], object],
) -> None:
    """What one writer does; it tells the turns it has won and with which version."""
    won = []
    try:
        for turn in range(turns):
            version = versions[turn % 2][writer]
            barrier.wait(SECONDS)
            with suppress(ReleaseConflict):
                release = store.publish(version, actor=f"{writer}", reason="race", fence=1, expected=turn)
                won.append((release.sequence, version))
    finally:
        tell(won)


def _single_winners(store: ModelStore, winners: list[tuple[int, str]]) -> int:
    """How many turns were won by one writer, which is the one that readers see."""
    seen = {release.sequence: release.version for release in store.releases()}
    return sum(
        winners.count((sequence, version)) == 1 and [number for number, _ in winners].count(sequence) == 1
        for sequence, version in seen.items()
        if version
    )
