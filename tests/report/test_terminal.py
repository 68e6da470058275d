"""Tables in a terminal: they fit, they show everything as text, and they survive an empty ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from saec.config import AlarmsConfig
from saec.gate.paired import over_hours
from saec.monitoring.alarms import alarms
from saec.report import text
from saec.report.headline import covered, gap_text
from saec.report.terminal import hours_table, status_panel, summary_panel
from tests.conftest import ended_hour


def printed(what: RenderableType, width: int = 140, *, colour: bool = False) -> str:
    """What a terminal of that width shows."""
    console = Console(width=width, force_terminal=colour, color_system="truecolor" if colour else None)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


@pytest.mark.parametrize("width", [80, 100, 132, 140, 160])
def test_hours_fit_the_terminal(records: list[dict[str, Any]], width: int) -> None:
    """Every hour, outcome and metric is whole at 80 columns; nothing is cut to an ellipsis."""
    shown = printed(hours_table(records, width), width)
    assert all(record["hour"] in shown for record in records)
    assert "QUARANTINED" in shown
    assert f"{records[59]['auc_served']:.4f}" in shown
    assert "…" not in shown


def test_wide_terminals_see_the_gate(records: list[dict[str, Any]]) -> None:
    """The less needed figures come with the room for them."""
    candidate = f"{records[59]['auc_compressed']:.4f}"
    assert candidate in printed(hours_table(records[59:], 140))
    assert candidate not in printed(hours_table(records[59:], 80), 80)


def test_outcomes_are_coloured(records: list[dict[str, Any]]) -> None:
    """Green for published, red for failed."""
    shown = printed(hours_table(records), colour=True)
    assert "\x1b[32mPUBLISHED" in shown
    assert "\x1b[31mFAILED" in shown


def test_unknown_metrics_are_dashes(records: list[dict[str, Any]]) -> None:
    """An hour without data has a dash in each column of figures."""
    line = next(line for line in printed(hours_table(records)).splitlines() if "2017-10-01T09" in line)
    assert line.split()[3:] == ["–"] * 12


def test_summary_starts_with_what_was_served(records: list[dict[str, Any]]) -> None:
    """The last day and all hours, with intervals; then the gate's figures under their name."""
    shown = printed(summary_panel(records))
    last, every = (over_hours(some)["live-original"] for some in (records[-24:], records))
    assert f"last 24 hours  {covered(last)}" in shown
    assert f"all 60 hours   {covered(every)}" in shown
    assert gap_text(last.auc) in shown
    assert gap_text(every.logloss) in shown
    assert f"median hour  AUC {text.signed(last.auc.median)}, log loss {text.signed(last.logloss.median)}" in shown
    assert shown.index(gap_text(last.auc)) < shown.index("gate AUC")
    assert "in 1 hour the judged candidate" in shown


def test_old_records_say_that_what_was_served_is_not_known(records: list[dict[str, Any]]) -> None:
    """Records of before there were such figures."""
    assert "last 24 hours  not known" in printed(summary_panel(records[:1]))


def test_summary_says_the_differences(records: list[dict[str, Any]]) -> None:
    """Outcomes, ratios and the newest version, in one frame."""
    shown = printed(summary_panel(records))
    assert "55 published, 3 held, 1 quarantined, 1 failed" in shown
    assert records[-1]["version"] in shown


def test_status_says_what_is_live_and_what_is_due(troubled) -> None:
    """Live version, hold, work to do, a strip of the last hours, alarms; what came from outside prints as itself."""
    held = troubled.live.model_copy(update={"reason": "[red]why\x1b[2J"})
    seen = replace(troubled, live=held)
    shown = printed(status_panel(seen, alarms(seen, AlarmsConfig())))
    assert "20171001T00-abc, for 13.0 h (held or unheld since)" in shown
    assert "by ann: [red]why�[2J" in shown
    assert "3 hours, 2017-10-01T07 to 2017-10-01T09, about 3 min" in shown
    assert "saec backfill --only stale" in shown
    assert "■HHHHHF·····" in shown
    assert shown.count("ALARM") == 7
    assert "2.50 GB free where the workspace is, wanted 5" in shown
    coloured = printed(status_panel(seen, []), colour=True)
    assert "\x1b[31mF" in coloured, "the strip has the outcomes' colours"


def test_a_message_of_several_points_is_shown_once_in_its_lines(outlook) -> None:
    """The alarm says it; the newest hour need not say it again."""
    message = "the settings mean something else:\n- field 'a' is changed\n- field 'b' is added\nPut them back"
    rows = [ended_hour(10), ended_hour(11, "FAILED", reason="meaning", message=message)]
    seen = outlook(rows=rows)
    shown = printed(status_panel(seen, alarms(seen, AlarmsConfig())))
    lines = [line.strip("│ \n") for line in shown.splitlines()]
    assert {"- field 'a' is changed", "- field 'b' is added", "Put them back"} <= {*lines}
    assert shown.count("field 'a'") == 1
    assert printed(status_panel(seen, [])).count("field 'a'") == 1


def test_empty_ledger(outlook) -> None:
    """Every table has something to say before the first hour."""
    assert "hour (UTC)" in printed(hours_table([]))
    assert "nothing yet" in printed(summary_panel([]))
    assert "no version yet" in printed(status_panel(outlook(rows=[], live=None, live_since=None), []))
