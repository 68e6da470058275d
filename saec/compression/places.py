"""Converts a feature's code within its field to its place: the index among the codewords of all fields.

Decisions: the first two codes of a field mean the same in every field and every hour; its clusters follow. Only numpy
is imported, because serving needs this module too.

Shapes: F fields, T codewords of all fields, B rows, S slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DEFAULT, NEWCOMER, CLUSTERS = 0, 1, 2
"""Code of the tail and the unknown, code of newcomers, first code of a cluster."""


def places(
    codes_BS: NDArray[np.signedinteger], counts_F: NDArray[np.int64], slot_fields: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.int64]:
    """Codes within fields as places among all T codewords, -1 for padding.

    Args:
        codes_BS: the code of each slot in its field's codebook, negative for padding.
        counts_F: clusters of each field.
        slot_fields: the field of each slot.
    """
    starts_S = starts(counts_F)[np.asarray(slot_fields)]
    return np.where(codes_BS < 0, -1, codes_BS + starts_S)


def starts(counts_F: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each field's codewords start among all T."""
    starts_F: NDArray[np.int64] = np.cumsum(counts_F + CLUSTERS) - (counts_F + CLUSTERS)
    return starts_F
