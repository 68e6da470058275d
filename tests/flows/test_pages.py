"""The pages in Prefect's UI, with Prefect's artifacts replaced by lists."""

import re

import pytest

from flows import events, pages
from flows.hour import hour_state, run_state
from saec.config import AlarmsConfig
from saec.hours import Hour
from saec.ledger import HourRow
from saec.monitoring.alarms import alarms
from saec.schedule.planner import PlannedHour
from saec.schedule.progress import spans

HOUR = Hour.parse("2017-10-01T03")


def row(state: str, reason: str | None = None, offset: int = 0, **known) -> HourRow:
    """An hour of the ledger."""
    return HourRow(HOUR + offset, state, attempts=1, fence=1, reason=reason, message=f"said of {state}", **known)


@pytest.fixture(autouse=True)
def own_id(monkeypatch):
    """Every pipeline's id, so that no ledger is made."""
    monkeypatch.setattr(events, "_id", lambda _url: "1a2b3c4d")


@pytest.fixture
def config(click_hours):
    """Settings of a pipeline that is called My_Shop."""
    return click_hours.config(workspace="workspace/My_Shop")


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    """Every artifact that was made."""
    made: list[dict] = []
    for kind in ("create_markdown_artifact", "create_table_artifact"):
        monkeypatch.setattr(pages, kind, lambda **artifact: made.append(artifact))
    return made


def test_page_of_an_hour(shown, config):
    """An hour's page stands under pipeline's and hour's key, with its figure inside; keys are what Prefect accepts."""
    published = row("PUBLISHED", record={"auc_served": 0.69, "auc_compressed": 0.7, "rows": 100}, version="v-1")
    pages.show_hour(config, published, [row("HELD", "empty", -1), published])
    page, models = shown
    assert models["key"] == "my-shop-1a2b3c4d-hour-20171001t03-models"
    assert [row["AUC"] for row in models["table"]] == ["0.6900", "0.7000"]
    assert page["key"] == "my-shop-1a2b3c4d-hour-20171001t03"
    assert re.fullmatch(r"[a-z0-9-]+", page["key"])
    assert page["markdown"].startswith("# 2017-10-01T03 · PUBLISHED")
    assert "data:image/png;base64," in page["markdown"]


@pytest.mark.parametrize(("state", "reason"), [("HELD", "empty"), ("QUARANTINED", "truncated"), ("FAILED", "oom")])
def test_hours_that_came_to_nothing_have_a_page_too(shown, state, reason, config):
    """A held, quarantined or failed hour is shown with its reason and message."""
    pages.show_hour(config, row(state, reason), [row(state, reason)])
    assert f"{state} ({reason})" in shown[0]["markdown"]
    assert f"said of {state}" in shown[0]["markdown"]


def test_a_page_that_cannot_be_made_changes_nothing(monkeypatch, caplog, config):
    """A server that refuses an artifact is logged, and the hour's outcome stands."""

    def refused(**_):
        raise ConnectionError("no server")

    monkeypatch.setattr(pages, "create_markdown_artifact", refused)
    pages.show_hour(config, row("PUBLISHED"), [])
    assert "the page of hour 2017-10-01T03 cannot be shown" in caplog.text


def test_the_overview_stands_under_one_key(shown, troubled, monkeypatch, config):
    """Its hours lead to their pages, and its description names the alarms."""
    monkeypatch.setattr(pages, "overview_id", lambda _config: None)
    pages.show_overview(config, troubled, alarms(troubled, AlarmsConfig()))
    (overview,) = shown
    assert overview["key"] == "my-shop-1a2b3c4d-overview"
    assert overview["description"] == "Alarms: lost, quiet, failed, held, old, worse, disk"
    assert "[2017-10-01T06](/artifacts/key/my-shop-1a2b3c4d-hour-20171001t06)" in overview["markdown"]


def test_plan_of_a_backfill(shown, config):
    """Hours with what would be done and why; those of which the same is said are one line."""
    plan = [
        PlannedHour(HOUR, "do", "was never done", 63.0),
        PlannedHour(HOUR + 1, "do", "was never done", 63.0),
        PlannedHour(HOUR + 2, "skip", "is PUBLISHED"),
    ]
    pages.show_plan(config, spans(plan))
    assert shown[0]["table"] == [
        {
            "hours (UTC)": "2017-10-01T03 to 2017-10-01T04 (2)",
            "action": "do",
            "why": "was never done",
            "estimate": "2 min",
        },
        {"hours (UTC)": "2017-10-01T05", "action": "skip", "why": "is PUBLISHED", "estimate": "–"},
    ]


@pytest.mark.case(16)
def test_a_plan_of_many_kinds_stays_a_small_page(shown, config):
    """However the hours of a long range alternate, the artifact has 200 lines and says how many are not shown."""
    plan = [PlannedHour(HOUR + at, "skip", f"is of kind {at % 2}") for at in range(20_000)]
    pages.show_plan(config, spans(plan))
    table = shown[0]["table"]
    assert len(table) == 201
    assert table[-1]["why"].startswith("and 19,800 further lines")


@pytest.mark.parametrize(
    ("state", "name", "completed"),
    [
        ("PUBLISHED", "PUBLISHED", True),
        ("HELD", "HELD", True),
        ("QUARANTINED", "QUARANTINED", True),
        ("FAILED", "Failed", False),
    ],
)
def test_state_of_an_hour(state, name, completed):
    """Only FAILED is a failure to Prefect; the others are Completed under the outcome's name, with the message."""
    ended = hour_state(row(state, "why"))
    assert (ended.name, ended.is_completed(), ended.message) == (name, completed, f"why: said of {state}")


@pytest.mark.parametrize(
    ("states", "name", "message"),
    [
        ([], "Completed", "no hour was due"),
        (["PUBLISHED", "PUBLISHED"], "PUBLISHED", "2 published"),
        (["PUBLISHED", "HELD"], "HELD", "1 published, 1 held"),
        (["HELD", "QUARANTINED"], "QUARANTINED", "1 held, 1 quarantined"),
        (["FAILED", "PUBLISHED"], "Failed", "1 published, 1 failed"),
    ],
)
def test_state_of_a_run_is_its_worst_hour(states, name, message):
    """A run over several hours is named after the worst of them and counts them all."""
    ended = run_state(row(state) for state in states)
    assert (ended.name, ended.message) == (name, message)


def test_a_backfill_that_was_not_to_promote_did_what_was_asked():
    """Hours held only for want of --promote are counted as kept."""
    ended = run_state([row("HELD", "not-promoted"), row("HELD", "not-promoted")])
    assert (ended.name, ended.message) == ("KEPT", "2 kept")
