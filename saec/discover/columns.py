"""Classifies the columns of a sample: a field and its kind, a row id, a constant, another time, or a leak.

Decisions, all on a sample of whole hours in the order of their time:

- *Row ids* are whole numbers or text that differ in every row. They identify duplicates and say nothing about clicks.
- *Leaks* are columns that alone predict the label too well: AUC above `LEAK_AUC` on later rows, by what earlier rows
  say of the same values; or a value (or its mere presence) that comes with clicks alone. They are known after the
  click.
- *Passing* are codes that no later hour of the sample sees again (session, request): nothing could be learnt of them.
- *Counts and amounts* are numeric; codes are categories. Whole numbers are told apart by name where it says, else by
  how many values there are and whether they lie near zero. Floats are numeric; where the usual buckets, which grow by a
  factor of the square root of two, hold most rows in a few, boundaries are quantiles of the sample.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t
from numpy.typing import NDArray

from saec.data.columns import is_list, list_lengths
from saec.data.features import buckets
from saec.discover.signal import single_auc
from saec.discover.types import is_text

Role = Literal["field", "row id", "left out", "time", "label"]
LEAK_AUC = 0.9
FEWEST_ROWS = 100
"""Rows of a sample below which nothing is concluded from values that never repeat."""
_FEW = 64
_FOLDS = 6
_MANY = 1_000
_CODE = re.compile(
    r"(^|_)(id|ids|uid|gid|code|key|hash|ip|zip|postcode|type|kind|category|class|flag|is|cluster"
    r"|segment|user|item|ad|ads|site|app|campaign|advertiser|publisher|creative|banner|device|model|brand"
    r"|region|city|country|os|browser|channel|slot|zone|group|version|pos|position|cat|c\d+)($|_)|id$"
)
_AMOUNT = re.compile(
    r"price|cost|amount|bid|count|cnt|num|age|duration|seconds|score|rate|ratio|length|(^|_)len|size"
    r"|distance|dist|value|balance|weight|width|height|freq|days|minutes|views|clicks|impressions"
    r"|temperature|lat$|lon$|latitude|longitude|dwell|elapsed|(^|_)(ms|sec|secs|time|i\d+)$"
)


@dataclass(frozen=True)
class ColumnSeen:
    """One column and its classification."""

    name: str
    type: str
    """Its type in the log, as Arrow calls it."""
    role: Role
    why: str
    """The reason, for people."""
    nulls: float = 0.0
    """Share of rows that are null."""
    distinct: int = 0
    """Distinct values in the sample."""
    auc: float | None = None
    """Of the column alone, on the later rows of the sample."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the field that it is or could be, as in the configuration."""


@dataclass(frozen=True)
class Sample:
    """Whole hours of a log, in the order of their time."""

    rows: pa.Table
    labels_B: NDArray[np.uint8]
    hours_B: NDArray[np.int64]
    """Index of each row's hour."""

    @property
    def late_B(self) -> NDArray[np.bool_]:
        """The later third, by whole hours where there are three: what a column tells is measured there."""
        distinct = np.unique(self.hours_B)
        if len(distinct) < 3:
            return np.arange(len(self.hours_B)) >= 2 * len(self.hours_B) // 3
        split = np.quantile(self.hours_B, 2 / 3)
        late_B: NDArray[np.bool_] = self.hours_B > split
        return late_B if late_B.mean() > 0.1 else self.hours_B >= split

    @property
    def folds(self) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Earlier rows, and those of one of the later hours, a few times; thirds where there are too few hours."""
        hours = np.unique(self.hours_B)
        later = hours[len(hours) // 2 :]
        if len(hours) < 4:
            return [(~self.late_B, self.late_B)]
        chosen = later[np.unique(np.linspace(0, len(later) - 1, _FOLDS).astype(int))]
        return [(self.hours_B < hour, self.hours_B == hour) for hour in chosen]


def codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """For each row which distinct value it has; null is a value too. Floats by bucket, lists by their first value."""
    array = column.combine_chunks()
    array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
    if is_list(array.type):
        array = pc.list_element(pc.if_else(pc.greater(pc.list_value_length(array), 0), array, None), 0)
    if t.is_floating(array.type):
        values_B = np.nan_to_num(array.to_numpy(zero_copy_only=False), nan=-1.0, posinf=1e300, neginf=-1e300)
        array = pc.if_else(array.is_valid(), pa.array(buckets(values_B, ())), None)
    encoded = array if t.is_dictionary(array.type) else array.dictionary_encode()
    indices = pc.fill_null(encoded.indices.cast(pa.int64()), len(encoded.dictionary))
    return np.asarray(indices.to_numpy(zero_copy_only=False), np.int64)


def look_at(name: str, sample: Sample) -> ColumnSeen:
    """Classify one column, neither the time nor the label."""
    column = sample.rows[name]
    kind = column.type.value_type if t.is_dictionary(column.type) else column.type
    seen: dict[str, Any] = {"name": name, "type": str(kind), "nulls": column.null_count / max(len(column), 1)}
    if not _usable(kind):
        return ColumnSeen(role="left out", why=f"values of type {kind} can be no field", **seen)
    codes_B = codes(column)
    distinct = len(np.unique(codes_B)) if t.is_floating(kind) or is_list(kind) else pc.count_distinct(column).as_py()
    seen["distinct"] = distinct
    seen["settings"], why = _field(name, column, kind, distinct)
    if distinct + (seen["nulls"] > 0) < 2:
        return ColumnSeen(role="left out", why="is the same in every row", **seen)
    if _is_row_id(column, kind, distinct):
        return ColumnSeen(role="row id", why="is different in every row", **seen)
    auc = single_auc(codes_B, sample.labels_B, sample.late_B)
    leak = _leak(column, codes_B, sample, auc)
    if leak:
        return ColumnSeen(role="left out", why=leak, auc=auc, **seen)
    if distinct > 0.05 * len(column) > FEWEST_ROWS and not t.is_floating(kind) and _passing(codes_B, sample):
        return ColumnSeen(
            role="left out", why="no value is seen again in a later hour (a session or a request?)", auc=auc, **seen
        )
    return ColumnSeen(role="field", why=why, auc=auc, **seen)


def proposed(name: str, column: pa.ChunkedArray) -> dict[str, Any] | None:
    """Settings of a field of a column as its values would have it; None where they can be no field."""
    kind = column.type.value_type if t.is_dictionary(column.type) else column.type
    if not _usable(kind):
        return None
    column = column.cast(kind) if kind != column.type else column
    distinct = 0 if is_list(kind) or t.is_floating(kind) else pc.count_distinct(column).as_py()
    return _field(name, column, kind, distinct)[0]


def _usable(kind: pa.DataType) -> bool:
    """Whether a field can be read from such values."""
    inner = kind.value_type if is_list(kind) else kind
    inner = inner.value_type if t.is_dictionary(inner) else inner
    return t.is_integer(inner) or t.is_boolean(inner) or is_text(inner) or (t.is_floating(inner) and not is_list(kind))


def _is_row_id(column: pa.ChunkedArray, kind: pa.DataType, distinct: int) -> bool:
    """Whether each row has its own value."""
    whole = t.is_integer(kind) or is_text(kind)
    return bool(whole and not column.null_count and distinct == len(column) >= FEWEST_ROWS)


def _leak(column: pa.ChunkedArray, codes_B: NDArray[np.int64], sample: Sample, auc: float | None) -> str:
    """Why a column looks as if it were known only after the click; empty if it does not."""
    rate = float(sample.labels_B.mean())
    if auc is not None and auc > LEAK_AUC:
        return f"predicts the label too well to be known before it: AUC {auc:.3f} alone"
    if rate >= 0.5:
        return ""
    valid_B = np.asarray(column.is_valid().to_numpy())
    clicks = int(sample.labels_B.sum())
    if (
        column.null_count > 0
        and (known := int(sample.labels_B[valid_B].sum())) >= max(20, 0.05 * clicks)
        and known == valid_B.sum()
    ):
        return f"has a value in clicked rows only ({known:,} of them)"
    count_V, clicked_V = np.bincount(codes_B), np.bincount(codes_B, sample.labels_B)
    sure_V = (clicked_V == count_V) & (count_V >= max(20, 0.05 * clicks))
    if len(count_V) <= _FEW and sure_V.any():
        return f"has a value that all come with a click ({int(count_V[sure_V].max()):,} rows)"
    return ""


def _passing(codes_B: NDArray[np.int64], sample: Sample) -> bool:
    """Whether values hardly come back in later hours."""
    hours = np.unique(sample.hours_B)
    if len(hours) < 3:
        return False
    first_V = np.full(codes_B.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_V, codes_B, sample.hours_B)
    later_B = sample.hours_B > hours[0]
    return bool((first_V[codes_B] < sample.hours_B)[later_B].mean() < 0.01)


def _field(name: str, column: pa.ChunkedArray, kind: pa.DataType, distinct: int) -> tuple[dict[str, Any], str]:
    """Settings of a field, and what they follow from."""
    settings: dict[str, Any] = {"name": name}
    nullable = {"nullable": True} if column.null_count else {}
    if is_list(kind):
        lengths = list_lengths(pa.concat_arrays(column.chunks))
        inner = kind.value_type.value_type if t.is_dictionary(kind.value_type) else kind.value_type
        most = int(np.clip(np.quantile(lengths, 0.95), 1, 32))
        settings |= {"kind": "list", **_type(inner), **nullable, "max_values": most}
        return settings, f"lists of up to {int(lengths.max())} values"
    if t.is_floating(kind):
        return settings | {"kind": "numeric", "type": "float", **_edges(column), **nullable}, "floats"
    settings |= _type(kind)
    if not t.is_integer(kind):
        return settings | nullable, f"{distinct:,} values"
    if _is_amount(name, column, distinct):
        return settings | {"kind": "numeric", **nullable}, f"an amount or a count, {distinct:,} values"
    return settings | nullable | _cap(name, column, distinct), f"a code, {distinct:,} values"


def _type(kind: pa.DataType) -> dict[str, str]:
    """The type of a field; int is the default."""
    if t.is_integer(kind):
        return {}
    return {"type": "bool" if t.is_boolean(kind) else "string"}


def _is_amount(name: str, column: pa.ChunkedArray, distinct: int) -> bool:
    """Whether whole numbers count or measure something."""
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if distinct <= _FEW or _CODE.search(plain):
        return False
    if _AMOUNT.search(plain):
        return True
    values_B = _numbers(column)
    low, middle, high = np.quantile(values_B, [0.0, 0.5, 0.99])
    return bool(distinct > _MANY and low >= -1 and middle < 0.2 * high)


def _cap(name: str, column: pa.ChunkedArray, distinct: int) -> dict[str, int]:
    """A cap for counts with a long tail: beyond it lies a row in a thousand."""
    values_B = _numbers(column)
    if re.search(r"(?i)id$", name) or not 8 < distinct <= _MANY or values_B.min() < 0:
        return {}
    high, most = float(np.quantile(values_B, 0.999)), float(values_B.max())
    dense = len(np.unique(values_B[values_B <= high])) >= 0.7 * high
    return {"cap": int(high)} if dense and most > 1.5 * high >= 4 else {}


def _edges(column: pa.ChunkedArray) -> dict[str, list[float]]:
    """Boundaries where the usual buckets are too coarse for the values there are."""
    values_B = _numbers(column)
    if not len(values_B):
        return {}
    shares = np.unique(buckets(values_B, ()), return_counts=True)[1] / len(values_B)
    if np.exp(-np.sum(shares * np.log(shares))) >= 8:
        return {}
    distinct = np.unique(values_B)
    if len(distinct) <= 20:
        edges = distinct[1:]
    else:
        edges = np.unique([float(f"{edge:.3g}") for edge in np.quantile(values_B, np.arange(1, 16) / 16)])
    return {"boundaries": [float(edge) for edge in edges]} if len(edges) else {}


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """The finite values of a column of numbers."""
    values_B: NDArray[np.float64] = column.drop_null().to_numpy().astype(np.float64)
    return np.asarray(values_B[np.isfinite(values_B)])
