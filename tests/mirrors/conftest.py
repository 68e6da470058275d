"""Stores with releases and a ledger to mirror, and a registry and a receiver to mirror them to."""

import json
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any, NamedTuple

import jsonschema
import pytest

from saec.config import Config
from saec.hours import Hour
from saec.ledger import Ledger
from saec.mirrors.registry import VERSION
from saec.store.model_store import open_store

FIRST = Hour.parse("2017-10-01T03")
FIGURES = {
    "metrics": {"auc_compressed": 0.71, "logloss_compressed": 0.52},
    "served": {"auc_served": 0.7},
    "compression": {"ratio_total": 199.5},
    "rows": {"train": 700, "gate": 300},
    "verdict": {"status": "PASS", "reason": "ok", "text": "no loss"},
    "config": "c" * 64,
    "data": "d" * 64,
}


@pytest.fixture
def settings(tmp_path):
    """A function that makes settings with these mirrors."""

    def make(**mirrors) -> Config:
        return Config.model_validate(
            {
                "workspace": tmp_path / "shop",
                "data": {"source": "data/shop", "time_column": "time", "label_column": "clicked"},
                "fields": [{"name": "user"}, {"name": "tags", "kind": "list"}, {"name": "hour", "kind": "hour_of_day"}],
                "mirrors": mirrors,
            }
        )

    return make


@pytest.fixture
def ledger():
    """An empty ledger in memory."""
    return Ledger("sqlite://")


@pytest.fixture
def store(settings):
    """An empty store."""
    return open_store(settings().store_url)


@pytest.fixture
def release(store):
    """A function that commits a version of the hour so many after the first, and publishes it."""

    def make(index: int) -> str:
        with store.stage() as staged:
            (staged / "codebooks.safetensors").write_bytes(b"x" * (100 + index))
            version = store.commit(staged, FIRST + index, FIGURES)
        store.publish(version, actor="run", reason="PASS: no loss", fence=1)
        return version

    return make


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


@dataclass
class Registry:
    """What a registry holds, under the client's methods that are used; `down` makes it fail after so many calls."""

    models: dict[str, dict[str, str]] = field(default_factory=dict)
    versions: list[Any] = field(default_factory=list)
    runs: list[Any] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    down: int | None = None

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if callable(found) and not name.startswith("_"):
            self.calls += 1
            if self.down is not None and self.calls > self.down:
                raise ConnectionError(f"no route to http://ann:secret@x after {self.down} calls")
        return found

    def search_registered_models(self, wanted, max_results):
        return [SimpleNamespace(tags=tags) for name, tags in self.models.items() if f"'{name}'" in wanted]

    def create_registered_model(self, name, description):
        self.models[name] = {}

    def set_registered_model_tag(self, name, key, value):
        self.models[name][key] = value

    def set_registered_model_alias(self, name, alias, number):
        self.aliases[alias] = self.versions[int(number) - 1].tags[VERSION]

    def search_model_versions(self, wanted, max_results):
        return [found for found in self.versions if f"'{found.tags[VERSION]}'" in wanted]

    def create_model_version(self, name, source, run_id, tags, description):
        number = str(len(self.versions) + 1)
        self.versions.append(SimpleNamespace(version=number, source=source, run_id=run_id, tags=tags))

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return "1"

    def search_runs(self, experiments, wanted, max_results):
        return [run for run in self.runs if f"'{run.tags[VERSION]}'" in wanted]

    def create_run(self, experiment, start, tags, name):
        info = SimpleNamespace(run_id=str(len(self.runs)), status="RUNNING")
        self.runs.append(SimpleNamespace(info=info, tags=tags, metrics={}))
        return self.runs[-1]

    def log_batch(self, run, metrics):
        self.runs[int(run)].metrics = {metric.key: metric.value for metric in metrics}

    def set_terminated(self, run, status, end):
        self.runs[int(run)].info.status = status


@pytest.fixture
def registry(monkeypatch):
    """A registry in memory in place of any server, and of its client, which takes seconds to import."""
    made = Registry()
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda *_: made))
    monkeypatch.setitem(sys.modules, "mlflow.entities", SimpleNamespace(Metric=Metric))
    return made


URI, TEXT = {"type": "string", "format": "uri", "pattern": "^[a-z]+:"}, {"type": "string", "minLength": 1}
FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "properties": {"_producer": URI, "_schemaURL": URI},
        "required": ["_producer", "_schemaURL"],
    },
}
DATASETS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "namespace": TEXT,
            "name": TEXT,
            **dict.fromkeys(("facets", "inputFacets", "outputFacets"), FACETS),
        },
        "required": ["namespace", "name"],
    },
}
EVENT = {
    "type": "object",
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
        "producer": URI,
        "schemaURL": URI,
        "run": {
            "properties": {"runId": {"pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}, "facets": FACETS},
            "required": ["runId"],
        },
        "job": {"properties": {"namespace": TEXT, "name": TEXT, "facets": FACETS}, "required": ["namespace", "name"]},
        "inputs": DATASETS,
        "outputs": DATASETS,
    },
    "required": ["eventType", "eventTime", "producer", "schemaURL", "run", "job"],
}
"""What version 2 of the specification requires of a run event."""


class Receiver:
    """A receiver on loopback that keeps what it is told, or refuses it."""

    def __init__(self) -> None:
        self.events, self.keys, self.answer = [], [], 201
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.events.append(json.loads(body))
                receiver.keys.append(self.headers["Authorization"])
                assert self.path == "/api/v1/lineage"
                self.send_response(receiver.answer)
                self.end_headers()

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver():
    """A receiver; every event that it got is held to the specification."""
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()
    for event in made.events:
        jsonschema.validate(event, EVENT)
