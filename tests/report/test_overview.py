"""The overview page: its text and its strip."""

import base64
import io
import re
from dataclasses import replace
from datetime import timedelta

import matplotlib.image as mpimg
import numpy as np
import pytest

from saec.config import AlarmsConfig
from saec.hours import Hour
from saec.ledger import HourRow
from saec.monitoring.alarms import alarms
from saec.report.overview import overview_markdown
from saec.report.palette import LIGHT
from saec.report.standing import standing
from saec.report.strip import last_outcomes, strip_words
from saec.report.strip_figure import strip_image
from saec.schedule.planner import PlannedHour
from saec.schedule.progress import Progress, ask
from tests.conftest import last_release

FIRST = Hour.parse("2017-10-01T00")


def said(outlook) -> dict[str, str]:
    """The overview's lines by label."""
    return {line.label: line.said for line in standing(outlook)}


def overview(outlook) -> str:
    """The overview, with pages at page:HOUR."""
    return overview_markdown(outlook, alarms(outlook, AlarmsConfig()), lambda hour: f"page:{hour}")


def test_a_pipeline_in_order(outlook):
    """What is live and how old comes first; no alarm; the newest hour's page is linked."""
    page = overview(outlook())
    assert page.startswith("# Live since 2017-10-01 12:06 UTC\n\nVersion 20171001T11\\-abc. Seen 2017-10-01 12:30 UTC.")
    assert "ALARM" not in page
    assert page.index("[2017-10-01T11](page:2017-10-01T11)") < page.index("[2017-10-01T00](page:2017-10-01T00)")
    assert "Last 12 hours: 12 published \\(P\\)." in page


def test_a_pipeline_in_trouble(troubled):
    """The hold in the headline, every alarm with its first command, and all there is to know."""
    page = overview(troubled)
    assert page.startswith("# Live since 2017-09-30 23:30 UTC · HELD")
    assert page.count("> **ALARM") == 7
    assert "First: saec run \\-\\-hour 2017\\-10\\-01T06" in page
    lines = said(troubled)
    assert lines["held"] == "by ann: launch day"
    assert lines["at work"].startswith("between hours (hourly flow on host, process 7, lease until 12:31:30 UTC)")
    assert lines["next hour"] == "2017-10-01T07, due now"
    assert lines["backlog"] == "3 hours, 2017-10-01T07 to 2017-10-01T09, about 3 min"
    assert lines["waits for"] == "2017-10-01T10: its partition is absent; the pipeline waits until 2017-10-01T13"
    assert lines["stale"].startswith("2017-10-01T01; redo with")
    assert lines["unpublished"] == "6 hours since the last one, HELD(worse), FAILED(oom)"


@pytest.mark.parametrize(
    ("state", "at_work", "said_of_it"),
    [("RUNNING", True, ""), ("RUNNING", False, "; interrupted: why"), ("STOPPED", False, "; stopped: why")],
)
def test_the_open_backfill(troubled, state, at_work, said_of_it):
    """How far it has come and how long it will take; why it does not go on, when it does not."""
    asked = replace(ask(FIRST, FIRST + 9, "ann"), state=state, message=None if at_work else "why")
    left = [PlannedHour(FIRST + 9, "do", "is due", 60.0), PlannedHour(FIRST, "skip", "is PUBLISHED")]
    seen = replace(troubled, backfill=Progress(asked, left, 3), lease=troubled.lease if at_work else None)
    assert said(seen)["backfill"] == (
        f"backfill 2017-10-01T00 to 2017-10-01T09 (missing): 3 of 4 hours done, about 60 s left{said_of_it}"
    )


@pytest.mark.parametrize(
    ("changed", "next_hour"),
    [
        ({}, "2017-10-01T12, over at 13:00 UTC"),
        ({"now": Hour.parse("2017-10-02T00").start}, "2017-10-01T12, when its partition comes"),
        ({"rows": []}, "none until data.source has one"),
        (
            {"waiting": PlannedHour(Hour.parse("2017-10-01T12"), "wait", "its partition is absent")},
            "2017-10-01T12: its partition is absent",
        ),
    ],
)
def test_the_next_hour(outlook, changed, next_hour):
    """When it is over, when its partition comes, or that nobody can say."""
    assert said(outlook(**changed))["next hour"] == next_hour


def test_nothing_yet(outlook):
    """An overview before the first hour is short and says so."""
    page = overview(outlook(rows=[], live=None, live_since=None))
    assert page.startswith("# Nothing is live yet")
    assert "data:image" not in page


def test_old_age_is_told_in_days(outlook):
    """From two days on hours say little."""
    assert "for 3 days" in said(outlook(live_since=outlook().now - timedelta(days=3, hours=5)))["live"]


def test_data_has_an_age_of_its_own(outlook):
    """A version that was just made live again has learnt what it had learnt then."""
    assert said(outlook())["data"] == "learnt up to hour 2017-10-01T11, which ended 30 min ago"
    back = outlook(live=last_release(version="20171001T02-abc", action="rollback", actor="ann"))
    assert said(back)["data"] == "learnt up to hour 2017-10-01T02, which ended 9.5 h ago"
    assert "data" not in said(outlook(live=None, live_since=None))


def test_what_came_from_outside_stays_text(outlook):
    """A reason with markup can add neither a heading, a link nor a table's column."""
    hostile = "<b>x</b>|[a](javascript:b)\n# heading"
    seen = outlook()
    rows = [*seen.rows[:-1], replace(seen.rows[-1], state="HELD", reason=hostile)]
    page = overview(replace(seen, rows=rows, live=seen.live.model_copy(update={"held": True, "reason": hostile})))
    assert "<b>" not in page
    assert "](javascript" not in page
    assert "\n# heading" not in page


def test_the_strip_ends_where_the_clock_is(outlook):
    """Hours since the newest one count as not done, unless the data is of long ago."""
    seen = outlook(now=Hour.parse("2017-10-01T16").start + timedelta(minutes=7))
    assert list(last_outcomes(seen).values()) == ["PUBLISHED"] * 12 + ["NOT DONE"] * 4
    years_later = outlook(now=Hour.parse("2020-01-01T00").start)
    assert list(last_outcomes(years_later).values()) == ["PUBLISHED"] * 12


def test_the_strip_is_two_days_long(outlook):
    """The last 48 hours, gaps between known hours included."""
    rows = [
        HourRow(Hour.parse("2017-10-01T00") + index, "HELD", attempts=1, fence=1) for index in range(100) if index != 70
    ]
    outcomes = last_outcomes(outlook(rows=rows, now=(rows[-1].hour + 1).start))
    assert (len(outcomes), strip_words(outcomes.values())) == (48, "47 held (H), 1 not done (·)")


def test_the_strips_picture(outlook):
    """A cell an hour in its outcome's colour, two days one beneath the other, well under a megabyte."""
    first, states = Hour.parse("2017-10-01T20"), ["PUBLISHED", "HELD", "QUARANTINED", "FAILED"] * 2
    image = mpimg.imread(io.BytesIO(strip_image({first + index: state for index, state in enumerate(states)})))
    pixels = (image[:, :, :3] * 255).round().astype(int)
    for state in set(states):
        colour = [int(LIGHT[state.lower()][place : place + 2], 16) for place in (1, 3, 5)]
        rows, columns = np.nonzero((pixels == colour).all(axis=2))
        assert len(rows) > 500, state
        assert rows.max() - rows.min() > 30, "in both lines"
        assert columns.max() - columns.min() > 300, "once in the evening, once at night"


def test_the_picture_travels_in_the_page(troubled):
    """The image is a PNG within the markdown, which Prefect's UI shows."""
    encoded = re.search(r"\(data:image/png;base64,([^)]+)\)", overview(troubled))[1]
    assert base64.b64decode(encoded).startswith(b"\x89PNG")
    assert len(encoded) < 30_000
