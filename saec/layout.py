"""Maps fields to columns of the key matrix, in the same way for training (settings) and serving (schema).

Shapes: F fields, S slots.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

CLOCKS = {"hour_of_day": 24, "day_of_week": 7}
"""Kinds of fields that are derived from the event's time and read no column, and how many values each has."""

_LARGEST = 3.4028234663852886e38  # of the 32-bit floats


class FieldLike(Protocol):
    """The attributes of a field that decide its layout."""

    @property
    def name(self) -> str:
        """The field's name."""

    @property
    def kind(self) -> str:
        """How values become features."""

    @property
    def column(self) -> str | None:
        """Column to read; the field's own name when None."""

    @property
    def max_values(self) -> int:
        """Maximum number of values used of a list."""


def source_column(field: FieldLike) -> str | None:
    """The column that a field reads, or None for one derived from the event's time."""
    return None if field.kind in CLOCKS else (field.column or field.name)


def slots(field: FieldLike) -> int:
    """Columns that a field takes in the key matrix: `max_values` for a list, else 1."""
    return field.max_values if field.kind == "list" else 1


def field_names(fields: Sequence[FieldLike], crosses: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Names of all F fields of the model: the declared ones, then the crosses."""
    return (*(field.name for field in fields), *("&".join(cross) for cross in crosses))


def slot_fields(fields: Sequence[FieldLike], crosses: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """For each of the S columns of the key matrix, the index of its field."""
    counts = [slots(field) for field in fields] + [1] * len(crosses)
    return tuple(index for index, count in enumerate(counts) for _ in range(count))


def single(number: float) -> float:
    """The nearest 32-bit float; numbers and boundaries of a field of floats are compared in this form.

    >>> single(0.5), single(0.7) == 0.7, single(1e300)
    (0.5, False, 3.4028234663852886e+38)
    """
    found: float = struct.unpack("f", struct.pack("f", max(-_LARGEST, min(number, _LARGEST))))[0]
    return found
