"""Checks a GPU: whether `device: cuda` computes correctly and repeatably, and how fast it is compared with others.

Written for a machine that is lent for a quarter of an hour: it needs no build, no network and no data, leaves out what
no time is left for (`--seconds`), and says so. `--device cpu` is the same on the processor.

- Correct: the losses of 200 batches of one hour on the device and on the processor, from the same start. Beside them
  are the losses from a start that differs by a ten-millionth: no other order of sums can be expected to come closer.
- Repeatable: the same hour again must give the same bytes, and so must a pass that is not replayed as a graph.
- Rows a second of a pass over an hour's working set, batches of 256 to 65,536, DeepFM of 400-400-400, float32; beside
  it `nn.Embedding` with fused Adam or with SparseAdam, as example code has it.
- Beside FBGEMM's table-batched embeddings, the kernel that TorchRec's fused and sharded tables run on: the same rows,
  network and AdamW, row-wise Adagrad in the backward pass. Its sums start at our prior, its eps is 0 and its gradients
  are those of the sum of the losses: then its losses are ours.
- Whole simulated hours of the pipeline, by its defaults and in batches of 4,096: seconds of the steps, the served
  hour's log loss by the device and by the processor, and the same bytes twice.
- Clustering of a million vectors, cold, beside faiss and cuML, where they are installed.

    pip install torchrec==1.8.0 fbgemm-gpu==1.8.0 faiss-gpu-cu12 cuml-cu12   # each where it can be had
    python -m benchmarks.gpu                                                 # within eight minutes
    python -m benchmarks.gpu --device cpu --batches 4096 --vectors 100000
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.hours import Timed, configured, timed
from benchmarks.record import Figures
from benchmarks.training import SEED, WIDTH, Hour, Setting, embedding_layer
from saec import device
from saec.compression.clustering import assign, cluster
from saec.config import TrainingConfig
from saec.data.simulate import Simulation, simulate_hours
from saec.hours import Hour as ClockHour
from saec.model.networks import CtrNetwork
from saec.model.table import WorkingSet, first_values
from saec.train.adamw import AdamW
from saec.train.batches import Pooling
from saec.train.learner import Learner
from saec.train.tensors import learner_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from saec.config import Config

FIELDS, HIDDEN, CODEWORDS = 24, [400, 400, 400], 255
PROCESSOR = torch.device("cpu")
STEPS, STEP_ROWS = 200, 256
FIRST_STEPS = 10
"""Batches after which two orders of sums have not grown apart: AdamW's first steps follow the sign of a gradient."""
FIRST, HOURS = ClockHour.parse("2026-01-01T12"), 6
"""Simulated hours of the pipeline."""
ON_DEVICE = SAME_LOSS = 1e-5
"""How far a GPU's losses may be from the processor's, and FBGEMM's from ours, in the first batches."""


@contextmanager
def on(where: torch.device) -> Iterator[None]:
    """Learners are made, and codewords searched, on a device."""
    before, device.current = device.current, str(where)
    try:
        yield
    finally:
        device.current = before


def setting(rows: int, batch_rows: int, hidden: list[int]) -> Setting:
    """An hour of so many rows."""
    return Setting(Hour.draw(rows, FIELDS), batch_rows, FIELDS, hidden)


def working_set(hour: Hour) -> WorkingSet:
    """The hour's vectors at their start."""
    vectors_UD = first_values(hour.rows_U.astype(np.uint64) + 1, WIDTH, SEED)
    return WorkingSet(hour.rows_U, torch.from_numpy(vectors_UD), torch.zeros(len(hour.rows_U)))


class Ours:
    """Saec's learner over the hour's working set."""

    def __init__(self, asked: Setting, where: torch.device, precision: str = "float32") -> None:
        """A learner on a device."""
        config = TrainingConfig.model_validate({"batch_rows": asked.batch_rows, "precision": precision})
        with on(where):
            self.learner = Learner(asked.model("deepfm"), Pooling.of(range(FIELDS)), config)
        self.hour, self.working = asked.hour, working_set(asked.hour)
        self.places_BS = torch.from_numpy(self.hour.inverse_BS)

    def pass_(self, rows: slice = slice(None)) -> float:
        """Train on some rows; returns their mean loss."""
        return self.learner.fit(self.working, self.places_BS[rows], self.hour.labels_B[rows]).loss

    def arrays(self) -> bytes:
        """All that was learnt."""
        state = learner_state(self.learner)
        return b"".join(array.tobytes() for array in (*state.values(), self.working.vectors_UD.numpy()))


class Fused:
    """The same over FBGEMM's table-batched embeddings."""

    def __init__(self, asked: Setting, where: torch.device) -> None:
        """All of the working set in one table on a device.

        Raises:
            ImportError: where FBGEMM is not installed, or is not of this torch.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from fbgemm_gpu import split_table_batched_embeddings_ops_training as training  # noqa: PLC0415
            from fbgemm_gpu.split_embedding_configs import EmbOptimType  # noqa: PLC0415
            from fbgemm_gpu.split_table_batched_embeddings_ops_common import PoolingMode  # noqa: PLC0415

        config, self.hour, self.where = TrainingConfig(), asked.hour, where
        started = working_set(asked.hour)
        there, by = ("HOST", "CPU") if where.type == "cpu" else ("DEVICE", "CUDA")
        place = training.EmbeddingLocation[there], training.ComputeDevice[by]
        self.table = training.SplitTableBatchedEmbeddingBagsCodegen(
            [(*started.vectors_UD.shape, *place)],
            feature_table_map=[0] * FIELDS,
            optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=config.table_learning_rate,
            eps=0.0,
            pooling_mode=PoolingMode.SUM,
            device=where,
        )
        self.table.split_embedding_weights()[0].data.copy_(started.vectors_UD)
        self.table.split_optimizer_states()[0][0].fill_(config.table_prior)
        self.network: CtrNetwork = asked.model("deepfm").to(where)
        self.optimiser = AdamW(self.network.parameters(), config.dense_learning_rate, config.weight_decay)
        self.batch_rows = asked.batch_rows
        self.places_BS = torch.from_numpy(self.hour.inverse_BS)
        self.labels_B = torch.from_numpy(self.hour.labels_B.astype(np.float32))
        rate = (float(self.labels_B[: self.batch_rows].sum()) + 0.5) / (min(self.batch_rows, len(self.labels_B)) + 1)
        with torch.no_grad():  # as ours starts
            self.network.bias.fill_(float(np.log(rate / (1 - rate))))

    def pass_(self, rows: slice = slice(None)) -> float:
        """Train on some rows; returns their mean loss."""
        places_BS, labels_B, total = self.places_BS[rows], self.labels_B[rows], 0.0
        for start in range(0, len(labels_B), self.batch_rows):
            batch = slice(start, start + self.batch_rows)
            total += self._step(places_BS[batch].to(self.where), labels_B[batch].to(self.where))
        return total / len(labels_B)

    def _step(self, places_BS: Tensor, labels_B: Tensor) -> float:
        offsets = torch.arange(places_BS.numel() + 1, device=self.where)
        pooled = self.table(places_BS.T.flatten(), offsets)
        vectors_BFD = pooled.detach().view(len(labels_B), FIELDS, WIDTH).requires_grad_()
        loss = binary_cross_entropy_with_logits(self.network(vectors_BFD), labels_B)
        self.optimiser.forget_gradients()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        assert vectors_BFD.grad is not None
        pooled.backward((vectors_BFD.grad * len(labels_B)).view_as(pooled))
        return loss.item() * len(labels_B)


def curve(contestant: Ours | Fused, steps: int) -> NDArray[np.float64]:
    """The loss of each batch."""
    return np.array([contestant.pass_(slice(step * STEP_ROWS, (step + 1) * STEP_ROWS)) for step in range(steps)])


def right(figures: Figures, where: torch.device, steps: int) -> None:
    """Parity with the processor and with FBGEMM, and the same bytes twice."""
    asked = setting(steps * STEP_ROWS, STEP_ROWS, [64, 32])
    here, there, again, nudged = (Ours(asked, place) for place in (PROCESSOR, where, where, PROCESSOR))
    nudged.working.vectors_UD.mul_(1 + 1e-7)
    losses, on_device, of_nudged = curve(here, steps), curve(there, steps), curve(nudged, steps)
    most = 0.0 if where.type == "cpu" else ON_DEVICE
    apart = _apart(on_device, losses, FIRST_STEPS)
    figures.add(
        f"losses of {FIRST_STEPS} batches, furthest from the processor's", apart, "nats", f"<= {most}", apart <= most
    )
    figures.add(f"losses of {steps} batches, furthest from the processor's", _apart(on_device, losses, steps), "nats")
    moved = _apart(of_nudged, losses, steps)
    figures.add(f"losses of {steps} batches, the processor's from a start changed by 1e-7", moved, "nats")
    curve(again, steps)
    same = there.arrays() == again.arrays()
    figures.add("the same bytes twice", str(same), "", "True", same)
    if where.type == "cuda":
        whole, one_by_one = Ours(asked, where), Ours(asked, where)
        whole.pass_()
        with patch("saec.train.replayed.SINGLY", steps):
            one_by_one.pass_()
        same = whole.arrays() == one_by_one.arrays()
        figures.add("the same bytes by a graph and kernel by kernel", str(same), "", "True", same)
    try:
        fused = _apart(curve(Fused(asked, where), steps), on_device, FIRST_STEPS)
    except (ImportError, OSError) as error:
        figures.add("FBGEMM", f"left out: {_line(error)}", "")
        return
    named = f"losses of {FIRST_STEPS} batches, FBGEMM's furthest from ours there"
    figures.add(named, fused, "nats", f"<= {SAME_LOSS}", fused <= SAME_LOSS)


def _apart(some: NDArray[np.float64], others: NDArray[np.float64], steps: int) -> float:
    return float(np.abs(some - others)[:steps].max())


def speed(figures: Figures, where: torch.device, batches: list[int], rounds: int, left: Callable[[], float]) -> None:
    """Rows a second of passes of some batches."""
    for batch_rows in batches:
        count = 64 if batch_rows < 4096 else 8
        asked = setting(count * batch_rows, batch_rows, HIDDEN)
        for name, make in _contestants(asked, where).items():
            if left() <= 0:
                figures.add(f"batch {batch_rows}: {name}", "left out: no time", "")
                continue
            try:
                run, rows = make()
            except (ImportError, OSError) as error:
                figures.add(f"batch {batch_rows}: {name}", f"left out: {_line(error)}", "")
                continue
            found = [_clocked(run, where) for _ in range(rounds + 1)][1:]
            figures.add(f"batch {batch_rows}: {name}", rows / statistics.median(found), "rows/s")


def _contestants(asked: Setting, where: torch.device) -> dict[str, Callable[[], tuple[Callable[[], Any], int]]]:
    """What is timed: each makes a pass to run, and says how many rows it sees."""
    rows = len(asked.hour.labels_B)

    def plain(*, sparse: bool) -> tuple[Callable[[], Any], int]:
        run = embedding_layer(asked, "deepfm", sparse=sparse, fused=True, where=where.type)
        return run, run()

    return {
        "saec": lambda: (Ours(asked, where).pass_, rows),
        "saec, bfloat16": lambda: (Ours(asked, where, "bfloat16").pass_, rows),
        "FBGEMM": lambda: (Fused(asked, where).pass_, rows),
        "nn.Embedding, fused Adam": lambda: plain(sparse=False),
        "sparse nn.Embedding, SparseAdam": lambda: plain(sparse=True),
    }


def whole_hours(figures: Figures, where: torch.device, rows: int, left: Callable[[], float]) -> None:
    """The pipeline's hours on the device and on the processor."""
    forms: dict[str, dict[str, dict[str, Any]]] = {
        "as by default": {"training": {"batch_rows": 256}},
        "batches of 4096, 400-400-400": {"training": {"batch_rows": 4096}, "model": {"hidden": HIDDEN}},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate_hours(Simulation(rows_per_hour=rows), FIRST, HOURS, folder / "data")
        for form, changed in forms.items():
            done: list[Timed] = []
            for number, place in enumerate(("cpu", where.type, where.type)):
                if left() <= 0:
                    figures.add(f"hours {form}", "left out: no time", "")
                    return
                config = configured("quickstart", folder / f"{form}-{number}", folder / "data")
                done.append(timed(_changed(config, place, changed), (FIRST, FIRST + HOURS - 1), time.perf_counter))
            _told(figures, form, where, *done)


def _changed(config: Config, place: str, changed: dict[str, dict[str, Any]]) -> Config:
    """Settings of a device, with some of training and model."""
    sections = {name: getattr(config, name).model_copy(update=values) for name, values in changed.items()}
    return config.model_copy(update={"device": place, **sections})


def _told(figures: Figures, form: str, where: torch.device, processor: Timed, there: Timed, again: Timed) -> None:
    """Times of the later half of the hours, and log losses of all whole hours that were served."""
    for name, hours in (("processor", processor), (where.type, there)):
        later = [spent for _, spent in hours[HOURS // 2 :]]
        for step in ("train", "cluster", "retrain"):
            seconds = statistics.median(spent[step] for spent in later)
            figures.add(f"hours {form}: {name}, {step}", seconds, "s")
        figures.add(f"hours {form}: {name}, all", statistics.median(sum(spent.values()) for spent in later), "s")
    same = [row.checkpoint for row, _ in there] == [row.checkpoint for row, _ in again]
    figures.add(f"hours {form}: the same bytes twice", str(same), "", "True", same)
    for model in ("original", "version"):
        of_both = [_served_loss(hours, model) for hours in (processor, there)]
        figures.add(f"hours {form}: log loss of the served hours, {model}, processor", of_both[0], "nats")
        figures.add(f"hours {form}: log loss of the served hours, {model}, {where.type}", of_both[1], "nats")


def _served_loss(hours: Timed, model: str) -> float:
    """Mean over the rows of all hours that a version of the hour before scored."""
    records = [row.record or {} for row, _ in hours[1:]]
    rows = [record["rows"] for record in records]
    return float(np.average([record[f"logloss_{model}_served"] for record in records], weights=rows))


def clusters(figures: Figures, where: torch.device, count: int, left: Callable[[], float]) -> None:
    """Seconds and relative errors of clusterers on planted clusters with noise."""
    draw = np.random.default_rng(SEED)
    centres_KD = draw.normal(size=(2 * CODEWORDS, WIDTH)).astype(np.float32)
    vectors_ND = centres_KD[draw.integers(0, len(centres_KD), count)]
    vectors_ND += draw.normal(0, 0.3, vectors_ND.shape).astype(np.float32)
    for name, body in (
        ("saec", lambda: _ours(vectors_ND, where)),
        ("saec, processor", lambda: _ours(vectors_ND, PROCESSOR)),
        ("faiss", lambda: _faiss(vectors_ND, where)),
        ("cuML", lambda: _cuml(vectors_ND)),
    ):
        if left() <= 0:
            figures.add(f"{count} vectors: {name}", "left out: no time", "")
            continue
        try:
            centroids_KD = body()  # warms up, and comes to the same
            seconds = _clocked(body, where)
        except ImportError as error:
            figures.add(f"{count} vectors: {name}", f"left out: {_line(error)}", "")
            continue
        error = float(assign(vectors_ND, centroids_KD)[1].mean() / vectors_ND.var(0).sum())
        figures.add(f"{count} vectors: {name}", seconds, "s")
        figures.add(f"{count} vectors: {name}, relative error", error, "share")


def _ours(vectors_ND: NDArray[np.float32], where: torch.device) -> NDArray[np.float32]:
    with on(where):
        return cluster(vectors_ND, np.ones(len(vectors_ND), np.float32), CODEWORDS)


def _faiss(vectors_ND: NDArray[np.float32], where: torch.device) -> NDArray[np.float32]:
    import faiss  # noqa: PLC0415

    if where.type != "cpu" and not getattr(faiss, "get_num_gpus", int)():
        raise ImportError("faiss is built without CUDA")
    kmeans = faiss.Kmeans(WIDTH, CODEWORDS, niter=20, seed=SEED, gpu=where.type != "cpu", max_points_per_centroid=10**9)
    kmeans.train(vectors_ND)
    found: NDArray[np.float32] = kmeans.centroids
    return found


def _cuml(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    from cuml.cluster import KMeans  # noqa: PLC0415

    found: NDArray[np.float32] = KMeans(CODEWORDS, max_iter=20, random_state=SEED).fit(vectors_ND).cluster_centers_
    return np.asarray(found, np.float32)


def _clocked(body: Callable[[], Any], where: torch.device) -> float:
    """Seconds by the clock, the device's own work included; of the processor where that is the device."""
    if where.type == "cpu":
        begun = time.process_time()
        body()
        return time.process_time() - begun
    begun = time.perf_counter()
    body()
    torch.cuda.synchronize(where)
    return time.perf_counter() - begun


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:80]


@click.command()
@click.option("--device", "name", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--batches", default="256,4096,16384,65536", show_default=True, help="Batch sizes.")
@click.option("--steps", default=STEPS, show_default=True, help="Batches of the comparison of losses.")
@click.option("--vectors", default=1_000_000, show_default=True, help="Vectors to cluster; 0 leaves it out.")
@click.option("--hour-rows", default=20_000, show_default=True, help="Rows of the pipeline's hours; 0 leaves them out.")
@click.option("--rounds", default=3, show_default=True, help="Passes a figure.")
@click.option("--seconds", default=420.0, show_default=True, help="Begin nothing more after so long.")
def main(name: str, batches: str, steps: int, vectors: int, hour_rows: int, rounds: int, seconds: float) -> None:
    """Check a device, and keep the figures."""
    ends = time.monotonic() + seconds
    where = torch.device(device.chosen(name))
    device.deterministic()
    if where.type == "cpu":
        torch.set_num_threads(1)
    figures = Figures("gpu")
    gpu = torch.cuda.get_device_name(where) if where.type == "cuda" else "processor"
    figures.add("device", f"{gpu}, torch {torch.__version__}", "")
    right(figures, where, steps)
    speed(figures, where, [int(rows) for rows in batches.split(",") if rows], rounds, lambda: ends - time.monotonic())
    if hour_rows:
        whole_hours(figures, where, hour_rows, lambda: ends - time.monotonic())
    if vectors:
        clusters(figures, where, vectors, lambda: ends - time.monotonic())
    figures.finish()


if __name__ == "__main__":
    main()
