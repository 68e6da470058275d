"""A pass of training over ranks: each takes its part of every batch.

For each pass rank 0 gives the others the network with its optimiser, the working set, and their part of every batch.

Decisions:
- The batches are those of one process, in the same order; each is cut into contiguous parts, one a rank; losses
  are over what the whole batch stands for.
- One collective a batch: an all_reduce of the gradients of the network, the loss, and the gradients of the distinct
  vectors of the whole batch. Which vectors those are needs no gradient, so it is exchanged for many batches at once.
- Every rank takes the same steps on its own copy, so nothing is sent back. Sums are in an order that the number of
  ranks fixes; at the end of a pass all compare what they hold, since other processors may round otherwise.

Shapes: B rows of the pass, P rows of a part, S slots, F fields, U vectors, D width, N and M distinct vectors of a part
and of a batch.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from saec.errors import TrainingError
from saec.failpoints import reached
from saec.model.table import WorkingSet
from saec.train.batches import Touched
from saec.train.parts import Cut, Rows
from saec.train.ranks import threads_shared

if TYPE_CHECKING:
    from torch import Tensor

    from saec.train.learner import Learner
    from saec.train.ranks import Duty, Ranks

TRAIN = "train"
"""What rank 0 asks the others for."""
_ROUND = 16
"""Batches whose distinct vectors are exchanged at once."""


def lead(ranks: Ranks, learner: Learner, working: WorkingSet, rows: Rows) -> float:
    """Lead a pass of training; returns the sum of the losses of all rows.

    Raises:
        TrainingError: reason "rank-lost", when a rank is; reason "ranks-differ", when they have come apart.
    """
    cut = Cut(len(rows.labels_B), learner.config.batch_rows, ranks.size)
    with ranks.together(TRAIN):
        _give(ranks, learner, working, rows, cut)
        return _train(ranks, learner, working, rows.of(cut.chosen(0)), cut)


def training(learner: Learner) -> Duty:
    """What the others do in a pass, with a learner of the same settings; what it holds is overwritten."""

    def follow(ranks: Ranks) -> None:
        working, rows, cut = _take(ranks, learner)
        _train(ranks, learner, working, rows, cut)

    return follow


def _give(ranks: Ranks, learner: Learner, working: WorkingSet, rows: Rows, cut: Cut) -> None:
    """Give every other rank what the pass needs."""
    weighted = rows.weights_B is not None
    width, slots = working.vectors_UD.shape[1], rows.parts[0].shape[1]
    head = cut.rows, cut.batch_rows, len(rows.parts), slots, len(working.squares_U), width, weighted
    ranks.broadcast(torch.tensor(head, dtype=torch.int64))
    for tensor in (*_state(learner), working.vectors_UD, working.squares_U):
        ranks.broadcast(tensor)
    for rank in range(1, ranks.size):
        own = rows.of(cut.chosen(rank))
        for tensor in (*own.parts, own.labels_B, *(() if own.weights_B is None else (own.weights_B,))):
            ranks.send(tensor, rank)


def _take(ranks: Ranks, learner: Learner) -> tuple[WorkingSet, Rows, Cut]:
    """Take what `_give` gives."""
    head = ranks.broadcast(torch.zeros(7, dtype=torch.int64)).tolist()
    total, batch_rows, parts, slots, vectors, width, weighted = head
    cut = Cut(total, batch_rows, ranks.size)
    for tensor in _state(learner):
        ranks.broadcast(tensor)
    working = WorkingSet(np.arange(vectors), torch.zeros(vectors, width), torch.zeros(vectors))
    ranks.broadcast(working.vectors_UD)
    ranks.broadcast(working.squares_U)
    count = len(cut.chosen(ranks.rank))
    rows = Rows(
        tuple(torch.zeros(count, slots, dtype=torch.int64) for _ in range(parts)),
        torch.zeros(count),
        torch.zeros(count) if weighted else None,
    )
    for tensor in (*rows.parts, rows.labels_B, *(() if rows.weights_B is None else (rows.weights_B,))):
        ranks.receive(tensor, 0)
    return working, rows, cut


def _train(ranks: Ranks, learner: Learner, working: WorkingSet, rows: Rows, cut: Cut) -> float:
    """The pass, of which `rows` are this rank's."""
    total, first = 0.0, 0
    with threads_shared(ranks.size):
        for start in range(0, len(cut.batches), _ROUND):
            batches = []
            for batch in cut.batches[start : start + _ROUND]:
                part = cut.part(batch, ranks.rank)
                own = rows.of(np.arange(first, first := first + part.stop - part.start))
                batches.append((batch, own, Touched.of(own.parts, learner.pooling)))
            of_parts = [touched.places_N for _, _, touched in batches]
            whole = _whole(ranks, of_parts, [own for _, own, _ in batches], len(working.squares_U))
            for (batch, own, touched), (places_M, stands_for) in zip(batches, whole, strict=True):
                total += batch * _step(ranks, learner, working, own, touched, places_M, stands_for or batch)
                reached("ranks.followed" if ranks.rank else "ranks.led")
    _compare(ranks, learner, working)
    return total


def _whole(ranks: Ranks, places: list[Tensor], parts: list[Rows], vectors: int) -> list[tuple[Tensor, float]]:
    """For some batches, the distinct vectors of all ranks' parts, and the rows they stand for if weighted."""
    counts = ranks.gather(torch.tensor([len(places_N) for places_N in places]))
    longest = int(max(count.sum() for count in counts))
    found = ranks.gather(torch.nn.functional.pad(torch.cat(places), (0, longest - sum(map(len, places)))))
    split = [
        torch.split(all_places[: count.sum()], count.tolist()) for all_places, count in zip(found, counts, strict=True)
    ]
    used_U, unions = np.zeros(vectors, bool), []
    for of_batch in zip(*split, strict=True):
        used_U[:] = False
        for places_N in of_batch:
            used_U[places_N.numpy()] = True
        unions.append(torch.from_numpy(np.flatnonzero(used_U)))
    sums = torch.tensor(
        [0.0 if own.weights_B is None else float(own.weights_B.double().sum()) for own in parts],
        dtype=torch.float64,
    )
    if parts[0].weights_B is not None:
        ranks.reduce(sums)
    return list(zip(unions, sums.tolist(), strict=True))


def _step(
    ranks: Ranks,
    learner: Learner,
    working: WorkingSet,
    own: Rows,
    touched: Touched,
    places_M: Tensor,
    stands_for: float,
) -> float:
    """One batch: gradients of the part, summed over ranks, and both optimisers; returns the batch's loss."""
    parameters, width = learner.optimiser.parameters, working.vectors_UD.shape[1]
    sizes = [*(parameter.numel() for parameter in parameters), 1, len(places_M) * width]
    flat = torch.zeros(sum(sizes))
    *of_network, loss, of_vectors = torch.split(flat, sizes)
    if len(own.labels_B):
        loss_of_part, gradient_PFD = learner.gradients(
            working.vectors_UD, own.parts, own.labels_B, own.weights_B, stands_for
        )
        loss.fill_(loss_of_part)
        for piece, parameter in zip(of_network, parameters, strict=True):
            if parameter.grad is not None:
                piece.copy_(parameter.grad.flatten())
        where_N = torch.searchsorted(places_M, touched.places_N)
        of_vectors.view(-1, width)[where_N] = touched.sum(gradient_PFD) * stands_for
    ranks.reduce(flat)
    for piece, parameter in zip(of_network, parameters, strict=True):
        parameter.grad = piece.view_as(parameter)
    learner.apply(working, places_M, of_vectors.view(-1, width))
    return float(loss)


def _compare(ranks: Ranks, learner: Learner, working: WorkingSet) -> None:
    """See that all ranks hold the same."""
    digest = 0
    for tensor in (*_state(learner), working.vectors_UD, working.squares_U):
        digest = zlib.crc32(tensor.detach().contiguous().view(-1).numpy().data, digest)
    digests = [int(found) for found in ranks.gather(torch.tensor([digest]))]
    if unlike := [rank for rank, found in enumerate(digests) if found != digests[0]]:
        raise TrainingError(
            f"rank {unlike[0]} of {ranks.size} holds other numbers than rank 0 after equal steps; "
            "train on machines with the same processor and the same packages, or without --ranks",
            reason="ranks-differ",
        )


def _state(learner: Learner) -> list[Tensor]:
    """All that steps change of a learner."""
    optimiser = learner.optimiser
    return [*optimiser.parameters, *optimiser.means, *optimiser.squares, optimiser.steps]
