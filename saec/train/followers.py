"""Start the other ranks of this machine: this process leads, they follow it until it is done.

Decisions: torchrun's own machinery (`torch.distributed.elastic`) starts and ends the processes, without a restart: the
next run takes up an hour that failed. They find each other through a file and talk over the loopback interface. Where
torchrun itself has started all ranks, on one machine or on many, nothing is started here (saec/cli/ranks.py).
"""

from __future__ import annotations

import signal
import tempfile
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

from saec.errors import ConfigError
from saec.train import ranks
from saec.train.original import Original

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from saec.config import Config
    from saec.train.learner import Learner

_TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals that `start_processes` takes for itself."""


@contextmanager
def accompanied(size: int, digest: str, learner: Callable[[], Learner]) -> Iterator[None]:
    """Have every pass of training of this process taken together with others; one rank is this process alone.

    Args:
        size: ranks, this process among them.
        digest: of the settings, which all ranks must share.
        learner: makes what a follower trains; a function that a new process can import.

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
            args=dict.fromkeys(range(size - 1), (digest, learner)),
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


def _follow(digest: str, learner: Callable[[], Learner]) -> None:
    """What each of the others does.

    Raises:
        SystemExit: when rank 0 has not said that it is over. It may be dead, and what torch runs this in would wait
            for it to read the returned value, for ever.
    """
    if not ranks.Ranks.join(digest).follow(learner()):
        raise SystemExit(1)


def pipeline_over(size: int, config: Config) -> AbstractContextManager[None]:
    """`accompanied`, for the passes of a pipeline's models.

    Raises:
        ConfigError: when the settings ask for a GPU, which ranks would share: they add up with gloo, on processors.
    """
    if size > 1:
        require_processors(config)
    return accompanied(size, config.digest, partial(learner_of, config))


def require_processors(config: Config) -> None:
    """Refuse settings under which ranks would share a GPU."""
    if config.device != "cpu":
        raise ConfigError(
            f"device: {config.device}, but ranks train on processors: leave --ranks out, or set device: cpu"
        )


def learner_of(config: Config) -> Learner:
    """What a follower trains: what it holds is overwritten by rank 0's."""
    torch.set_num_threads(config.threads)
    torch.set_deterministic_debug_mode("error")
    return Original(config).learner
