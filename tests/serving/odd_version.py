"""An untrained version with every awkward kind of row, for readers that must agree on it.

All kinds and types of fields, nulls, empty and long lists, odd strings, huge integers, codebooks of different sizes
and fingerprints so short that many an unknown feature passes.
"""

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from saec.compression.artifact import write_artifact, write_quantised_original
from saec.compression.challenger import Challenger
from saec.compression.codebooks import Centroids, Codebooks
from saec.config import Config
from saec.data.columns import encoder_columns
from saec.data.features import FeatureEncoder
from saec.serving import Model

ODD_TEXTS = ["", "é", "e\u0301", "x" * 256, "y" * 257, "z" * 300, None, "\0", "12345678", "a.example", "b.example"]
ODD_NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5**0.5, 2.0**0.5, 1e-320, -1e300, 3.75, 9.99]
ODD_INTEGERS = [0, -1, 2**63 - 1, -(2**63), 49, 50, 51, 1_000]
COUNTS = (5, 0, 300, 3, 2, 7, 1, 2, 9, 4, 31, 6)
"""Clusters of the fields."""


def odd_config(
    network: str = "dcnv2",
    precision: str = "int4",
    logit_cap: float = 2.0,
    fingerprint_bits: int = 3,
    hidden: tuple[int, ...] = (6, 5),
) -> Config:
    """Fields of every kind and type."""
    return Config.model_validate(
        {
            "data": {"source": "nowhere", "time_column": "at", "label_column": "clicked", "hash_key": "k" * 65},
            "fields": [
                {"name": "user"},
                {"name": "count", "column": "visits", "cap": 50},
                {"name": "site", "type": "string", "nullable": True},
                {"name": "tags", "kind": "list", "max_values": 3, "nullable": True},
                {"name": "words", "kind": "list", "type": "string", "max_values": 2, "nullable": True},
                {"name": "price", "kind": "numeric", "type": "float", "nullable": True},
                {"name": "age", "kind": "numeric", "boundaries": [-1.5, 0.0, 50.0]},
                {"name": "mobile", "type": "bool"},
                {"name": "hour", "kind": "hour_of_day"},
                {"name": "day", "kind": "day_of_week"},
            ],
            "crosses": [["user", "hour"], ["site", "mobile", "price"]],
            "model": {
                "network": network,
                "width": 3,
                "hidden": list(hidden),
                "cross_layers": 2,
                "cross_rank": 4,
                "logit_cap": logit_cap,
            },
            "compression": {"codewords": 300, "codebook_precision": precision, "fingerprint_bits": fingerprint_bits},
        }
    )


def odd_rows(count: int, seed: int = 0) -> pa.Table:
    """Rows whose values come back often enough to be seen twice."""
    rng = np.random.default_rng(seed)
    start = datetime(2026, 2, 27, 21, 59, 59, 999_000)  # noqa: DTZ001 - the column's zone says that it is UTC

    def some(values: list) -> list:
        return [values[number] for number in rng.integers(0, len(values), count)]

    def lists(values: list, longest: int) -> list:
        return [
            None if size < 0 else [values[number] for number in rng.integers(0, len(values), size)]
            for size in rng.integers(-1, longest + 1, count)
        ]

    return pa.table(
        {
            "user": pa.array(rng.integers(0, 40 + count // 4, count)),
            "visits": pa.array(some(ODD_INTEGERS), pa.int64()),
            "site": pa.array(some(ODD_TEXTS), pa.string()),
            "tags": pa.array(lists([*range(9), None], 5), pa.list_(pa.int32())),
            "words": pa.array(lists(ODD_TEXTS, 4), pa.list_(pa.string())),
            "price": pa.array(some([*ODD_NUMBERS, None]), pa.float64()),
            "age": pa.array(some(ODD_INTEGERS), pa.int64()),
            "mobile": pa.array(some([True, False]), pa.bool_()),
            "at": pa.array(
                [start + timedelta(hours=int(hours)) for hours in rng.integers(-200, 200, count)],
                pa.timestamp("ms", tz="UTC"),
            ),
        }
    )


def keys_of(rows: pa.Table, config: Config) -> np.ndarray:
    """The rows' feature keys."""
    times_B = np.asarray(rows["at"].cast(pa.int64()))
    return FeatureEncoder(config).encode(encoder_columns(rows.drop_columns("at")), times_B)


def write_odd_version(
    folder: Path, config: Config, known: pa.Table, seed: int = 0, share: float | None = None
) -> np.ndarray:
    """Write a version that has a code for every feature of some rows; returns the keys of all features with a code.

    With a share it is an ensemble.
    """
    rng = np.random.default_rng(seed)
    width = config.model.width
    challenger = Challenger(config)
    centroids = Centroids.joined([rng.normal(scale=0.4, size=(count, width)).astype(np.float32) for count in COUNTS])
    challenger.standards = dataclasses.replace(challenger.standards, centroids=centroids)
    codebooks = Codebooks.start(rng.normal(scale=0.4, size=(len(COUNTS), width)).astype(np.float32), centroids)
    codebooks.vectors_TD[centroids.starts_F + 1] += 0.5
    challenger.codebooks = codebooks
    with torch.no_grad():
        for parameter in challenger.learner.averaged.parameters():
            parameter.copy_(torch.from_numpy(np.asarray(rng.normal(scale=0.4, size=parameter.shape), np.float32)))
    keys_BS = keys_of(known, config)
    keys_N, first_N = np.unique(keys_BS, return_index=True)
    fields_N = np.array(config.slot_fields)[first_N % keys_BS.shape[1]]
    codes_N = 1 + (rng.random(len(keys_N)) * (np.array(COUNTS)[fields_N] + 1)).astype(np.int16)
    folder.mkdir(parents=True, exist_ok=True)
    write_artifact(folder, challenger, keys_N[keys_N > 0], codes_N[keys_N > 0])
    if share is not None:
        add_quantised_original(folder, config, share, seed)
    return keys_N[keys_N > 0]


def add_quantised_original(folder: Path, config: Config, share: float, seed: int = 0) -> dict[str, int]:
    """Make a version an ensemble, of random numbers; returns the bytes of its two more files."""
    rng, model = np.random.default_rng([seed, 1]), Model.read(folder)
    network = {
        name: np.asarray(rng.normal(0, 0.3, array.shape), np.float32)
        for name, array in model.network.parameters.items()
    }
    vectors_TD = rng.normal(0, 0.4, model.codewords_TD.shape).astype(np.float32)
    return write_quantised_original(folder, network, vectors_TD, model.counts_F, share, config.compression)
