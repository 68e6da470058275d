"""The planner's rules, on ledgers made in memory."""

from datetime import timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saec.config import Config, DataConfig, FieldConfig
from saec.hours import Hour
from saec.ledger import HourRow
from saec.schedule.planner import LONGEST_GAP, MOST_ATTEMPTS, PAUSE, Only, backfill_hours, due_hours

H = Hour.parse("2026-03-01T00")
ABSENT_AFTER = 2
RULES = DataConfig(source="", time_column="time", label_column="label", absent_after=ABSENT_AFTER)
CONFIG = Config(data=RULES, fields=[FieldConfig(name="user")], retention=1000)


def row(offset: int, state: str = "PUBLISHED", reason: str | None = None, **values) -> HourRow:
    trained = f"checkpoint-{offset}" if state in ("PUBLISHED", "HELD") and reason != "no-data" else None
    return HourRow(H + offset, state, **{"attempts": 1, "fence": 1, "reason": reason, "checkpoint": trained, **values})


def due(rows: list[HourRow], available: list[int], now: int) -> list[tuple[int, str]]:
    plan = due_hours(rows, [H + offset for offset in available], H + now, RULES)
    return [(planned.hour.index - H.index, planned.action) for planned in plan]


def backfill(rows: list[HourRow], available: list[int], first: int, last: int, only: Only, now: int = 100):
    hours = [H + offset for offset in available]
    return backfill_hours(rows, hours, H + first, H + last, H + now, CONFIG, only=only)


def done(rows: list[HourRow], only: Only, available: tuple[int, ...] = (0,)) -> bool:
    """Whether a backfill of this kind does hour 0."""
    (planned,) = backfill(rows, list(available), 0, 0, only)
    assert planned.action in ("do", "skip")
    assert planned.why
    return planned.action == "do"


def test_fresh_ledger_starts_at_oldest_partition():
    """With nothing done yet, every closed hour from the oldest partition on is due, oldest first."""
    assert due([], [4, 3, 5], now=6) == [(3, "do"), (4, "do"), (5, "do")]


def test_nothing_there_nothing_due():
    """Without partitions, or with none that is over, nothing is due."""
    assert due([], [], now=6) == []
    assert due([], [6, 7], now=6) == []
    assert due([row(5)], [3, 4, 5], now=6) == []


def test_missed_ticks_are_made_up():
    """After a day without a scheduler, every closed hour is due, in order, the running one is not."""
    assert due([row(0)], list(range(26)), now=25) == [(offset, "do") for offset in range(1, 25)]


def test_hour_in_progress_is_not_due():
    """The hour that the clock is in is not over, though its partition may be there."""
    assert due([row(0)], [0, 1, 2], now=2) == [(1, "do")]


def test_absent_hour_is_waited_for_until_its_deadline():
    """Before its deadline an absent hour stops the run, later hours wait for it; after it, it is stepped over."""
    assert due([row(0)], [0, 2, 3, 4], now=3) == [(1, "wait")]
    assert due([row(0)], [0, 2, 3, 4], now=1 + ABSENT_AFTER) == [(1, "wait")]
    assert due([row(0)], [0, 2, 3, 4], now=2 + ABSENT_AFTER) == [(1, "step-over"), (2, "do"), (3, "do")]


def test_absent_hour_after_the_newest_partition_is_not_due():
    """Where nothing later is there either, waiting needs no plan: the feed as a whole is late."""
    assert due([row(0)], [0], now=50) == []


def test_second_gap_within_its_deadline_stops_the_plan():
    """Hours up to the first one that is still waited for are done."""
    assert due([row(0)], [0, 1, 2, 4], now=5) == [(1, "do"), (2, "do"), (3, "wait")]


def test_dead_runs_hour_is_taken_up_again():
    """An hour left RUNNING by a run that died is due again, before all others."""
    assert due([row(0), row(1, "RUNNING")], [0, 1, 2], now=3) == [(1, "do"), (2, "do")]


@pytest.mark.parametrize("attempts", range(1, MOST_ATTEMPTS + 2))
def test_failed_hour_is_tried_a_few_times(attempts):
    """A scheduled run tries the newest hour again when it FAILED, but not without end."""
    first = [(1, "do")] if attempts < MOST_ATTEMPTS else []
    assert due([row(0), row(1, "FAILED", "io", attempts=attempts)], [0, 1, 2], now=3) == [*first, (2, "do")]


def test_failed_hour_is_not_tried_again_once_passed():
    """When a later hour has gone on without it, a FAILED hour is a backfill's business."""
    assert due([row(0, "FAILED", "io"), row(1)], [0, 1, 2], now=3) == [(2, "do")]


@pytest.mark.parametrize(
    ("state", "reason"), [("PUBLISHED", None), ("HELD", "undecided"), ("HELD", "no-data"), ("QUARANTINED", "corrupt")]
)
def test_settled_hours_are_never_done_again_by_schedule(state, reason):
    """An hour that ended otherwise is done; a scheduled run goes on after it, whatever became of its partition."""
    assert due([row(0, state, reason)], [0, 1], now=2) == [(1, "do")]
    assert due([row(0, state, reason, stale_because="late data")], [0, 1], now=2) == [(1, "do")]


WANTED: list[tuple[HourRow | None, set[str]]] = [
    (None, {"missing", "all"}),
    (row(0), {"all"}),
    (row(0, "HELD", "undecided"), {"all"}),
    (row(0, "HELD", "no-data"), {"missing", "all"}),  # its partition came after all
    (row(0, "RUNNING"), {"missing", "failed", "all"}),
    (row(0, "FAILED", "oom", attempts=MOST_ATTEMPTS), {"failed", "all"}),
    (row(0, "QUARANTINED", "corrupt"), {"failed", "all"}),
    (row(0, stale_because="an earlier hour changed"), {"stale", "all"}),
]


@pytest.mark.parametrize("only", get_args(Only))
@pytest.mark.parametrize(("known", "wanted"), WANTED, ids=lambda value: getattr(value, "state", None))
def test_what_a_backfill_is_about(known, wanted, only):
    """Each kind of backfill does the hours it is named after and skips the others."""
    assert done([known] if known else [], only) == (only in wanted)


@pytest.mark.parametrize("only", get_args(Only))
def test_absent_hour_stays_stepped_over(only):
    """A backfill does not touch an hour held for want of data while that is still absent."""
    assert not done([row(0, "HELD", "no-data")], only, available=())


def test_trained_hour_is_kept_when_its_partition_is_gone():
    """No backfill throws away what was learnt from an hour whose files were removed since."""
    assert [planned.action for planned in backfill([row(0)], [], 0, 0, "all", now=50)] == ["skip"]
    assert [planned.action for planned in backfill([row(0, stale_because="x")], [], 0, 0, "stale", now=50)] == ["skip"]


def test_nothing_is_planned_behind_an_hour_that_is_waited_for():
    """A backfill stops at an hour it waits for, and its plan says so of the hours behind it."""
    plan = backfill([row(2)], [1, 2, 3], 0, 3, "missing", now=ABSENT_AFTER)
    assert [planned.action for planned in plan] == ["wait", "wait", "skip", "wait"]
    assert f"comes after hour {H}" in plan[1].why


def test_backfill_over_a_range_names_every_hour():
    """The plan says of each hour what becomes of it: done, skipped, stepped over, waited for."""
    plan = backfill([row(1, "HELD", "empty", checkpoint=None)], [0, 1, 3], 0, 5, "missing", now=5)
    assert [(planned.hour.index - H.index, planned.action) for planned in plan] == [
        (0, "do"),
        (1, "skip"),
        (2, "step-over"),
        (3, "do"),
        (4, "wait"),
        (5, "wait"),
    ]
    assert "HELD(empty)" in plan[1].why
    assert "absent" in plan[2].why
    assert "2026-03-01T07" in plan[4].why, "until when it is waited for"
    assert "not over" in plan[5].why


def test_hours_that_went_on_from_a_redone_one_follow_it():
    """After the first hour that is done again, those of the range that trained are done too, and say why."""
    rows = [row(0), row(1, "FAILED", "io"), row(2), row(3, "HELD", "empty", checkpoint=None), row(4)]
    plan = backfill(rows, [0, 1, 2, 3, 4], 0, 4, "failed")
    assert [(planned.action, planned.chained) for planned in plan] == [
        ("skip", False),
        ("do", False),
        ("do", True),
        ("skip", False),
        ("do", True),
    ]
    assert plan[2].why == f"builds on hour {H + 1}, which is redone"


def test_range_ends_where_an_hour_cannot_follow():
    """An hour that cannot follow, its files being gone or it being frozen, ends the range."""
    rows = [row(0, "FAILED", "io"), row(1), row(2)]
    absent = backfill(rows, [0, 2], 0, 2, "failed")
    assert [planned.action for planned in absent] == ["do", "wait", "wait"]
    assert "absent" in absent[1].why
    frozen = backfill_hours(
        rows, [H, H + 1, H + 2], H, H + 2, H + 9, CONFIG.model_copy(update={"retention": 0}), only="failed"
    )
    assert [planned.action for planned in frozen] == ["do", "wait", "wait"]
    assert "frozen" in frozen[1].why


def test_frozen_hours_are_only_replaced_by_name():
    """A trained hour too far behind the newest is skipped, whatever is asked, unless it is to be replaced."""
    rows, config = [row(0), row(1), row(2)], CONFIG.model_copy(update={"retention": 1})
    for replace, actions in ((False, ["skip", "do", "do"]), (True, ["do", "do", "do"])):
        plan = backfill_hours(rows, [H, H + 1, H + 2], H, H + 2, H + 9, config, only="all", replace_frozen=replace)
        assert [planned.action for planned in plan] == actions
    assert backfill_hours([row(2)], [H], H, H, H + 9, config, only="missing")[0].action == "do", "was never learnt"


def test_failed_hour_is_paused_for_ever_longer():
    """A scheduled run does not try again at once; the plan says from when on, and nothing goes before."""
    ended = (H + 2).start
    for attempts, pause in ((1, PAUSE), (2, 2 * PAUSE)):
        rows = [row(1, "FAILED", "io", attempts=attempts, finished_at=ended)]
        early, late = (
            due_hours(rows, [H + 1, H + 2], H + 3, RULES, ended + pause + delta)
            for delta in (timedelta(seconds=-1), timedelta())
        )
        assert [(planned.hour, planned.action) for planned in early] == [(H + 1, "wait")]
        assert f"attempt {attempts} of {MOST_ATTEMPTS}" in early[0].why
        assert [planned.action for planned in late] == ["do", "do"]


def test_estimate_is_the_median_of_trained_hours():
    """The estimate is the median time of the last day's hours that trained; others were over too soon to count."""
    rows = [row(offset, seconds=1000.0) for offset in range(6)]
    rows += [row(6 + offset, seconds=10.0 + offset) for offset in range(24)]
    rows.append(row(30, "QUARANTINED", "corrupt", seconds=0.1))
    assert due_hours(rows, [H + 31], H + 32, RULES)[0].seconds == 21.5
    assert due_hours([], [H], H + 1, RULES)[0].seconds is None
    assert backfill(rows, [], 31, 31, "missing")[0].seconds is None, "stepping over takes no time"


def ledgers() -> st.SearchStrategy[list[HourRow]]:
    """Ledgers with any outcome at any of the hours -10 to 30, oldest first."""
    ends = [
        ("PUBLISHED", None),
        ("HELD", "undecided"),
        ("HELD", "no-data"),
        ("QUARANTINED", "nulls"),
        ("FAILED", "io"),
        ("RUNNING", None),
    ]
    rows = st.builds(
        lambda offset, end, attempts, stale: row(offset, *end, attempts=attempts, stale_because=stale),
        st.integers(-10, 30),
        st.sampled_from(ends),
        st.integers(1, 5),
        st.sampled_from([None, "changed"]),
    )
    by_hour = st.lists(rows, max_size=20, unique_by=lambda it: it.hour)
    return by_hour.map(lambda them: sorted(them, key=lambda it: it.hour))


@given(ledgers(), st.sets(st.integers(-10, 30)), st.integers(-10, 30), st.integers(0, 5))
def test_schedule_keeps_its_promises(rows, available, now, absent_after):
    """For any ledger: hours ascend without a gap and are over, only present ones are done, nothing follows a wait.

    A settled hour is not touched.
    """
    there = {H + offset for offset in available}
    plan = due_hours(rows, there, H + now, RULES.model_copy(update={"absent_after": absent_after}))
    hours = [planned.hour.index for planned in plan]
    assert hours == list(range(hours[0], hours[0] + len(hours))) if hours else True
    assert all(planned.hour < H + now for planned in plan)
    assert all((planned.action == "do") == (planned.hour in there) for planned in plan)
    assert all(planned.action != "wait" for planned in plan[:-1])
    again = {known.hour for known in rows if known.state in ("RUNNING", "FAILED")}
    assert not {planned.hour for planned in plan} & ({known.hour for known in rows} - again)


@given(
    ledgers(),
    st.sets(st.integers(-10, 30)),
    st.integers(-10, 30),
    st.integers(-10, 20),
    st.integers(0, 12),
    st.sampled_from(get_args(Only)),
)
def test_backfill_keeps_its_promises(rows, available, now, first, length, only):
    """For any ledger: every hour of the range once, in order; nothing is done at or after now, or without data."""
    plan = backfill(rows, sorted(available), first, first + length, only, now)
    assert [planned.hour for planned in plan] == [H + offset for offset in range(first, first + length + 1)]
    for planned in plan:
        if planned.action in ("do", "step-over"):
            assert planned.hour < H + now
            assert (planned.action == "do") == (planned.hour.index - H.index in available)
    if only == "all":
        absent = {known.hour for known in rows if known.reason == "no-data" or known.checkpoint}
        assert all(planned.action != "skip" or planned.hour in absent for planned in plan)


@pytest.mark.case(16)
def test_a_stray_partition_fills_no_ledger():
    """Between one of 1970 and today nothing is stepped over, by a scheduled run or a backfill; a short gap is."""
    there = [Hour(0), H, H + 3]
    assert [planned.hour for planned in due_hours([], there, H + 100, RULES)] == [Hour(0), *(H + at for at in range(4))]
    plan = backfill_hours([], there, Hour(0), H + 3, H + 100, CONFIG, only="missing")
    assert [planned.hour for planned in plan] == [Hour(0), *(H + at for at in range(4))]
    assert [planned.action for planned in plan] == ["do", "do", "step-over", "step-over", "do"]


@pytest.mark.case(16)
def test_the_longest_gap_that_is_stepped_over():
    """A month; one hour more is jumped over."""
    for gap, planned in ((LONGEST_GAP, LONGEST_GAP + 2), (LONGEST_GAP + 1, 2)):
        assert len(due_hours([], [H, H + gap + 1], H + 10_000, RULES)) == planned
