"""Writes the drafted settings as commented YAML.

Decisions, each given in the file next to its line:

- *Labels near 50:50.* With 30% to 70% of clicks, logits are bounded: a quarter beyond where the surest twentieth of the
  rows really lies, and by 2 at least. New values seen a few times would be too sure of themselves otherwise.
- *Margin of the gate.* Paired differences of a few thousand rows have standard errors of the size of the default
  margin. Hours with fewer than 10,000 rows of the rarer label have twice the margin: a live model kept for hours
  because rows cannot tell loses more than that.
- *Batches.* 256 rows; 1,024 from 50,000 rows an hour on, 4,096 from 100,000 on, with wider layers.
- *Compression.* The largest ratio that costs nothing (`auto`): what a number would cost, nobody knows of a new log. At
  200, Globo's log lost 0.007 of AUC with fewer crosses than a person would have tried, for the ratio is of bytes, and a
  smaller original leaves fewer of them.
- *Nulls.* Where many values of a field are null, the limit of an hour's nulls is set above what there is.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import yaml

from saec.config import GateConfig
from saec.discover.columns import ColumnSeen
from saec.hour_layout import DEFAULT_LAYOUT, data_format

if TYPE_CHECKING:
    from saec.discover.draft import Draft

_EVEN, _RARER_ROWS = 0.3, 10_000
_ROOM = 1.25
_WEEK = 7 * 24
_WIDTH = 60


def settings_text(draft: Draft, workspace: str) -> str:
    """The settings file.

    Args:
        draft: what was seen and chosen.
        workspace: the folder of the pipeline.
    """
    hours = f"{draft.hours:,} hours from {draft.first} to {draft.last} (UTC)"
    lines = [
        f"# Written by `saec init` from {draft.log}.",
        f"# {hours}, {draft.rows:,} rows, {draft.hour_rows:,.0f} an hour, {draft.clicks:.2%} of them clicked.",
        *(f"# Note: {note}." for note in draft.notes),
        f"workspace: {_scalar(workspace)}",
        "data:",
        f"  source: {_scalar(draft.source)}",
        *_file_lines(draft),
        f"  time_column: {_scalar(draft.time_name)}",
        *([f"  time_unit: {draft.time_unit}"] if draft.time_unit else []),
        f"  label_column: {_scalar(draft.label_name)}",
        *_data_lines(draft),
        "fields:",
        *_field_lines(draft),
        *_cross_lines(draft),
        *_model_lines(draft),
    ]
    return "\n".join(lines) + "\n"


def _file_lines(draft: Draft) -> list[str]:
    """How the files of the source lie, and what is in them."""
    lines = [] if draft.layout == DEFAULT_LAYOUT else [f"  layout: {_scalar(draft.layout)}"]
    log = draft.log
    if draft.partitioned:
        return lines
    name = log.files[0].below.rpartition("/")[2]
    if data_format(name) != log.kind:
        lines.append(f"  format: {log.kind}")
    if not log.named:
        lines.append(f"  header: [{', '.join(map(_scalar, log.header))}]")
    return lines


def _data_lines(draft: Draft) -> list[str]:
    """The other settings of the data."""
    ids = [column for column in draft.columns if column.role == "row id"]
    lines = []
    if ids:
        lines.append(_beside(f"  row_id_columns: [{_scalar(ids[0].name)}]", f"{ids[0].why}; tells duplicates"))
    if ids[1:] or any(column.role == "left out" for column in draft.columns):
        lines.append(_beside("  ignore_extra_columns: true", "columns are left out, see fields"))
    return lines


def _field_lines(draft: Draft) -> list[str]:
    """One line a field, with what speaks for it; those left out as comments that can be taken in."""
    lines = []
    for column in draft.columns:
        settings = column.settings or {"name": column.name}
        inner = ", ".join(f"{key}: {_scalar(value)}" for key, value in settings.items())
        if column.role == "field":
            lines.append(_beside(f"  - {{{inner}}}", _seen(column)))
        elif column.role == "left out":
            lines.append(_beside(f"  # - {{{inner}}}", f"left out: {column.why}"))
    names = {column.name for column in draft.columns}
    if "hour_of_day" not in names:
        lines.append("  - {name: hour_of_day, kind: hour_of_day}")
    if draft.last.index - draft.first.index >= _WEEK and "day_of_week" not in names:
        lines.append("  - {name: day_of_week, kind: day_of_week}")
    return lines


def _seen(column: ColumnSeen) -> str:
    auc = "" if column.auc is None else f", AUC {column.auc:.3f} alone"
    nulls = f", {column.nulls:.1%} null" if column.nulls else ""
    return f"{column.why}{nulls}{auc}"


def _cross_lines(draft: Draft) -> list[str]:
    """Crosses that were found to be worth it."""
    if not draft.crosses:
        return [
            "# No cross of two fields predicts better than both alone on the later hours of the sample.",
            "crosses: []",
        ]
    return ["crosses:"] + [
        _beside(f"  - [{_scalar(one)}, {_scalar(other)}]", f"saves {gain:.4f} of log loss a row over both alone")
        for one, other, gain in draft.crosses
    ]


def _model_lines(draft: Draft) -> list[str]:
    """Model, training and gate: only what is not the default."""
    lines: list[str] = []
    model = []
    if _EVEN <= draft.clicks <= 1 - _EVEN:
        cap = max(2.0, math.ceil(2 * _ROOM * draft.sureness) / 2)
        model.append(_beside(f"  logit_cap: {cap:g}", f"labels are near 50:50, {draft.clicks:.0%}; see logit_cap"))
    if draft.hour_rows >= 100_000:
        model.append(_beside("  hidden: [400, 400]", "many rows an hour"))
    if model:
        lines += ["model:", *model]
    if draft.hour_rows >= 50_000:
        rows = 4096 if draft.hour_rows >= 100_000 else 1024
        lines += [
            "training:",
            _beside(f"  batch_rows: {rows}", f"{draft.hour_rows:,.0f} rows an hour"),
        ]
    lines += ["compression:", _beside("  ratio: auto", "the largest that costs nothing; a number fixes it")]
    rarer = draft.hour_rows * min(draft.clicks, 1 - draft.clicks)
    if rarer < _RARER_ROWS:
        margin = 2 * float(GateConfig.model_fields["entropy_margin"].default)
        said = f"an hour has {rarer:,.0f} rows of the rarer label: too few for the default"
        lines += ["gate:", _beside(f"  entropy_margin: {margin:g}", said)]
    return lines


def hours_to_decide(draft: Draft) -> int:
    """Hours until the gate has the fewest rows that it decides on."""
    gate = GateConfig()
    rarer = max(draft.hour_rows * min(draft.clicks, 1 - draft.clicks), 1e-9)
    return math.ceil(max(gate.min_rows / max(draft.hour_rows, 1e-9), gate.min_class_rows / rarer))


def _beside(line: str, said: str) -> str:
    """A line with a comment."""
    return f"{line:<{_WIDTH - 1}} # {said}"


def _scalar(value: Any) -> str:
    """A value in YAML's flow style; a name as it stands where that reads back as itself."""
    if isinstance(value, str):
        plain = all(letter.isalnum() or letter in "_.-/" for letter in value)
        return value if plain and value and yaml.safe_load(value) == value else json.dumps(value)
    return json.dumps(value)
