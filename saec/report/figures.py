"""Draws the figures: the paper's two from the user's own hours, the cost of an hour, and the state of the codebooks.

The served figures are drawn in `saec.report.headline_figures`. Figure 1 of the paper (arXiv 1903.00103) compares the
compressed model with the original on AUC and log loss, here on the gate rows; its figure 2 shows the reduction of the
number of embedding vectors over the last 24 epochs. Hours that published nothing are gaps
in a line, and marked at the panel's foot: square for held, triangle for quarantined, cross for failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from saec.report import text
from saec.report.canvas import EndLabel, blank, hour_axis, label_ends, mark_unpublished, panel, series, settings
from saec.report.fields import life
from saec.report.palette import LIGHT, part_colour
from saec.report.records import PARTS, STEPS, Record, last_hours, ordered, parts

NO_DATA = "no hour knows these figures yet"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel: the record's key, its name beside the panel, and its colour's role."""

    key: str
    name: str
    role: str


@settings()
def gate_auc_figure(records: Sequence[Record]) -> Figure:
    """The paper's figure 1, left: AUC of the hour's candidate on the gate rows."""
    return metric_figure(records, "AUC on gate rows (higher is better)", gate_lines("auc"))


@settings()
def gate_logloss_figure(records: Sequence[Record]) -> Figure:
    """The paper's figure 1, right: log loss of the hour's candidate on the gate rows."""
    return metric_figure(records, "Log loss on gate rows (lower is better)", gate_lines("logloss"))


@settings()
def reduction_figure(records: Sequence[Record], hours: int = 24) -> Figure:
    """Figure 2: how many times fewer vectors and bytes, over the last hours."""
    figure, axes = panel(f"Reduction, last {hours} hours (times fewer)")
    recent = last_hours(records, hours)
    lines = (
        Line("ratio_vectors", "vectors", "compressed"),
        Line("ratio_total", "bytes", "original"),
        Line("ratio_version", "all files", "champion"),
    )
    if draw_lines(axes, recent, lines):
        axes.set_yscale("log")
        ratios = [ratio for line in lines for ratio in series(recent, line.key)[1] if ratio > 0]
        axes.set_ylim(_round_down(min(ratios) / 1.2), 1 / _round_down(1 / max(ratios) / 1.2))
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}×"))
        label_lines(axes, recent, lines, text.times)
    return figure


@settings()
def sizes_figure(records: Sequence[Record]) -> Figure:
    """Bytes of the published files, by part."""
    return _stack_figure(records, "Bytes of a version, by part", "sizes", PARTS, text.size)


@settings()
def seconds_figure(records: Sequence[Record]) -> Figure:
    """Seconds of an hour's run, by step."""
    return _stack_figure(records, "Time to do an hour, by step", "seconds", STEPS, text.duration)


@settings()
def life_figure(records: Sequence[Record]) -> Figure:
    """State of the codebooks: codes that changed within the hour, clustering error and drift, means over fields."""
    figure, axes = panel("Codes changed, error and drift of clusters")
    lived = [{**record, **life(record)} for record in ordered(records)]
    lines = (Line("code_churn", "changed", "part4"), Line("error", "error", "part5"), Line("drift", "drift", "part3"))
    if draw_lines(axes, lived, lines):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        label_lines(axes, lived, lines, text.percent)
    return figure


def draw_lines(axes: Axes, records: Sequence[Record], lines: Sequence[Line]) -> bool:
    """Draw lines over the hours of the records; say so in the panel, and return False, when none has a value."""
    ordered_records = ordered(records)
    curves = [series(ordered_records, line.key) for line in lines] if ordered_records else []
    if not any(np.isfinite(values).any() for _, values in curves):
        blank(axes, NO_DATA)
        return False
    hours_shown = len(curves[0][0])
    dots, dot_size = ("-", 0.0) if hours_shown > 72 else ("o-", 2.0 if hours_shown > 12 else 4.0)
    for line, (hours, values) in zip(lines, curves, strict=True):
        width = 1.0 if line.role == "champion" else 1.6
        axes.plot(hours, values, dots, color=LIGHT[line.role], linewidth=width, markersize=dot_size)
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    hour_axis(axes, ordered_records)
    mark_unpublished(axes, ordered_records)
    return True


def gate_lines(metric: str) -> tuple[Line, ...]:
    """The lines of a metric on the gate rows; the model names its colour."""
    return tuple(
        Line(f"{metric}_{model}", name, model)
        for model, name in (("original", "original"), ("champion", "champion"), ("compressed", "candidate"))
    )


def draw_metric(axes: Axes, records: Sequence[Record], lines: Sequence[Line]) -> None:
    """Draw a metric of several models, with their newest values beside the panel."""
    if draw_lines(axes, records, lines):
        label_lines(axes, ordered(records), lines, text.decimal)


def metric_figure(records: Sequence[Record], title: str, lines: Sequence[Line]) -> Figure:
    """A figure of one metric of several models."""
    figure, axes = panel(title)
    draw_metric(axes, records, lines)
    return figure


def label_lines(axes: Axes, records: Sequence[Record], lines: Sequence[Line], style: Callable[[float], str]) -> None:
    """Name each line beside the panel, with its newest value."""
    labels = []
    for line in lines:
        values = series(records, line.key)[1]
        known = values[np.isfinite(values)]
        if len(known):
            labels.append(EndLabel(float(known[-1]), f"{line.name} {style(known[-1])}", LIGHT[line.role]))
    label_ends(axes, labels)


def _stack_figure(
    records: Sequence[Record], title: str, key: str, order: Sequence[str], style: Callable[[float], str]
) -> Figure:
    """A figure of stacked steps, one colour a part, the parts of the newest hour named beside it."""
    figure, axes = panel(title)
    in_order = ordered(records)
    stacks = [{"hour": record["hour"], **parts(record, key, order)} for record in in_order]
    found = {name for stack in stacks for name in stack} - {"hour"}
    names = [*(name for name in order if name in found), *sorted(found - set(order))]
    if not names:
        blank(axes, NO_DATA)
        return figure
    newest = next(stack for stack in reversed(stacks) if len(stack) > 1)
    base, labels, reached = np.zeros(len(series(stacks, "hour")[0])), [], 0.0
    for index, name in enumerate(names):
        hours, values = series(stacks, name)
        top = base + np.nan_to_num(values)
        edges = np.append(hours, hours[-1] + 1) - 0.5
        axes.stairs(top, edges, baseline=base, fill=True, color=part_colour(index), linewidth=0)
        if name in newest:
            share = float(newest[name])
            _, second, part = name.rpartition("original_")
            short = f"{part}₂" if second else name  # an ensemble's second; the whole name would leave the picture
            labels.append(EndLabel(reached + share / 2, f"{short} {style(share)}", part_colour(index)))
            reached += share
        base = top
    highest = max(float(base.max()), 1e-9)
    axes.set_ylim(-0.07 * highest, 1.05 * highest)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "" if value < 0 else style(value) if value else "0"))
    hour_axis(axes, in_order)
    mark_unpublished(axes, in_order)
    label_ends(axes, labels)
    return figure


def _round_down(value: float) -> float:
    """The nearest of 1, 2 and 5 times a power of ten that is not above a positive value."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * max(step for step in (1, 2, 5) if step * power <= value * (1 + 1e-9))
