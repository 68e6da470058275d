"""Ranks for tests: this process leads, and the others are forked clean."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.distributed import FileStore

from saec import failpoints
from saec.train import ranks
from saec.train.ranks import Ranks
from tests.conftest import clean_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from saec.train.ranks import Duties


def joined(store: Path, rank: int, size: int, fault: str | None = None) -> Ranks:
    """This process as a rank, on one thread, perhaps with a fault."""
    torch.set_num_threads(1)
    if fault:
        failpoints.on_reach = failpoints.fault(fault)
    return Ranks(FileStore(str(store), size), rank, size, timeout=20)


def follow(duties: Callable[[], Duties], store: Path, rank: int, size: int, fault: str | None = None) -> None:
    """What a process does that follows."""
    joined(store, rank, size, fault).follow(duties())


@contextmanager
def led(duties: Callable[[], Duties], size: int, folder: Path, fault: str | None = None) -> Iterator[Ranks]:
    """This process leads; the last of the others may have a fault."""
    store = folder / "rendezvous"
    faults = [None] * (size - 2) + [fault]
    others = [clean_fork(follow, duties, store, rank, size, of) for rank, of in enumerate(faults, 1)]
    try:
        with ranks.led(joined(store, 0, size)) as leading:
            yield leading
    finally:
        for process in others:
            process.kill()
            process.join()
