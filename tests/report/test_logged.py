"""Figures of the request log on the page, in the terminal, in Prefect's page and in JSON; none without a log."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from saec.report.canvas import svg
from saec.report.figures import NO_DATA
from saec.report.hour import hour_markdown
from saec.report.logged import (
    log_text,
    logged_text,
    newest_logged,
    version_rows,
)
from saec.report.logged_figures import logged_auc_figure, reliability_figure
from saec.report.page import render_report
from saec.report.summary import report_rows
from saec.report.table import hours_frame
from saec.report.terminal import LOGGED, WIDE, WIDER, hours_table, summary_panel

SAID = "9,649 rows (91 %), AUC 0.7374, log loss 0.5636, calibration 1.065, ECE 0.0213"


def printed(what: Any, width: int = 200) -> str:
    """What a terminal shows."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(what)
    return console.export_text()


def test_the_newest_hour_is_summed_up_in_a_line(served_records: list[dict[str, Any]]) -> None:
    """Coverage, ranking and calibration, and what was read of the log."""
    newest = newest_logged(served_records)
    assert newest is not None
    assert newest["hour"] == served_records[-1]["hour"]
    assert logged_text(newest) == SAID
    assert log_text(newest) == "30,000 lines in 3 files, 2 unreadable, 1 torn, 1 of its versions not in the store"
    assert [row[1] for row in version_rows(newest)] == ["3,216", "6,432", "9,649"]


@pytest.mark.usefixtures("undrawn")
def test_a_log_that_could_not_be_read_says_why(served_records: list[dict[str, Any]]) -> None:
    """The line is the problem, wherever it is shown."""
    problem = "the request log /log cannot be read: Permission denied"
    assert logged_text(served_records[58]) == problem
    assert problem in render_report(served_records[:59], "Shop")
    assert "cannot be read: Permission denied" in hour_markdown(served_records[58]).replace("\\", "")


@pytest.mark.usefixtures("undrawn")
def test_the_page_has_a_panel(served_records: list[dict[str, Any]]) -> None:
    """Figures by version, a reliability diagram, and the curve over the hours; a hostile version stays text."""
    html = render_report(served_records, "Shop")
    assert f"<p>{SAID}.</p>" in html
    assert "Figure 8. Calibration" in html
    assert "Figure 9. AUC by the request log" in html
    assert "<script" not in html
    assert html.count("<dt>logged</dt>") == 20


def test_prefects_page_has_it_too(served_records: list[dict[str, Any]]) -> None:
    """A line, a row a version and the diagram."""
    told = hour_markdown(served_records[59])
    assert "Logged: 9,649 rows" in told
    assert "| 20171003T10\\-000000000001 | 6,432 |" in told
    assert "![Click rate by mean score](data:image/png;base64," in told
    assert "<script" not in told


def test_the_terminal_shows_it(served_records: list[dict[str, Any]]) -> None:
    """A column where there is room, a line in the summary."""
    table = printed(hours_table(served_records, WIDER), WIDER)
    assert LOGGED in table
    assert "…" not in table
    assert LOGGED not in printed(hours_table(served_records, WIDE), WIDE)
    assert f"2017-10-03T11: {SAID}" in printed(summary_panel(served_records))


def test_json_and_tables_have_the_figures(served_records: list[dict[str, Any]]) -> None:
    """JSON holds all of it; a flat table leaves out bins and versions."""
    assert report_rows(served_records)[-1]["served_versions"] == served_records[-1]["served_versions"]
    frame = hours_frame(served_records[40:])
    assert frame["served_auc"].notna().sum() == 19
    assert frame["served_log.torn"].sum() == 19
    assert not [name for name in frame if name.startswith(("served_bins", "served_versions"))]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "show",
    [
        lambda records: render_report(records, "Shop"),
        lambda records: hour_markdown(records[59]),
        lambda records: printed(hours_table(records, WIDER)),
        lambda records: printed(summary_panel(records)),
    ],
)
def test_without_a_log_nothing_is_said(records: list[dict[str, Any]], show: Any) -> None:
    """Hours without a request log look as they did before there was one."""
    assert newest_logged(records) is None
    assert "served_" not in show(records)
    assert "ECE" not in show(records)


def test_bins_lie_where_the_record_says(served_records: list[dict[str, Any]]) -> None:
    """Ten dots, score across, click rate up."""
    dots = reliability_figure(served_records).axes[0].lines[1]
    bins = served_records[-1]["served_bins"]
    assert list(dots.get_xdata()) == [item["mean_score"] for item in bins]
    assert list(dots.get_ydata()) == [item["click_rate"] for item in bins]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "record",
    [
        {},
        {"served_rows": 0, "served_coverage": 0.0, "served_bins": [], "served_versions": {}, "served_auc": None},
        {"served_rows": 3, "served_bins": None, "served_versions": None, "served_log": None},
    ],
)
def test_half_a_record_is_no_error(record: dict[str, Any]) -> None:
    """Hours that nothing was served in, and records that know little, are shown all the same."""
    record = {"hour": "2017-10-01T00", "outcome": "PUBLISHED"} | record
    assert NO_DATA in svg(reliability_figure([record]), "name")
    assert NO_DATA in svg(logged_auc_figure([record]), "name")
    assert render_report([record], "Shop")
    assert hour_markdown(record)
