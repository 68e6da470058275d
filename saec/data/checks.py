"""Checks the rows of an hour, sets bad rows aside, and refuses an hour that is unfit to learn from.

Row rules: no nulls where they are not allowed, no NaN or infinity, labels only 0 and 1, times within the hour, and by
setting no rows of one id with different labels. A bad row is set aside under the first rule it breaks. If more than
`data.max_bad_share` of the rows are bad, the feed is at fault and the hour is quarantined under the rule that most of
them break. Hour rules: the columns' contract (`saec.data.contract`), more nulls than a nullable field may have, no
rows, and a click rate over `data.max_click_shift` from that of the hours before.

Decisions: a line of text that could not be read is no row, but counts as a bad one. Duplicates are searched among the
good rows, so that a bad row never replaces a good one.
`saec.data.duplicates` decides which one is kept and how contradicting labels are resolved; duplicates are counted but
are not a fault. Rows are sorted by time, equal times as delivered. An hour with only one label is learnt: at a click
rate of 0.2% many hours have no click, and without them a model would overestimate the click rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t
from numpy.typing import NDArray

from saec.config import Config
from saec.data.click_window import ClickWindow
from saec.data.columns import is_list, numbers, own_values
from saec.data.contract import wanted_table
from saec.data.duplicates import Distinct, distinct_rows
from saec.data.partitions import Partition
from saec.data.request_log import row_ids
from saec.data.types import TICKS
from saec.errors import HourHeld, InputError
from saec.hours import Hour

ROW_RULES = ("nulls", "non-finite", "labels", "timestamps", "duplicates", "weights")
MALFORMED = "malformed"
"""Reason of lines of text that could not be read, so that they are no rows."""
FEWEST_RATES = 12
"""Minimum number of earlier click rates for the shift rule."""
_ADDED = ("rule", "hour", "row")
_SECONDS = 3600
_GOOD, _OF_ANOTHER = -1, -2
"""Not a rule: marks a click's row whose click was joined with its impression."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class CheckedHour:
    """An hour's good rows, and an account of the others."""

    table: pa.Table
    """Good rows in the order of their time."""
    rows_B: NDArray[np.int64]
    """Their positions in the partition."""
    quarantined: pa.Table
    """Rows set aside: their columns, then rule, hour and row (position in the partition); a column of the input that
    is called so itself becomes `input.rule` and so on."""
    counts: dict[str, int]
    """Rows set aside, by rule, and lines that could not be read; rules that no row broke are left out."""
    duplicates: int
    """Good rows dropped because another one of their id is kept, and rows of clicks that were joined."""
    contradicting: int
    """Ids with rows of both labels."""
    joined: int
    """Good rows whose click came in a later hour."""
    of_earlier: int
    """Click rows of impressions in earlier hours, which were learnt there."""


def check_hour(partition: Partition, config: Config, window: ClickWindow | None = None) -> CheckedHour:
    """Check an hour's rows and sort them by time.

    Args:
        partition: The rows as delivered.
        config: All settings.
        window: Clicks and ids of the neighbouring hours, if clicks are joined across hours.

    Raises:
        InputError: reason schema, dtype, nulls, non-finite, labels, timestamps or duplicates, naming the hour and the
            column.
        HourHeld: reason empty.
    """
    table, hour = wanted_table(partition, config), partition.hour
    if not table.num_rows:
        raise HourHeld(f"hour {hour} has no rows; nothing to learn", reason="empty")
    _check_null_shares(table, config, hour)
    rule_B, worst = _broken_rules(table, config, hour)
    earlier_B = _of_earlier(table, window, config)
    rule_B[earlier_B] = _OF_ANOTHER
    found = _distinct(table, rule_B, config)
    rule_B[found.loose] = _OF_ANOTHER
    kept_B, clicked = found.rows_B, found.clicked
    if len(clicked) and config.data.duplicates != "click-wins":
        _check_contradictions(found, table, config, hour)
        rule_B[found.contradicting] = ROW_RULES.index("duplicates")
        worst["duplicates"] = len(found.contradicting), ", ".join(config.data.row_id_columns)
        kept_B, clicked = np.setdiff1d(kept_B, clicked), clicked[:0]
    _check_bad_share(rule_B, worst, len(partition.broken), config, hour)
    if not len(kept_B):
        raise HourHeld(f"hour {hour} has no good rows; nothing to learn", reason="empty")
    counts = {name: int(np.sum(rule_B == index)) for index, name in enumerate(ROW_RULES) if index in rule_B}
    set_aside = sum(counts.values())
    rows_B = _in_order(kept_B, table[config.data.time_column])
    good = _with_clicks(taken(table, rows_B), np.isin(rows_B, clicked), config)
    joined_B = _joined(good, window, config)
    duplicates = table.num_rows - len(kept_B) - set_aside - int(earlier_B.sum())
    return CheckedHour(
        _with_clicks(good, joined_B, config),
        rows_B,
        _set_aside(table, rule_B, hour),
        counts | ({MALFORMED: len(partition.broken)} if partition.broken else {}),
        duplicates,
        len(found.clicked),
        int(joined_B.sum()),
        int(earlier_B.sum()),
    )


def taken(table: pa.Table, rows_B: NDArray[np.int64]) -> pa.Table:
    """Some rows of a table, by distinct positions; the table itself where that is all of it as it stands."""
    whole = len(rows_B) == table.num_rows and bool((rows_B == np.arange(len(rows_B))).all())
    return table if whole else table.take(pa.array(rows_B))


def check_click_rate(hour: Hour, clicks: float, rows: int, rates: Sequence[float], limit: float) -> None:
    """Hour rule: the click rate must not shift, because a shift may mean broken or poisoned labels.

    The shift is measured in units of the spread of the earlier rates, or of chance at this many rows if that is larger.

    Args:
        hour: The hour.
        clicks: Its rows with label 1; of rows that stand for several, as many as there would be among so many rows.
        rows: Its rows.
        rates: Click rates of earlier hours; the rule needs at least `FEWEST_RATES`.
        limit: `data.max_click_shift`.

    Raises:
        HourHeld: reason label-shift.
    """
    if not limit or len(rates) < FEWEST_RATES:
        return
    mean, rate = float(np.mean(rates)), clicks / rows
    spread = max(float(np.std(rates)), (mean * (1.0 - mean) / rows) ** 0.5)
    if abs(rate - mean) > limit * spread:
        raise HourHeld(
            f"hour {hour}: {rate:.2%} of its {rows:,} rows are clicks, {abs(rate - mean) / spread:.0f} "
            f"standard deviations from the {mean:.2%} of the {len(rates)} hours before, over "
            f"data.max_click_shift {limit:g}; if the labels are right, raise it and do the hour again",
            reason="label-shift",
        )


def _check_null_shares(table: pa.Table, config: Config, hour: Hour) -> None:
    """Hour rule: a nullable column may lack some values, but not most of them."""
    for field in config.fields:
        if field.nullable and field.source_column:
            share, limit = float(_null_rows(table[field.source_column]).mean()), field.most_nulls
            if share > limit:
                raise InputError(
                    f"hour {hour}: column {field.source_column!r} is null in {share:.1%} of its rows, "
                    f"over the {limit:.1%} that field {field.name!r} allows; have it delivered again, or write "
                    f"nullable: SHARE in the field",
                    reason="nulls",
                )


def _distinct(table: pa.Table, rule_B: NDArray[np.int8], config: Config) -> Distinct:
    """One row of each id among the good ones; if a click wins, click rows that are not good may still add a click."""
    data, good_B = config.data, np.flatnonzero(rule_B == _GOOD)
    labels_B, loose_B = _labels(table, config), good_B[:0]
    if data.row_id_columns and data.duplicates == "click-wins" and len(good_B) < len(rule_B):
        lacking_B = np.isin(rule_B, [ROW_RULES.index(rule) for rule in ("nulls", "non-finite", "timestamps")])
        for name in (*data.row_id_columns, data.label_column):
            lacking_B &= ~_null_rows(table[name])
        loose_B = np.flatnonzero(lacking_B & (labels_B == 1))
    names = data.row_id_columns or table.column_names
    return distinct_rows(table, names, labels_B, good_B, loose_B, data.time_column)


def _of_earlier(table: pa.Table, window: ClickWindow | None, config: Config) -> Mask:
    """Click rows of impressions in earlier hours."""
    if window is None or not len(window.shown_N):
        return np.zeros(table.num_rows, bool)
    found_B: Mask = np.isin(row_ids(table, config.data), window.shown_N) & (_labels(table, config) == 1)
    return found_B


def _joined(table: pa.Table, window: ClickWindow | None, config: Config) -> Mask:
    """Rows whose click came in a later hour."""
    if window is None or not len(window.clicked_N):
        return np.zeros(table.num_rows, bool)
    found_B: Mask = np.isin(row_ids(table, config.data), window.clicked_N) & (_labels(table, config) == 0)
    return found_B


def _labels(table: pa.Table, config: Config) -> NDArray[np.int64]:
    """Labels as integers, 0 for null and for what is no label."""
    column = table[config.data.label_column]
    ones_B: Mask = numbers(column.cast(pa.uint8()) if t.is_boolean(column.type) else column) == 1
    return ones_B.astype(np.int64)


def _with_clicks(table: pa.Table, clicked_B: Mask, config: Config) -> pa.Table:
    """The rows, with clicks added from other rows or hours."""
    name = config.data.label_column
    if not clicked_B.any():
        return table
    labels = pa.array(np.maximum(_labels(table, config), clicked_B)).cast(table[name].type)
    return table.set_column(table.column_names.index(name), name, labels)


def _check_contradictions(found: Distinct, table: pa.Table, config: Config, hour: Hour) -> None:
    """Refuse the hour if contradicting rows are too many, measured by the clicks that would be lost.

    Raises:
        InputError: reason duplicates.
    """
    contradicting, data = len(found.clicked), config.data
    clicks = contradicting + int(_labels(table, config)[np.setdiff1d(found.rows_B, found.clicked)].sum())
    if data.duplicates == "refuse" or contradicting > max(1, data.max_bad_share * clicks):
        ids = ", ".join(data.row_id_columns)
        raise InputError(
            f"hour {hour}: {contradicting:,} of the {clicks:,} ids ({ids}) with a click have rows of both "
            f"labels; data.duplicates is {data.duplicates}. If clicks come as rows of their own, set "
            "data.duplicates: click-wins, else have the hour delivered again",
            reason="duplicates",
        )


def _broken_rules(table: pa.Table, config: Config, hour: Hour) -> tuple[NDArray[np.int8], dict[str, tuple[int, str]]]:
    """For each row the index of the first row rule it breaks, -1 for none; by rule, the column with most such rows."""
    rule_B = np.full(table.num_rows, _GOOD, np.int8)
    worst: dict[str, tuple[int, str]] = {}
    for rule, column, bad_B in _row_rules(table, config, hour):
        count = int(bad_B.sum())
        worst[rule] = max(worst.get(rule, (0, column)), (count, column))
        rule_B[bad_B & (rule_B < 0)] = ROW_RULES.index(rule)
    return rule_B, worst


def _check_bad_share(
    rule_B: NDArray[np.int8], worst: dict[str, tuple[int, str]], broken: int, config: Config, hour: Hour
) -> None:
    """Hour rule: few rows are bad, lines that could not be read among them.

    Raises:
        InputError: when more rows than `data.max_bad_share` break a rule.
    """
    bad, rows = int((rule_B >= 0).sum()), len(rule_B) + broken
    share = (bad + broken) / rows
    if bad and share > config.data.max_bad_share:  # broken lines alone were measured when they were read
        most = int(np.bincount(rule_B[rule_B >= 0]).argmax())
        rule, (count, column) = ROW_RULES[most], worst[ROW_RULES[most]]
        raise InputError(
            f"hour {hour}: {share:.2%} of {rows:,} rows are bad, over data.max_bad_share "
            f"{config.data.max_bad_share:.2%}; most of them by the rule {rule!r}, in {count:,} rows of "
            f"column {column!r}. Have the hour delivered again",
            reason=rule,
        )


def _row_rules(table: pa.Table, config: Config, hour: Hour) -> Iterator[tuple[str, str, Mask]]:
    """Rule, column and the rows that break it, in the order of `ROW_RULES`."""
    data = config.data
    nullable = {field.source_column for field in config.fields if field.nullable}
    for name in table.column_names:
        if name not in nullable - {data.time_column, data.label_column}:
            yield "nulls", name, _null_rows(table[name])
    for name in table.column_names:
        if t.is_floating(table[name].type):
            yield "non-finite", name, _mask(pc.invert(pc.fill_null(pc.is_finite(table[name]), fill_value=True)))
    if not t.is_boolean(table[data.label_column].type):
        label_B = numbers(table[data.label_column])
        yield "labels", data.label_column, (label_B != 0) & (label_B != 1)
    for name in data.weight_columns:
        value_B = table[name].cast(pa.float64()).fill_null(1.0).to_numpy()
        yield "weights", name, ~(value_B > 0) | ((value_B > 1) & (name == data.negative_sampling))
    ticks = TICKS[table[data.time_column].type.unit]
    time_B = numbers(table[data.time_column])
    start = hour.index * _SECONDS * ticks
    yield "timestamps", data.time_column, (time_B < start) | (time_B >= start + _SECONDS * ticks)


def _null_rows(column: pa.ChunkedArray) -> Mask:
    """Rows whose value is null; of a list, also those with a null among its values."""
    null_B = _mask(column.is_null())
    if is_list(column.type):
        array = column.combine_chunks()
        parents, inner = pc.list_parent_indices(array), pc.list_flatten(array).is_null()
        null_B[parents.filter(inner).to_numpy()] = True
    return null_B


def _in_order(rows_B: NDArray[np.int64], times: pa.ChunkedArray) -> NDArray[np.int64]:
    """Positions in the order of their time; equal times stay as they are."""
    time_B = numbers(times)[rows_B]
    if np.all(time_B[1:] >= time_B[:-1]):
        return rows_B
    ordered: NDArray[np.int64] = rows_B[np.argsort(time_B, kind="stable")]
    return ordered


def _set_aside(table: pa.Table, rule_B: NDArray[np.int8], hour: Hour) -> pa.Table:
    """The rows that broke a rule, with the rule, the hour and the row's place in the partition."""
    rows = np.flatnonzero(rule_B >= 0)
    aside = table.take(pa.array(rows))
    names = [f"input.{name}" if name in _ADDED else name for name in aside.column_names]
    aside = pa.table([own_values(column.combine_chunks()) for column in aside.columns], names)
    rules = pa.array([ROW_RULES[index] for index in rule_B[rows]], pa.string())
    hours = pa.array([str(hour)] * len(rows), pa.string())
    for name, values in zip(_ADDED, (rules, hours, pa.array(rows)), strict=True):
        aside = aside.append_column(name, values)
    return aside


def _mask(values: pa.ChunkedArray) -> Mask:
    """A writable mask."""
    return np.array(values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy())
