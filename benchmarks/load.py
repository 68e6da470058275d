"""Measures a running model server under load: requests per second, and latency as a caller sees it.

    python -m benchmarks.load --candidates 100 --callers 4 --seconds 10

Decisions: the loop is closed. Each caller is a process with one connection and asks again once it has its answer, so
the server is never asked faster than it answers. A request is the example of the server's own OpenAPI document: the
user's columns once and some columns of each candidate, with integers drawn anew. It therefore needs no data and fits
whatever version is live. Only answers count; any status but 200 counts as failed. Callers share the machine with the
server; on a small machine they cost as much as it does.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import click


@dataclass(frozen=True)
class Traffic:
    """What callers ask."""

    url: str
    """Where the server listens."""
    candidates: int
    """Candidates of a request."""
    seconds: float
    """How long callers ask."""
    key: str | None
    """API key."""

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the server."""
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=30)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a request."""
        return {"content-type": "application/json", **({"authorization": f"Bearer {self.key}"} if self.key else {})}

    def bodies(self, rng: random.Random) -> list[bytes]:
        """Some requests: the example's columns, integers drawn anew."""
        connection = self.connect()
        connection.request("GET", "/openapi.json", headers=self.headers)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        if answer.status != 200:
            raise click.ClickException(f"{self.url} answers {answer.status}: {document['error']['message']}")
        asked = document["paths"]["/v1/score"]["post"]["requestBody"]["content"]["application/json"]["examples"]
        example = asked["candidates"]["value"]
        return [
            json.dumps(
                {
                    "user": _drawn(example["user"], rng),
                    "candidates": [_drawn(example["candidates"][0], rng) for _ in range(self.candidates)],
                }
            ).encode()
            for _ in range(20)
        ]


def _drawn(columns: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The same columns with other integers."""
    return {name: _other(value, rng) for name, value in columns.items()}


def _other(value: Any, rng: random.Random) -> Any:
    """Another integer, also in a list; anything else as it is."""
    if isinstance(value, list):
        return [_other(inner, rng) for inner in value]
    return rng.randrange(20_000) if type(value) is int else value


def ask(traffic: Traffic, seed: int) -> tuple[list[float], int]:
    """One caller: the seconds that each answer took, and how many requests failed."""
    bodies, connection = traffic.bodies(random.Random(seed)), traffic.connect()
    taken, failed, until = [], 0, time.monotonic() + traffic.seconds
    for body in _again_and_again(bodies):
        if (begun := time.monotonic()) >= until:
            break
        connection.request("POST", "/v1/score", body, traffic.headers)
        answer = connection.getresponse()
        answer.read()
        taken.append(time.monotonic() - begun)
        failed += answer.status != 200
    return taken, failed


def _again_and_again(bodies: list[bytes]) -> Iterator[bytes]:
    """The bodies in turn, for ever."""
    while True:
        yield from bodies


@click.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where the server listens.")
@click.option("--candidates", default=100, show_default=True, help="Candidates of a request.")
@click.option("--callers", default=4, show_default=True, help="Callers at once.")
@click.option("--seconds", default=10.0, show_default=True, help="How long they ask.")
@click.option("--key", envvar="SAEC_API_KEY", help="API key; better SAEC_API_KEY, which nobody sees in ps.")
def main(callers: int, **wanted: Any) -> None:
    """Keep a running model server busy, and print what it took as a line of JSON."""
    traffic = Traffic(**wanted)
    with ProcessPoolExecutor(callers) as pool:
        answers = list(pool.map(ask, [traffic] * callers, range(callers)))
    taken = [1000 * seconds for caller, _ in answers for seconds in caller]
    failed = sum(failures for _, failures in answers)
    percent = statistics.quantiles(taken, n=100, method="inclusive")
    print(
        json.dumps(
            {
                "requests": len(taken),
                "failed": failed,
                "candidates": traffic.candidates,
                "callers": callers,
                "requests_per_second": round(len(taken) / traffic.seconds, 1),
                "rows_per_second": round(len(taken) * traffic.candidates / traffic.seconds),
                "p50_ms": round(percent[49], 2),
                "p99_ms": round(percent[98], 2),
            }
        )
    )
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
