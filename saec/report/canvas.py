"""Shared drawing code of all figures: the canvas, the axis of hours, labels at the ends of lines, SVG and PNG output.

Decisions: each figure is one small panel (295 x 180 points), so that text stays readable on a phone and a wide page can
place panels side by side. matplotlib's object interface is used, never pyplot, so that no global state is left in a
worker. Settings are matplotlib's defaults plus those here, never the user's. There are no dates and the salt is fixed,
so that the same records give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from saec.hours import Hour
from saec.report.palette import LIGHT, OUTCOME_MARKS, outcome_role
from saec.report.records import Record, hour_of, number

PANEL_INCHES = (4.1, 2.5)
PANEL_BOX = (0.125, 0.185, 0.545, 0.68)
LABEL_GAP = 0.125
"""Least distance of two labels beside a panel, as a share of its height."""
TICK_HOURS = (1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 672)

_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "saec",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.titlesize": 9,
    "axes.titlecolor": LIGHT["ink"],
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "ytick.major.size": 0,
    "text.color": LIGHT["ink"],
    "lines.linewidth": 1.6,
    "axes.formatter.useoffset": False,
    "lines.solid_capstyle": "round",
    "hatch.linewidth": 0.5,
}


@dataclass(frozen=True, slots=True)
class EndLabel:
    """A label beside a panel, at the height of the value it names."""

    value: float
    text: str
    colour: str


@contextmanager
def settings() -> Iterator[None]:
    """Draw with the settings above, and put the process's own back afterwards; also works as a decorator."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)  # type: ignore[arg-type]
        yield


def panel(title: str) -> tuple[Figure, Axes]:
    """An empty figure of one panel, with room for labels on its right."""
    figure = Figure(figsize=PANEL_INCHES)
    FigureCanvasAgg(figure)
    axes = figure.add_axes(PANEL_BOX)
    axes.set_title(title, loc="left", pad=7)
    return figure, axes


def series(records: Sequence[Record], key: str) -> tuple[np.ndarray, np.ndarray]:
    """A key over every hour from the first record to the last.

    Returns:
        Hour indices (int64) and values (float64), NaN for each hour that has no record or does not know the key.
    """
    first, last = hour_of(records[0]).index, hour_of(records[-1]).index
    hours = np.arange(first, last + 1)
    values = np.full(len(hours), np.nan)
    for record in records:
        known = number(record, key)
        values[hour_of(record).index - first] = np.nan if known is None else known
    return hours, values


def hour_axis(axes: Axes, records: Sequence[Record]) -> None:
    """Name the hours on the x axis: at most six ticks, at round hours of the UTC day, the date where a day begins."""
    first, last = hour_of(records[0]).index, hour_of(records[-1]).index
    axes.set_xlim(first - 0.7, last + 0.7)
    step = next((hours for hours in TICK_HOURS if (last - first) / hours < 6), TICK_HOURS[-1])
    ticks = [index for index in range(first, last + 1) if index % step == 0] or [first]
    axes.set_xticks(ticks, [_tick_label(Hour(index), is_first=index == ticks[0], step=step) for index in ticks])


def mark_unpublished(axes: Axes, records: Sequence[Record]) -> None:
    """Mark at the panel's foot every hour that published nothing."""
    for outcome, marker in OUTCOME_MARKS.items():
        hours = [hour_of(record).index for record in records if record.get("outcome") == outcome]
        axes.plot(
            hours,
            [0.03] * len(hours),
            linestyle="none",
            marker=marker,
            markersize=4.2,
            markeredgewidth=0,
            color=LIGHT[outcome_role(outcome)],
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


def label_ends(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """Write labels right of the panel at the heights of their values, moved apart where they would overlap."""
    if not labels:
        return
    ranked = sorted(labels, key=lambda label: label.value)
    to_share = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_share.transform((0, label.value))[1]) for label in ranked]
    for label, height in zip(ranked, spread(wanted, LABEL_GAP), strict=True):
        axes.plot(
            [1.025],
            [height],
            marker="s",
            markersize=4.5,
            markeredgewidth=0,
            color=label.colour,
            transform=axes.transAxes,
            clip_on=False,
        )
        axes.text(1.05, height, label.text, transform=axes.transAxes, va="center_baseline", fontsize=8.8)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights moved apart to at least `gap`, kept below 1 where they fit.

    >>> spread([0.5, 0.5], 0.25)
    [0.375, 0.625]
    """
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], gap) < _top(groups[-2], gap) + gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = [_bottom(group, gap) + index * gap for group in groups for index in range(len(group))]
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], 1.0 - (len(placed) - 1 - index) * gap)
    return placed


def blank(axes: Axes, text: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=LIGHT["muted"])


@settings()
def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element to be put into a page, its colours replaced by the page's variables.

    Args:
        figure: what to write.
        name: what a screen reader says, and what keeps the ids of several figures in a page apart.
    """
    mpl.rcParams["svg.hashsalt"] = f"saec {name}"
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{name}">', text)
    for role, colour in LIGHT.items():
        text = text.replace(colour, f"var(--{role})")
    return text


@settings()
def png(figure: Figure, dots_per_inch: int = 90) -> bytes:
    """The figure as a PNG on white."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dots_per_inch, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return file.getvalue()


def _tick_label(hour: Hour, *, is_first: bool, step: int) -> str:
    """`06h`, with `2 Oct` beneath it at the first tick and at midnight; only the date where ticks are days apart."""
    date = f"{hour.start.day} {hour.start:%b}"
    if step >= 24:
        return date
    return f"{hour.start:%H}h\n{date}" if is_first or hour.start.hour == 0 else f"{hour.start:%H}h"


def _bottom(group: Sequence[float], gap: float) -> float:
    """Height of a group's lowest label when the group is centred on what its labels wanted, not below 0."""
    return max(0.0, sum(group) / len(group) - (len(group) - 1) * gap / 2)


def _top(group: Sequence[float], gap: float) -> float:
    """Height of a group's highest label."""
    return _bottom(group, gap) + (len(group) - 1) * gap
