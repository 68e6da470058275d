"""Starts child processes to be killed, forked from this one so that they start at once.

Decisions: a child is a process of its own with its own locks, files and threads, and SIGKILL ends it like any other.
The parent never starts what must not be inherited (a running torch, an open database): it only imports, and closes
whatever it reads with.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from saec import failpoints


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder to spoil, in memory where there is such a file system: a kill, unlike a power loss, needs no disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a fresh folder of our own within it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def fork(work: Callable[[], object], on_reach: Callable[[str], object] | None = None) -> int:
    """Do some work in a child, and return its process id.

    Args:
        work: what the child does; it exits with 0, or with 1 after any exception, which is printed.
        on_reach: told each fail point that the child reaches.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    failpoints.on_reach = on_reach
    logging.disable(logging.ERROR)  # most of the work done here fails on purpose
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of the child may run on in the parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def end(process: int) -> int:
    """Wait for a child; its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def do(work: Callable[[], object]) -> float:
    """Do some work in a child, undisturbed, and return the seconds it took.

    Raises:
        RuntimeError: when it failed; what it printed says why.
    """
    started = time.perf_counter()
    if code := end(fork(work)):
        raise RuntimeError(f"a child that nothing disturbed ended with {code}")
    return time.perf_counter() - started


def killed_at(work: Callable[[], object], place: str) -> bool:
    """Kill a child at a fail point, given as NAME@N; whether it was killed and not done before."""
    name, _, time_ = place.partition("@")
    return was_killed(fork(work, failpoints.fault(f"{name}:kill@{time_ or 1}")))


def killed_after(work: Callable[[], object], seconds: float) -> bool:
    """Kill a child at an instant; whether it was killed and not done before."""
    process = fork(work)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    return was_killed(process)


def was_killed(process: int) -> bool:
    """Wait for a child; whether it was killed and not done before.

    Raises:
        RuntimeError: when it failed by itself.
    """
    code = end(process)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a child that was to be killed ended with {code}")
    return code != 0


def places(work: Callable[[], object]) -> list[str]:
    """The name of every fail point that a child reaches, undisturbed, in order."""
    reading, writing = os.pipe()
    process = fork(work, lambda name: os.write(writing, f"{name}\n".encode()))
    os.close(writing)
    with os.fdopen(reading) as told:
        names = told.read().splitlines()
    if code := end(process):
        raise RuntimeError(f"a child that nothing disturbed ended with {code}")
    return names
