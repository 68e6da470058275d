"""The server as a process of its own, and callers that keep it busy and check every answer."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
JSON = {"content-type": "application/json"}
START_SECONDS = 30.0


class Server:
    """`python -m saec.server` at work."""

    def __init__(self, store: Path, *words: str, **environment: str) -> None:
        """Start it and wait until it listens."""
        known = {name: text for name, text in os.environ.items() if not name.startswith("SAEC_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "saec.server", "--store", str(store), "--port", "0", *words],
            cwd=ROOT,
            env=known | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"} | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr
        before = []  # a busy machine may have it find the first version before it says where it listens
        while "serving on http://" not in (said := self._process.stderr.readline()):
            before.append(said)
            if not said:
                raise RuntimeError(f"the server did not start: {''.join(before)}")
        # A pipe that nobody empties would be full after 480 swaps, and the server would wait to say the next.
        self._listener = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._listener.start()
        self.port = int(said.rstrip().rpartition(":")[2])
        self.pid = self._process.pid

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = JSON
    ) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def score(self, body: bytes) -> dict[str, Any]:
        """The answer to a request for scores."""
        status, answer = self.ask("POST", "/v1/score", body)
        assert status == 200, answer
        scored: dict[str, Any] = json.loads(answer)
        return scored

    def version(self) -> str | None:
        """The version that answers, None while none does."""
        status, answer = self.ask("GET", "/readyz")
        return str(json.loads(answer)["version"]) if status == 200 else None

    def wait_for(self, version: str, seconds: float = 10.0) -> float:
        """Wait until a version answers; returns the seconds it took."""
        started = time.monotonic()
        while self.version() != version:
            if time.monotonic() - started > seconds:
                raise TimeoutError(f"{version} does not answer within {seconds} s but {self.version()}")
            time.sleep(0.01)
        return time.monotonic() - started

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._end()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._end()

    def _end(self) -> int:
        code = self._process.wait(timeout=20)
        self._listener.join()
        assert self._process.stderr
        self._process.stderr.close()
        return code


@contextmanager
def running(store: Path, *words: str, **environment: str) -> Iterator[Server]:
    """A server that is stopped at the end, if it still runs."""
    server = Server(store, *words, **environment)
    try:
        yield server
    finally:
        if server._process.poll() is None:
            server.kill()


class Load:
    """Callers, each on a connection that it keeps, who compare every answer with what its version must give.

    `expected[version][number]` are the scores of `bodies[number]`; `answers` counts by version, `failed` and `mixed`
    hold what went wrong.
    """

    def __init__(
        self, server: Server, bodies: list[bytes], expected: Mapping[str, list[list[float]]], callers: int = 4
    ) -> None:
        self._server, self._bodies, self._expected = server, bodies, expected
        self.answers: Counter[str] = Counter()
        self.failed: list[str] = []
        self.mixed: list[str] = []
        self.seconds: list[float] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, seed: int) -> None:
        """Ask until told to stop."""
        draw, connection = random.Random(seed), http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=20)
        while not self._stop.is_set():
            number, started = draw.randrange(len(self._bodies)), time.perf_counter()
            try:
                connection.request("POST", "/v1/score", self._bodies[number], JSON)
                answer = connection.getresponse()
                body, status, named = answer.read(), answer.status, answer.headers["saec-version"]
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
                continue
            self.seconds.append(time.perf_counter() - started)
            if status != 200:
                self.failed.append(f"{status} {body[:200]!r}")
                continue
            self._judge(json.loads(body), number, named)
        connection.close()

    def _judge(self, scored: dict[str, Any], number: int, named: str | None) -> None:
        """Whether an answer is wholly of the version it names."""
        version, scores = scored["version"], scored["scores"]
        wanted = self._expected.get(version, [[]] * len(self._bodies))[number]
        close = len(scores) == len(wanted) and all(abs(a - b) < 1e-9 for a, b in zip(scores, wanted, strict=True))
        if named != version or not close:
            self.mixed.append(f"{version} (header {named}), request {number}")
        self.answers[version] += 1
