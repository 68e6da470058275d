"""Seconds to cluster the heads of all fields, and to index them, by one process and by ranks.

Clustered are one large field, and many fields; indexed is a head of several million features. Vectors are drawn around
planted centres with heavy-tailed frequencies, as in `benchmarks.clustering`. "Cold" draws clusters from nothing; "warm"
is the hour after, with vectors that moved a bit. Rank 0 is this process; ranks have one thread each, and giving the
others their features is in the time. Rounds of one process and of ranks take turns, so that a neighbour on the machine
disturbs both; the best round of each counts. The bytes of both are compared.

    python -m benchmarks.clustering_ranks
    python -m benchmarks.clustering_ranks --features 5000000 --ranks 4
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.clustering import DRIFT, WIDTH, Features
from benchmarks.record import Figures
from saec.compression.codebooks import Centroids
from saec.compression.fields import Clusters, cluster_fields
from saec.compression.index import RetrievalIndex
from saec.compression.index_together import INDEX, built_together, indexing
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
    return {CLUSTER: clustering(settings(fields)), INDEX: indexing}


def bytes_of_clusters(found: Clusters) -> bytes:
    """Centroids and codes."""
    return found.centroids.vectors_CD.tobytes() + found.codes_H.tobytes()


@contextmanager
def alone() -> Iterator[None]:
    """Have this process forget that it leads ranks."""
    leading, ranks.current = ranks.current, None
    try:
        yield
    finally:
        ranks.current = leading


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it came to, seconds of the wall, and seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    return work(), time.perf_counter() - wall, time.process_time() - cpu


def compare(figures: Figures, name: str, rounds: int, work: Callable[[], Any], bytes_of: Callable[[Any], bytes]) -> Any:
    """Time work by one process and by the ranks that this process leads, in turns; returns what it came to."""
    if ranks.current is None:
        raise click.UsageError("more than one rank is needed")
    took: dict[int, list[tuple[float, float, float]]] = {1: [], (size := ranks.current.size): []}
    for _ in range(rounds):
        with alone():
            by_one, wall, cpu = timed(work)
        took[1].append((wall, cpu, 0.0))
        waited = ranks.current.waited
        by_all, wall, cpu = timed(work)
        took[size].append((wall, cpu, (ranks.current.waited - waited) / wall))
        if bytes_of(by_one) != bytes_of(by_all):
            raise click.ClickException(f"{name}: ranks came to other bytes than one process")
    best = {number: min(wall for wall, _, _ in rows) for number, rows in took.items()}
    cpus = {number: min(cpu for _, cpu, _ in rows) for number, rows in took.items()}
    for number in took:
        figures.add(f"{name}, ranks {number}", best[number], "s")
        figures.add(f"{name}, ranks {number}, CPU of rank 0", cpus[number], "s")
    share = statistics.median(share for _, _, share in took[size])
    figures.add(f"{name}, ranks {size}, exchanging and waiting", share, "share")
    figures.add(f"{name}, 1 over {size} ranks", best[1] / best[size], "times")
    figures.add(f"{name}, 1 over {size} ranks, CPU of rank 0", cpus[1] / cpus[size], "times")
    return by_one


def indexed(keys: int) -> Callable[[], RetrievalIndex]:
    """What builds an index of so many features."""
    random = np.random.default_rng(1)
    keys_N, codes_N = random.integers(1, 2**64, keys, np.uint64), random.integers(0, CODEWORDS, keys).astype(np.int16)
    return partial(RetrievalIndex.build, keys_N, codes_N, code_bits=8, fingerprint_bits=8, by_shard=built_together)


@click.command()
@click.option("--ranks", "size", type=click.IntRange(2), default=2, show_default=True)
@click.option("--features", default=1_000_000, show_default=True, help="Of the heads of all fields.")
@click.option("--keys", default=4_000_000, show_default=True, help="Of the index.")
@click.option("--rounds", default=5, show_default=True)
def main(size: int, features: int, keys: int, rounds: int) -> None:
    """Time all of it, and keep the figures."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    figures = Figures("clustering_ranks")
    for fields in (1, MANY):
        with accompanied(size, "benchmark", partial(followed, fields)):
            case, many = Case.planted(features, fields), "s" if fields > 1 else ""
            name = f"{features:,} features in {fields} field{many}"
            cold = compare(figures, f"{name}, cold", rounds, case.cold, bytes_of_clusters)
            compare(figures, f"{name}, warm", rounds, partial(case.warm, cold), bytes_of_clusters)
    with accompanied(size, "benchmark", partial(followed, 1)):
        compare(
            figures,
            f"index of {keys:,} features",
            rounds,
            indexed(keys),
            lambda index: index.tensors()["cells"].tobytes(),
        )
    figures.finish()


if __name__ == "__main__":
    main()
