"""Measures rows a second of a training pass, by one process and by ranks, for several batch sizes.

The hour, the network and the table are those of `benchmarks.training`. Rank 0 is this process; ranks have one thread
each, and a pass includes giving the others the network, the working set and their rows. The first pass warms up;
figures are medians of the others. The share of communication is rank 0's time in collectives, waiting for the slower
rank included; on busy cores it therefore says as much about them as about the network. The ceiling is the same number
of processes that share nothing and train at the same time: it is what the machine's cores give together.

    python -m benchmarks.ranks                            # 1 and 2 ranks, batches of 256 to 16,384
    python -m benchmarks.ranks --ranks 4 --rows 65536
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import TYPE_CHECKING

import click
import numpy as np
import torch

from benchmarks.record import Figures
from benchmarks.training import SEED, TABLE_ROWS, WIDTH, Hour, Setting
from saec.config import TrainingConfig
from saec.model.table import EmbeddingTable
from saec.train import ranks
from saec.train.batches import Pooling
from saec.train.followers import accompanied
from saec.train.learner import Learner
from saec.train.passes import TRAIN, training

if TYPE_CHECKING:
    from saec.train.ranks import Duties

FIELDS, HIDDEN = 24, [400, 400, 400]
_together: Barrier


def measure(
    size: int, rows: int, batches: tuple[int, ...], precision: str, rounds: int
) -> list[tuple[float, float, float]]:
    """For each batch size: rows a second, the share of time in collectives, and CPU seconds of rank 0 a pass."""
    hour = Hour.draw(rows, FIELDS)
    with accompanied(size, "benchmark", partial(followed, batches[0], precision)):
        return [timed(hour, of_size(batch_rows, precision), rounds) for batch_rows in batches]


def apart(size: int, rows: int, batches: tuple[int, ...], precision: str, rounds: int) -> list[float]:
    """For each batch size: rows a second of so many independent processes together."""
    context = get_context("spawn")
    with ProcessPoolExecutor(size, context, _begin, (context.Barrier(size),)) as pool:
        asked = [pool.submit(_beside_others, rows, batches, precision, rounds) for _ in range(size)]
        return [sum(speeds) for speeds in zip(*(one.result() for one in asked), strict=True)]


def _begin(barrier: Barrier) -> None:
    """A barrier at which independent processes wait for each other before they start a batch size."""
    global _together  # noqa: PLW0603 - a barrier goes to processes only as they start
    _together = barrier


def _beside_others(rows: int, batches: tuple[int, ...], precision: str, rounds: int) -> list[float]:
    hour, speeds = Hour.draw(rows, FIELDS), []
    for batch_rows in batches:
        learner = of_size(batch_rows, precision)
        _together.wait()
        speeds.append(timed(hour, learner, rounds)[0])
    return speeds


def of_size(batch_rows: int, precision: str) -> Learner:
    """A learner of the network that is timed, by one thread."""
    torch.set_num_threads(1)
    setting = Setting(
        Hour(np.zeros(0, np.int64), np.zeros((0, FIELDS), np.int64), np.zeros(0, np.uint8)), batch_rows, FIELDS, HIDDEN
    )
    config = TrainingConfig.model_validate({"batch_rows": batch_rows, "precision": precision})
    return Learner(setting.model("deepfm"), Pooling.of(range(FIELDS)), config)


def followed(batch_rows: int, precision: str) -> Duties:
    """What the other ranks do."""
    return {TRAIN: training(of_size(batch_rows, precision))}


def timed(hour: Hour, learner: Learner, rounds: int) -> tuple[float, float, float]:
    """Rows a second of passes with this learner, the share of them in collectives, CPU seconds a pass."""
    table = EmbeddingTable(WIDTH, np.arange(1, TABLE_ROWS + FIELDS + 1, dtype=np.uint64), SEED)
    found = []
    for _ in range(rounds + 1):
        waited, started, cpu = ranks.current.waited if ranks.current else 0.0, time.perf_counter(), time.process_time()
        working = table.take(hour.rows_U)
        places_BS = torch.from_numpy(working.locate(hour.rows_U)[hour.inverse_BS])
        learner.fit(working, places_BS, hour.labels_B)
        table.put(working)
        took = time.perf_counter() - started
        waited = (ranks.current.waited if ranks.current else 0.0) - waited
        found.append((len(hour.labels_B) / took, waited / took, time.process_time() - cpu))
    return tuple(map(statistics.median, zip(*found[1:], strict=True)))


@click.command()
@click.option("--ranks", "size", default=2, show_default=True, help="Ranks beside one process.")
@click.option("--rows", default=32768, show_default=True, help="Rows of a pass.")
@click.option("--batches", default="256,1024,4096,16384", show_default=True, help="Batch sizes.")
@click.option("--precision", default="float32", show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Passes a figure.")
def main(size: int, rows: int, batches: str, precision: str, rounds: int) -> None:
    """Time one process and ranks, and keep the figures."""
    asked = tuple(int(batch) for batch in batches.split(","))
    results = {number: measure(number, rows, asked, precision, rounds) for number in (1, size)}
    ceilings = apart(size, rows, asked, precision, rounds)
    figures = Figures("ranks")
    for place, batch in enumerate(asked):
        for number, measured in results.items():
            speed, share, cpu = measured[place]
            figures.add(f"batch {batch}, ranks {number}", speed, "rows/s")
            figures.add(f"batch {batch}, ranks {number}, CPU of rank 0", cpu, "s")
            if number > 1:
                figures.add(f"batch {batch}, ranks {number}, in collectives", share, "share")
        figures.add(f"batch {batch}, {size} ranks over 1", results[size][place][0] / results[1][place][0], "ratio")
        figures.add(f"batch {batch}, {size} that share nothing", ceilings[place], "rows/s")
        figures.add(f"batch {batch}, {size} that share nothing over 1", ceilings[place] / results[1][place][0], "ratio")
    figures.finish()


if __name__ == "__main__":
    main()
