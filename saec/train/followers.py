"""Start the other ranks of this machine: this process leads, they follow it until it is done.

Decisions: torchrun's own machinery (`torch.distributed.elastic`) starts and ends the processes, without a restart: the
next run takes up an hour that failed. They find each other through a file and talk over the loopback interface. Where
torchrun itself has started all ranks, on one machine or on many, nothing is started here (saec/cli/ranks.py).
"""

from __future__ import annotations

import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

from saec.train import ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from saec.train.ranks import Duties

_TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals that `start_processes` takes for itself."""


@contextmanager
def accompanied(size: int, digest: str, duties: Callable[[], Duties]) -> Iterator[None]:
    """Have what this process trains and clusters done together with others; one rank is this process alone.

    Args:
        size: ranks, this process among them.
        digest: of the settings, which all ranks must share.
        duties: gives what a follower does; a function that a new process can import.

    Raises:
        TrainingError: reason "rank-lost", when they do not find each other.
    """
    if size == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="saec-ranks-") as folder:
        shared = {
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            ranks.RENDEZVOUS: (Path(folder) / "rendezvous").as_uri(),
        }
        before = {number: signal.getsignal(number) for number in _TAKEN}
        others = start_processes(
            name="saec",
            entrypoint=_follow,
            args=dict.fromkeys(range(size - 1), (digest, duties)),
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            envs={rank - 1: shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(1, size)},
            start_method="spawn",
        )
        for number, handler in before.items():
            signal.signal(number, handler)
        try:
            with ranks.led(ranks.Ranks.join(digest, shared | {"RANK": "0"})):
                yield
        finally:
            others.close()


def _follow(digest: str, duties: Callable[[], Duties]) -> None:
    """What each of the others does.

    Raises:
        SystemExit: when rank 0 has not said that it is over. It may be dead, and what torch runs this in would wait
            for it to read the returned value, for ever.
    """
    if not ranks.Ranks.join(digest).follow(duties()):
        raise SystemExit(1)
