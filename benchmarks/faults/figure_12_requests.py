"""The model server under requests made from its own OpenAPI document, valid and not, and under 60 nasty ones.

Decisions: the server is a process of its own, asked over loopback; schemathesis draws the requests, half of them to go
against the document. What counts is every answer of 5xx, the largest body of a refusal, and what the process's memory
grew by between the first request and the last.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import cycle, islice
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from schemathesis import GenerationMode

from benchmarks.faults.children import scratch
from benchmarks.record import Figures
from saec.store.model_store import open_store
from tests.server.nasty import MAX_BODY, MAX_ROWS, REQUESTS
from tests.server.process import Server, running
from tests.server.versions import publish

GENERATED, SHORT, AT_ONCE = 20_000, 150, 500
BODY_BYTES, GROWN_BYTES = 4096, 50_000_000


class Answers:
    """What was answered, in numbers."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.largest_refusal = 0

    def add(self, status: int, body: bytes) -> None:
        """One answer."""
        self.statuses[status] += 1
        if status >= 400:
            self.largest_refusal = max(self.largest_refusal, len(body))

    @property
    def broken(self) -> int:
        """Answers of 5xx."""
        return sum(count for status, count in self.statuses.items() if status >= 500)


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Ask, and look at every answer."""
    count, answers = SHORT if short else GENERATED, Answers()
    with scratch() as folder:
        version = publish(open_store(folder / "store"), 1)
        with running(folder / "store", "--max-body-bytes", str(MAX_BODY), "--max-rows", str(MAX_ROWS)) as server:
            server.wait_for(version)
            before = server.memory()
            for part, mode in enumerate(islice(cycle(GenerationMode), max(2, count // AT_ONCE))):
                _ask_generated(server, mode, seed + part, min(AT_ONCE, count // 2), answers)
            generated = answers.statuses.total()
            deserved = sum(_ask_nasty(server, answers) for _ in range(1 if short else 10)) // (1 if short else 10)
            alive, grown = server.version() == version, server.memory() - before
    figures.add(
        f"12. answers 5xx to {generated:,} generated and {len(REQUESTS)} nasty requests",
        answers.broken,
        "answers",
        "0",
        answers.broken == 0 and alive and generated >= count,
    )
    figures.add(
        "12. nasty requests with the status they deserve",
        deserved,
        "requests",
        f"{len(REQUESTS)} of {len(REQUESTS)}",
        deserved == len(REQUESTS),
    )
    figures.add(
        "12. largest body of a refusal",
        answers.largest_refusal,
        "bytes",
        f"<= {BODY_BYTES}",
        answers.largest_refusal <= BODY_BYTES,
    )
    figures.add("12. what the server's memory grew by", grown / 1e6, "MB", "<= 50", grown <= GROWN_BYTES)
    figures.add(
        "12. answers by status",
        " ".join(f"{status}:{number}" for status, number in sorted(answers.statuses.items())),
        "answers",
    )


def _ask_generated(server: Server, mode: GenerationMode, seed: int, count: int, answers: Answers) -> None:
    """So many requests made from the document, or against it."""
    document = json.loads(server.ask("GET", "/openapi.json")[1])
    operation, session = schemathesis.openapi.from_dict(document)["/v1/score"]["POST"], requests.Session()

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call(base_url=f"http://127.0.0.1:{server.port}", session=session)
        answers.add(answer.status_code, answer.content)

    ask()


def _ask_nasty(server: Server, answers: Answers) -> int:
    """Every nasty request once; how many had the status they deserve."""
    deserved = 0
    for nasty in REQUESTS:
        status, body = server.ask(nasty.method, nasty.path, nasty.body, nasty.headers)
        answers.add(status, body)
        deserved += status == nasty.status
    return deserved
