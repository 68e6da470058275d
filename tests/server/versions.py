"""Small real versions without any training: every kind of field, parameters drawn at random from a seed.

Each seed gives other scores, so an answer tells which version it is of.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from saec.compression.index import RetrievalIndex
from saec.compression.places import CLUSTERS
from saec.data.features import FeatureEncoder
from saec.data.schema import parse_schema
from saec.hours import Hour
from saec.serving import Model
from saec.serving.files import CODEBOOKS, INDEX, NETWORK, RECORDED, SCHEMA
from saec.serving.network import parameter_shapes
from saec.serving.rounding import rounded
from saec.serving.rows import columns_of
from saec.store.model_store import ModelStore

FIRST = Hour.parse("2026-11-01T00")
_FIELDS: list[dict[str, Any]] = [
    {"name": "user_id", "type": "int"},
    {"name": "site", "type": "string", "nullable": True},
    {"name": "tags", "kind": "list", "type": "string", "max_values": 3},
    {"name": "price", "kind": "numeric", "type": "float"},
    {"name": "age", "kind": "numeric", "type": "int", "nullable": True, "boundaries": [18.0, 30.0, 65.0]},
    {"name": "mobile", "type": "bool", "nullable": True},
    {"name": "slot", "type": "int", "cap": 9},
    {"name": "hour", "kind": "hour_of_day"},
]
_DEFAULTS = {
    "kind": "categorical",
    "column": None,
    "type": "int",
    "nullable": False,
    "cap": None,
    "boundaries": [],
    "max_values": 8,
}
_CLUSTERS, _WIDTH = 12, 4
CONTENT = {
    "format": 3,
    "data": {"time_column": "time", "label_column": "clicked", "hash_key": "test"},
    "fields": [_DEFAULTS | field for field in _FIELDS],
    "crosses": [["site", "slot"]],
    "model": {"network": "dcnv2", "width": _WIDTH, "hidden": [8], "logit_cap": 0.0, "cross_layers": 1, "cross_rank": 4},
}


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows that these versions take, the same for the same seed."""
    draw = np.random.default_rng(seed)
    return [
        {
            "user_id": int(draw.integers(200)),
            "site": [None, "a.example", "b.example"][draw.integers(3)],
            "tags": [f"t{tag}" for tag in draw.integers(20, size=draw.integers(5))],
            "price": float(draw.gamma(2.0, 10.0)),
            "age": [None, 25, 70][draw.integers(3)],
            "mobile": bool(draw.integers(2)),
            "slot": int(draw.integers(12)),
            "time": f"2026-11-21T{draw.integers(24):02d}:20:30Z",
        }
        for _ in range(count)
    ]


def write_version(folder: Path, seed: int) -> list[float]:
    """Write the files of a version into a folder; the scores of its recorded rows."""
    schema, draw = parse_schema(json.dumps(CONTENT).encode()), np.random.default_rng(seed)
    fields = len(schema.field_names)
    (folder / SCHEMA).write_text(json.dumps(CONTENT))
    shapes = parameter_shapes(schema.model, fields)
    network = {name: np.asarray(draw.normal(scale=0.3, size=shape), np.float32) for name, shape in shapes.items()}
    save_file(rounded(network, 2.0), folder / NETWORK)
    codewords_TD = draw.normal(size=(fields * (_CLUSTERS + CLUSTERS), _WIDTH)).astype(np.float16)
    save_file({"counts_F": np.full(fields, _CLUSTERS, np.uint16), "codewords_TD": codewords_TD}, folder / CODEBOOKS)
    keys_BS = FeatureEncoder(schema).encode(*columns_of(rows(200), schema))
    known_N = np.unique(keys_BS[keys_BS > 0])[::2]  # every other feature
    codes_N = draw.integers(0, _CLUSTERS, len(known_N))
    save_file(RetrievalIndex.build(known_N, codes_N, code_bits=4, fingerprint_bits=8).tensors(), folder / INDEX)
    save_file({"keys_RS": keys_BS[:16]}, folder / RECORDED)
    scores: list[float] = Model.read(folder).score_keys(keys_BS[:16]).tolist()
    return scores


def commit(store: ModelStore, seed: int) -> str:
    """Commit the version of a seed, of the hour of the same number."""
    with store.stage() as staged:
        scores = write_version(staged, seed)
        return store.commit(staged, FIRST + seed, {"recorded": {"scores": scores}, "metrics": {"auc": 0.7}})


def publish(store: ModelStore, seed: int) -> str:
    """Commit a version and make it live."""
    version = commit(store, seed)
    store.publish(version, actor="run", reason="passed", fence=1)
    return version
