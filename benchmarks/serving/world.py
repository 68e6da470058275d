"""Makes a model of any size to serve, compressed and uncompressed, without training: speed and bytes do not need it.

Decisions: fields and network are those of configs/globo.yaml; features are real values of those fields with the keys
that the encoder would make, so that a request takes the whole way from values to scores. Vectors and weights are
random. The compressed version has the head and the codebooks that the dial allows at `compression.ratio`, popular
features first, and is written by the code that publishes: once as one model, once as an ensemble with the same index.

Shapes: V features with a row, D width, F fields, H features with a code.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.serving.traffic import SHARES, SMALL, sizes
from saec.compression.artifact import write_artifact
from saec.compression.codebooks import CLUSTERS, Centroids
from saec.compression.dial import Allowance
from saec.config import Config
from saec.data.hashing import field_key, hash_int64, hash_words
from saec.hours import Hour
from saec.model.networks import build_network
from saec.settings_file import load_config
from saec.store.model_store import open_store
from saec.train.tensors import network_arrays

CONFIG, ORIGINAL, NETWORK = "configs/globo.yaml", "original.safetensors", "network.safetensors"
PARTNERS = {"region": 300, "os": 20, "article_id": 400, "hour_of_day": 24}
"""With how many values of its second part each value of a cross's first part is seen."""
HOURS = {1: Hour.parse("2026-01-01T00"), 2: Hour.parse("2026-01-01T01")}
"""The hour of the version of so many models."""
SHARE = 3 / 8
"""Of the quantised original in the ensemble, as on the real log."""
SPREAD = np.float32(0.1)
"""Standard deviation of vectors."""


def write(folder: Path, features: int) -> dict[str, float]:
    """Write into a folder, anew: a store with both versions, and the original's rows, keys and network.

    Returns:
        What they weigh: features, those with a code, codewords, and bytes; those of the ensemble too.
    """
    config, draw = load_config(CONFIG), np.random.default_rng(features)
    fields, width = len(config.field_names), config.model.width
    by_field = _Keys(config, features).by_field()
    keys_V = np.concatenate(by_field)
    rows_VD = draw.standard_normal((fields + len(keys_V), width), np.float32) * SPREAD
    network = build_network(config.model, fields, config.seed)
    torch.nn.init.normal_(network.first_order_FD, std=float(SPREAD))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file({"keys_V": keys_V, "rows_VD": rows_VD}, folder / ORIGINAL)
    save_file(network_arrays(network), folder / NETWORK)

    allowance = Allowance.of(config, len(rows_VD), float(config.compression.ratio))
    counts_F = np.array([min(allowance.codewords, len(keys)) for keys in by_field])
    heads = _heads([len(keys) for keys in by_field], allowance.features)
    head_keys_H = np.concatenate([keys[:head] for keys, head in zip(by_field, heads, strict=True)])
    codes = [draw.integers(0, count, head) for count, head in zip(counts_F, heads, strict=True)]
    codewords = int((counts_F + CLUSTERS).sum())
    challenger = SimpleNamespace(
        config=config,
        learner=SimpleNamespace(averaged=network),
        standards=SimpleNamespace(centroids=Centroids(np.zeros((counts_F.sum(), width), np.float32), counts_F)),
        codebooks=SimpleNamespace(vectors_TD=draw.standard_normal((codewords, width), np.float32) * SPREAD),
        quantised=SimpleNamespace(
            network=network_arrays(build_network(config.model, fields, config.seed + 1)),
            vectors_TD=draw.standard_normal((codewords, width), np.float32) * SPREAD,
        ),
    )
    store, written = open_store(folder / "store"), {}
    for models, hour in HOURS.items():
        challenger.quantised_share = SHARE * (models - 1)
        with store.stage() as staged:
            head_codes_H = (np.concatenate(codes) + CLUSTERS).astype(np.int16)
            written[models] = sum(write_artifact(staged, challenger, head_keys_H, head_codes_H).values())
            store.commit(staged, hour, {})
    return {
        "features": len(keys_V),
        "features with a code": len(head_keys_H),
        "codewords": codewords,
        "bytes uncompressed": keys_V.nbytes + rows_VD.nbytes,
        "bytes compressed": written[1],
        "bytes compressed, an ensemble": written[2],
    }


class _Keys:
    """Keys of all features of each field, the popular ones first."""

    def __init__(self, config: Config, features: int) -> None:
        self._config, self._features = config, features
        self._sizes = sizes(features)

    def by_field(self) -> list[NDArray[np.uint64]]:
        return [
            self._crossed(*name.split("&")) if "&" in name else self._values(name, np.arange(self._sizes[name]))
            for name in self._config.field_names
        ]

    def _values(self, name: str, values_N: NDArray[np.int64]) -> NDArray[np.uint64]:
        return hash_int64(values_N, field_key(self._config.data.hash_key, name))

    def _crossed(self, first: str, second: str) -> NDArray[np.uint64]:
        """Each value of the first part with some of the second."""
        name, partners = f"{first}&{second}", PARTNERS[second]
        count = int(SHARES[name] * self._features) if name in SHARES else SMALL[first] * SMALL[second]
        pair_N = np.arange(count)
        first_N, second_N = pair_N // partners % self._sizes[first], pair_N % partners
        parts_N2 = np.stack([self._values(first, first_N), self._values(second, second_N)], axis=1)
        return hash_words(parts_N2, field_key(self._config.data.hash_key, name))


def _heads(sizes_F: list[int], features: int) -> list[int]:
    """How many features of each field get a code: the small fields whole, then the same share of each."""
    whole = [size if size < 1000 else 0 for size in sizes_F]
    share = min(1.0, (features - sum(whole)) / max(sum(sizes_F) - sum(whole), 1))
    return [small or int(size * share) for small, size in zip(whole, sizes_F, strict=True)]
