"""Versions swapped in and rolled back to while callers check every answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from saec.serving import Model
from saec.store.model_store import ModelStore, open_store
from tests.server.process import Load, running
from tests.server.versions import commit, rows

BODIES = [json.dumps({"rows": rows(5, seed)}).encode() for seed in range(6)]


@dataclass(frozen=True)
class Swapped:
    """What came of it."""

    load: Load
    rollback_seconds: list[float]
    """From each rollback until the server answered from the version rolled back to."""
    grown: int
    """Bytes that the server's memory grew by."""


def scores(store: ModelStore, version: str) -> list[list[float]]:
    """What a version must answer to each body."""
    model = Model.open(store.open(version))
    return [model.score(json.loads(body)["rows"]).tolist() for body in BODIES]


def swapped_under_load(folder: Path, swaps: int, rollbacks: int, callers: int = 3) -> Swapped:
    """Publish versions one after the other and roll back among them, under load.

    Args:
        folder: where the store is made.
        swaps: versions that take another's place; each must answer before the next is published.
        rollbacks: rollbacks after that, each to another version.
        callers: callers that ask without a pause.
    """
    store = open_store(folder / "store")
    versions = [commit(store, seed) for seed in range(swaps + 1)]
    expected = {version: scores(store, version) for version in versions}
    store.publish(versions[0], actor="run", reason="passed", fence=1)
    with running(folder / "store", "--poll-seconds", "0.05") as server:
        server.wait_for(versions[0])
        with Load(server, BODIES, expected, callers) as load:
            before = server.memory()
            for version in versions[1:]:
                store.publish(version, actor="run", reason="passed", fence=1)
                server.wait_for(version)
            taken = []
            for number in range(rollbacks):
                version = versions[-2 - number % swaps]
                store.rollback(version, actor="ann", reason="drill")
                taken.append(server.wait_for(version))
            grown = server.memory() - before
    return Swapped(load, taken, grown)
