"""HotSketch: finds the most important features of a stream in bounded memory (CAFE, Zhang et al., SIGMOD 2024).

The algorithm is space-saving (Metwally et al. 2005) in buckets of four slots. A key's hash names its bucket. A key that
has a slot adds to its score; one that has none takes a free slot, or the slot with the lowest score, and continues from
that score.

Decisions: a batch's keys are taken all at once, one a bucket in each round, so that numpy does the work. Rows are given
out every few batches: free ones to the best, then those of the weakest to whoever has half as much again, so that
features of like importance do not change places all the time.

Shapes: N keys, X buckets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saec.data.hashing import mixed

SLOTS = 4
AHEAD = 1.5
"""How much more important a feature must be than one whose row it takes."""


class HotSketch:
    """Keys with scores, the most important of which own a row."""

    def __init__(self, buckets: int, rows: int) -> None:
        """No keys, and so many rows to give out."""
        self.keys_XS = np.zeros((buckets, SLOTS), np.uint64)
        self.scores_XS = np.zeros((buckets, SLOTS), np.float64)
        self.rows_XS = np.full((buckets, SLOTS), -1, np.int64)
        self.rows = rows

    def find(self, keys_N: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row of each key, -1 for one that has none."""
        buckets_N = self._buckets(keys_N)
        same_NS = self.keys_XS[buckets_N] == keys_N[:, None]
        return np.where(same_NS, self.rows_XS[buckets_N], -1).max(1, initial=-1)

    def add(self, keys_N: NDArray[np.uint64], importance_N: NDArray[np.float64]) -> None:
        """Add to the scores of distinct keys."""
        waiting = np.arange(len(keys_N))
        while len(waiting):
            buckets, first = np.unique(self._buckets(keys_N[waiting]), return_index=True)
            now = waiting[first]
            same_NS = self.keys_XS[buckets] == keys_N[now][:, None]
            held = same_NS.any(1)
            slots = np.where(held, same_NS.argmax(1), self.scores_XS[buckets].argmin(1))
            self.keys_XS[buckets, slots] = keys_N[now]
            self.scores_XS[buckets, slots] += importance_N[now]
            self.rows_XS[buckets[~held], slots[~held]] = -1
            waiting = np.delete(waiting, first)

    def decay(self, factor: float) -> None:
        """Let all scores fade."""
        self.scores_XS *= factor

    def hot(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Keys that own a row, and their rows."""
        owns_XS = self.rows_XS >= 0
        return self.keys_XS[owns_XS], self.rows_XS[owns_XS]

    def give_out(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Give rows to the most important keys.

        Returns:
            Keys that have a row from now on, and had none before, with their rows.
        """
        keys, scores, rows = self.keys_XS.ravel(), self.scores_XS.ravel(), self.rows_XS.ravel()
        hot, cold = np.flatnonzero(rows >= 0), np.flatnonzero((rows < 0) & (scores > 0))
        free = np.setdiff1d(np.arange(self.rows), rows[hot], assume_unique=True)
        cold = cold[np.argsort(-scores[cold], kind="stable")]
        promoted, better = cold[: len(free)], cold[len(free) :]
        weak = hot[np.argsort(scores[hot], kind="stable")][: len(better)]
        better = better[: len(weak)]
        swapped = scores[better] > AHEAD * scores[weak]  # falls from true to false
        better, weak = better[swapped], weak[swapped]
        given = np.concatenate([free[: len(promoted)], rows[weak]])
        winners = np.concatenate([promoted, better])
        rows[weak] = -1
        rows[winners] = given
        self.rows_XS = rows.reshape(self.rows_XS.shape)
        return keys[winners], given

    def _buckets(self, keys_N: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (mixed(keys_N) % np.uint64(len(self.keys_XS))).astype(np.int64)
