"""A store of small versions, a model that stands in for a real one, and the server's parts around them."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import httpx
import numpy as np
import pytest
from starlette.types import ASGIApp

from saec.errors import InputError, IntegrityError
from saec.hours import Hour
from saec.server.app import Api, build_app
from saec.server.follow import Follower
from saec.server.last_good import LastGood
from saec.server.live import Standing
from saec.server.options import ServerOptions
from saec.serving import Model
from saec.store.model_store import ModelStore, open_store
from tests.server.nasty import MAX_BODY, MAX_ROWS
from tests.server.versions import publish
from tests.store.drills import HOUR, commit_version


class StandIn:
    """Scores every row with the number that its manifest gives as `level`."""

    engine = "a stand-in"
    columns: ClassVar = {"user_id": "int", "site": "string or null"}
    schema = SimpleNamespace(
        time_unit=None,
        readers={
            "user_id": SimpleNamespace(kind="categorical", type="int", nullable=False),
            "site": SimpleNamespace(kind="categorical", type="string", nullable=True),
        },
    )

    def __init__(self, folder: Path) -> None:
        self.version = folder.name
        self.manifest = json.loads((folder / "manifest.json").read_bytes())
        if self.manifest.get("broken") == "open":
            raise IntegrityError("codebooks.safetensors holds no codebooks")

    def check(self) -> None:
        if self.manifest.get("broken") == "check":
            raise IntegrityError("recorded rows score otherwise than recorded")

    def score(self, rows: list[dict]) -> np.ndarray:
        if self.manifest.get("broken") == "score" and rows[0].get("user_id") == 13:
            raise ZeroDivisionError("a fault in the model")
        for row in rows:
            if unknown := row.keys() - self.columns.keys():
                raise InputError(f"no field reads column {min(unknown)!r}", reason="schema")
            if type(row.get("user_id")) is not int:
                raise InputError(f"column 'user_id' wants int, got {row.get('user_id')!r}", reason="dtype")
        return np.full(len(rows), self.manifest["level"])

    def score_candidates(self, user: dict, candidates: list[dict]) -> np.ndarray:
        return self.score([user | row for row in candidates])


class Client:
    """Asks an application in this process, one request after the other."""

    def __init__(self, app: ASGIApp) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def request(self, method: str, path: str, **asked) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://server") as client:
                return await client.request(method, path, **asked)

        return asyncio.run(ask())

    def get(self, path: str, **asked) -> httpx.Response:
        return self.request("GET", path, **asked)

    def post(self, path: str, **asked) -> httpx.Response:
        return self.request("POST", path, **asked)


@dataclass
class Served:
    """A store, a server that follows it, and a client."""

    store: ModelStore
    standing: Standing
    follower: Follower
    client: Client
    folder: Path

    def publish(self, level: float, hour: Hour | None = None, **fields) -> str:
        """Publish a version of that level, an hour after the last one."""
        newest = self.store.versions()
        version = commit_version(self.store, hour or HOUR + len(newest), level=level, **fields)
        self.store.publish(version, actor="run", reason="passed", fence=1)
        return version

    def score(self, **row) -> httpx.Response:
        """The answer for one row."""
        return self.client.post("/v1/score", json={"rows": [{"user_id": 1} | row]})

    def metric(self, name: str) -> float | None:
        """A sample of /metrics."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return None


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    """A server over an empty store, which looks when it is told to."""
    with serving(tmp_path) as made:
        yield made


@contextmanager
def serving(
    folder: Path,
    settings: ServerOptions | None = None,
    key: str | None = None,
    cache: Path | None = None,
    row_ids: tuple[str, ...] = (),
    request_log=None,
    open_model: Callable = StandIn,
) -> Iterator[Served]:
    """A server in this process."""
    store, standing = open_store(folder / "store"), Standing()
    follower = Follower(
        store,
        standing,
        poll_seconds=0.05,
        last_good=LastGood(cache) if cache else None,
        row_ids=row_ids,
        open_model=open_model,
    )
    app = build_app(Api(standing, settings or ServerOptions(), row_ids, request_log), key)
    yield Served(store, standing, follower, Client(app), folder)


def wait_for(what: Callable[[], object], seconds: float = 10.0) -> float:
    """Wait until something is so; returns the seconds it took."""
    started = time.monotonic()
    while not what():
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"not so within {seconds} s")
        time.sleep(0.005)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Served:
    """A server with a real version, and small bounds."""
    settings = ServerOptions(max_body_bytes=MAX_BODY, max_rows=MAX_ROWS)
    with serving(tmp_path_factory.mktemp("real"), settings, open_model=Model.open) as served:
        publish(served.store, 1)
        served.follower.look()
        yield served
