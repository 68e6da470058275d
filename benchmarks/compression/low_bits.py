"""Implements the peer whose rows have 4 or 2 bits a number and are trained as they are stored.

Quantisation-aware training with learned step size (Esser et al. 2020, arXiv 1902.08153), with an offset as in LSQ+
(Bhalgat et al. 2020, arXiv 2004.09576): in the forward pass a number is the middle of its step, gradients go straight
through where it is not clipped, and step and offset have the gradients that the papers give.

Decisions:
- What the stream changes: rows start near zero and grow for days, so in the first hours step and offset are taken from
  the rows at each hour's end, and learnt from there on.
- A step and an offset for each field, in half precision, which the slot tells: a scale a row would take as much as 4
  bits of a number.
- The middle of a step and not its edge, so that 2 bits have two levels on either side.
- A row's bits are the value of the keyless index: `bits x D` of them, no row numbers.

Shapes: N vectors, D width, F fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.compression import stored
from benchmarks.compression.coded import Coder, Scalars, steps_for

if TYPE_CHECKING:
    from saec.config import Config

FITTED_HOURS = 12
"""Hours after which steps are learnt and no longer fitted."""
SCALAR_RATE = 0.002
"""Adam's rate on offsets and logarithms of steps."""


class LowBits(Coder):
    """So many bits for each number of a row."""

    def __init__(self, config: Config, bits: int) -> None:
        """Steps as the first rows want them."""
        super().__init__(config)
        self.bits, self.value_bits = bits, bits * self.width
        self.log_steps_F = Scalars(np.full(self.fields, np.log(0.01)), SCALAR_RATE)
        self.offsets_F = Scalars(np.zeros(self.fields), SCALAR_RATE)

    def besides(self) -> float:
        """A step and an offset a field."""
        return 4.0 * self.fields

    def decoded(self, vectors_ND: Tensor, rows_N: NDArray[np.int64]) -> Tensor:
        """Through the levels and back."""
        fields_N = torch.from_numpy(self.fields_V[rows_N])
        step_N1 = self.log_steps_F.values.exp()[fields_N][:, None]
        offset_N1 = self.offsets_F.values[fields_N][:, None]
        return levels((vectors_ND - offset_N1) / step_N1, self.bits) * step_N1 + offset_N1

    def learn_codes(self) -> None:
        """Steps and offsets."""
        self.log_steps_F.learn()
        self.offsets_F.learn()

    def refit(self, vectors: Callable[[], NDArray[np.float32]], rows_N: NDArray[np.int64], hours: int) -> None:
        """In the first hours, steps and offsets as the vectors want them."""
        if hours <= FITTED_HOURS:
            with torch.no_grad():
                for field, offset, centred_ND in centred(vectors(), self.fields_V[rows_N]):
                    self.offsets_F.values[field] = offset
                    self.log_steps_F.values[field] = np.log(steps_for(centred_ND, self.bits))

    def restored(self, vectors_ND: NDArray[np.float32], rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """By levels, and steps and offsets in half precision."""
        fields_N = self.fields_V[rows_N]
        step_N1 = stored.as_float16(self.log_steps_F.values.detach().exp().numpy())[fields_N][:, None]
        offset_N1 = stored.as_float16(self.offsets_F.values.detach().numpy())[fields_N][:, None]
        return stored.as_levels((vectors_ND - offset_N1) / step_N1, self.bits) * step_N1 + offset_N1


def centred(
    vectors_ND: NDArray[np.float32], fields_N: NDArray[np.int64]
) -> Iterator[tuple[int, float, NDArray[np.float32]]]:
    """Each field, the mean of its vectors' numbers, and the vectors without it."""
    for field in np.unique(fields_N):
        own_ND = vectors_ND[fields_N == field]
        offset = float(own_ND.mean())
        yield int(field), offset, own_ND - offset


def levels(scaled: Tensor, bits: int) -> Tensor:
    """As `stored.as_levels`, with gradients straight through to what is not clipped."""
    half = 2.0 ** (bits - 1)
    clipped = scaled.clamp(-half, half - 1e-3)
    return clipped + (clipped.floor() + 0.5 - clipped).detach()
