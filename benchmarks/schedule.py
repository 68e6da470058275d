"""Simulates an hour on N machines: seconds, bytes sent and written, and memory of each stage per machine.

Decisions:
- Every figure is a cost of one unit (a row, a cell, a vector, a feature) times how many there are. Costs of training
  are measured here, on one core in seconds of the processor; those of the other stages are read from the kept records
  of the benchmarks that measure them (`OTHER` names each).
- Machines work in step. A stage ends with its slowest machine; in a pass of training so does every batch, with the
  speed of each machine drawn anew, and nothing is sent while anybody computes.
- Two designs. *Built*: rank 0 holds the state and does all but training, clustering and indexes; ranks all_reduce the
  gradients of a batch's distinct vectors, which each has all of. *Sharded*, on paper: each machine holds a share of the
  keys and does its share of every stage; vectors of a part are fetched from their shards and the gradients sent back.
- What is not measured is an argument of the command and is reported as assumed: the network, the disk, the cores of a
  machine, how well a batch uses them, and how much machines differ.

As a check, the same costs predict the seconds of 1, 2 and 4 real ranks on this machine (`benchmarks.ranks`), in CPU
seconds and by the clock. The clock is predicted from the share of a core that the single process got, because others
use this machine; that prediction is reported but has no target.

    python -m benchmarks.schedule                       # the check, then 1 billion features on 64 machines
    python -m benchmarks.schedule --ranks "" --machines 256 --rows 1000000000
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import click
import numpy as np
import torch

from benchmarks.ranks import FIELDS, measure, of_size
from benchmarks.record import RESULTS, Figures
from benchmarks.training import TABLE_ROWS, WIDTH, Hour
from saec.train.batches import Touched
from saec.train.learner import Learner

GB = 1e9
WITHIN = 0.3
"""How far CPU seconds may be from the prediction, as a share."""
NEWS_FIELDS = 16
"""Fields of the log that `benchmarks.hours` measures ingest and gate on (configs/globo.yaml)."""
OTHER: dict[str, tuple[str, str, float]] = {
    "open": ("scale", "20,000,000 features, first open", 20e6),
    "choose": ("scale", "20,000,000 features, first choose", 20e6),
    "whole": ("scale", "20,000,000 features, whole checkpoint", 1),
    "delta": ("scale", "20,000,000 features, first delta", 199_600),
    "cluster": ("clustering_ranks", "1,000,000 features in 24 fields, warm, ranks 1, CPU of rank 0", 1e6),
    "index": ("index", "10,000,000 keys, 13-bit cells: build", 10e6),
    "index bytes": ("index", "10,000,000 keys, 13-bit cells: size", 1),
    "features": ("vocabulary", "hour of 100,000 rows x 16 fields, HourFeatures.of", 1.6e6),
    "busy": ("hours", "news log, busy, an hour", 9497.75),
    "ingest": ("hours", "news log, busy, ingest", 1),
    "gate": ("hours", "news log, busy, gate", 1),
}
"""Where costs of the other stages come from: a record, its figure, and the units that the figure is of."""


@dataclass(frozen=True)
class Costs:
    """Seconds of one core, by unit, of a pass of training."""

    row: float
    """Forward and backward of a row."""
    batch: float
    """Of each batch, however small."""
    cell: float
    """Sorting a cell of a part, and adding up its gradient."""
    vector: float
    """A step of Adagrad, with the search for where a part's vectors lie in the batch."""
    place: float
    """Finding the distinct ones of what all ranks use of a batch, for each that one of them uses."""
    parameter: float
    """A step of AdamW, and the copies into and out of what is summed."""
    byte: float
    """A byte that a rank sends in a collective on this machine, and one that it receives."""


@dataclass(frozen=True)
class Cluster:
    """The machines. Assumed, but for what an argument says."""

    machines: int = 64
    cores: int = 16
    used: float = 0.5
    """Share of the cores that a batch keeps busy."""
    network: float = 25e9 / 8
    """Bytes a second that a machine sends, and as many that it receives."""
    latency: float = 50e-6
    disk: float = 1e9
    unlike: float = 0.1
    """Standard deviation of the logarithm of a machine's speed, from batch to batch."""

    @property
    def speed(self) -> float:
        """Cores that work on a batch."""
        return max(1.0, self.cores * self.used)


@dataclass(frozen=True)
class Load:
    """What an hour has to do."""

    features: float = 1e9
    rows: float = 100e6
    fields: int = FIELDS
    width: int = WIDTH
    parameters: int = 0
    batch_rows: int = 65_536
    parts: int = 2
    """Vectors of a cell: its own and that of its class."""
    head: float = 0.19
    """Share of the features that have a code (`benchmarks.scale`)."""

    @property
    def cells(self) -> float:
        """Cells of the hour."""
        return self.rows * self.fields

    def distinct(self, rows: float) -> float:
        """Expected distinct features of so many rows, each field's drawn with probability 1 / rank^1.1."""
        features = self.features / self.fields
        edges = np.unique(np.geomspace(1, features + 1, 4000))
        middles, counts = np.sqrt(edges[1:] * edges[:-1]), np.diff(edges)
        chances = middles**-1.1
        chances /= chances @ counts
        return float(self.fields * (counts @ -np.expm1(-rows * chances)))


@dataclass(frozen=True)
class Stage:
    """The cost of a stage on the machine that has most to do."""

    name: str
    seconds: float
    sent: float = 0.0
    written: float = 0.0
    network: float = 0.0
    """Seconds of it that wait for the network."""


_OF_FEATURE, _OF_KEY = 8, 14
"""Bytes exchanged for a feature that another rank clusters, besides its vector, and for one that another indexes."""


def stages(load: Load, cluster: Cluster, costs: Costs, *, sharded: bool) -> list[Stage]:
    """The hour, stage by stage; the state is in memory from the hour before."""
    unit, share = other(), 1 / cluster.machines if sharded else 1.0
    touched, head = load.distinct(load.rows), load.features * load.head
    slowest = float(np.exp(cluster.unlike * _most(cluster.machines))) if sharded else 1.0

    def stage(name: str, seconds: float, sent: float = 0.0, written: float = 0.0, cores: float = 1.0) -> Stage:
        waiting = sent * share / cluster.network
        cores = cluster.cores if sharded else cores  # of what rank 0 does alone, torch's work alone uses more than one
        worked = seconds * share / cores * slowest
        return Stage(name, worked + waiting + written * share / cluster.disk, sent * share, written * share, waiting)

    cell = unit["busy"] * unit["ingest"] / NEWS_FIELDS
    keys = 8 * load.cells if sharded else 0.0
    scored = 3 * load.rows * costs.row / 3  # a forward pass is a third of a row's training
    saved = touched * unit["delta"]
    ranks, given = (1, 0.0) if sharded else (cluster.machines, 2 * head * (1 - 1 / cluster.machines))
    return [
        stage("ingest", load.cells * cell),
        stage("find and admit features", load.cells * unit["features"], sent=keys),
        stage("score by three models", scored, cores=cluster.speed),
        trained("train", load, cluster, costs, sharded=sharded),
        stage("choose the head", load.features * unit["choose"]),
        stage(
            "cluster, twice",
            2 * head * unit["cluster"] / ranks,
            sent=given * (4 * load.width + _OF_FEATURE),
            cores=cluster.cores,
        ),
        stage("index, twice", 2 * head * unit["index"] / ranks, sent=given * _OF_KEY),
        trained("retrain", load, cluster, costs, sharded=sharded),
        stage("gate", load.cells * unit["busy"] * unit["gate"] / NEWS_FIELDS),
        stage("save the hour's delta", 0.0, written=saved),
        stage("publish", 0.0, sent=head * unit["index bytes"]),
    ]


def trained(name: str, load: Load, cluster: Cluster, costs: Costs, *, sharded: bool) -> Stage:
    """A pass of training, some batches of it drawn and the rest like them."""
    batches, drawn = load.rows / load.batch_rows, 200
    part = load.batch_rows / cluster.machines
    distinct, own = load.distinct(load.batch_rows), load.distinct(part)
    here = distinct / cluster.machines if sharded else distinct
    places = own if sharded else own * cluster.machines
    seconds = of_part(costs, part, here, places, load) / cluster.speed
    random = np.random.default_rng(1)
    speeds = np.exp(cluster.unlike * random.standard_normal((drawn, cluster.machines)))
    computing = float((seconds * speeds).max(1).mean())
    summed = 4 * load.parameters + (0 if sharded else 4 * load.width * distinct)
    fetched = own * (8 + 2 * 4 * load.width) if sharded else 8 * own
    sent = (cluster.machines - 1) / cluster.machines * (2 * summed + fetched)
    waiting = sent / cluster.network + cluster.latency * 2 * np.log2(max(cluster.machines, 2))
    return Stage(name, batches * (computing + waiting), batches * sent, 0.0, batches * waiting)


def of_part(costs: Costs, rows: float, vectors: float, places: float, load: Load) -> float:
    """Seconds of one core for a rank's part of a batch.

    Args:
        costs: by unit.
        rows: of the part.
        vectors: that the rank takes a step on.
        places: among which the distinct ones are found.
        load: fields and parameters.
    """
    return (
        costs.batch
        + rows * (costs.row + load.parts * load.fields * costs.cell)
        + vectors * costs.vector
        + places * costs.place
        + load.parameters * costs.parameter
    )


def memory(load: Load, cluster: Cluster, *, sharded: bool) -> tuple[float, float, float]:
    """Bytes: of the state on the disk of the machine that has most, of the working set, and of the rows, in memory."""
    share = 1 / cluster.machines
    touched = load.distinct(load.rows) * (4 * load.width + 4 + 8)
    rows = load.cells * 3 * 8  # keys, places, places of classes
    state = load.features * other()["whole"]
    return state * (share if sharded else 1), touched * (share if sharded else 1), rows * (share if sharded else 1)


def other() -> dict[str, float]:
    """Costs by unit of the stages that other benchmarks measure."""
    found = {}
    for name, (record, figure, units) in OTHER.items():
        figures = json.loads((RESULTS / f"{record}.json").read_text(encoding="utf-8"))["figures"]
        found[name] = next(kept["value"] for kept in figures if kept["name"] == figure) / units
    return found


def _most(machines: int) -> float:
    """The largest of so many standard normal numbers, about."""
    return float(np.sqrt(2 * np.log(max(machines, 1))))


def _seconds(body: Callable[[], object], times: int = 3) -> float:
    """The least seconds of the processor that a call took."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        body()
        found.append(time.process_time() - begun)
    return min(found)


def measured(rows: int = 4096) -> Costs:
    """Costs of a pass of training on one core of this machine."""
    torch.set_num_threads(1)
    learner, hour = of_size(rows, "float32"), Hour.draw(2 * rows, FIELDS)
    places_BS = torch.from_numpy(hour.inverse_BS)
    vectors_UD, labels_B = torch.zeros(len(hour.rows_U), WIDTH), torch.from_numpy(hour.labels_B.astype(np.float32))
    squares_U = torch.zeros(len(hour.rows_U))

    def graded(count: int) -> float:
        parts = (places_BS[:count],)
        return _seconds(lambda: learner.gradients(vectors_UD, parts, labels_B[:count], None))

    few, many = graded(64), graded(rows)
    row = (many - few) / (rows - 64)
    _, gradient_BFD = learner.gradients(vectors_UD, (places_BS[:rows],), labels_B[:rows], None)
    touched = Touched.of((places_BS[:rows],), learner.pooling)
    cell = _seconds(lambda: Touched.of((places_BS[:rows],), learner.pooling).sum(gradient_BFD)) / (rows * FIELDS)
    summed_ND, places_N = touched.sum(gradient_BFD), touched.places_N
    stepped = _seconds(lambda: stepped_on(learner, vectors_UD, squares_U, places_N, summed_ND))
    both_M = np.concatenate([places_N.numpy()] * 2)
    found = _seconds(lambda: np.unique(both_M)) / len(both_M)
    count = parameters(learner)
    flat, copy = torch.zeros(count), torch.zeros(count)
    step = _seconds(learner.optimiser.step) + 2 * _seconds(lambda: copy.copy_(flat))
    sent = torch.zeros(1 << 22)
    byte = 2 * _seconds(lambda: sent.clone().add_(sent)) / (4 * len(sent))
    return Costs(row, max(few - 64 * row, 0.0), cell, stepped / len(places_N), found, step / count, byte)


def stepped_on(
    learner: Learner, vectors_UD: torch.Tensor, squares_U: torch.Tensor, places_N: torch.Tensor, summed_ND: torch.Tensor
) -> None:
    """What a rank does for each distinct vector of a batch."""
    torch.searchsorted(places_N, places_N)
    squares_N = squares_U.index_select(0, places_N) + summed_ND.square().mean(1)
    step_ND = summed_ND / (learner.config.table_prior + squares_N).sqrt().unsqueeze(1)
    squares_U[places_N] = squares_N
    vectors_UD[places_N] = vectors_UD.index_select(0, places_N).sub_(step_ND, alpha=0.0)


def parameters(learner: Learner) -> int:
    """Numbers of the network."""
    return sum(parameter.numel() for parameter in learner.optimiser.parameters)


def predicted(costs: Costs, size: int, rows: int, batch_rows: int, count: int) -> float:
    """Seconds of the processor of rank 0 in a pass of `benchmarks.ranks`, the exchange included."""
    load = replace(Load(), features=TABLE_ROWS, rows=rows, parameters=count, batch_rows=batch_rows, parts=1)
    distinct = load.distinct(batch_rows)
    places = size * load.distinct(batch_rows / size) if size > 1 else 0.0
    seconds = of_part(costs, batch_rows / size, distinct, places, load)
    if size > 1:
        sent = 2 * (size - 1) / size * 4 * (count + WIDTH * distinct)
        seconds += 2 * sent * costs.byte
    return rows / batch_rows * seconds


def check(figures: Figures, costs: Costs, sizes: list[int], batches: tuple[int, ...], rows: int, count: int) -> None:
    """Compare with real ranks."""
    shares: dict[int, float] = {}
    for size in sizes:
        measured = measure(size, rows, batches, "float32", 2)
        for batch, (speed, _, cpu) in zip(batches, measured, strict=True):
            wanted, took = predicted(costs, size, rows, batch, count), rows / speed
            if size == 1:
                shares[batch] = cpu / took
            name = f"batch {batch}, ranks {size}"
            off = cpu / wanted - 1
            figures.add(f"{name}: processor", cpu, "s")
            figures.add(f"{name}: processor, predicted", wanted, "s")
            figures.add(f"{name}: off by", off, "share", f"within {WITHIN}", abs(off) <= WITHIN)
            clock = wanted * max(1.0, size / 2) / shares.get(batch, 1.0)
            figures.add(f"{name}: clock", took, "s")
            figures.add(f"{name}: clock, predicted of two cores as busy", clock, "s")


def told(figures: Figures, load: Load, cluster: Cluster, costs: Costs) -> None:
    """Report the hour of both designs."""
    figures.add("distinct features of the hour", load.distinct(load.rows), "features")
    figures.add("distinct features of a batch", load.distinct(load.batch_rows), "features")
    figures.add("distinct features of a part", load.distinct(load.batch_rows / cluster.machines), "features")
    for sharded in (False, True):
        design = "sharded" if sharded else "built"
        done = stages(load, cluster, costs, sharded=sharded)
        for stage in done:
            figures.add(f"{design}: {stage.name}", stage.seconds, "s")
        figures.add(f"{design}: the hour", sum(stage.seconds for stage in done), "s")
        figures.add(f"{design}: waiting for the network", sum(stage.network for stage in done), "s")
        figures.add(f"{design}: sent, a machine", sum(stage.sent for stage in done) / GB, "GB")
        steps = load.rows / load.batch_rows
        figures.add(f"{design}: sent a step, a machine", done[3].sent / steps / 1e6, "MB")
        figures.add(f"{design}: written, a machine", sum(stage.written for stage in done) / GB, "GB")
        state, working, rows = memory(load, cluster, sharded=sharded)
        figures.add(f"{design}: state on disk, a machine", state / GB, "GB")
        figures.add(f"{design}: working set in memory, a machine", working / GB, "GB")
        figures.add(f"{design}: rows in memory, a machine", rows / GB, "GB")
        figures.add(f"{design}: opening it afresh", state / other()["whole"] * other()["open"], "s")
    wishes = {
        "twice the cores": replace(cluster, cores=2 * cluster.cores),
        "a network four times as fast": replace(cluster, network=4 * cluster.network),
        "twice the machines": replace(cluster, machines=2 * cluster.machines),
        "machines that are alike": replace(cluster, unlike=0.0),
    }
    hour = partial(stages, load, costs=costs, sharded=True)
    for wish, better in wishes.items():
        figures.add(f"sharded, {wish}: the hour", sum(stage.seconds for stage in hour(cluster=better)), "s")
    larger = replace(load, batch_rows=4 * load.batch_rows)
    seconds = sum(stage.seconds for stage in stages(larger, cluster, costs, sharded=True))
    figures.add("sharded, batches four times as large: the hour", seconds, "s")


@click.command()
@click.option("--ranks", "sizes", default="1,2,4", show_default=True, help="Ranks to compare with; none leaves it out.")
@click.option("--batches", default="1024,4096,16384", show_default=True, help="Batch sizes of the comparison.")
@click.option("--check-rows", default=32768, show_default=True, help="Rows of a pass of the comparison.")
@click.option("--machines", default=64, show_default=True)
@click.option("--features", default=1e9, show_default=True)
@click.option("--rows", default=100e6, show_default=True, help="Rows of the hour.")
@click.option("--batch-rows", default=65536, show_default=True, help="Rows of a batch, of all machines together.")
def main(
    sizes: str, batches: str, check_rows: int, machines: int, features: float, rows: float, batch_rows: int
) -> None:
    """Measure what a unit costs, compare with real ranks, and simulate the hour."""
    figures, costs = Figures("schedule"), measured()
    for name, value in vars(costs).items():
        figures.add(f"cost of a {name}", value * 1e6, "us")
    count = parameters(of_size(64, "float32"))
    if sizes:
        asked = [int(size) for size in sizes.split(",")]
        check(figures, costs, asked, tuple(int(batch) for batch in batches.split(",")), check_rows, count)
    load = replace(Load(), features=features, rows=rows, batch_rows=batch_rows, parameters=count)
    told(figures, load, replace(Cluster(), machines=machines), costs)
    figures.finish()


if __name__ == "__main__":
    main()
