"""Ranks: several processes, on one machine or on many, that do the parts of an hour together which take longest.

Rank 0 is the pipeline: ledger, store and gate are its own, as with one process. The others follow it: they train
(saec/train/passes.py) and cluster (saec/compression/together.py) what they are given.

Decisions:
- What goes between ranks is tensors of known shapes, never objects, which torch would pickle.
- What rank 0 asks for is a word in the store through which they found each other. Asking may take as long as it likes;
  within what they do together, a rank that says nothing for too long counts as lost.
- A rank that is lost ends the hour, in words. Nothing is restarted here: the next run takes the hour up again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from saec.errors import ConfigError, TrainingError
from saec.failpoints import reached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from torch import Tensor
    from torch._C._distributed_c10d import Store

    Duty = Callable[["Ranks"], None]
    """What a rank that follows does when it is asked to."""
    Duties = Mapping[str, Duty]
    """By the word with which rank 0 asks."""

RENDEZVOUS = "SAEC_RENDEZVOUS"
"""Variable of the place where ranks find each other; torchrun's own (`env://`) when it is not set."""
TIMEOUT = "SAEC_RANKS_TIMEOUT"
"""Variable of the seconds that a rank waits for another before it counts as lost."""
_TIMEOUT_SECONDS = 180.0
_WORD_SECONDS = 5.0
"""How long a rank may take to say why it stops; one that says nothing is lost."""
_ASK_SECONDS = 0.5
_OVER, _PARTED = "over", "parted"
log = logging.getLogger(__name__)
current: Ranks | None = None
"""The ranks that this process leads; None is alone."""


class Ranks:
    """The processes that do an hour together, seen from one of them."""

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

    @contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Have the others do their part of something; by whatever this ends early, the ranks part for good.

        Args:
            what: the duty, by the name that the others know it by.

        Raises:
            TrainingError: reason "rank-lost", when a rank is or was.
        """
        if self._lost:
            raise self._lost
        try:
            self._do(self.store.set, f"pass/{self._passes}", what)
            self._passes += 1
            yield
        except BaseException:
            self._lost = self.parted() or self._error("the ranks have parted over an earlier error")
            raise

    def follow(self, duties: Duties) -> bool:
        """Do what rank 0 asks for, until it is over; returns whether rank 0 has said so.

        Args:
            duties: what it may ask for, of the same settings as rank 0's.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)
        said, parent = _PARTED, os.getppid()
        try:
            while word := self._next(parent):
                duties[word](self)
        except ConnectionError as error:
            log.warning("rank %s ends: %s", self.rank, error)
        except BaseException as error:
            said = _line(error)
            raise
        else:
            return not self._told and os.getppid() == parent
        finally:
            with suppress(RuntimeError):
                self.store.set(f"word/{self.rank}", said)
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

    def _next(self, parent: int) -> str:
        """Wait for what rank 0 wants; nothing when it is over, however that came about."""
        key = f"pass/{self._passes}"
        self._passes += 1
        reached("ranks.waiting")
        while not self._told and os.getppid() == parent:
            with suppress(RuntimeError):  # not yet
                self.store.wait([key], timedelta(seconds=_ASK_SECONDS))
            try:
                if self.store.check([key]):
                    word = self.store.get(key).decode()
                    return "" if word == _OVER else str(word)
            except RuntimeError as error:
                raise ConnectionError(_line(error)) from error
        return ""

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's numbers, in every rank's tensor; gloo knows no 16-bit integers here."""
        self._do(dist.broadcast, tensor.detach(), 0)
        return tensor

    def reduce(self, tensor: Tensor) -> None:
        """The sum of all ranks' numbers, in every rank's tensor."""
        self._do(dist.all_reduce, tensor)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """All ranks' tensors, which are alike in shape."""
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        self._do(dist.all_gather, found, tensor)
        return found

    def send(self, tensor: Tensor, rank: int) -> None:
        """Give one rank a tensor of a shape that it expects; returns once it is under way to a rank that takes it."""
        if tensor.numel():
            self._do(dist.send, tensor, rank)

    def receive(self, tensor: Tensor, rank: int) -> Tensor:
        """What one rank sends, in a tensor of that shape."""
        if tensor.numel():
            self._do(dist.recv, tensor, rank)
        return tensor

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
    """Have this process lead ranks in what it trains and clusters; SIGTERM and Ctrl-C end it in the right words.

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


@contextmanager
def threads_shared(size: int) -> Iterator[int]:
    """Share the threads of the settings among the ranks of this machine; gives how many are this one's."""
    threads, here = torch.get_num_threads(), int(os.environ.get("LOCAL_WORLD_SIZE", size))
    torch.set_num_threads(own := max(1, threads // here))
    try:
        yield own
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
