"""Versions with every kind of field, made in memory, and rows for them."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from saec.compression.artifact import write_artifact, write_recorded
from saec.compression.challenger import Challenger
from saec.compression.codebooks import Centroids, Codebooks
from saec.config import Config
from saec.data.columns import encoder_columns, times_ms
from saec.data.features import FeatureEncoder
from saec.hours import Hour
from saec.serving import Model
from saec.store.model_store import open_store
from tests.serving.odd_version import add_quantised_original

HOUR = Hour.parse("2026-11-21T09")
FIELDS = [
    {"name": "user"},
    {"name": "item", "cap": 40},
    {"name": "tags", "kind": "list", "type": "string", "max_values": 3, "nullable": True},
    {"name": "site", "type": "string", "nullable": True},
    {"name": "price", "kind": "numeric", "type": "float", "nullable": True},
    {"name": "age", "kind": "numeric", "boundaries": [18.0, 40.0]},
    {"name": "mobile", "type": "bool"},
    {"name": "hour", "kind": "hour_of_day"},
    {"name": "day", "kind": "day_of_week"},
]
TYPES = pa.schema(
    {
        "user": pa.int64(),
        "item": pa.int32(),
        "tags": pa.list_(pa.string()),
        "site": pa.string(),
        "price": pa.float64(),
        "age": pa.int8(),
        "mobile": pa.bool_(),
        "at": pa.timestamp("ms", "UTC"),
    }
)
COUNT = 60


def some_rows(count: int = COUNT, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with nulls, empty and long lists, and odd texts; users from 90 on are those whose features are unknown."""
    rng = np.random.default_rng(seed)
    tags = ["red", "grün", "\0", "x" * 300]
    return [
        {
            "user": int(rng.integers(100)),
            "item": int(rng.integers(60)),
            "tags": None if row % 7 == 0 else [tags[tag] for tag in rng.integers(0, 4, row % 5)],
            "site": None if row % 5 == 0 else f"site {rng.integers(9)}",
            "price": None if row % 11 == 0 else float(np.round(rng.lognormal(), 3)),
            "age": int(rng.integers(10, 70)),
            "mobile": bool(row % 2),
            "at": HOUR.start + timedelta(seconds=97 * row, milliseconds=row, hours=row),
        }
        for row in range(count)
    ]


def arrow(rows: list[dict[str, Any]]) -> pa.Table:
    """The rows as an Arrow table."""
    return pa.Table.from_pylist(rows, TYPES)


class Published:
    """A published version, and what it was made from."""

    def __init__(self, folder: Path, precision: str = "int8", share: float | None = None, **layout: Any) -> None:
        self.config = Config.model_validate(
            {
                "data": {"source": "x", "time_column": "at", "label_column": "clicked", "hash_key": "secret"},
                "fields": FIELDS,
                "crosses": [["site", "mobile"], ["user", "hour"], ["user", "item", "day"]],
                "model": {"width": 4, "hidden": [8, 6], "cross_layers": 2, "cross_rank": 3} | layout,
                "compression": {"codebook_precision": precision, "fingerprint_bits": 16},
            }
        )
        self.rows = some_rows()
        self.keys_BS = self.encode(arrow(self.rows))
        self.store = open_store(str(folder / "store"))
        with self.store.stage() as staged:
            self._write(staged)
            if share is not None:
                add_quantised_original(staged, self.config, share)
            recorded_R = write_recorded(staged, self.keys_BS)
            self.scores_R = Model.read(staged).score_keys(self.keys_BS[recorded_R])
            recorded = {"recorded": {"scores": self.scores_R.tolist()}}
            self.version = self.store.commit(staged, HOUR, recorded)
        self.folder = folder / "store" / "versions" / self.version

    def encode(self, table: pa.Table) -> np.ndarray:
        """The keys that the pipeline gives rows."""
        return FeatureEncoder(self.config).encode(encoder_columns(table), times_ms(table["at"]))

    def recommitted(self, **manifest: Any) -> Path:
        """The same files under another manifest: whole by its digests."""
        with self.store.stage() as staged:
            for path in self.folder.iterdir():
                if path.name != "manifest.json":
                    (staged / path.name).write_bytes(path.read_bytes())
            return self.folder.parent / self.store.commit(staged, HOUR, manifest)

    def _write(self, staged: Path) -> None:
        rng, challenger = np.random.default_rng(1), Challenger(self.config)
        fields, width = len(self.config.field_names), self.config.model.width
        with torch.no_grad():
            for parameter in challenger.learner.averaged.parameters():
                parameter.copy_(torch.from_numpy(rng.normal(0, 0.2, parameter.shape).astype(np.float32)))
        centroids = Centroids.joined([rng.normal(size=(5, width)).astype(np.float32) for _ in range(fields)])
        challenger.standards = dataclasses.replace(challenger.standards, centroids=centroids)
        challenger.codebooks = Codebooks.start(rng.normal(size=(fields, width)).astype(np.float32), centroids)
        known_BS = self.keys_BS[[row["user"] < 90 for row in self.rows]]
        head_N = np.setdiff1d(known_BS, [0])
        write_artifact(staged, challenger, head_N, (1 + np.arange(len(head_N)) % 6).astype(np.int16))


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Published:
    """A version of the default network; not to be changed."""
    return Published(tmp_path_factory.mktemp("published"))


@pytest.fixture
def spoilt(tmp_path) -> Published:
    """The same, to be damaged."""
    return Published(tmp_path)


@pytest.fixture(scope="session")
def model(published) -> Model:
    """That version, opened."""
    return Model.open(published.folder)


@pytest.fixture
def row(published) -> dict[str, Any]:
    """A row without nulls."""
    return {**published.rows[1], "tags": ["red", "grün"], "at": datetime(2026, 11, 21, 10, 20, 30, tzinfo=UTC)}
