"""Runs one training pass: AdamW for the network, row-wise Adagrad for the vectors.

Decisions:
- Time order, one pass, no shuffling: the stream is not stationary, and the next hour is what matters.
- Row-wise Adagrad (Mudigere et al. 2022, arXiv 2104.05158): one sum of squared gradients a vector instead of one
  a number, so the optimiser's memory is 1/D of the table's and not twice it.
- What scores, and what is published, is the network's average over its last steps (adamw.py); what is trained is not.
- Gradients reach each distinct vector of a batch once, summed (see batches.py), never as a dense table gradient.
- Network and optimiser stay on the device (saec/device.py); a working set goes there for a pass, rows batch by batch,
  and steps are replayed (replayed.py).
- Where this process leads ranks (ranks.py), they take the pass together (passes.py); the batches are the same.
- Matrix products in bfloat16 where the configuration says so and the processor has it built in; sums stay in float32.

Shapes: B rows, S slots, F fields, U vectors, D width, N distinct vectors of a batch.
"""

from __future__ import annotations

import copy
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from saec import device
from saec.errors import TrainingError
from saec.gate.metrics import weights_of
from saec.train import passes, ranks
from saec.train.adamw import AdamW
from saec.train.batches import SPARE, Touched
from saec.train.parts import Rows
from saec.train.replayed import Replayed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from saec.config import TrainingConfig
    from saec.model.networks import CtrNetwork
    from saec.model.table import WorkingSet
    from saec.train.batches import Pooling

RARE = 0.25
"""A network starts at the click rate if the rarer label has at most this share."""
SCORED_AT_ONCE = 8192
"""Rows scored at a time: bounds memory, and keeps results independent of how many rows there are."""


@dataclass(frozen=True)
class Pass:
    """What a pass over some rows came to: rows, batches, and the mean training loss in nats a row."""

    rows: int
    batches: int
    loss: float


class Learner:
    """A network with its optimiser, ready to train on and to score vectors that others hold."""

    def __init__(self, network: CtrNetwork, pooling: Pooling, config: TrainingConfig) -> None:
        """A learner whose optimiser starts afresh, on the device chosen last."""
        self.device = torch.device(device.current)
        self.network = network.to(self.device)
        self.pooling = pooling
        self.config = config
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        """What scores."""
        self.optimiser = AdamW(
            network.parameters(), config.dense_learning_rate, config.weight_decay, self.averaged.parameters()
        )
        self._bfloat16 = config.arithmetic == "bfloat16" or (config.arithmetic == "auto" and self._gains())

    def fit(
        self,
        working: WorkingSet,
        places_BS: Tensor,
        labels_B: NDArray[np.uint8],
        *,
        added_BS: Tensor | None = None,
        weights_B: NDArray[np.float64] | None = None,
    ) -> Pass:
        """Train once through the rows in the order given; the working set's vectors change in place.

        Args:
            working: the vectors that the rows use.
            places_BS: int64 places in the working set, -1 for padding.
            labels_B: clicks, 0 or 1.
            added_BS: places of other vectors of the set that are added to those at `places_BS`.
            weights_B: how many rows each stands for, above 0; None where each stands for itself.

        Raises:
            TrainingError: when the loss is no longer a finite number.
        """
        if not self.optimiser.started:
            first = slice(0, self.config.batch_rows)
            self._start(labels_B[first], weights_of(weights_B, first))
        weights = None if weights_B is None else torch.from_numpy(weights_B.astype(np.float32))
        labels = torch.from_numpy(labels_B.astype(np.float32))
        rows = Rows((places_BS,) if added_BS is None else (places_BS, added_BS), labels, weights)
        if ranks.current is not None:
            return self._passed(passes.lead(ranks.current, self, working, rows), len(labels_B))
        if self.device.type == "cpu":
            return self._passed(self._total(rows, partial(self.step, working)), len(labels_B))
        with working.on(self.device, SPARE) as there, Replayed(partial(self.step, there), self.device) as step:
            return self._passed(self._total(rows, step), len(labels_B))

    def _total(self, rows: Rows, step: Callable[[Rows], Tensor]) -> float:
        """Take the step of every batch; returns the sum of the losses of all rows."""
        losses: list[Tensor] = []
        for start in range(0, len(rows.labels_B), self.config.batch_rows):
            batch = rows.of(slice(start, start + self.config.batch_rows))
            losses.append(step(batch).double() * len(batch.labels_B))
        # Read once, at the end: to read a number of a GPU is to wait for all its work so far.
        return sum(torch.stack(losses).tolist()) if losses else 0.0

    def _passed(self, total: float, rows: int) -> Pass:
        """What a pass came to whose rows' losses sum up to `total`."""
        batches, loss = -(-rows // self.config.batch_rows), total / max(rows, 1)
        if not math.isfinite(loss):
            raise TrainingError(
                f"training loss became {loss} after {batches} batches; lower training.dense_learning_rate or "
                "training.table_learning_rate, or look at the hour's numeric fields",
                reason="diverged",
            )
        return Pass(rows, batches, loss)

    def score(self, vectors_UD: Tensor, places_BS: Tensor, added_BS: Tensor | None = None) -> NDArray[np.float64]:
        """Probability of a click for each row, shape (B,); places as in `fit`."""
        return probabilities(self.logits(vectors_UD, places_BS, added_BS))

    def logits(
        self, vectors_UD: Tensor, places_BS: Tensor, added_BS: Tensor | None = None, network: CtrNetwork | None = None
    ) -> NDArray[np.float64]:
        """Logits of a click, shape (B,), by the average of its network or by another; places as in `fit`."""
        network = self.averaged if network is None else network
        logits = [np.zeros(0)]
        parts_BS = (places_BS,) if added_BS is None else (places_BS, added_BS)
        vectors_UD = vectors_UD.to(self.device)
        with torch.no_grad():
            for parts in zip(*(torch.split(part_BS, SCORED_AT_ONCE) for part_BS in parts_BS), strict=True):
                there = tuple(part_BS.to(self.device) for part_BS in parts)
                logits.append(network(self._gather(vectors_UD, there)).double().cpu().numpy())
        return np.concatenate(logits)

    def _gather(self, vectors_UD: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        """Field vectors (B, F, D): the sum over the parts, each of them places (B, S)."""
        vectors_BFD = self.pooling.gather(vectors_UD, parts[0])
        for places_BS in parts[1:]:
            vectors_BFD += self.pooling.gather(vectors_UD, places_BS)
        return vectors_BFD

    def _start(self, labels_B: NDArray[np.uint8], weights_B: NDArray[np.float64] | None) -> None:
        """Begin at the click rate of the first batch where clicks are rare: 0.5% is weeks away from even odds.

        Vectors that are met again and again make up for a bias that is off; those of whoever is new do not, and in
        hours of few rows they would be taken for more likely to click than anybody is. Near even odds a first batch
        that is unlike the later ones does more harm: with a `logit_cap` it bounds all scores for days (globo: 0.001 of
        log loss).
        """
        clicks = float(labels_B.sum() if weights_B is None else weights_B @ labels_B) + 0.5
        rate = clicks / (float(len(labels_B) if weights_B is None else weights_B.sum()) + 1)
        if min(rate, 1 - rate) < RARE:
            with torch.no_grad():
                self.network.bias.fill_(math.log(rate / (1 - rate)))

    def step(self, working: WorkingSet, batch: Rows) -> Tensor:
        """One batch, on the device of the working set: its mean loss, gradients, both optimisers."""
        weights_B = batch.weights_B
        stand_for = len(batch.labels_B) if weights_B is None else weights_B.sum()
        loss, gradient_BFD = self.gradients(
            working.vectors_UD, batch.parts, batch.labels_B, weights_B, None if weights_B is None else stand_for
        )
        touched = Touched.of(batch.parts, self.pooling, len(working.rows_U))
        self.apply(working, touched.places_N, touched.sum(gradient_BFD) * stand_for)
        return loss

    def gradients(
        self,
        vectors_UD: Tensor,
        parts: tuple[Tensor, ...],
        labels_B: Tensor,
        weights_B: Tensor | None,
        stand_for: float | Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The loss of some rows, its gradient by their field vectors (B, F, D), and by the network's parameters.

        Args:
            vectors_UD: the vectors.
            parts: places of the rows' vectors, each (B, S), that are added up.
            labels_B: clicks, 0 or 1.
            weights_B: how many rows each stands for; None where each stands for itself.
            stand_for: what the sum of losses is divided by; the number of rows when left out, and then no weights.
        """
        vectors_BFD = self._gather(vectors_UD, parts).requires_grad_()
        with self._arithmetic():
            logits_B = self.network(vectors_BFD).float()
        if stand_for is None:
            loss = binary_cross_entropy_with_logits(logits_B, labels_B)
        else:
            loss = binary_cross_entropy_with_logits(logits_B, labels_B, weights_B, reduction="sum") / stand_for
        self.optimiser.forget_gradients()
        loss.backward()  # type: ignore[no-untyped-call]
        assert vectors_BFD.grad is not None
        return loss.detach(), vectors_BFD.grad

    def apply(self, working: WorkingSet, places_N: Tensor, gradient_ND: Tensor) -> None:
        """A step of both optimisers, by the gradients of the parameters and of distinct vectors."""
        self.optimiser.step()
        self._adagrad(working, places_N, gradient_ND)

    def _adagrad(self, working: WorkingSet, places_N: Tensor, gradient_ND: Tensor) -> None:
        """One step on distinct vectors, by gradients summed over the batch: a row counts the same in any batch."""
        width, prior, rate = gradient_ND.shape[1], self.config.table_prior, self.config.table_learning_rate
        squares_N = working.squares_U.index_select(0, places_N)
        squares_N.add_(torch.linalg.vecdot(gradient_ND, gradient_ND), alpha=1 / width)
        roots_N1 = (squares_N + prior).sqrt_().unsqueeze(1)
        vectors_ND = working.vectors_UD.index_select(0, places_N).addcdiv_(gradient_ND, roots_N1, value=-rate)
        # Copied back by place: index_add_ cannot know that the places are distinct, and takes three times as long.
        with device.in_any_order():
            working.squares_U.index_copy_(0, places_N, squares_N)
            working.vectors_UD.index_copy_(0, places_N, vectors_ND)

    def _arithmetic(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self._bfloat16 else nullcontext()

    def _gains(self) -> bool:
        """Whether the device multiplies matrices of bfloat16 natively."""
        return gains_from_bfloat16() if self.device.type == "cpu" else torch.cuda.is_bf16_supported()


def probabilities(logits_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of logits."""
    scores_B: NDArray[np.float64] = torch.sigmoid(torch.from_numpy(logits_B)).numpy()
    return scores_B


def gains_from_bfloat16() -> bool:
    """Whether this processor multiplies matrices of bfloat16 natively."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
