"""Runs hours under Prefect: each hour is a subflow run with six task runs; maps outcomes to Prefect states.

Decisions: order, lease, ledger and outcomes come from `saec.schedule.pipeline.Pipeline`; this module only runs and
shows an hour. A held hour is not a failure: its run is Completed, under the outcome's name. Only FAILED is Failed,
under exactly that name, so that alerts and filters for Prefect's own states find it.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Annotated, Any
from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from flows.events import tell_alarms, tell_hour
from flows.pages import end_again, show_hour, show_overview, show_progress, tag_hour
from flows.tasks import as_task_run
from saec.config import Config
from saec.errors import LedgerError, SaecError
from saec.hour_over_ranks import pipeline_over
from saec.hours import Hour
from saec.ledger import HourRow, Lease
from saec.logs import about
from saec.monitoring.alarms import Alarm, alarms, broken
from saec.monitoring.outlook import look
from saec.report.hour import CONTEXT_HOURS
from saec.schedule.pipeline import Pipeline

Ranks = Annotated[int, Field(ge=1)]
log = logging.getLogger("saec.hour")
WORST_FIRST = ("FAILED", "QUARANTINED", "HELD", "PUBLISHED", "KEPT")
"""How the hours of a run ended; KEPT is held only because the run was not to promote, which is what was asked of it."""


class FlowPipeline(Pipeline):
    """The hours of one configuration, each as a run that Prefect shows; it listens to itself."""

    def __init__(self, config: Config, actor: str, ranks: int = 1) -> None:
        """A pipeline whose steps are task runs.

        Args:
            config: all settings.
            actor: who runs it, for the release log.
            ranks: processes that train together, this one among them.
        """
        super().__init__(config, run_step=as_task_run, actor=actor)
        self.ranks = ranks
        self._aside: dict[Hour, UUID] = {}
        """The runs of hours that were done aside."""

    def do(self, lease: Lease, hour: Hour, *, promote: bool = True, aside: bool = False, **how: Any) -> HourRow:
        """Do one hour as a run named after it; arguments and result are those of `Pipeline.do`."""

        @flow(name="hour", flow_run_name="hour {hour}", persist_result=False, validate_parameters=False)
        def one_hour(hour: str, promote: bool, aside: bool) -> State[HourRow]:
            """One hour of clicks: ingest, train, cluster, retrain, gate, publish."""
            row = super(FlowPipeline, self).do(lease, Hour.parse(hour), promote=promote, aside=aside, **how)
            with about(row.hour, row.version):
                self._show_hour(row, run := UUID(flow_run.id))
            if aside:
                self._aside[row.hour] = run
            return hour_state(row)

        ended: Any = one_hour(str(hour), promote, aside, return_state=True).result(raise_on_failure=False)
        if isinstance(ended, BaseException):
            raise ended
        row: HourRow = ended
        return row

    def tell_again(self, rows: Iterable[HourRow]) -> None:
        """Correct pages and runs of hours that were done aside; they were written before the swap."""
        for row in rows:
            if run := self._aside.pop(row.hour, None):
                self._show_hour(row, run)
                end_again(run, row.hour, hour_state(row))

    def _show_hour(self, row: HourRow, run: UUID) -> None:
        """Show an hour's page, and tag its run."""
        show_hour(self.config, row, self.ledger.rows(row.hour - CONTEXT_HOURS, row.hour))
        tag_hour(row, run)

    def on_plan(self, done: int, left: int, seconds: float | None) -> None:
        """Show how far a backfill has come."""
        show_progress(self.config, done, left, seconds)

    def on_step(self, hour: Hour, step: str) -> None:
        """Each step is a task run, which shows itself."""

    def on_hour(self, row: HourRow) -> None:
        """Send the event of an ended hour, also of a skipped one, and renew the overview."""
        with about(row.hour, row.version):
            tell_hour(self.config, row)
            self.show()

    def show(self) -> list[Alarm]:
        """Renew the overview; a failure is only logged. Returns the active alarms."""
        try:
            outlook = look(self.config, self.ledger, self.workspace.store())
            fired = alarms(outlook, self.config.alarms)
        except Exception:
            log.exception("the overview cannot be renewed")
            return []
        show_overview(self.config, outlook, fired)
        return fired


def run_hours(pipeline: FlowPipeline, work: Callable[[], list[HourRow]]) -> State[Any]:
    """Do hours and show how the pipeline stands then.

    Args:
        pipeline: the hours' pipeline.
        work: does them.

    Returns:
        The state the flow run ends in: HELD when another run is at work.
    """
    try:
        with pipeline_over(pipeline.ranks, pipeline.config):
            rows = work()
    except LedgerError as error:
        if error.reason != "busy":
            raise
        return Completed(name="HELD", message=str(error))
    fired = pipeline.show()
    tell_alarms(pipeline.config, fired)
    state = run_state(rows)
    if gone := broken(fired):
        return Failed(message="; ".join([*(alarm.message for alarm in gone), state.message or ""]))
    return state


def broken_off(error: SaecError) -> State[Any]:
    """The state of a run that an error has ended which says by itself what to do: failed, in words, without a crash."""
    log.error("%s", error)
    return Failed(message=str(error))


def hour_state(row: HourRow) -> State[HourRow]:
    """The state of an hour's run: the outcome as its name, why as its message."""
    said = f"{row.reason}: {row.message}" if row.reason else str(row.message or row.version)
    if row.state == "FAILED":
        return Failed(message=said, data=row)
    return Completed(name=_outcome(row), message=said, data=row)


def _outcome(row: HourRow) -> str:
    """How an hour ended, in the words of `WORST_FIRST`."""
    return "KEPT" if row.reason == "not-promoted" else row.state


def run_state(rows: Iterable[HourRow]) -> State[Any]:
    """The state of a run over several hours: named after the worst outcome, with the count of each."""
    counts = Counter(map(_outcome, rows))
    said = ", ".join(f"{counts[outcome]} {outcome.lower()}" for outcome in WORST_FIRST[::-1] if counts[outcome])
    worst = next((outcome for outcome in WORST_FIRST if counts[outcome]), None)
    if worst == "FAILED":
        return Failed(message=said)
    return Completed(name=worst or "Completed", message=said or "no hour was due")
