"""Clusters fields over ranks: whole fields side by side, and a field that is too large for that by all ranks at once.

A thin layer over the clustering of one field (field.py), which does not know of it but for whom it asks sums.
Decisions:
- A field of more than one rank's share of all features is cut into contiguous runs of blocks, one for each rank. Rank 0
  clusters it, and has each step of it done by every rank on its own blocks. The others' sums come back block by block
  and are added up in the order of blocks (blocks.py), so the bytes are those of one process for any number of ranks.
- All other fields are given out whole, the largest first, each to the rank that has least to do.
- Rank 0 checks vectors before it gives them away: what is wrong with them is the hour's fault, not another rank's.
- Without ranks all of this is a loop over fields, on as many threads as the settings give.

Shapes: F fields, H features of a field's head, N features of a rank's blocks, K codewords, D width, G blocks.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch

from saec.compression.blocks import BLOCK, Blocks, Step, Totals, added, least_weight
from saec.compression.clustering import check
from saec.compression.field import FieldClusters, Head, clusters_of
from saec.failpoints import reached
from saec.train import ranks as of_ranks
from saec.train.ranks import threads_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from saec.config import Config
    from saec.train.ranks import Duty, Ranks

CLUSTER = "cluster"
"""What rank 0 asks the others for."""
_DONE, _GUESS, _CODES = 0, -1, -2
"""What rank 0 wants of a field that is cut, besides the steps of blocks.py."""


def clustered(config: Config, sizes_F: Sequence[int], head_of: Callable[[int], Head]) -> list[FieldClusters]:
    """The clusters of every field.

    Args:
        config: settings of the pipeline.
        sizes_F: features of each field's head.
        head_of: gives the head of a field, which is taken for as long as it is needed.

    Raises:
        TrainingError: as `clusters_of` does; reason "rank-lost", when a rank is.
    """
    ranks = of_ranks.current
    if ranks is None:
        return _on_threads(config, config.threads, head_of, range(len(sizes_F)))
    given = Given.out(sizes_F, ranks.size)
    found: dict[int, FieldClusters] = {}
    with ranks.together(CLUSTER), threads_shared(ranks.size) as threads:
        for rank, whole in enumerate(given.whole[1:], 1):
            ranks.send(torch.tensor([len(given.cut), len(whole)]), rank)
        for field in given.cut:
            head = _checked(config, head_of(field))
            with Dealt(ranks, head) as features:
                found[field] = clusters_of(config, head, features)
        for rank, whole in enumerate(given.whole[1:], 1):
            for field in whole:
                _send_head(ranks, _checked(config, head_of(field)), rank)
        own = _on_threads(config, threads, head_of, given.whole[0])
        found |= dict(zip(given.whole[0], own, strict=True))
        reached("ranks.clusters-led")
        for rank, whole in enumerate(given.whole[1:], 1):
            for field in whole:
                found[field] = _receive_clusters(ranks, sizes_F[field], rank)
    return [found[field] for field in range(len(sizes_F))]


def clustering(config: Config) -> Duty:
    """What the others do when rank 0 clusters."""

    def follow(ranks: Ranks) -> None:
        cut, whole = ranks.receive(torch.zeros(2, dtype=torch.int64), 0).tolist()
        with threads_shared(ranks.size) as threads:
            for _ in range(cut):
                _serve_part(ranks)
            heads = [_receive_head(ranks) for _ in range(whole)]
            for clusters in _on_threads(config, threads, heads.__getitem__, range(whole)):
                reached("ranks.clustering")
                _send_clusters(ranks, clusters)

    return follow


def _on_threads(
    config: Config, threads: int, head_of: Callable[[int], Head], fields: Iterable[int]
) -> list[FieldClusters]:
    """The clusters of some fields by this process alone; a head is taken when its turn comes."""

    def of_field(field: int) -> FieldClusters:
        return clusters_of(config, head_of(field))

    if threads == 1:
        return list(map(of_field, fields))
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(of_field, fields))


class Given(NamedTuple):
    """Which fields all ranks cluster together, and which each one clusters alone."""

    cut: list[int]
    whole: list[list[int]]

    @classmethod
    def out(cls, sizes_F: Sequence[int], size: int) -> Given:
        """Give fields out to so many ranks.

        >>> Given.out([900_000, 100_000, 60_000, 50_000, 0], 2)
        Given(cut=[0], whole=[[1, 4], [2, 3]])
        """
        share = sum(sizes_F) / size
        cut = [field for field, count in enumerate(sizes_F) if count > max(share, BLOCK)]
        whole, loads = [list[int]() for _ in range(size)], [0] * size
        for field in sorted(set(range(len(sizes_F))) - set(cut), key=lambda field: (-sizes_F[field], field)):
            rank = loads.index(min(loads))
            whole[rank].append(field)
            loads[rank] += sizes_F[field]
        return cls(cut, whole)


def _runs(count: int, size: int) -> list[slice]:
    """The features that are each rank's, of so many: whole blocks."""
    blocks = -(-count // BLOCK)
    ends = [min(count, blocks * (rank + 1) // size * BLOCK) for rank in range(size)]
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


class Dealt:
    """The features of one field, of which each rank has some blocks; rank 0 asks for all of them."""

    def __init__(self, ranks: Ranks, head: Head) -> None:
        """Give every rank its blocks."""
        self._ranks = ranks
        self._runs = _runs(len(head.vectors_HD), ranks.size)
        self._width = head.vectors_HD.shape[1]
        least = least_weight(head.weights_H)
        for rank, run in self._others():
            ranks.send(torch.tensor([run.stop - run.start, self._width]), rank)
            ranks.send(torch.tensor([least], dtype=torch.float64), rank)
            ranks.send(_tensor(head.vectors_HD[run]), rank)
            ranks.send(_tensor(head.weights_H[run]), rank)
        own = self._runs[0]
        self._own = Blocks(head.vectors_HD[own], head.weights_H[own], least)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._order(_DONE, 0)

    def guess(self, codes_N: NDArray[np.int64] | None) -> None:
        """Say which code each feature is likely to have."""
        self._order(_GUESS, codes_N is not None)
        self._own.guess(None if codes_N is None else codes_N[self._runs[0]])
        if codes_N is not None:
            for rank, run in self._others():
                self._ranks.send(_tensor(codes_N[run].astype(np.int16)), rank)

    def total(self, step: Step, given_KD: NDArray[np.float32]) -> Totals:
        """What a step comes to over all features."""
        self._order(step, len(given_KD))
        self._ranks.broadcast(_tensor(given_KD))
        parts = [self._own.totals(step, given_KD)]
        parts[0] = iter(list(parts[0]))  # before the others are waited for
        for rank, run in self._others():
            blocks = -(-(run.stop - run.start) // BLOCK)
            flat_GX = torch.zeros(blocks, given_KD.size + len(given_KD) + 1, dtype=torch.float64)
            parts.append(_unpacked(self._ranks.receive(flat_GX, rank).numpy(), given_KD))
        return added(step, chain(*parts))

    def codes(self) -> NDArray[np.int16]:
        """The code of each feature."""
        self._order(_CODES, 0)
        codes = [self._own.codes()]
        for rank, run in self._others():
            codes.append(self._ranks.receive(torch.zeros(run.stop - run.start, dtype=torch.int16), rank).numpy())
        return np.concatenate(codes)

    def _others(self) -> list[tuple[int, slice]]:
        return list(enumerate(self._runs))[1:]

    def _order(self, what: int, count: int) -> None:
        self._ranks.broadcast(torch.tensor([what, count]))


def _serve_part(ranks: Ranks) -> None:
    """Do what rank 0 wants of this rank's blocks of a field, until it is done with it."""
    count, width = ranks.receive(torch.zeros(2, dtype=torch.int64), 0).tolist()
    least = float(ranks.receive(torch.zeros(1, dtype=torch.float64), 0))
    vectors = ranks.receive(torch.zeros(count, width), 0)
    blocks = Blocks(vectors.numpy(), ranks.receive(torch.zeros(count), 0).numpy(), least)
    while order := ranks.broadcast(torch.zeros(2, dtype=torch.int64)).tolist():
        what, given = order
        if what == _DONE:
            return
        if what == _GUESS:
            codes = ranks.receive(torch.zeros(count, dtype=torch.int16), 0) if given else None
            blocks.guess(None if codes is None else codes.numpy().astype(np.int64))
        elif what == _CODES:
            ranks.send(_tensor(blocks.codes()), 0)
        else:
            given_KD = ranks.broadcast(torch.zeros(given, width)).numpy()
            packed = [
                np.concatenate([part.vectors_KD.ravel(), part.weight_K, [part.error]])
                for part in blocks.totals(Step(what), given_KD)
            ]
            reached("ranks.clustering")
            ranks.send(_tensor(np.array(packed).reshape(len(packed), given * width + given + 1)), 0)


def _unpacked(flat_GX: NDArray[np.float64], like_KD: NDArray[np.float32]) -> Iterator[Totals]:
    """The totals of some blocks as they were sent."""
    for flat_X in flat_GX:
        yield Totals(flat_X[: like_KD.size].reshape(like_KD.shape), flat_X[like_KD.size : -1], float(flat_X[-1]))


def _checked(config: Config, head: Head) -> Head:
    """A head that can be clustered."""
    check(head.vectors_HD, head.weights_H, config.field_names[head.field])
    return head


def _send_head(ranks: Ranks, head: Head, rank: int) -> None:
    """Give a rank the head of a field."""
    sizes = head.field, *head.vectors_HD.shape, len(head.start_KD), head.codewords
    ranks.send(torch.tensor(sizes), rank)
    ranks.send(torch.tensor([head.drawn_error], dtype=torch.float64), rank)
    for array in (head.vectors_HD, head.weights_H, head.guess_H, head.start_KD):
        ranks.send(_tensor(array), rank)


def _receive_head(ranks: Ranks) -> Head:
    """The head of a field, from rank 0."""
    field, count, width, start, codewords = ranks.receive(torch.zeros(5, dtype=torch.int64), 0).tolist()
    drawn_error = float(ranks.receive(torch.zeros(1, dtype=torch.float64), 0))
    vectors_HD, weights_H, guess_H, start_KD = (
        ranks.receive(torch.zeros(*shape, dtype=kind), 0).numpy()
        for shape, kind in (
            ((count, width), torch.float32),
            ((count,), torch.float32),
            ((count,), torch.int16),
            ((start, width), torch.float32),
        )
    )
    return Head(field, vectors_HD, weights_H, guess_H, start_KD, drawn_error, codewords)


def _send_clusters(ranks: Ranks, found: FieldClusters) -> None:
    """Give rank 0 the clusters of a field."""
    ranks.send(torch.tensor([*found.centroids_KD.shape, found.rebuilt]), 0)
    ranks.send(torch.tensor([found.error], dtype=torch.float64), 0)
    ranks.send(_tensor(found.centroids_KD), 0)
    ranks.send(_tensor(found.codes_H), 0)


def _receive_clusters(ranks: Ranks, count: int, rank: int) -> FieldClusters:
    """The clusters of a field of so many features, from another rank."""
    clusters, width, rebuilt = ranks.receive(torch.zeros(3, dtype=torch.int64), rank).tolist()
    error = float(ranks.receive(torch.zeros(1, dtype=torch.float64), rank))
    centroids_KD = ranks.receive(torch.zeros(clusters, width), rank).numpy()
    codes_H = ranks.receive(torch.zeros(count, dtype=torch.int16), rank).numpy()
    return FieldClusters(centroids_KD, codes_H, error, rebuilt=bool(rebuilt))


def _tensor(array: NDArray[np.generic]) -> torch.Tensor:
    """An array as it can be sent."""
    return torch.from_numpy(np.ascontiguousarray(array))
