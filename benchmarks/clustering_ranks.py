"""Seconds to cluster the heads of all fields by one process and by ranks: one large field, and many fields.

Vectors are drawn around planted centres with heavy-tailed frequencies, as in `benchmarks.clustering`. "Cold" draws
clusters from nothing; "warm" is the hour after, with vectors that moved a bit. Rank 0 is this process; ranks have one
thread each, and giving the others their features is in the time. Rounds of one process and of ranks take turns, so that
a neighbour on the machine disturbs both; the best round of each counts. The codes of both are compared.

    python -m benchmarks.clustering_ranks
    python -m benchmarks.clustering_ranks --features 5000000 --ranks 4
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.clustering import DRIFT, WIDTH, Features
from benchmarks.record import Figures
from saec.compression.codebooks import Centroids
from saec.compression.fields import Clusters, cluster_fields
from saec.compression.together import CLUSTER, clustering
from saec.config import Config
from saec.train import ranks
from saec.train.followers import accompanied

if TYPE_CHECKING:
    from saec.train.ranks import Duties

CODEWORDS, CENTRES, MANY = 255, 300, 24


class Case(NamedTuple):
    """Heads of some fields in two hours."""

    config: Config
    fields_H: NDArray[np.int64]
    weights_H: NDArray[np.float32]
    vectors_HD: NDArray[np.float32]
    later_HD: NDArray[np.float32]

    @classmethod
    def planted(cls, features: int, fields: int) -> Case:
        """So many features, field n with 1 / (n + 1) of the first one's."""
        found = Features.planted(features, CENTRES)
        shares_F = 1 / np.arange(1, fields + 1)
        ends_F = np.round(np.cumsum(shares_F) / shares_F.sum() * features).astype(np.int64)
        fields_H = np.searchsorted(ends_F, np.arange(features), side="right")
        moved_HD = np.random.default_rng(1).standard_normal((features, WIDTH), np.float32)
        return cls(settings(fields), fields_H, found.frequency_N, found.vectors_ND, found.vectors_ND + DRIFT * moved_HD)

    def cold(self) -> Clusters:
        """Clusters from nothing."""
        fields = len(self.config.fields)
        nothing = Centroids.empty(fields, WIDTH), np.full(fields, np.inf)
        no_codes_H = np.zeros(len(self.fields_H), np.int16)
        return cluster_fields(
            self.config, self.vectors_HD, self.fields_H, self.weights_H, *nothing, CODEWORDS, no_codes_H
        )

    def warm(self, before: Clusters) -> Clusters:
        """Clusters from those of the hour before."""
        standing = before.centroids, before.drawn_errors_F, CODEWORDS, before.codes_H
        return cluster_fields(self.config, self.later_HD, self.fields_H, self.weights_H, *standing)


def settings(fields: int) -> Config:
    """Settings of so many fields; only clustering is done by them."""
    return Config.model_validate(
        {
            "threads": 1,
            "data": {"source": "nowhere", "time_column": "time", "label_column": "clicked"},
            "fields": [{"name": f"field{number}"} for number in range(fields)],
            "model": {"width": WIDTH},
        }
    )


def followed(fields: int) -> Duties:
    """What the other ranks do."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    return {CLUSTER: clustering(settings(fields))}


@contextmanager
def alone() -> Iterator[None]:
    """Have this process forget that it leads ranks."""
    leading, ranks.current = ranks.current, None
    try:
        yield
    finally:
        ranks.current = leading


def timed(case: Case, warm_from: Clusters | None) -> tuple[Clusters, float, float]:
    """What it came to, seconds of the wall, and seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = case.cold() if warm_from is None else case.warm(warm_from)
    return found, time.perf_counter() - wall, time.process_time() - cpu


def measure(figures: Figures, name: str, case: Case, rounds: int) -> None:
    """Time one process and the ranks that this process leads, in turns."""
    if ranks.current is None:
        raise click.UsageError("more than one rank is needed")
    before, size = None, ranks.current.size
    for start in ("cold", "warm"):
        took: dict[int, list[tuple[float, float, float]]] = {1: [], size: []}
        for _ in range(rounds):
            with alone():
                by_one, wall, cpu = timed(case, before)
            took[1].append((wall, cpu, 0.0))
            waited = ranks.current.waited
            by_all, wall, cpu = timed(case, before)
            took[size].append((wall, cpu, (ranks.current.waited - waited) / wall))
            if by_one.codes_H.tobytes() != by_all.codes_H.tobytes():
                raise click.ClickException(f"{name}, {start}: ranks came to other codes than one process")
        best = {number: min(wall for wall, _, _ in rows) for number, rows in took.items()}
        cpus = {number: min(cpu for _, cpu, _ in rows) for number, rows in took.items()}
        for number in took:
            figures.add(f"{name}, {start}, ranks {number}", best[number], "s")
            figures.add(f"{name}, {start}, ranks {number}, CPU of rank 0", cpus[number], "s")
        share = statistics.median(share for _, _, share in took[size])
        figures.add(f"{name}, {start}, ranks {size}, exchanging and waiting", share, "share")
        figures.add(f"{name}, {start}, 1 over {size} ranks", best[1] / best[size], "times")
        figures.add(f"{name}, {start}, 1 over {size} ranks, CPU of rank 0", cpus[1] / cpus[size], "times")
        before = by_one


@click.command()
@click.option("--ranks", "size", type=click.IntRange(2), default=2, show_default=True)
@click.option("--features", default=1_000_000, show_default=True, help="Of the heads of all fields.")
@click.option("--rounds", default=5, show_default=True)
def main(size: int, features: int, rounds: int) -> None:
    """Time both cases, and keep the figures."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    figures = Figures("clustering_ranks")
    for fields in (1, MANY):
        with accompanied(size, "benchmark", partial(followed, fields)):
            name = f"{features:,} features in {fields} field{'s' if fields > 1 else ''}"
            measure(figures, name, Case.planted(features, fields), rounds)
    figures.finish()


if __name__ == "__main__":
    main()
