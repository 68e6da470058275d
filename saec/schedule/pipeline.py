"""Runs a pipeline: keeps an hour's row in the ledger around its six steps, and turns errors into outcomes.

Decisions: whatever happens in an hour becomes one of four outcomes with a reason; only a lost lease or a request to
stop ends the run itself.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from saec.data.partitions import available_hours
from saec.data.request_log import remove_log_files
from saec.data.source_problem import check_source
from saec.discover.check import settings_at_fault
from saec.durable import REASONS, remove_temporaries
from saec.errors import HourHeld, InputError, LeaseLost, SaecError, StoreError, bullets
from saec.failpoints import reached
from saec.hours import Hour
from saec.ledger import HourRow, Lease, Ledger
from saec.logs import ended, hour_logged, step_begun
from saec.mirrors.lineage import Lineage
from saec.mirrors.registry import mirror_releases
from saec.monitoring.metrics import write_metrics
from saec.records import HourPlan
from saec.schedule.late import learners
from saec.schedule.lease import held
from saec.schedule.planner import MOST_ATTEMPTS, PlannedHour, due_now
from saec.schedule.retries import tried_again
from saec.schedule.tidy import retain
from saec.steps import KEPT_FILES, Run, do_hour
from saec.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from saec.config import Config

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)
_SETTINGS_MAY_DO = ("schema", "dtype", "nulls", "labels", "timestamps", "malformed")
"""Reasons of a quarantine that other settings may fix."""
_LISTED = 5


class Listener(Protocol):
    """Receives the progress of hours."""

    def on_plan(self, done: int, left: int, seconds: float | None) -> None:
        """A backfill is about to do an hour: `done` hours are done, `left` hours are left and take about `seconds`."""

    def on_step(self, hour: Hour, step: str) -> None:
        """A step of an hour is about to start."""

    def on_hour(self, row: HourRow) -> None:
        """An hour has ended."""


class _Nobody:
    """Ignores all progress."""

    def on_plan(self, done: int, left: int, seconds: float | None) -> None: ...

    def on_step(self, hour: Hour, step: str) -> None: ...

    def on_hour(self, row: HourRow) -> None: ...


NOBODY = _Nobody()


class Pipeline:
    """The hours of one configuration."""

    def __init__(self, config: Config, run_step: Run = tried_again, actor: str = "saec run") -> None:
        """A pipeline over the configured ledger, workspace and store.

        Args:
            config: all settings.
            run_step: how each step is run; by default a plain call, repeated where that may help.
            actor: who runs it, for the release log.
        """
        self.config = config
        self.ledger = Ledger(config.ledger_url)
        self.workspace = Workspace(config)
        self.run_step = run_step
        self.actor = actor
        self.lineage = Lineage(config, self.ledger, self.workspace)

    def due(self, now: Hour | None = None) -> list[PlannedHour]:
        """The plan of a scheduled run now."""
        return due_now(self.config, self.ledger, now)

    @contextmanager
    def leased(self, patience: float = 0.0) -> Iterator[Lease]:
        """Hold the lease, and write the metrics at the end; see `saec.schedule.lease.held`.

        Args:
            patience: seconds to wait while another run has the lease; that run is told.

        Raises:
            LedgerError: reason "busy", when another run holds it still.
        """
        store = self.workspace.store()
        with held(self.ledger, store, self.config.workspace, self.actor, patience) as lease:
            for folder in (self.config.workspace, self.workspace.checkpoints.folder):
                remove_temporaries(folder)
            yield lease
        write_metrics(self.config, self.ledger, store)
        mirror_releases(self.config, self.ledger, store)

    def run(
        self,
        lease: Lease,
        plan: Iterable[PlannedHour],
        *,
        promote: bool = True,
        aside: bool = False,
        late: Iterable[Hour] = (),
        listener: Listener = NOBODY,
    ) -> list[HourRow]:
        """Do planned hours in order, up to one that FAILED and may be tried again.

        Args:
            lease: from `leased`.
            plan: from `due` or `backfill`.
            promote: whether versions that pass are released.
            aside: whether the hours are done aside, for the open backfill to swap in.
            late: earlier hours whose late rows are learnt with the first one that trains.
            listener: told how it goes.

        Raises:
            LeaseLost: when another run has taken over.
            ConfigError: when an hour would be skipped because the whole source is absent.
        """
        finished = []
        for planned in plan:
            if planned.action == "wait":
                break
            if planned.action == "skip":
                continue
            if planned.action == "step-over":
                check_source(self.config.data, known=True)
                row = self.step_over(lease, planned, aside=aside)
            else:
                row = self.do(lease, planned.hour, promote=promote, aside=aside, late=late, listener=listener)
                late = () if row.checkpoint else late
            finished.append(row)
            listener.on_hour(row)
            if row.settings_at_fault or (row.state == "FAILED" and row.attempts < MOST_ATTEMPTS):
                break  # it is retried later; once another hour has continued without it, it would not be
        return finished

    @hour_logged
    def do(
        self,
        lease: Lease,
        hour: Hour,
        *,
        promote: bool = True,
        aside: bool = False,
        late: Iterable[Hour] = (),
        listener: Listener = NOBODY,
    ) -> HourRow:
        """Do one hour, whatever its state in the ledger; later hours become stale if its training state changes.

        Args:
            lease: from `leased`.
            hour: which hour.
            promote: whether a version that passes is released.
            aside: whether the hour is done aside, for the open backfill to swap in; then no other hour becomes stale.
            late: earlier hours whose late rows are learnt with this one.
            listener: told each step.

        Raises:
            LeaseLost: when another run has taken over.
        """
        ledger = self.ledger.aside if aside else self.ledger
        before, delivery = ledger.get(hour), self._delivery(hour)
        begun = ledger.begin(lease, hour, self.config.digest)
        reached("hour.begun")
        parent = ledger.latest_trained(hour)
        parent_hour = parent.hour if parent else None
        self.lineage.begun(begun, parent)

        seconds: dict[str, float] = {}

        def run(step: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
            name = step.__name__
            ledger.stage(lease, hour, name)
            step_begun(name)
            listener.on_step(hour, name)
            reached(f"step.{name}")
            started = time.perf_counter()
            result = self.run_step(step, *args, **kwargs)
            seconds[name] = round(time.perf_counter() - started, 4)
            return result

        try:
            plan = self._plan(lease, hour, parent, promote=promote, aside=aside, late=late)
            reached("hour.planned")
            result = do_hour(plan, run)
            reached("hour.done")
        except LeaseLost:
            self.lineage.aborted(begun, parent)
            raise
        except Exception as error:  # every way an hour can end is an outcome
            outcome, reason, message = self._ending(hour, error)
            log.log(
                logging.ERROR if outcome == "FAILED" else logging.WARNING,
                "hour %s %s(%s): %s",
                hour,
                outcome,
                reason,
                message,
                exc_info=error if reason == "bug" else None,
            )
            with suppress(OSError):  # the disk may be what failed
                Workspace(self.config, aside=aside).clear(hour, keep=KEPT_FILES)
            row = ledger.finish(lease, hour, outcome, reason, message=message, parent=parent_hour, delivery=delivery)
        else:
            row = ledger.finish(
                lease,
                hour,
                result.published.outcome,
                result.published.reason,
                message=result.published.message,
                input_digest=result.input_sha256,
                delivery=delivery,
                parent=parent_hour,
                checkpoint=result.original,
                version=result.published.version,
                record={**result.record, "seconds": seconds},
            )
        reached("hour.finished")
        self.lineage.ended(row, parent)
        if not aside and _may_differ(before, row):
            self.ledger.mark_stale(lease, hour, f"hour {hour} was done again after it")
        if row.checkpoint:
            self._retain(hour)
            reached("hour.retained")
        return row

    def _ending(self, hour: Hour, error: Exception) -> tuple[str, str, str]:
        """Outcome, reason and message of an hour that ended in an error.

        Input that does not match the settings is the hour's fault, unless no hour matches them: then the run stops, so
        that one wrong line of YAML does not quarantine the whole history.
        """
        outcome, reason = _outcome(error)
        if outcome == "QUARANTINED" and reason in _SETTINGS_MAY_DO and not self._fits_elsewhere(hour):
            try:
                problems = settings_at_fault(self.config, hour)
            except (SaecError, OSError):  # what the hour itself has met counts
                problems = []
            if problems:
                message = bullets(
                    "no hour of a sample matches the settings:",
                    [f"{problem.said} (fix: {problem.mend})" for problem in problems[:_LISTED]],
                    "Fix them (saec check lists all) and run again: the hour is then retried",
                )
                return "FAILED", "config", message
        return outcome, reason, str(error)

    def _fits_elsewhere(self, hour: Hour) -> bool:
        """Whether another hour was learnt with the same settings, so that they are not at fault."""
        return any(
            row.checkpoint and row.config_digest == self.config.digest and row.hour != hour
            for row in self.ledger.newest(24)
        )

    def step_over(self, lease: Lease, planned: PlannedHour, *, aside: bool = False) -> HourRow:
        """End an absent hour as HELD."""
        ledger = self.ledger.aside if aside else self.ledger
        ledger.begin(lease, planned.hour, self.config.digest)
        message = f"hour {planned.hour}: {planned.why}; when it comes, do it with saec backfill --only missing"
        return ended(ledger.finish(lease, planned.hour, "HELD", "no-data", message=message))

    def _plan(
        self, lease: Lease, hour: Hour, parent: HourRow | None, *, promote: bool, aside: bool, late: Iterable[Hour]
    ) -> HourPlan:
        """The plan of the hour: what it starts from."""
        ledger = self.ledger.aside if aside else self.ledger
        known = (parent.record if parent else None) or {}
        champion, store = self._champion(hour, aside=aside), self.workspace.store()
        live = store.live()
        return HourPlan(
            config=self.config,
            hour=hour,
            original=parent.checkpoint if parent else None,
            challenger=known.get("challenger"),
            champion=champion,
            before_live=store.before_live() if champion and live and live.version == champion else None,
            watch=known.get("watch"),
            evidence=known.get("evidence"),
            click_rates=_click_rates(ledger.rows(hour - 24, hour - 1)),
            late={early: learners(ledger.rows(early, hour - 1), early) for early in late},
            promote=promote and not aside,
            aside=aside,
            fence=lease.fence,
            actor=self.actor,
        )

    def _delivery(self, hour: Hour) -> str | None:
        """The mark of the hour's folder, taken before the folder is read, so that no later change is missed."""
        try:
            return available_hours(self.config.data, hour, hour).get(hour)
        except OSError:  # reading it will say so
            return None

    def _champion(self, hour: Hour, *, aside: bool) -> str | None:
        """The version to compare an hour with.

        It is the live version, unless that one is damaged or has already learnt this hour or a later one; then it is
        the last sound version that was published for an earlier hour. An hour done aside is compared with the version
        that would be live if the hours before it had been done like this from the start.
        """
        store = self.workspace.store()
        live = store.live()
        kept = cache(lambda: set(store.versions()))  # asked for where the live one will not do
        for version in self._champions(hour, live.version if live else None, aside=aside):
            is_live = live is not None and version == live.version
            if version > hour.compact or not (is_live or version in kept()):
                continue
            if not (problems := store.verify(version)):
                return version
            log.error("version %s cannot be the champion of hour %s: %s", version, hour, "; ".join(problems))
        return None

    def _champions(self, hour: Hour, live: str | None, *, aside: bool) -> Iterator[str]:
        """Versions to try in turn; the ledger is read only if the first one will not do."""
        if aside:
            done = reversed(self.ledger.backfills.aside())
            yield from (row.version for row in done if row.version and row.hour < hour)
        if live:
            yield live
            published = (row for row in reversed(self.ledger.rows(last=hour - 1)) if row.state == "PUBLISHED")
            yield from (row.version for row in published if row.version)

    def _retain(self, hour: Hour) -> None:
        """Remove what is too old, as configured; failures are left to the next hour."""
        kept = self.config.retention
        try:
            standing = retain(self.workspace, self.ledger, kept)
            if self.config.serving.log and len(standing) == kept:  # younger ones could be done again
                remove_log_files(self.config.serving.log, standing[0].hour - 1)
        except (StoreError, OSError) as error:
            log.warning("hour %s is done, but what is too old was not removed: %s", hour, error)


def _click_rates(rows: Iterable[HourRow]) -> tuple[float, ...]:
    """Click rates of learnt hours."""
    records = [row.record for row in rows if row.checkpoint and row.record]
    counts = (record.get("stand_for") or (record["rows"], record["clicks"]) for record in records)
    return tuple(clicks / rows for rows, clicks in counts)


def _may_differ(before: HourRow | None, after: HourRow) -> bool:
    """Whether an hour leaves another training state than before; an hour whose run died may have left any state."""
    if before is None:
        return after.learnt is not None
    return before.state == "RUNNING" or before.learnt != after.learnt


def _outcome(error: Exception) -> tuple[str, str]:
    """The outcome and the reason of an hour that ended in this error."""
    match error:
        case HourHeld():
            return "HELD", error.reason
        case InputError():
            return "QUARANTINED", error.reason
        case SaecError():
            return "FAILED", error.reason
        case _ if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch's is a RuntimeError
            return "FAILED", "oom"
        case OSError():
            return "FAILED", REASONS.get(error.errno or 0, "io")
        case _:
            return "FAILED", "bug"
