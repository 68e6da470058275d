"""Finds the label column of a log and the values that mean a click.

Decisions: known names are tried in order, clicks before events that follow a click (such as conversions). A two-valued
column without a known name is chosen only if there is no other.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as t

from saec.discover.types import is_text
from saec.errors import ConfigError, nearest

_NAMES = (
    "clicked",
    "click",
    "is_click",
    "is_clicked",
    "was_clicked",
    "isclick",
    "clk",
    "ctr_label",
    "label",
    "target",
    "y",
    "is_attributed",
    "converted",
    "conversion",
    "response",
    "outcome",
    "installed",
    "purchased",
)
_CLICKED = (
    frozenset({"true"}),
    frozenset({"yes"}),
    frozenset({"y"}),
    frozenset({"t"}),
    frozenset({"click"}),
    frozenset({"clicked"}),
    frozenset({"1"}),
    frozenset({"1.0"}),
)
_OTHERS = frozenset({"false", "no", "n", "f", "0", "0.0", "-1", "-1.0", "impression", "view", "not_clicked", "none"})


@dataclass(frozen=True)
class Label:
    """The label's column."""

    name: str
    clicked: frozenset[str] | None
    """Values, in lower case, that are a click; None when the column holds 0 and 1, or truth values."""


def find_label(rows: pa.Table, wanted: str | None, taken: Collection[str]) -> Label:
    """The column that says whether a row was clicked.

    Raises:
        ConfigError: when none does, or more than one may, or the one that was named does not.
    """
    if wanted is not None:
        if wanted not in rows.column_names:
            raise ConfigError(
                f"--label: there is no column {wanted!r}{nearest(wanted, rows.column_names)}; there are "
                f"{', '.join(rows.column_names)}"
            )
        label = _label(rows, wanted)
        if label is None:
            shown = rows[wanted].unique().slice(0, 5).to_pylist()
            raise ConfigError(f"--label: column {wanted!r} is not of two values of which one is a click: {shown}")
        return label
    found = [label for name in rows.column_names if name not in taken and (label := _label(rows, name))]
    named = [label for label in found if _rank(label.name) < len(_NAMES)]
    if named:
        return min(named, key=lambda label: _rank(label.name))
    if len(found) == 1:
        return found[0]
    what = f"{', '.join(label.name for label in found)} may" if found else "none of 0 and 1 is there"
    raise ConfigError(
        f"no column is called as labels are (clicked, click, label, ...), and {what}; name it with "
        f"--label (columns: {', '.join(rows.column_names)})"
    )


def _rank(name: str) -> int:
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return _NAMES.index(plain) if plain in _NAMES else len(_NAMES)


def _label(rows: pa.Table, name: str) -> Label | None:
    """The label that a column makes, if it is one."""
    column = rows[name]
    kind = column.type
    if not (t.is_integer(kind) or t.is_boolean(kind) or t.is_floating(kind) or is_text(kind)):
        return None
    if column.null_count > 0.01 * len(column):
        return None
    values = {str(value).strip().lower() for value in column.unique().slice(0, 5).to_pylist() if value is not None}
    if not 1 <= len(values) <= 2 or (len(values) == 1 and _rank(name) == len(_NAMES)):
        return None
    if t.is_boolean(kind) or (t.is_integer(kind) and values <= {"0", "1"}):
        return Label(name, None)
    clicked = next((clicked for clicked in _CLICKED if values & clicked and values - clicked <= _OTHERS), None)
    if clicked is None and values <= _OTHERS and _rank(name) < len(_NAMES):
        clicked = frozenset({"1", "1.0", "true"})
    if clicked is None:
        return None
    return Label(name, clicked if not t.is_floating(kind) else frozenset({"1", "1.0"}))
