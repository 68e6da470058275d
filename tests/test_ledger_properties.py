"""Whatever comes late, fails, dies or is done again, in any order: no hour is lost, none is done twice unasked."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from saec.config import Config, DataConfig, FieldConfig
from saec.errors import LeaseLost
from saec.hours import Hour, hour_range
from saec.ledger import Ledger
from saec.schedule.planner import MOST_ATTEMPTS, backfill_hours, due_hours
from tests.properties import examples

FIRST = Hour.parse("2026-03-01T12")
RULES = DataConfig(source="", time_column="t", label_column="l", absent_after=2)
CONFIG = Config(data=RULES, fields=[FieldConfig(name="user")], retention=10**6)
ENDINGS = ("PUBLISHED", "PUBLISHED", "HELD", "QUARANTINED", "FAILED")
TRAINED = ("PUBLISHED",)
ONLY = st.sampled_from(["missing", "failed", "stale", "all"])


class LedgerMachine(RuleBasedStateMachine):
    """A ledger and its planner, and by hour: how it stands, how often it was begun, whether it is stale."""

    def __init__(self) -> None:
        super().__init__()
        self.now = FIRST + 1
        self.moment = (FIRST + 1).start
        self.ledger = Ledger("sqlite://", clock=lambda: self.moment)
        self.lease = self.ledger.acquire("run", 3600)
        self.there = {FIRST}
        self.state: dict[Hour, str] = {}
        self.begun: dict[Hour, int] = {}
        self.stale: set[Hour] = set()

    def teardown(self) -> None:
        self.ledger.close()

    def finish(self, hour: Hour, ending: str) -> None:
        """An hour is done, and what went on from it is stale."""
        before = self.state.get(hour)
        self.ledger.begin(self.lease, hour, "config")
        self.begun[hour] = self.begun.get(hour, 0) + 1
        trained = ending in TRAINED
        left = f"{hour}-{self.begun[hour]}" if trained else None
        self.ledger.finish(self.lease, hour, ending, "why", checkpoint=left)
        self.state[hour] = ending
        self.stale.discard(hour)
        if before or trained:
            self.ledger.mark_stale(self.lease, hour, "done again")
            self.stale |= {other for other, state in self.state.items() if other > hour and state in TRAINED}

    @rule(comes=st.booleans())
    def an_hour_passes(self, comes):
        """The clock goes on; the hour's data is there, or not yet."""
        if comes:
            self.there.add(self.now)
        self.now += 1
        self.moment += timedelta(hours=1)

    @rule(back=st.integers(1, 5))
    def data_comes_late(self, back):
        """Data of an earlier hour comes."""
        self.there.add(max(self.now - back, FIRST))

    @rule(endings=st.lists(st.sampled_from(ENDINGS), min_size=20, max_size=20), dies=st.none() | st.integers(0, 3))
    def scheduled_run(self, endings, dies):
        """A run does what is due, in order; it may die over one of the hours."""
        plan = due_hours(self.ledger.newest(24), self.there, self.now, RULES, self.moment)
        self.check_due([planned for planned in plan if planned.action in ("do", "step-over")])
        for number, (planned, ending) in enumerate(zip(plan, endings, strict=False)):
            if planned.action == "wait":
                return
            if number == dies:
                self.die_over(planned.hour)
                return
            if planned.action == "step-over":
                assert planned.hour not in self.there
                assert self.now.index - planned.hour.index > RULES.absent_after
            self.finish(planned.hour, "HELD" if planned.action == "step-over" else ending)

    def check_due(self, plan) -> None:
        """Due is every hour after the newest one, and that one itself where a run died over it or it failed."""
        newest = max(self.state, default=None)
        for planned in plan:
            assert planned.hour < self.now
            state = self.state.get(planned.hour)
            assert state in (None, "RUNNING", "FAILED"), "an hour that is done is not done again by itself"
            assert state != "FAILED" or (planned.hour == newest and self.begun[planned.hour] < MOST_ATTEMPTS)
        if plan:
            assert [planned.hour for planned in plan] == list(hour_range(plan[0].hour, plan[-1].hour))
            assert newest is None or plan[0].hour in (newest, newest + 1)

    def die_over(self, hour: Hour) -> None:
        """A run begins an hour, and is replaced; what it still tries is refused."""
        self.ledger.begin(self.lease, hour, "config")
        self.begun[hour] = self.begun.get(hour, 0) + 1
        self.state[hour] = "RUNNING"
        dead, self.lease = self.lease, self.ledger.acquire("next run", 3600, dead=self.lease.fence)
        assert self.lease.fence == dead.fence + 1
        for late in (
            lambda: self.ledger.finish(dead, hour, "PUBLISHED"),
            lambda: self.ledger.begin(dead, hour, "x"),
            lambda: self.ledger.mark_stale(dead, FIRST, "x"),
            lambda: self.ledger.check(dead),
        ):
            with pytest.raises(LeaseLost):
                late()

    @precondition(lambda self: self.state)
    @rule(only=ONLY, back=st.integers(0, 6), hours=st.integers(1, 4), ending=st.sampled_from(ENDINGS))
    def backfill(self, only, back, hours, ending):
        """A backfill does exactly the hours that it is about, and those that went on from one of them."""
        first = max(max(self.state) - back, FIRST)
        last = min(first + (hours - 1), max(self.state))
        plan = backfill_hours(self.ledger.rows(first), self.there, first, last, self.now, CONFIG, only=only)
        assert [planned.hour for planned in plan] == list(hour_range(first, last))
        for planned in plan:
            if planned.action == "wait":
                break
            if planned.action == "do":
                self.check_wanted(planned, only)
                self.finish(planned.hour, ending)

    def check_wanted(self, planned, only) -> None:
        """An hour of a backfill is one of those that were asked for, or goes on from one."""
        assert planned.hour in self.there
        state = self.state.get(planned.hour)
        about = {
            "missing": state in (None, "RUNNING", "HELD"),
            "failed": state in ("FAILED", "QUARANTINED", "RUNNING"),
            "stale": planned.hour in self.stale,
            "all": True,
        }
        assert about[only] or planned.chained

    @invariant()
    def no_hour_is_lost(self):
        """The ledger has every hour from the first to the newest, each as it ended; what stands on sand says so."""
        rows = self.ledger.rows()
        assert [row.hour for row in rows] == sorted(self.state)
        if rows:
            assert [row.hour for row in rows] == list(hour_range(min(self.state), max(self.state)))
        assert {row.hour: row.state for row in rows} == self.state
        assert {row.hour: row.attempts for row in rows} == self.begun
        assert {row.hour for row in rows if row.stale_because} >= self.stale - {
            hour for hour, state in self.state.items() if state == "RUNNING"
        }
        fences = [row.fence for row in rows if row.state == "RUNNING"]
        assert all(fence <= self.lease.fence for fence in fences)


@pytest.mark.hypothesis
@pytest.mark.fault(35, 46)
def test_the_ledger_is_as_a_model_says():
    """Ticks, late data, deaths, failures and backfills, in any order."""
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=examples(60), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
