"""Runs several worker processes on one port, and the parent process that supervises them.

Decisions: the parent opens the port, forks, and then only waits. It never answers, loads nothing and has no threads, so
a worker that ends is replaced within milliseconds. Each worker has a listening socket of its own on the port where the
kernel shares connections out among them (Linux), and all share one elsewhere; the parent holds them all, so that what
connects while a worker is being replaced waits and is not refused. A worker that ends soon after its start is started
again after pauses that grow. Told to stop, the parent tells the workers, who finish what they have begun; workers whose
parent is gone stop too.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from saec.errors import ConfigError

STOP_SECONDS = 15.0
"""Longest that workers may take to stop, which includes the requests that they finish."""
SOON_SECONDS = 5.0
"""A worker that lived no longer than this is started again only after a pause."""
LONGEST_PAUSE = 60.0
"""Most seconds of that pause."""
_BACKLOG = 1024
log = logging.getLogger(__name__)


def listen(host: str, port: int, workers: int) -> list[socket.socket]:
    """Sockets that listen on a port, one for each worker.

    Raises:
        ConfigError: when the address cannot be listened on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]

        # Only with the protocol named does asyncio set TCP_NODELAY; without, answers wait 40 ms for an acknowledgement.
        def bound(where: tuple[Any, ...], *options: int) -> socket.socket:
            with contextlib.ExitStack() as closed_on_error:
                made = closed_on_error.enter_context(socket.socket(family, kind, protocol))
                for option in (socket.SO_REUSEADDR, *options):
                    made.setsockopt(socket.SOL_SOCKET, option, 1)
                made.bind(where)
                made.listen(_BACKLOG)
                closed_on_error.pop_all()
                return made

        first = bound(address)  # alone on its port, or this fails: another server is not joined by accident
        if workers == 1:
            return [first]
        if sys.platform != "linux":
            return [first, *(first.dup() for _ in range(workers - 1))]
        taken = first.getsockname()
        first.close()
        return [bound(taken, socket.SO_REUSEPORT) for _ in range(workers)]
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error}; choose another with --port (or --host), or "
            "stop what listens there"
        ) from None


def supervise(work: Callable[[int], None], sockets: list[socket.socket]) -> None:
    """Run each worker in its own process, until stopped by KeyboardInterrupt.

    Args:
        work: what worker `number` does; returns when the process is told to stop (SIGTERM).
        sockets: what each listens on; closed here when workers are told to stop.

    Raises:
        ConfigError: where the system cannot fork.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ConfigError("several workers need a system that forks processes; leave --workers at 1")
    _Workers(work, sockets).run()


class _Workers:
    """The processes, and when those that are not running are due."""

    def __init__(self, work: Callable[[int], None], sockets: list[socket.socket]) -> None:
        self._work, self._sockets = work, sockets
        self._running: dict[int, tuple[BaseProcess, float]] = {}
        self._due = dict.fromkeys(range(len(sockets)), 0.0)
        self._pause = dict.fromkeys(range(len(sockets)), 0.0)

    def run(self) -> None:
        """Start them, and again whenever one ends."""
        try:
            while True:
                for number in [number for number, due in self._due.items() if due <= time.monotonic()]:
                    self._start(number)
                pause = min(self._due.values()) - time.monotonic() if self._due else None
                ended = wait(
                    [process.sentinel for process, _ in self._running.values()],
                    None if pause is None else max(pause, 0.0),
                )
                for number, (process, began) in list(self._running.items()):
                    if process.sentinel in ended:
                        self._lost(number, process, time.monotonic() - began)
        finally:
            self._stop()

    def _start(self, number: int) -> None:
        """Fork a worker."""
        process = multiprocessing.get_context("fork").Process(target=self._in_child, args=(number,))
        process.start()
        del self._due[number]
        self._running[number] = process, time.monotonic()

    def _in_child(self, number: int) -> None:
        """What a worker does."""
        for other, listening in enumerate(self._sockets):
            if other != number:
                listening.close()
        threading.Thread(target=_stop_without_parent, name="watch-parent", daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            self._work(number)

    def _lost(self, number: int, process: BaseProcess, lived: float) -> None:
        """Start a worker that replaces one that ended."""
        process.join()
        del self._running[number]
        soon = lived < SOON_SECONDS
        self._pause[number] = min(max(1.0, 2 * self._pause[number]), LONGEST_PAUSE) if soon else 0.0
        self._due[number] = time.monotonic() + self._pause[number]
        log.error(
            "worker %d (process %d) ended after %.1f s with exit code %s; another takes its place%s",
            number,
            process.pid,
            lived,
            process.exitcode,
            f" in {self._pause[number]:g} s" if soon else "",
        )

    def _stop(self) -> None:
        """Stop all workers, and kill those that do not."""
        for number in (signal.SIGTERM, signal.SIGINT):  # a further request to stop changes nothing
            signal.signal(number, signal.SIG_IGN)
        for listening in self._sockets:
            listening.close()
        for process, _ in self._running.values():
            process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for process, _ in self._running.values():
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                log.error("worker process %d does not stop and is killed", process.pid)
                process.kill()
                process.join()


def _stop_without_parent() -> None:
    """Stop this process once its parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
