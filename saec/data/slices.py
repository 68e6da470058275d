"""Assigns an hour's rows to slices by the value of a column, such as device, site or country, for figures by slice.

Keys are hashes, so slices are assigned while the raw values are still available. Decisions: each of a column's most
frequent values of the hour is a slice, all others form one, and so do nulls. Names are shortened to fit a table. Slices
do not affect training: no byte of a version or a checkpoint depends on them.

Shapes: B rows of the hour itself, without late ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from saec.data.columns import value_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 8
"""Values of a column that are told apart, at most."""
OTHER, NULL = "(other)", "(null)"
LONGEST = 40
"""Characters of a name."""


@dataclass(frozen=True)
class Slices:
    """One column's slices."""

    names: tuple[str, ...]
    """The most frequent first, then the others, then nulls, as far as there are any."""
    codes_B: NDArray[np.uint8]
    """For each row, which of them it is in."""


def sliced(column: pa.ChunkedArray) -> Slices:
    """The slices of a column of single values.

    >>> found = sliced(pa.chunked_array([["a", "b", "a", None]]))
    >>> found.names, found.codes_B.tolist()
    (('a', 'b', '(null)'), [0, 1, 0, 2])
    """
    values, index_B = value_codes(column.combine_chunks())
    counts_U = np.bincount(index_B[index_B >= 0], minlength=len(values))
    names_U = [_name(value) for value in values.to_pylist()]
    # By name among equals, so that the order of rows and files says nothing.
    order = sorted(np.flatnonzero(counts_U).tolist(), key=lambda place: (-counts_U[place], names_U[place]))
    names = dict.fromkeys(names_U[place] for place in order[:MOST])
    rest = [OTHER] * (len(order) > MOST) + [NULL] * bool((index_B < 0).any())
    places = {name: place for place, name in enumerate(dict.fromkeys([*names, *rest]))}
    kept = set(order[:MOST])
    place_U = [places[names_U[place]] if place in kept else places.get(OTHER, 0) for place in range(len(names_U))]
    table = np.array([*place_U, places.get(NULL, 0)], np.uint8)  # null is -1: the last
    return Slices(tuple(places), table[index_B])


def _name(value: object) -> str:
    """A value as people read it."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
