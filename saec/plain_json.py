"""Converts values to plain JSON, which has neither NaN, infinity nor tuples."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any


def plain_json(value: Any) -> Any:
    """The value with numbers that are not finite as None, tuples as lists and enums as their values, at any depth.

    >>> plain_json({"auc": float("nan"), "rows": (3, 4)})
    {'auc': None, 'rows': [3, 4]}
    """
    if isinstance(value, dict):
        return {key: plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return None if isinstance(value, float) and not math.isfinite(value) else value
