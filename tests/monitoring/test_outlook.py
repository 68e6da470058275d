"""The state of a pipeline."""

import pytest

from saec.config import AlarmsConfig
from saec.hours import Hour
from saec.monitoring.alarms import alarms
from saec.monitoring.outlook import look, next_words
from saec.schedule.planner import PlannedHour
from tests.conftest import ended_hour


def test_what_is_seen_of_a_site(site, monkeypatch):
    """Two hours due with an estimate, the live version and since when, nobody at work, room on the disk."""
    monkeypatch.setattr(Hour, "now", lambda _lag=None: site.hours[-1] + 1)
    with site.pipeline() as pipeline:
        seen = look(pipeline.config, pipeline.ledger, site.store)
    assert [planned.hour for planned in seen.due] == site.hours[5:]
    assert seen.next_hour == site.hours[5]
    assert seen.backlog_seconds > 0
    assert seen.live_version == site.live
    assert 0 <= seen.live_seconds < 3600
    assert (seen.lease, seen.waiting, seen.unfinished, seen.stale, seen.unpublished) == (None, None, None, [], [])
    assert seen.disk_free > 0


def test_a_hold_makes_no_version_younger(site):
    """The age of what is live counts from its publication, not from a hold or a release of it."""
    since = site.store.made_live().at
    site.store.hold(actor="ann", reason="launch day", fence=100)
    with site.pipeline() as pipeline:
        seen = look(pipeline.config, pipeline.ledger, site.store)
    assert seen.live.held
    assert seen.live_since.isoformat() == since


def test_before_anything_is_there(tmp_path, simulated):
    """No data, no ledger, no store."""
    empty = type(simulated)(tmp_path / "site")
    with empty.pipeline() as pipeline:
        seen = look(pipeline.config, pipeline.ledger, empty.store)
    assert (seen.next_hour, seen.live_seconds, seen.finished, seen.backlog_seconds) == (None, None, None, None)


@pytest.mark.parametrize(("reason", "words"), [("meaning", "migrate --dry-run"), ("config", "check"), ("oom", "run")])
def test_the_next_command_after_a_failure(outlook, reason, words):
    """Settings at fault come before another try, which would fail as the last one did."""
    failed = ended_hour(11, "FAILED", reason=reason, message="why")
    due = [PlannedHour(failed.hour, "do", "is due", 60.0)]
    seen = outlook(rows=[ended_hour(10), failed], due=due)
    assert next_words(seen) == words
    (alarm,) = (alarm for alarm in alarms(seen, AlarmsConfig()) if alarm.name == "failed")
    assert alarm.command == (words if words != "run" else f"run --hour {failed.hour}")


def test_hours_without_a_publication(outlook, troubled):
    """The streak reaches back to the last hour that was published, or to the beginning."""
    assert outlook().unpublished == []
    assert [str(row.hour)[-2:] for row in troubled.unpublished] == ["01", "02", "03", "04", "05", "06"]
    assert len(outlook(rows=troubled.rows[1:]).unpublished) == 6


def test_hours_that_were_not_to_be_published_are_no_streak(outlook):
    """A backfill without --promote sets off no alarm, and hides no hour that the gate held."""
    held = [ended_hour(10, "HELD", reason="undecided"), ended_hour(11, "HELD", reason="not-promoted")]
    rows = [ended_hour(8), ended_hour(9, "HELD", reason="not-promoted"), *held]
    assert outlook(rows=rows).unpublished == held[:1]
