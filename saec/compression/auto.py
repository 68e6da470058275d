"""Chooses the ratio for `ratio: auto`: the smallest version that has cost nothing lately.

Each hour three kinds of models score the gate rows before they are learnt: the original, the challenger, and the
challenger with only the codes of smaller and smaller heads. The paired differences from the original are summed for
each ratio of a fixed ladder. The next hour takes the largest ratio up to which nothing was lost, at most one step up or
down.

Decisions:
- "Nothing lost" means that over the remembered hours the mean difference in log loss plus one standard error is not
  above 0, and the mean AUC is no lower.
- A trial drops codes without retraining, so it looks worse than the ratio will be once it is used. The ladder is
  therefore climbed cautiously, never past a step that lost.
- Rows of earlier hours decide the hour's ratio, so the hour's own gate stays unbiased.
- Time: a scoring of the gate rows for each trial, a few per cent of an hour's work.

Shapes: L steps of the ladder, B gate rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from saec.compression.dial import FIRST_RATIO
from saec.compression.heads import KEPT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saec.train.tensors import Arrays

LADDER = np.round(FIRST_RATIO * 2.0 ** (np.arange(25) / 3))
"""Ratios of the ladder: three steps double the compression."""
START = 0
"""Step of the first hour."""
AHEAD = 2
"""Larger ratios tried each hour."""
ENOUGH_ROWS = 2_000
"""Rows of evidence for a step to be taken."""


@dataclass(frozen=True)
class Auto:
    """The hour's step on the ladder, and the evidence on each step (sums over rows, decayed)."""

    step: int
    rows_L: NDArray[np.float64]
    added_L: NDArray[np.float64]
    """Log loss of the challenger less that of the original."""
    added_squared_L: NDArray[np.float64]
    gained_L: NDArray[np.float64]
    """AUC of the challenger less that of the original, times the hour's rows."""

    @classmethod
    def start(cls) -> Auto:
        """Nothing seen yet."""
        none_L = np.zeros(len(LADDER))
        return cls(START, none_L, none_L, none_L, none_L)

    def arrays(self) -> Arrays:
        """Everything as named arrays."""
        return {**vars(self), "step": np.array(self.step)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Auto:
        """The inverse of `arrays`."""
        return cls(**{**arrays, "step": int(arrays["step"])})  # type: ignore[arg-type]

    @property
    def ratio(self) -> float:
        """The ratio of the coming hour."""
        return float(LADDER[self.step])

    @property
    def trials(self) -> list[float]:
        """Ratios to try beside it."""
        return [float(ratio) for ratio in LADDER[self.step + 1 : self.step + 1 + AHEAD]]

    def learned(self, added_TB: list[NDArray[np.float64]], gained_T: list[float]) -> Auto:
        """Add one hour's evidence and move to the next hour's step.

        Args:
            added_TB: log loss of each gate row less the original's, at the hour's ratio and at each trial.
            gained_T: AUC of each less the original's.
        """
        sums = {name: KEPT * getattr(self, name) for name in ("rows_L", "added_L", "added_squared_L", "gained_L")}
        for step, (added_B, gained) in enumerate(zip(added_TB, gained_T, strict=True), start=self.step):
            sums["rows_L"][step] += len(added_B)
            sums["added_L"][step] += added_B.sum()
            sums["added_squared_L"][step] += np.square(added_B).sum()
            sums["gained_L"][step] += gained * len(added_B)
        seen = replace(self, **sums)
        return replace(seen, step=seen.next_step())

    def next_step(self) -> int:
        """One step up if that has cost nothing, one down if the current step has cost something, else none."""
        up = self.step + 1
        if up < len(LADDER) and self._free(self.step) and self._free(up):
            return up
        if self.step > 0 and self.rows_L[self.step] >= ENOUGH_ROWS and not self._free(self.step):
            return self.step - 1
        return self.step

    def _free(self, step: int) -> bool:
        """Whether enough evidence shows that a step has cost nothing."""
        rows = self.rows_L[step]
        if rows < ENOUGH_ROWS:
            return False
        mean = self.added_L[step] / rows
        error = np.sqrt(max(self.added_squared_L[step] / rows - mean**2, 0.0) / rows)
        return bool(mean + error <= 0.0 and self.gained_L[step] >= 0.0)
