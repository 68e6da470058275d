"""Takes the steps of a pass on a GPU: captures one batch's step as a CUDA graph and replays it for the others.

A step is some hundred and fifty kernels. To launch them one by one takes the processor several times as long as the
GPU takes to run them, unless a batch has tens of thousands of rows. A graph launches all of them at once; it runs the
same kernels on the same numbers, so what is learnt is the same to the byte.

Decisions: a graph is of one pass, because it holds the addresses of the pass's working set. The first steps are taken
kernel by kernel, since libraries set themselves up in their first calls, and so is the last batch if it is shorter.
Rows travel through pinned memory: the processor prepares a batch while the GPU is still at the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch

from saec.train.parts import Rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SINGLY = 3
"""Batches before one is captured."""


class Replayed:
    """A step on a GPU, for batches that lie in main memory."""

    def __init__(self, step: Callable[[Rows], Tensor], device: torch.device) -> None:
        """Of a step that takes a batch on the device and returns its loss, always by the same kernels."""
        self._step, self._device = step, device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Rows | None = None
        self._loss = torch.zeros(())
        self._taken = 0

    def __enter__(self) -> Self:
        """All is done in a stream of its own, as a capture asks for."""
        self._before = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(self._before)
        torch.cuda.set_stream(self._stream)
        return self

    def __exit__(self, *_: object) -> None:
        """What comes after waits for the last step."""
        torch.cuda.set_stream(self._before)
        self._before.wait_stream(self._stream)

    def __call__(self, batch: Rows) -> Tensor:
        """The loss of a batch, once its step is taken."""
        self._taken += 1
        if self._taken <= SINGLY or (self._batch is not None and len(batch.labels_B) != len(self._batch.labels_B)):
            return self._step(_each(batch, lambda tensor: tensor.to(self._device)))
        if self._batch is None:
            self._batch = _each(batch, lambda tensor: torch.empty_like(tensor, device=self._device))
        for there, here in zip(_tensors(self._batch), _tensors(batch), strict=True):
            there.copy_(here.pin_memory(), non_blocking=True)
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            self._graph.capture_begin(capture_error_mode="thread_local")
            self._loss = self._step(self._batch)  # recorded, not taken
            self._graph.capture_end()
        self._graph.replay()
        return self._loss.clone()


def _tensors(batch: Rows) -> list[Tensor]:
    return [*batch.parts, batch.labels_B, *([] if batch.weights_B is None else [batch.weights_B])]


def _each(batch: Rows, moved: Callable[[Tensor], Tensor]) -> Rows:
    """A batch with its tensors replaced."""
    weights_B = None if batch.weights_B is None else moved(batch.weights_B)
    return Rows(tuple(moved(part_BS) for part_BS in batch.parts), moved(batch.labels_B), weights_B)
