"""`--ranks N`: runs a command in N processes that train together (saec/train/ranks.py).

Decisions: torchrun's own machinery starts and watches the processes, without restarts: the next run retries an hour
that failed. Under torchrun itself, which starts processes on many machines, the command reads its rank from environment
variables. On one machine the processes find each other through a file and talk over the loopback interface. Rank 0 runs
the command; the others only follow it.
"""

# ruff: noqa: PLC0415 - torch takes a second to import, so command bodies import what they need
from __future__ import annotations

import functools
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saec.cli.session import DONE, FAILED, STOPPED
from saec.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saec.cli.session import Session

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def over_ranks(body: Callable[..., int]) -> Callable[..., int]:
    """Give a command the option --ranks; to be put under `shared_options`."""

    @click.option(
        "--ranks",
        type=click.IntRange(1),
        metavar="N",
        help="Train in N processes; default: 1, or the number that torchrun has started.",
    )
    @functools.wraps(body)
    def run(session: Session, *, ranks: int | None, **given: Any) -> int:
        started = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
        if started > 1:
            if ranks not in (None, started):
                raise ConfigError(f"--ranks {ranks}, but torchrun has started {started} processes: leave --ranks out")
            _on_processors(session)
            return _member(session, functools.partial(body, session, **given))
        if ranks is None or ranks == 1:
            return body(session, **given)
        _on_processors(session)  # once, before N processes start
        results = start(ranks, command, click.get_current_context().find_root().meta["arguments"])
        return results if isinstance(results, int) else results[0]

    return run


def _on_processors(session: Session) -> None:
    """Refuse settings under which ranks would share a GPU: they add up with gloo, on processors."""
    if session.config.device != "cpu":
        raise ConfigError(
            f"device: {session.config.device}, but ranks train on processors: leave --ranks out, or set device: cpu"
        )


def start(size: int, entry: Callable[..., Any], *arguments: Any) -> dict[int, Any] | int:
    """Run a function in several processes that can join as ranks.

    Returns:
        What it returned, by rank; an exit code if a process died or this one was told to stop.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, start_processes

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    with tempfile.TemporaryDirectory(prefix="saec-ranks-") as folder:
        shared = {
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "SAEC_RENDEZVOUS": (Path(folder) / "rendezvous").as_uri(),
        }
        processes = start_processes(
            name="saec",
            entrypoint=entry,
            args=dict.fromkeys(range(size), arguments),
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            envs={rank: shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)},
            start_method="spawn",
        )
        try:
            ended = processes.wait()
        except SignalException as told:
            processes.close(told.sigval)
            return STOPPED
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return FAILED if ended is None or ended.is_failed() else ended.return_values


def command(arguments: list[str]) -> int:
    """The command line again, as one of several processes."""
    from saec.cli.main import cli

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cli(arguments, prog_name="saec")
    except SystemExit as ended:
        if ended.code in (FAILED, STOPPED):
            raise  # not a return: the watcher of the ranks then ends the others
        return ended.code if isinstance(ended.code, int) else FAILED
    return DONE


def _member(session: Session, body: Callable[[], int]) -> int:
    """The command as rank 0, or another rank that follows it."""
    from saec.train import ranks
    from saec.train.original import Original

    config = session.config
    joined = ranks.Ranks.join(config.digest)
    if joined.rank:
        import torch

        torch.set_num_threads(config.threads)
        torch.set_deterministic_debug_mode("error")
        return DONE if joined.follow(Original(config).learner) else STOPPED
    with ranks.led(joined):
        return body()
