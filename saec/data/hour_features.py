"""Collects the distinct features of one hour, to ask the vocabulary about them, and their places in the hour's rows.

Shapes: B rows of an hour, S slots, U distinct features of the hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PADDING_ROW = -1
"""Row of an unused slot of a list field."""


@dataclass(frozen=True)
class HourFeatures:
    """The distinct features of one hour and where they stand in its key matrix.

    `keys_U` ascend; `fields_U` are their fields; `counts_U` their sightings in the hour;
    `inverse_BS` gives for each cell of the key matrix its place in `keys_U`, or -1 for padding.
    """

    keys_U: NDArray[np.uint64]
    fields_U: NDArray[np.int64]
    counts_U: NDArray[np.int64]
    inverse_BS: NDArray[np.int64]

    @classmethod
    def of(cls, keys_BS: NDArray[np.uint64], slot_fields_S: NDArray[np.int64]) -> HourFeatures:
        """Sort an hour's keys into distinct features."""
        keys_U, first_U, inverse, counts_U = np.unique(
            keys_BS, return_index=True, return_inverse=True, return_counts=True
        )
        inverse_BS = inverse.reshape(keys_BS.shape)
        fields_U = slot_fields_S[first_U % keys_BS.shape[1]] if len(keys_U) else np.zeros(0, np.int64)
        if len(keys_U) and keys_U[0] == 0:
            return cls(keys_U[1:], fields_U[1:], counts_U[1:], inverse_BS - 1)
        return cls(keys_U, fields_U, counts_U, inverse_BS)

    def sightings(self, rows: slice) -> NDArray[np.int64]:
        """Sightings of each distinct feature (U) in some rows of the hour."""
        cells = self.inverse_BS[rows].ravel()
        return np.bincount(cells[cells >= 0], minlength=len(self.keys_U))

    def spread(self, values_U: NDArray[np.int64], padding: int = PADDING_ROW) -> NDArray[np.int64]:
        """One value per distinct feature, laid out as the key matrix."""
        return np.append(values_U, padding)[self.inverse_BS]
