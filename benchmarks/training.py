"""Measures samples per second of a training pass, against its own ceiling and against usual implementations.

The data is one hour of rows with Zipf-distributed features on a table of two million rows; the networks are DeepFM and
DCN v2 with 400-400-400 units, trained in batches of 4096 with two threads. All contestants run in turn, several rounds
in one process. Figures are medians of the rounds, and ratios are medians of the ratios within a round, so that a busy
neighbour slows both sides of a ratio.

- The ceiling is the network alone: forward, backward and our AdamW on given vectors that want no gradient. Beside it
  stands the same with a gradient of the vectors, which is the least that any training of vectors must pay.
- Saec's figure is the whole of a pass: rows taken out of the table and located, vectors gathered,
  network, gradients summed by vector, Adagrad, rows put back. Distinct features come from the vocabulary, which needs
  them anyway: benchmarks.vocabulary has their price.
- The peers are the same network over `nn.Embedding`: dense with Adam, the usual example code, dense with fused Adam,
  and sparse with SparseAdam. The dense ones run few batches a round, for they update all of the table each time.

    python -m benchmarks.training                     # 5 rounds of 32 batches
    python -m benchmarks.training --batch-rows 256 --fields 16 --hidden 256,128 --batches 256
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Optimizer

from benchmarks.record import Figures
from saec.config import ModelConfig, TrainingConfig
from saec.model.networks import CtrNetwork, build_network
from saec.model.table import EmbeddingTable
from saec.train.adamw import AdamW
from saec.train.batches import Pooling
from saec.train.learner import Learner

Run = Callable[[], int]
NETWORKS = ("deepfm", "dcnv2")
TABLE_ROWS, WIDTH, SEED = 2_000_000, 16, 1
DENSE_BATCHES = 4
"""Batches a round of the peers that update all of the table."""


@dataclass(frozen=True)
class Hour:
    """Rows of one slot a field: which table rows they use, and their labels."""

    rows_U: NDArray[np.int64]
    """The distinct table rows of the hour, the default rows (the first of the table) among them."""
    inverse_BS: NDArray[np.int64]
    """Which of them each cell uses."""
    labels_B: NDArray[np.uint8]

    @classmethod
    def draw(cls, rows: int, fields: int) -> Hour:
        """Features drawn within each field with probability 1 / rank^1.1."""
        random = np.random.default_rng(SEED)
        features = TABLE_ROWS // fields
        cumulative = np.cumsum(np.arange(1, features + 1) ** -1.1)
        ranks_BS = np.searchsorted(cumulative, random.random((rows, fields)) * cumulative[-1])
        rows_BS = fields + random.permutation(features)[ranks_BS] + features * np.arange(fields)
        rows_U, inverse = np.unique(rows_BS, return_inverse=True)
        return cls(rows_U, inverse.reshape(rows_BS.shape), (random.random(rows) < 0.2).astype(np.uint8))


@dataclass(frozen=True)
class Setting:
    """What all contestants share."""

    hour: Hour
    batch_rows: int
    fields: int
    hidden: list[int]

    def model(self, network: str) -> CtrNetwork:
        """The network under test, always with the same weights."""
        config = ModelConfig.model_validate({"network": network, "width": WIDTH, "hidden": self.hidden})
        return build_network(config, self.fields, SEED)

    def batches(self, most: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """Table rows and labels of the hour's first batches."""
        labels = torch.split(torch.from_numpy(self.hour.labels_B.astype(np.float32)), self.batch_rows)
        rows = torch.split(torch.from_numpy(self.hour.rows_U[self.hour.inverse_BS]), self.batch_rows)
        return list(zip(rows, labels, strict=True))[:most]


def learn(logits_B: Tensor, labels_B: Tensor, optimisers: list[Optimizer]) -> None:
    """Backward and a step of every optimiser."""
    loss = binary_cross_entropy_with_logits(logits_B.float(), labels_B)
    for optimiser in optimisers:
        optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for optimiser in optimisers:
        optimiser.step()


def network_alone(setting: Setting, network: str, *, bfloat16: bool, gradient: bool = False) -> Run:
    """The ceiling: the network and its optimiser on one batch of vectors, over and over."""
    model, batches = setting.model(network), setting.batches()
    optimiser = AdamW(model.parameters(), learning_rate=0.001, weight_decay=0.01)
    vectors_BFD = 0.01 * torch.randn(setting.batch_rows, setting.fields, WIDTH)

    def run() -> int:
        for _, labels_B in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits_B = model(vectors_BFD.detach().requires_grad_(gradient))
            optimiser.forget_gradients()
            binary_cross_entropy_with_logits(logits_B.float(), labels_B).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return len(batches) * setting.batch_rows

    return run


def saec(setting: Setting, network: str, *, bfloat16: bool) -> Run:
    """Saec's pass over the hour, from table to table."""
    hour = setting.hour
    table = EmbeddingTable(WIDTH, np.arange(1, TABLE_ROWS + setting.fields + 1, dtype=np.uint64), SEED)
    config = TrainingConfig(batch_rows=setting.batch_rows, precision="bfloat16" if bfloat16 else "float32")
    learner = Learner(setting.model(network), Pooling.of(range(setting.fields)), config)

    def run() -> int:
        working = table.take(hour.rows_U)
        places_BS = torch.from_numpy(working.locate(hour.rows_U)[hour.inverse_BS])
        done = learner.fit(working, places_BS, hour.labels_B)
        table.put(working)
        return done.rows

    return run


def embedding_layer(
    setting: Setting,
    network: str,
    *,
    bfloat16: bool = False,
    sparse: bool = False,
    fused: bool | None = None,
    where: str = "cpu",
) -> Run:
    """The same network over `nn.Embedding` on a device: Adam on everything, or SparseAdam on the rows of a batch."""
    model, batches = setting.model(network).to(where), setting.batches(None if sparse else DENSE_BATCHES)
    layer = nn.Embedding(TABLE_ROWS + setting.fields, WIDTH, sparse=sparse, device=where)
    optimisers: list[Optimizer] = [torch.optim.Adam(model.parameters(), fused=fused)]
    optimisers += [
        torch.optim.SparseAdam(layer.parameters()) if sparse else torch.optim.Adam(layer.parameters(), fused=fused)
    ]

    def run() -> int:
        for rows_BS, labels_B in batches:
            with torch.autocast(where, torch.bfloat16, enabled=bfloat16):
                logits_B = model(layer(rows_BS.to(where)))
            learn(logits_B, labels_B.to(where), optimisers)
        return len(batches) * setting.batch_rows

    return run


def contestants(setting: Setting) -> dict[str, Run]:
    """Everything that is timed, by name; each call trains once and returns the rows it saw."""
    found: dict[str, Run] = {}
    for network in NETWORKS:
        for precision in ("bf16", "fp32"):
            bfloat16 = precision == "bf16"
            name = f"{network} {precision}"
            found[f"{name}, network alone"] = network_alone(setting, network, bfloat16=bfloat16)
            found[f"{name}, network and gradient"] = network_alone(setting, network, bfloat16=bfloat16, gradient=True)
            found[f"{name}, saec"] = saec(setting, network, bfloat16=bfloat16)
    for precision in ("bf16", "fp32"):
        peer = embedding_layer(setting, "deepfm", bfloat16=precision == "bf16", sparse=True)
        found[f"deepfm {precision}, sparse nn.Embedding, SparseAdam"] = peer
    found["deepfm fp32, nn.Embedding, Adam"] = embedding_layer(setting, "deepfm")
    found["deepfm fp32, nn.Embedding, fused Adam"] = embedding_layer(setting, "deepfm", fused=True)
    return found


def speeds(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Samples a second of each contestant in each round; a round before the first warms up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            rows = run()
            if number > 0:
                found[name].append(rows / (time.perf_counter() - start))
    return found


def ratio(measured: dict[str, list[float]], name: str, to: str) -> float:
    """Median of one contestant's speed over another's, round by round."""
    return statistics.median(a / b for a, b in zip(measured[name], measured[to], strict=True))


@click.command()
@click.option("--batch-rows", default=4096, show_default=True)
@click.option("--fields", default=24, show_default=True)
@click.option("--hidden", default="400,400,400", show_default=True, help="Units of the deep part.")
@click.option("--batches", default=32, show_default=True, help="Batches a round.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(batch_rows: int, fields: int, hidden: str, batches: int, rounds: int, threads: int) -> None:
    """Time every contestant and keep the figures."""
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    hour = Hour.draw(batches * batch_rows, fields)
    setting = Setting(hour, batch_rows, fields, [int(units) for units in hidden.split(",")])
    measured = speeds(contestants(setting), rounds)
    figures = Figures("training")
    for name, found in measured.items():
        figures.add(name, statistics.median(found), "samples/s")
    for network in NETWORKS:
        share = ratio(measured, f"{network} bf16, saec", f"{network} bf16, network alone")
        figures.add(f"{network}, saec bf16 of the network alone", share, "ratio", ">= 0.6", share >= 0.6)
        least = ratio(measured, f"{network} bf16, saec", f"{network} bf16, network and gradient")
        figures.add(f"{network}, saec bf16 of network and gradient", least, "ratio")
    for peer in [name for name in measured if "nn.Embedding" in name]:
        times = ratio(measured, f"{peer.split(',')[0]}, saec", peer)
        figures.add(f"saec over {peer}", times, "ratio", "> 1", times > 1)
    figures.finish()


if __name__ == "__main__":
    main()
