"""Writes the log of scored rows, to be joined with their labels later: JSON lines, one file per hour and process.

    <folder>/20261121T10.<host>-<pid>.jsonl
    {"at":"2026-11-21T10:20:30.123Z","request":"…","version":"20261121T09-0123456789ab","id":{"impression_id":123},
     "score":0.1234567}

Decisions: a request only puts its rows into a bounded queue; a thread writes them, whole lines at a time, so a slow
disk costs log lines (counted as dropped) and never an answer. Nothing is fsynced: a crash may take the tail and tear
the last line, which readers skip and the next process of that name ends with a line break. The file is that of the hour
in `at`, the server's clock when the rows were scored, so a file is complete a few seconds after its hour. `id` holds
the row's values of `data.row_id_columns`; a row that lacks one of them cannot be joined and is not logged.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson

from saec.durable import make_folder, storage_errors
from saec.hours import Hour

log = logging.getLogger(__name__)

QUEUED_ROWS = 200_000
"""Most rows that wait to be written; further ones are dropped."""
_PAUSE = 0.2
"""Seconds for which the writer collects rows."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The rows of one request that are to be logged."""

    seconds: float
    """When they were scored, since 1970."""
    request: str
    version: str
    ids: Sequence[Mapping[str, Any]]
    """Each row's values of the row id columns."""
    scores: Sequence[float]

    def lines(self) -> bytes:
        """The rows as they are written."""
        moment = datetime.fromtimestamp(self.seconds, UTC)
        at = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
        return b"".join(
            orjson.dumps(
                {"at": at, "request": self.request, "version": self.version, "id": row, "score": score},
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for row, score in zip(self.ids, self.scores, strict=True)
        )

    @property
    def hour(self) -> Hour:
        """The hour whose file they belong to."""
        return Hour.of(datetime.fromtimestamp(self.seconds, UTC))


class RequestLog:
    """Writes scored rows in the background; use it as a context manager, which writes what is left on leaving."""

    def __init__(self, folder: Path) -> None:
        """A log in a folder, which is made when it is missing."""
        self.folder = folder
        self.written = 0
        """Rows in files."""
        self.dropped = 0
        """Rows lost because the disk was too slow, full or gone."""
        self._queue: queue.SimpleQueue[Scored | None] = queue.SimpleQueue()
        self._waiting, self._lock = 0, threading.Lock()
        self._name = f"{re.sub(r'[^A-Za-z0-9-]+', '-', socket.gethostname())}-{os.getpid()}"
        self._ended: set[Path] = set()
        self._failing = False
        self._writer = threading.Thread(target=self._run, name="request-log", daemon=True)

    def __enter__(self) -> Self:
        with storage_errors(f"make the folder {self.folder} of the log of scored rows"):
            make_folder(self.folder)
        self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._writer.join()

    def add(self, request: str, version: str, ids: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> None:
        """Queue rows that were just scored; returns at once, whatever the disk does."""
        with self._lock:
            if self._waiting + len(ids) > QUEUED_ROWS:
                self.dropped += len(ids)
                return
            self._waiting += len(ids)
        self._queue.put(Scored(time.time(), request, version, ids, scores))

    def path(self, hour: Hour) -> Path:
        """This process's file of an hour."""
        return self.folder / f"{hour.compact}.{self._name}.jsonl"

    def _run(self) -> None:
        """Write what comes until the log is closed."""
        closed = False
        while not closed:
            gathered = [self._queue.get()]
            time.sleep(_PAUSE if gathered[0] else 0)
            while not self._queue.empty():
                gathered.append(self._queue.get())
            closed = None in gathered
            self._write([scored for scored in gathered if scored])

    def _write(self, gathered: list[Scored]) -> None:
        """Append requests to the files of their hours."""
        hours = defaultdict(list)
        for scored in gathered:
            hours[scored.hour].append(scored)
        for hour, requests in hours.items():
            rows = sum(len(scored.ids) for scored in requests)
            try:
                self._append(self.path(hour), b"".join(scored.lines() for scored in requests))
                self.written, self._failing = self.written + rows, False
            except (OSError, TypeError) as error:  # orjson's complaint is a TypeError
                self._lose(rows, error)
            with self._lock:
                self._waiting -= rows

    def _append(self, path: Path, lines: bytes) -> None:
        """Add lines to a file; a torn line that an earlier process left is ended first."""
        with path.open("ab+") as file:
            if path not in self._ended:
                self._ended = {path}  # the files of hours that are over are not opened again
                if size := file.tell():
                    file.seek(size - 1)
                    lines = lines if file.read(1) == b"\n" else b"\n" + lines
            file.write(lines)

    def _lose(self, rows: int, error: Exception) -> None:
        """Count rows that could not be written, and say so when that begins."""
        with self._lock:
            self.dropped += rows
        if not self._failing:
            log.warning("scored rows cannot be logged in %s and are dropped until they can: %s", self.folder, error)
        self._failing, self._ended = True, set()  # what was written of the lines may end in a torn one
