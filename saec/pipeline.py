"""A pipeline at work: the lease, the hour's row in the ledger, and what each way an hour can end means.

Decisions: one run at a time holds the ledger's lease and renews it from a thread, so a run that dies is replaced
within `LEASE_SECONDS`, and one that was replaced can neither write the ledger nor publish. Whatever happens in an hour
becomes one of four outcomes with a reason; only losing the lease, or being told to stop, ends the run itself.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING

from saec.data.partitions import available_hours
from saec.durable import REASONS
from saec.errors import HourHeld, InputError, LeaseLost, SaecError, StoreError
from saec.hours import Hour
from saec.ledger import HourRow, Lease, Ledger
from saec.logs import ended, hour_logged, step_begun
from saec.monitoring.metrics import write_metrics
from saec.planner import Only, PlannedHour, backfill_hours, due_hours
from saec.steps import KEPT_FILES, HourPlan, Steps, do_hour
from saec.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from saec.config import Config

LEASE_SECONDS = 120.0
log = logging.getLogger(__name__)


def _unheard(*_: object) -> None:
    """Nobody listens."""


class Pipeline:
    """The hours of one configuration."""

    def __init__(self, config: Config, steps: Steps | None = None, actor: str = "saec run") -> None:
        """A pipeline over the configured ledger, workspace and store.

        Args:
            config: all settings.
            steps: how each step is run; plain calls when left out.
            actor: who runs it, for the release log.
        """
        self.config = config
        self.ledger = Ledger(config.ledger_url)
        self.workspace = Workspace(config)
        self.steps = steps or Steps()
        self.actor = actor

    def due(self, now: Hour | None = None) -> list[PlannedHour]:
        """What a scheduled run would do now."""
        available = available_hours(self.config.data.source)
        return due_hours(self.ledger.rows(), available, now or Hour.now(), self.config.data.absent_after)

    def backfill(self, first: Hour, last: Hour, only: Only = "missing", now: Hour | None = None) -> list[PlannedHour]:
        """What a backfill of this range would do now."""
        available = available_hours(self.config.data.source)
        return backfill_hours(
            self.ledger.rows(),
            available,
            first,
            last,
            now or Hour.now(),
            only=only,
            absent_after=self.config.data.absent_after,
        )

    @contextmanager
    def leased(self) -> Iterator[Lease]:
        """Hold the lease, renewed from a thread until the end.

        Raises:
            LedgerError: reason "busy", when another run holds it.
        """
        lease = self.ledger.acquire(f"{self.actor} on {socket.gethostname()}, process {os.getpid()}", LEASE_SECONDS)
        done = threading.Event()
        heart = threading.Thread(target=self._renew, args=(lease, done), name="saec lease", daemon=True)
        heart.start()
        try:
            self.workspace.store().remove_orphans()
            yield lease
        finally:
            done.set()
            heart.join()
            self._give_back(lease)
            write_metrics(self.config, self.ledger, self.workspace.store())

    def run(
        self,
        lease: Lease,
        plan: Iterable[PlannedHour],
        *,
        promote: bool = True,
        stop_on_failure: bool = False,
        on_step: Callable[[Hour, str], object] = _unheard,
        on_hour: Callable[[HourRow], object] = _unheard,
    ) -> list[HourRow]:
        """Do planned hours in order.

        Args:
            lease: from `leased`.
            plan: from `due` or `backfill`.
            promote: whether versions that pass are released.
            stop_on_failure: whether an hour that is FAILED or QUARANTINED ends the run.
            on_step: told each hour and step before it starts.
            on_hour: told how each hour ended.

        Raises:
            LeaseLost: when another run has taken over.
        """
        finished = []
        for planned in plan:
            if planned.action == "wait":
                break
            if planned.action == "skip":
                continue
            if planned.action == "step-over":
                row = self.step_over(lease, planned)
            else:
                row = self.do(lease, planned.hour, promote=promote, on_step=on_step)
            finished.append(row)
            on_hour(row)
            if stop_on_failure and row.state in ("FAILED", "QUARANTINED"):
                break
        return finished

    @hour_logged
    def do(
        self,
        lease: Lease,
        hour: Hour,
        *,
        promote: bool = True,
        on_step: Callable[[Hour, str], object] = _unheard,
    ) -> HourRow:
        """Do one hour, whatever the ledger says of it; later hours become stale where its training state changes."""
        before = self.ledger.get(hour)
        self.ledger.begin(lease, hour, self.config.digest)
        parent = self.ledger.latest_trained(hour)
        parent_hour = parent.hour if parent else None

        def note(step: str) -> None:
            self.ledger.stage(lease, hour, step)
            step_begun(step)
            on_step(hour, step)

        try:
            result = do_hour(self._plan(lease, hour, parent, promote=promote), self.steps, note)
        except LeaseLost:
            raise
        except Exception as error:  # every way an hour can end is an outcome
            outcome, reason = _outcome(error)
            log.log(
                logging.ERROR if outcome == "FAILED" else logging.WARNING,
                "hour %s %s(%s): %s", hour, outcome, reason, error,
                exc_info=error if reason == "bug" else None,
            )
            with suppress(OSError):  # the disk may be what failed
                self.workspace.clear(hour, keep=KEPT_FILES)
            row = self.ledger.finish(lease, hour, outcome, reason, message=str(error), parent=parent_hour)
        else:
            row = self.ledger.finish(
                lease, hour, result.published.outcome, result.published.reason, message=result.published.message,
                input_digest=result.input_sha256, parent=parent_hour, checkpoint=result.original,
                version=result.published.version, record=result.record,
            )
        if _state(before) != _state(row):
            self.ledger.mark_stale(lease, hour, f"hour {hour} was done again after it")
        if row.checkpoint:
            self._retain(hour)
        return row

    def step_over(self, lease: Lease, planned: PlannedHour) -> HourRow:
        """Hold an absent hour."""
        self.ledger.begin(lease, planned.hour, self.config.digest)
        message = f"hour {planned.hour}: {planned.why}; when it comes, do it with saec backfill --only missing"
        return ended(self.ledger.finish(lease, planned.hour, "HELD", "no-data", message=message))

    def _plan(self, lease: Lease, hour: Hour, parent: HourRow | None, *, promote: bool) -> HourPlan:
        """What the hour starts from."""
        return HourPlan(
            config=self.config,
            hour=hour,
            original=parent.checkpoint if parent else None,
            challenger=parent.record["challenger"] if parent and parent.record else None,
            champion=self._champion(hour),
            click_rates=self._click_rates(hour),
            promote=promote,
            fence=lease.fence,
            actor=self.actor,
        )

    def _click_rates(self, hour: Hour) -> tuple[float, ...]:
        """Click rates of the hours of the last day that were learnt from."""
        records = [row.record for row in self.ledger.rows(hour - 24, hour - 1) if row.checkpoint and row.record]
        return tuple(record["clicks"] / record["rows"] for record in records)

    def _champion(self, hour: Hour) -> str | None:
        """The version to compare an hour with.

        It is the live one, unless that knows this hour or later ones already, or is damaged; then the last sound one
        that was published for an earlier hour.
        """
        store = self.workspace.store()
        live = store.live()
        if live is None:
            return None
        kept = set(store.versions())
        for version in chain([live.version], self._published_before(hour)):
            if version is None or version > hour.compact or version not in kept | {live.version}:
                continue
            if not (problems := store.verify(version)):
                return version
            log.error("version %s cannot be the champion of hour %s: %s", version, hour, "; ".join(problems))
        return None

    def _published_before(self, hour: Hour) -> Iterator[str | None]:
        """Versions published for earlier hours, newest first; the ledger is read when the first one is asked for."""
        yield from (row.version for row in reversed(self.ledger.rows(last=hour - 1)) if row.state == "PUBLISHED")

    def _retain(self, hour: Hour) -> None:
        """Remove old versions, checkpoints and hour folders, as configured; what fails is left to the next hour."""
        retention = self.config.retention
        trained = self.ledger.trained(retention.checkpoints)
        names = [name for row in trained for name in (row.checkpoint, (row.record or {})["challenger"]) if name]
        try:
            self.workspace.store().retain(retention.versions)
            self.workspace.checkpoints.retain(names)
            self.workspace.retain({row.hour for row in trained})
        except (StoreError, OSError) as error:
            log.warning("hour %s is done, but what is too old was not removed: %s", hour, error)

    def _renew(self, lease: Lease, done: threading.Event) -> None:
        """Renew the lease until done; a lease that is lost stays lost, and the next write says so."""
        while not done.wait(LEASE_SECONDS / 4):
            try:
                self.ledger.renew(lease, LEASE_SECONDS)
            except SaecError as error:
                log.warning("lease of %s not renewed: %s", lease.owner, error)

    def _give_back(self, lease: Lease) -> None:
        try:
            self.ledger.release(lease)
        except LeaseLost:
            log.warning("%s was replaced by a newer run", lease.owner)


def _state(row: HourRow | None) -> tuple[object, ...]:
    """The training state that an hour left to later ones; a run that died may have replaced any."""
    if row and row.state == "RUNNING":
        return ("?",)
    return (row.checkpoint, row.record["challenger"]) if row and row.checkpoint and row.record else ()


def _outcome(error: Exception) -> tuple[str, str]:
    """The outcome and the reason that an error in an hour stands for."""
    match error:
        case HourHeld():
            return "HELD", error.reason
        case InputError():
            return "QUARANTINED", error.reason
        case SaecError():
            return "FAILED", error.reason
        case MemoryError():
            return "FAILED", "oom"
        case OSError():
            return "FAILED", REASONS.get(error.errno or 0, "io")
        case _:
            return "FAILED", "bug"
