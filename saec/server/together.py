"""Combines the metrics of all workers in one answer, whichever worker is asked.

Decisions: each worker offers its own metrics through a Unix socket, and the one that Prometheus reached asks the
others, so nothing is written between requests. Every series gets the label `worker`: versions, readiness and refusals
belong to one process and must not be added up unnoticed. A worker that does not answer within a second is left out, and
so is the series of its counters until its successor answers, from 0 on, which `rate` knows how to take.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

ANSWER_SECONDS = 1.0
"""Longest that a worker is waited for."""
_PIECE = 1 << 16


class Together:
    """The sockets of all workers; made before they are, and told to each which one it is."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._paths = [folder / str(number) for number in range(workers)]
        self._listening = []
        for path in self._paths:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(str(path))
            listening.listen()
            self._listening.append(listening)

    def tell(self, number: int, text: Callable[[], bytes]) -> None:
        """Hand out this worker's metrics to whoever connects, from a thread, as long as the process lives."""
        threading.Thread(target=self._tell, args=(self._listening[number], text), name="metrics", daemon=True).start()

    def text(self, number: int, own: bytes) -> bytes:
        """The metrics of all workers that answer.

        Args:
            number: the worker that asks.
            own: its own metrics.
        """
        texts = {str(number): own}
        for other, path in enumerate(self._paths):
            if other != number and (told := _asked(path)):
                texts[str(other)] = told
        return merged(texts)

    @staticmethod
    def _tell(listening: socket.socket, text: Callable[[], bytes]) -> None:
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(ANSWER_SECONDS)
                try:
                    connection.sendall(text())
                except OSError:  # who asked did not wait
                    continue


def merged(texts: Mapping[str, bytes]) -> bytes:
    """Metrics of several workers as one text, each series with the label `worker`.

    Args:
        texts: Prometheus' text of each worker, by its name.
    """
    families: dict[str, Metric] = {}
    for worker, text in sorted(texts.items()):
        for family in text_string_to_metric_families(text.decode()):
            known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                known.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: Mapping[str, Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()


def _asked(path: Path) -> bytes:
    """The metrics of another worker; empty if it does not answer in time."""
    told = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(path))
            while piece := connection.recv(_PIECE):
                told += piece
    except OSError:
        return b""
    return bytes(told)
