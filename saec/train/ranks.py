"""Training over ranks: several processes, on one machine or on many, that train one model together.

Rank 0 is the pipeline: ledger, store, clustering and gate are its own, as with one process. The others follow it. For
each pass of training it gives them the network with its optimiser, the working set, and their part of every batch.

Decisions:
- The batches are those of one process, in the same order; each is cut into contiguous parts, one a rank. Feature
  dropout is drawn for the whole batch by every rank; losses are over what the whole batch stands for.
- One collective a batch: an all_reduce of the gradients of the network, the loss, and the gradients of the distinct
  vectors of the whole batch. Which vectors those are needs no gradient, so it is exchanged for many batches at once.
- Every rank takes the same steps on its own copy, so nothing is sent back. Sums are in an order that the number of
  ranks fixes; at the end of a pass all compare what they hold, since other processors may round otherwise.
- What goes between ranks is tensors of known shapes, never objects, which torch would pickle.
- A rank that is lost ends the hour, in words. Nothing is restarted here: the next run takes the hour up again.

Shapes: B rows of the pass, P rows of a part, S slots, F fields, U vectors, D width, N and M distinct vectors of a part
and of a batch.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
import zlib
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from saec.errors import ConfigError, TrainingError
from saec.failpoints import reached
from saec.model.table import WorkingSet
from saec.train.batches import Touched
from saec.train.parts import Cut, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from torch import Tensor
    from torch._C._distributed_c10d import Store

    from saec.train.learner import Learner

RENDEZVOUS = "SAEC_RENDEZVOUS"
"""Variable of the place where ranks find each other; torchrun's own (`env://`) when it is not set."""
TIMEOUT = "SAEC_RANKS_TIMEOUT"
"""Variable of the seconds that a rank waits for another before it counts as lost."""
_TIMEOUT_SECONDS = 180.0
_WORD_SECONDS = 5.0
"""How long a rank may take to say why it stops; one that says nothing is lost."""
_ASK_SECONDS = 0.5
_ROUND = 16
"""Batches whose distinct vectors are exchanged at once."""
_OVER, _PARTED = "over", "parted"
log = logging.getLogger(__name__)
current: Ranks | None = None
"""The ranks that this process leads; None trains alone."""


class Ranks:
    """The processes that train together, seen from one of them."""

    def __init__(self, store: Store, rank: int, size: int, timeout: float = _TIMEOUT_SECONDS) -> None:
        """Ranks that have found each other."""
        self.store, self.rank, self.size = store, rank, size
        self.waited = 0.0
        """Seconds in collectives, waiting for others included."""
        self._passes = 0
        self._lost: TrainingError | None = None
        self._told = False
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=timeout))

    @classmethod
    def join(cls, digest: str, variables: Mapping[str, str] = os.environ) -> Ranks:
        """Find the others, as torchrun's variables say.

        Args:
            digest: of the settings, which must be the same everywhere.
            variables: torchrun's, and `SAEC_RENDEZVOUS`.

        Raises:
            TrainingError: reason "rank-lost", when they are not there in time.
            ConfigError: when another rank has other settings, or a variable is no number.
        """
        rank, size, timeout = int(variables["RANK"]), int(variables["WORLD_SIZE"]), _timeout()
        if variables.get("LOCAL_WORLD_SIZE") == str(size):  # one machine: nothing is to be heard outside it
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
        try:
            where = variables.get(RENDEZVOUS, "env://")
            store = next(rendezvous(where, rank, size, timeout=timedelta(seconds=timeout)))[0]
            store.set_timeout(timedelta(seconds=timeout))
            ranks = cls(store, rank, size, timeout)
            store.set(f"settings/{rank}", digest)
            others = {other: store.get(f"settings/{other}").decode() for other in range(size)}
        except (RuntimeError, OSError, ValueError) as error:
            raise TrainingError(
                f"rank {rank} of {size} did not find the others within {timeout:g} s ({_line(error)}); "
                "no hour was begun; see why they did not start, then run again",
                reason="rank-lost",
            ) from error
        if unlike := [other for other, found in others.items() if found != others[0]]:
            raise ConfigError(f"rank {unlike[0]} has other settings than rank 0; give all ranks the same file")
        return ranks

    def fit(self, learner: Learner, working: WorkingSet, rows: Rows) -> float:
        """Lead a pass of training; returns the sum of the losses of all rows.

        Raises:
            TrainingError: reason "rank-lost", when a rank is; reason "ranks-differ", when they have come apart.
        """
        if self._lost:
            raise self._lost
        try:
            cut = Cut(len(rows.labels_B), learner.config.batch_rows, self.size)
            self._do(self.store.set, f"pass/{self._passes}", "train")
            self._passes += 1
            self._give(learner, working, rows, cut)
            return self._train(learner, working, rows.of(cut.chosen(0)), cut)
        except BaseException:
            self._lost = self.parted() or self._error("the ranks have parted over an earlier error")
            raise

    def follow(self, learner: Learner) -> bool:
        """Train whatever rank 0 gives, until it is over; returns whether rank 0 has said so.

        Args:
            learner: of the same settings as rank 0's; what it holds is overwritten.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)
        word, parent = _PARTED, os.getppid()
        try:
            while self._next(parent):
                working, rows, cut = self._take(learner)
                self._train(learner, working, rows, cut)
        except ConnectionError as error:
            log.warning("rank %s ends: %s", self.rank, error)
        except BaseException as error:
            word = _line(error)
            raise
        else:
            return not self._told and os.getppid() == parent
        finally:
            with suppress(RuntimeError):
                self.store.set(f"word/{self.rank}", word)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
        return False

    def parted(self) -> TrainingError | None:
        """Part from the others, for good: the error to raise where one of them was lost before."""
        if dist.is_initialized():
            with suppress(RuntimeError):
                self.store.set(f"pass/{self._passes}", _OVER)
            dist.destroy_process_group()
            for rank, word in self._words().items():
                if word != _PARTED and self._lost is None:
                    self._lost = self._error(f"rank {rank} of {self.size} {word}")
        return self._lost

    @property
    def apart(self) -> bool:
        """Whether they have parted."""
        return not dist.is_initialized()

    def _error(self, what: str) -> TrainingError:
        again = f"run again with --ranks {self.size}, or without it: the hour is taken up from its beginning"
        return TrainingError(
            f"{what}; its own output, or the kernel's where memory ran out, says why; {again}", reason="rank-lost"
        )

    def _words(self) -> dict[int, str]:
        """Why each of the others stops; one that does not say so is lost."""
        ends = time.monotonic() + _WORD_SECONDS
        words = dict.fromkeys(range(1, self.size), "is lost")
        with suppress(RuntimeError):
            while (silent := [rank for rank, word in words.items() if word == "is lost"]) and time.monotonic() < ends:
                for rank in silent:
                    if self.store.check([f"word/{rank}"]):
                        said = self.store.get(f"word/{rank}").decode()
                        words[rank] = said if said == _PARTED else f"failed with {said}"
                time.sleep(0.01)
        return words

    def _tell(self, _number: int, _frame: object) -> None:
        self._told = True

    def _next(self, parent: int) -> bool:
        """Wait for what rank 0 wants; False when it is over, however that came about."""
        key = f"pass/{self._passes}"
        self._passes += 1
        reached("ranks.waiting")
        while not self._told and os.getppid() == parent:
            with suppress(RuntimeError):  # not yet
                self.store.wait([key], timedelta(seconds=_ASK_SECONDS))
            try:
                if self.store.check([key]):
                    return bool(self.store.get(key) != _OVER.encode())
            except RuntimeError as error:
                raise ConnectionError(_line(error)) from error
        return False

    def _give(self, learner: Learner, working: WorkingSet, rows: Rows, cut: Cut) -> None:
        """Give every other rank what the pass needs."""
        weighted, dropping = rows.weights_B is not None, rows.dropped_to_S is not None
        width, slots = working.vectors_UD.shape[1], rows.parts[0].shape[1]
        head = (
            cut.rows,
            cut.batch_rows,
            len(rows.parts),
            slots,
            len(working.squares_U),
            width,
            weighted,
            dropping,
            rows.seed >> 32,
            rows.seed & 0xFFFFFFFF,
        )
        self._broadcast(torch.tensor(head, dtype=torch.int64))
        for tensor in (*_state(learner), working.vectors_UD, working.squares_U):
            self._broadcast(tensor)
        if rows.dropped_to_S is not None:
            self._broadcast(rows.dropped_to_S)
        for rank in range(1, self.size):
            own = rows.of(cut.chosen(rank))
            for tensor in (*own.parts, own.labels_B, *(() if own.weights_B is None else (own.weights_B,))):
                self._do(dist.send, tensor, rank)

    def _take(self, learner: Learner) -> tuple[WorkingSet, Rows, Cut]:
        """Take what `_give` gives."""
        head = self._broadcast(torch.zeros(10, dtype=torch.int64)).tolist()
        total, batch_rows, parts, slots, vectors, width, weighted, dropping, high, low = head
        cut = Cut(total, batch_rows, self.size)
        for tensor in _state(learner):
            self._broadcast(tensor)
        working = WorkingSet(np.arange(vectors), torch.zeros(vectors, width), torch.zeros(vectors))
        self._broadcast(working.vectors_UD)
        self._broadcast(working.squares_U)
        dropped_to_S = self._broadcast(torch.zeros(slots, dtype=torch.int64)) if dropping else None
        count = len(cut.chosen(self.rank))
        rows = Rows(
            tuple(torch.zeros(count, slots, dtype=torch.int64) for _ in range(parts)),
            torch.zeros(count),
            torch.zeros(count) if weighted else None,
            dropped_to_S,
            (high << 32) | low,
        )
        for tensor in (*rows.parts, rows.labels_B, *(() if rows.weights_B is None else (rows.weights_B,))):
            self._do(dist.recv, tensor, 0)
        return working, rows, cut

    def _train(self, learner: Learner, working: WorkingSet, rows: Rows, cut: Cut) -> float:
        """The pass, of which `rows` are this rank's."""
        generator = torch.Generator().manual_seed(rows.seed)
        total, first = 0.0, 0
        with _threads(self.size):
            for start in range(0, len(cut.batches), _ROUND):
                batches = []
                for batch in cut.batches[start : start + _ROUND]:
                    part = cut.part(batch, self.rank)
                    own = rows.of(np.arange(first, first := first + part.stop - part.start))
                    if rows.dropped_to_S is not None:
                        shape = batch, len(rows.dropped_to_S)
                        drawn = torch.rand(shape, generator=generator)[part] < learner.config.feature_dropout
                        places = torch.where(drawn & (own.parts[0] >= 0), rows.dropped_to_S, own.parts[0])
                        own.parts = (places, *own.parts[1:])
                    batches.append((batch, own, Touched.of(own.parts, learner.pooling)))
                whole = self._whole([touched.places_N for _, _, touched in batches], [own for _, own, _ in batches])
                for (batch, own, touched), (places_M, stands_for) in zip(batches, whole, strict=True):
                    total += batch * self._step(learner, working, own, touched, places_M, stands_for or batch)
                    reached("ranks.followed" if self.rank else "ranks.led")
        self._compare(learner, working)
        return total

    def _whole(self, places: list[Tensor], parts: list[Rows]) -> list[tuple[Tensor, float]]:
        """For some batches, the distinct vectors of all ranks' parts, and the rows they stand for if weighted."""
        counts = self._gather(torch.tensor([len(places_N) for places_N in places]))
        longest = int(max(count.sum() for count in counts))
        found = self._gather(torch.nn.functional.pad(torch.cat(places), (0, longest - sum(map(len, places)))))
        split = [
            torch.split(all_places[: count.sum()], count.tolist())
            for all_places, count in zip(found, counts, strict=True)
        ]
        unions = [torch.from_numpy(np.unique(torch.cat(of_batch).numpy())) for of_batch in zip(*split, strict=True)]
        sums = torch.tensor(
            [0.0 if own.weights_B is None else float(own.weights_B.double().sum()) for own in parts],
            dtype=torch.float64,
        )
        if parts[0].weights_B is not None:
            self._reduce(sums)
        return list(zip(unions, sums.tolist(), strict=True))

    def _step(
        self, learner: Learner, working: WorkingSet, own: Rows, touched: Touched, places_M: Tensor, stands_for: float
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
        self._reduce(flat)
        for piece, parameter in zip(of_network, parameters, strict=True):
            parameter.grad = piece.view_as(parameter)
        learner.apply(working, places_M, of_vectors.view(-1, width))
        return float(loss)

    def _compare(self, learner: Learner, working: WorkingSet) -> None:
        """See that all ranks hold the same."""
        digest = 0
        for tensor in (*_state(learner), working.vectors_UD, working.squares_U):
            digest = zlib.crc32(tensor.detach().contiguous().view(-1).numpy().data, digest)
        digests = [int(found) for found in self._gather(torch.tensor([digest]))]
        if unlike := [rank for rank, found in enumerate(digests) if found != digests[0]]:
            raise TrainingError(
                f"rank {unlike[0]} of {self.size} holds other numbers than rank 0 after equal steps; "
                "train on machines with the same processor and the same packages, or without --ranks",
                reason="ranks-differ",
            )

    def _broadcast(self, tensor: Tensor) -> Tensor:
        self._do(dist.broadcast, tensor.detach(), 0)
        return tensor

    def _reduce(self, tensor: Tensor) -> None:
        self._do(dist.all_reduce, tensor)

    def _gather(self, tensor: Tensor) -> list[Tensor]:
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        self._do(dist.all_gather, found, tensor)
        return found

    def _do(self, collective: Callable[..., Any], *arguments: Any) -> None:
        """A collective; where it breaks, the error that says which rank is lost."""
        started = time.perf_counter()
        try:
            collective(*arguments)
        except (RuntimeError, ValueError) as error:
            if self.rank:
                raise ConnectionError(_line(error)) from error
            raise (self.parted() or self._error(f"the ranks lost each other ({_line(error)})")) from error
        finally:
            self.waited += time.perf_counter() - started


@contextmanager
def led(ranks: Ranks) -> Iterator[Ranks]:
    """Have every pass of training of this process led over the ranks; SIGTERM and Ctrl-C end it in the right words.

    torchrun sends SIGTERM to all when one of them has died, and also when it is itself told to stop.
    """
    global current  # noqa: PLW0603 - training is asked for far below, by steps that know nothing of ranks

    def stopped(number: int, frame: FrameType | None) -> None:
        if ranks.apart:
            return  # the hour is just ending for it
        for taken in before:
            signal.signal(taken, signal.SIG_IGN)
        if error := ranks.parted():
            raise error
        if callable(handler := before[signal.Signals(number)]):  # such as Prefect's, which cancels the run
            handler(number, frame)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, stopped)
    current = ranks
    try:
        yield ranks
    finally:
        current = None
        ranks.parted()
        for number, handler in before.items():
            signal.signal(number, handler)


def _state(learner: Learner) -> list[Tensor]:
    """All that steps change of a learner."""
    optimiser = learner.optimiser
    return [*optimiser.parameters, *optimiser.means, *optimiser.squares, optimiser.steps]


@contextmanager
def _threads(size: int) -> Iterator[None]:
    """Share the threads of the settings among the ranks of this machine."""
    threads, here = torch.get_num_threads(), int(os.environ.get("LOCAL_WORLD_SIZE", size))
    torch.set_num_threads(max(1, threads // here))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _timeout() -> float:
    """Seconds to wait for another rank."""
    given = os.environ.get(TIMEOUT, str(_TIMEOUT_SECONDS))
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"{TIMEOUT} must be seconds above 0, got {given!r}")
    return seconds


def _loopback() -> str:
    """The loopback interface's name."""
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def _line(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
