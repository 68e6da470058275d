"""Figures: what they draw for gaps and nothing at all, and that the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from saec.gate.paired import over_hours
from saec.hours import Hour
from saec.report import figures, headline_figures
from saec.report.canvas import LABEL_GAP, hour_axis, panel, png, series, spread, svg
from saec.report.hour import hour_figure

FIGURES = [
    headline_figures.auc_figure,
    headline_figures.logloss_figure,
    headline_figures.auc_gap_figure,
    headline_figures.logloss_gap_figure,
    figures.gate_auc_figure,
    figures.gate_logloss_figure,
    figures.reduction_figure,
    figures.sizes_figure,
    figures.seconds_figure,
    figures.life_figure,
]


@pytest.mark.parametrize(
    "draw", [FIGURES[0], *(pytest.param(draw, marks=pytest.mark.slow) for draw in FIGURES[1:])]
)  # each is drawn four times
def test_same_records_same_bytes(records: list[dict[str, Any]], draw: Callable[..., Figure]) -> None:
    """Neither the order of the records, the process's settings nor the clock shows in SVG or PNG."""
    first = svg(draw(records), "name"), png(draw(records))
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": "other", "lines.linewidth": 9}):
        assert (svg(draw(records[::-1]), "name"), png(draw(records[::-1]))) == first


@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize("empty", [[], [{"hour": "2017-10-01T00", "outcome": "HELD", "auc_original": None}]])
def test_a_figure_without_figures_says_so(draw: Callable[..., Figure], empty: list[dict[str, Any]]) -> None:
    """No records, or records that know nothing, make a panel with one sentence."""
    assert figures.NO_DATA in svg(draw(empty), "name")


def test_svg_takes_its_colours_from_the_page(records: list[dict[str, Any]]) -> None:
    """Colours are variables, so that a dark page can change them; there is no date and no outside name space."""
    drawn = svg(headline_figures.auc_gap_figure(records), "name")
    assert "var(--original)" in drawn
    assert "var(--compressed)" in drawn
    assert "#0072b2" not in drawn
    assert "<metadata" not in drawn


def test_hours_that_know_nothing_are_gaps_and_marked(records: list[dict[str, Any]]) -> None:
    """The line breaks at hour 9, which was held, and at an hour that the ledger does not have."""
    hours, values = series([*records[:12], *records[13:]], "auc_compressed")
    assert len(hours) == 60
    assert list(np.flatnonzero(np.isnan(values))) == [9, 12, 23, 31]
    lines = figures.gate_auc_figure(records).axes[0].lines
    marks = {
        line.get_marker(): list(line.get_xdata() - hours[0])
        for line in lines
        if line.get_linestyle() == "None" and len(line.get_xdata()) and line.get_xdata()[0] > 2
    }
    assert marks == {"s": [9, 17, 46], "X": [23], "^": [31]}


def test_differences_are_pooled_over_a_day(records: list[dict[str, Any]]) -> None:
    """The line ends at the difference of the last 24 hours; its band is the interval; the first hours are left out."""
    axes = headline_figures.auc_gap_figure(records).axes[0]
    version, live = axes.lines[:2]
    found = over_hours(records[-24:])
    assert live.get_ydata()[-1] == found["live-original"].auc.difference
    assert version.get_ydata()[-1] == found["version-original"].auc.difference
    assert axes.collections[1].get_paths()[0].vertices[:, 1].min() <= found["live-original"].auc.lower
    assert live.get_xdata()[0] == Hour.parse(records[0]["hour"]).index + 2 + headline_figures.SETTLING


def test_reduction_is_of_the_last_24_hours(records: list[dict[str, Any]]) -> None:
    """Figure 2 starts 24 hours before the end, as the paper's does."""
    line = figures.reduction_figure(records).axes[0].lines[0]
    assert len(line.get_xdata()) == 24
    assert line.get_ydata()[-1] == records[-1]["ratio_vectors"]


def test_stack_adds_up_to_the_whole(records: list[dict[str, Any]]) -> None:
    """The top of the last part is the sum of all parts, hour by hour."""
    tops = figures.sizes_figure(records).axes[0].patches[-1].get_data().values
    assert tops[0] == sum(records[0]["sizes"].values())
    assert tops[9] == 0
    assert tops[-1] == sum(records[-1]["sizes"].values())


def test_life_is_drawn_from_the_first_hour_that_knows_of_it(records: list[dict[str, Any]]) -> None:
    """Churn is known from the start, error and drift since records tell of their fields; a lost hour is a gap."""
    changed, error, drift = (line.get_ydata() for line in figures.life_figure(records).axes[0].lines[:3])
    assert changed[0] == records[0]["code_churn"]
    assert np.isnan(error[:12]).all()
    assert error[12] == pytest.approx((0.25 - 0.012) / 2)
    assert drift[59] == pytest.approx((0.5 + 0.1) / 2)
    assert np.isnan(drift[31])


@pytest.mark.parametrize("count", [1, 5, 24, 60, 240, 2000])
def test_axis_names_few_round_hours(count: int) -> None:
    """From one hour to months: one to six ticks."""
    _, axes = panel("t")
    first = Hour.parse("2017-10-01T05")
    hour_axis(axes, [{"hour": str(first)}, {"hour": str(first + (count - 1))}])
    assert 1 <= len(axes.get_xticks()) <= 6


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.5], [0.0, 0.0, 0.01], [0.99, 1.0, 1.0], [0.1, 0.5, 0.9], [0.2] * 6])
def test_labels_are_moved_apart_and_kept_in_the_panel(heights: list[float]) -> None:
    """No two labels are nearer than the gap, none leaves the panel, and those with room stay where they are."""
    placed = spread(heights, LABEL_GAP)
    assert all(high - low >= LABEL_GAP - 1e-9 for low, high in pairwise(placed))
    assert min(placed) >= -1e-9
    assert max(placed) <= 1 + 1e-9
    if heights == [0.1, 0.5, 0.9]:
        assert placed == heights


def test_hour_figure_is_a_modest_png_of_the_past(records: list[dict[str, Any]]) -> None:
    """The Prefect UI's figure: below 100 kB, the same bytes again, and later hours do not change it."""
    drawn = hour_figure(records, records[46])
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) < 100_000
    assert hour_figure(records[:47], records[46]) == drawn
    assert hour_figure(records, records[45]) != drawn
