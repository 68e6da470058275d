"""Draws the strip: one coloured cell per hour with its sign in it, one line per day.

Decisions: lines are UTC days and columns hours of the day, so that a daily pattern (a nightly gap, a full disk at four)
stands out. 48 hours need no more width than 24, so cells and signs stay legible in a narrow window.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from saec.hours import Hour
from saec.report.canvas import png, settings
from saec.report.palette import LIGHT, outcome_role
from saec.report.records import OUTCOMES
from saec.report.strip import SIGNS

_CELL = (0.27, 0.36)
"""Inches of a cell; drawn for a wide window, and still legible at half of that."""
_LABELS = (0.76, 0.34)
"""Inches left of the cells and above them."""


@settings()
def strip_image(outcomes: dict[Hour, str]) -> bytes:
    """The strip as PNG bytes."""
    days = sorted({hour.start.date() for hour in outcomes})
    width, height = 24 * _CELL[0] + _LABELS[0], len(days) * _CELL[1] + _LABELS[1]
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((_LABELS[0] / width, 0, 1 - _LABELS[0] / width, 1 - _LABELS[1] / height))
    axes.set(xlim=(0, 24), ylim=(len(days), 0))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.xaxis.tick_top()
    axes.set_xticks([hour + 0.5 for hour in range(0, 24, 3)], [f"{hour:02}h" for hour in range(0, 24, 3)], fontsize=13)
    axes.set_yticks([line + 0.5 for line in range(len(days))], [f"{day.day} {day:%b}" for day in days], fontsize=13)
    axes.tick_params(length=0)
    for hour, outcome in outcomes.items():
        _cell(axes, hour.start.hour, days.index(hour.start.date()), outcome)
    return png(figure, 110)


def _cell(axes: Axes, column: int, line: int, outcome: str) -> None:
    """One hour."""
    known = outcome in OUTCOMES
    colour = LIGHT[outcome_role(outcome)] if known else LIGHT["grid"]
    axes.add_patch(Rectangle((column + 0.04, line + 0.04), 0.92, 0.92, facecolor=colour, linewidth=0))
    axes.text(
        column + 0.5,
        line + 0.53,
        SIGNS.get(outcome, "?"),
        ha="center",
        va="center_baseline",
        fontsize=13.5,
        weight="bold",
        color="white" if known else LIGHT["muted"],
    )
