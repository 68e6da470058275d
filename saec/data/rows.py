"""An hour's encoded rows: the file that all later steps of the hour read.

Decisions: safetensors (no code on the load path, the same bytes for the same rows), rows sorted by time. The cut
between train and gate rows is in time: rows with the same timestamp are never on both sides, because the gate must not
see training rows.

Shapes: B rows, S slots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from saec.durable import write_file
from saec.errors import IntegrityError

_DTYPES = {"labels_B": np.uint8, "times_B": np.int64, "keys_BS": np.uint64}
_WEIGHTS = {"weights_B": np.float64}


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Labels, times and feature keys of some rows, in the order of their time."""

    labels_B: NDArray[np.uint8]
    """0 or 1."""
    times_B: NDArray[np.int64]
    """Milliseconds since the epoch, UTC, never descending."""
    keys_BS: NDArray[np.uint64]
    """Feature keys by slot (`Config.slot_fields`); 0 is padding."""
    weights_B: NDArray[np.float64] | None = None
    """How many rows of the full traffic each stands for; None where each stands for itself."""

    def __len__(self) -> int:
        return len(self.labels_B)

    @classmethod
    def joined(cls, parts: Iterable[EncodedRows]) -> EncodedRows:
        """Rows one after the other; the times of each part come after those of the part before."""
        parts = list(parts)
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in parts[0].names))

    def taken(self, chosen: NDArray[np.int64]) -> EncodedRows:
        """Some of the rows, by ascending positions."""
        return EncodedRows(*(getattr(self, name)[chosen] for name in self.names))

    @property
    def stand_for(self) -> tuple[float, float] | None:
        """How many rows of the full traffic these stand for, and how many with label 1; None where each for itself."""
        if self.weights_B is None:
            return None
        return float(self.weights_B.sum()), float(self.weights_B[self.labels_B == 1].sum())

    @property
    def names(self) -> list[str]:
        """The arrays that there are, by name."""
        return [name for name in (*_DTYPES, *_WEIGHTS) if getattr(self, name) is not None]

    def save(self, path: Path) -> str:
        """Write the rows to a file, whole or not at all.

        Returns:
            sha256 (hex) of the file; equal rows have equal bytes.
        """
        kinds = _DTYPES | _WEIGHTS
        tensors = {name: np.ascontiguousarray(getattr(self, name), kinds[name]) for name in self.names}
        data = save(tensors)
        write_file(path, data)
        return hashlib.sha256(data).hexdigest()

    @classmethod
    def load(cls, path: Path, sha256: str | None = None) -> EncodedRows:
        """Read rows back; the arrays are read-only.

        Args:
            path: File written by `save`.
            sha256: What `save` returned; not verified when None.

        Raises:
            IntegrityError: when the file is gone, not what was saved, or holds no such rows.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise IntegrityError(f"encoded rows {path} are not there; ingest the hour again") from None
        found = hashlib.sha256(data).hexdigest()
        if sha256 not in (None, found):
            raise IntegrityError(f"encoded rows {path} have sha256 {found}, wanted {sha256}; ingest the hour again")
        try:
            tensors = load(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise IntegrityError(f"encoded rows {path} are not safetensors: {error}; ingest the hour again") from None
        _check_shapes(tensors, path)
        return cls(tensors["labels_B"], tensors["times_B"], tensors["keys_BS"], tensors.get("weights_B"))

    def cut(self, gate_share: float) -> int:
        """Index of the first gate row; rows before it are trained on.

        The cut is the instant nearest to the wanted share at which both sides have rows; where all rows are of one
        instant there is none, and all are train rows.

        Args:
            gate_share: Wanted share of gate rows, between 0 and 1.

        >>> times_B = np.array([1, 2, 3, 3])
        >>> EncodedRows(np.ones(4, np.uint8), times_B, np.ones((4, 1), np.uint64)).cut(0.3)
        2
        """
        count = len(self)
        if not count:
            return 0
        wanted = min(max(round(count * (1 - gate_share)), 1), count - 1)
        instant = self.times_B[wanted]
        first, after = (int(np.searchsorted(self.times_B, instant, side)) for side in ("left", "right"))
        possible = [index for index in (first, after) if 0 < index < count]
        return min(possible, key=lambda index: abs(index - wanted), default=count)


def _check_shapes(tensors: dict[str, Any], path: Path) -> None:
    """Refuse tensors that are not those of encoded rows."""
    found = {name: tensor.dtype.type for name, tensor in tensors.items()}
    rows = {len(tensor) for tensor in tensors.values() if tensor.ndim}
    known = found in (_DTYPES, _DTYPES | _WEIGHTS)
    if not known or len(rows) != 1 or [tensors[name].ndim for name in _DTYPES] != [1, 1, 2]:
        shapes = {name: f"{tensor.dtype}{list(tensor.shape)}" for name, tensor in tensors.items()}
        raise IntegrityError(
            f"{path} holds {shapes}, wanted labels_B uint8 [B], times_B int64 [B], keys_BS uint64 "
            "[B, S]; ingest the hour again"
        )
