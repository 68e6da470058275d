"""Determines the state of the pipeline and the next command, from the ledger, the list of files and the release log.

Decisions: `saec status`, the overview in Prefect's UI, the metrics and the alarms are all made from one value, taken at
one moment, so that they cannot contradict each other. Code that needs "now" asks this value, not the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from saec.config import Config
from saec.data.partitions import available_hours
from saec.gate.paired import Paired, over_hours
from saec.hours import Hour
from saec.ledger import HourRow, Lease, Ledger
from saec.monitoring.lost import Lost, look_at_source, look_into
from saec.schedule.lease import at_work
from saec.schedule.planner import PlannedHour, due_now
from saec.schedule.progress import Progress, look_ahead
from saec.space import free_bytes
from saec.store.model_store import ModelStore
from saec.store.releases import Release

SERVED_HOURS = 24
"""Number of hours, up to the newest one, over which served figures are pooled."""

_AFTER = {"config": "check", "meaning": "migrate --dry-run"}
"""What to type after an hour that failed because of the settings: to try it again would fail the same way."""


@dataclass(frozen=True)
class Outlook:
    """The state of the pipeline."""

    now: datetime
    """When this was seen, UTC."""
    rows: Sequence[HourRow]
    """The ledger, oldest first."""
    due: Sequence[PlannedHour]
    """Hours that a run would do or skip now, oldest first."""
    waiting: PlannedHour | None
    """The hour for whose partition the pipeline waits."""
    has_data: bool
    """Whether `data.source` has any hour."""
    lease: Lease | None
    """The lease of the run at work; None when nothing runs."""
    backfill: Progress | None
    """The backfill that is open, and how far it has come."""
    live: Release | None
    """The last release; None before the first."""
    live_since: datetime | None
    """When the live version became live; None when none is."""
    disk_free: int
    """Bytes free where the workspace is."""
    lost: Sequence[Lost] = ()
    """What the pipeline has lost (`saec.monitoring.lost`)."""

    @property
    def stale(self) -> list[Hour]:
        """Hours whose result is out of date."""
        return [row.hour for row in self.rows if row.stale_because]

    @property
    def unfinished(self) -> HourRow | None:
        """The hour that was begun last and not finished: at work, or left by a run that died."""
        return next((row for row in reversed(self.rows) if row.state == "RUNNING"), None)

    @property
    def finished(self) -> datetime | None:
        """When an hour was last finished, however it ended."""
        return max((row.finished_at for row in self.rows if row.finished_at), default=None)

    @property
    def unpublished(self) -> list[HourRow]:
        """The newest hours that have ended, back to the last one that was published; oldest first.

        Hours of a backfill that was not to promote are passed over: nobody wanted them published.
        """
        ended = [row for row in self.rows if row.state != "RUNNING" and row.reason != "not-promoted"]
        places = (place for place in reversed(range(len(ended))) if ended[place].state == "PUBLISHED")
        return ended[next(places, -1) + 1 :]

    @cached_property
    def served(self) -> dict[str, Paired]:
        """The served figures of the last 24 hours, by pair of models (`saec.gate.paired.NAMES`)."""
        return over_hours(
            [row.record for row in self.rows if row.record and row.hour > self.rows[-1].hour - SERVED_HOURS]
        )

    @property
    def has_published(self) -> bool:
        """Whether a version was ever published, so that to have none live is a loss."""
        return any(row.state == "PUBLISHED" for row in self.rows)

    @property
    def live_version(self) -> str | None:
        """The version that is live."""
        return self.live.version if self.live else None

    @property
    def live_seconds(self) -> float | None:
        """How long the live version has been live."""
        return max(0.0, (self.now - self.live_since).total_seconds()) if self.live_since else None

    @property
    def data_until(self) -> datetime | None:
        """The end of the last hour that the live version has learnt; None when none is live."""
        return (Hour.parse(self.live_version.partition("-")[0]) + 1).start if self.live_version else None

    @property
    def data_seconds(self) -> float | None:
        """How old the newest data is that the live version has learnt."""
        return max(0.0, (self.now - self.data_until).total_seconds()) if self.data_until else None

    @property
    def backlog_seconds(self) -> float | None:
        """How long the due hours are likely to take; None when no hour was timed yet."""
        estimates = [planned.seconds for planned in self.due if planned.seconds is not None]
        return sum(estimates) if estimates else None

    @property
    def next_hour(self) -> Hour | None:
        """The hour that comes next; None before there is any data."""
        if self.due:
            return self.due[0].hour
        if self.waiting:
            return self.waiting.hour
        return self.rows[-1].hour + 1 if self.rows else None


def look(config: Config, ledger: Ledger, store: ModelStore) -> Outlook:
    """Determine the state of the pipeline now."""
    rows, plan, backfill = ledger.rows(), due_now(config, ledger), ledger.backfills.current()
    shelf = look_into(store, rows)
    return Outlook(
        now=datetime.now(UTC),
        rows=rows,
        due=[planned for planned in plan if planned.pending],
        waiting=next((planned for planned in plan if planned.action == "wait"), None),
        has_data=bool(rows) or bool(available_hours(config.data)),
        lease=at_work(ledger, config.workspace),
        backfill=look_ahead(config, ledger, backfill) if backfill else None,
        live=shelf.live,
        live_since=datetime.fromisoformat(shelf.made_live.at) if shelf.made_live else None,
        disk_free=free_bytes(config.workspace),
        lost=[lost for lost in (look_at_source(config, rows), shelf.lost) if lost],
    )


def idle_line(outlook: Outlook) -> str:
    """Why nothing is due."""
    if outlook.waiting:
        return f"nothing is due: hour {outlook.waiting.hour} {outlook.waiting.why}"
    if not outlook.has_data:
        return f"nothing is due: data.source holds no hour{'' if outlook.lost else ' yet'}"
    if not outlook.rows:
        return "nothing is due: no hour of data.source is over yet"
    newest = outlook.rows[-1]
    return f"nothing is due: the newest hour, {newest.hour}, is {newest.state}, and no later one has come"


def words_after(row: HourRow) -> str:
    """The command to type after an hour that ended FAILED or QUARANTINED: by its reason, else the hour again."""
    return _AFTER.get(row.reason or "", f"run --hour {row.hour}")


def next_words(outlook: Outlook) -> str | None:
    """The command to type next, without `saec` in front; None when there is nothing to do."""
    newest = outlook.rows[-1] if outlook.rows else None
    words = None
    if outlook.lease:
        pass  # a run is at work
    elif outlook.lost:
        words = outlook.lost[0].command
    elif newest is not None and newest.settings_at_fault:
        words = words_after(newest)
    elif outlook.due:
        words = "run"
    elif outlook.backfill:
        words = "backfill --resume"
    elif newest is not None and newest.state in ("FAILED", "QUARANTINED"):
        words = words_after(newest)
    elif outlook.stale:
        words = f"backfill --only stale --from {outlook.stale[0]} --to {outlook.rows[-1].hour}"  # what went on follows
    elif outlook.live and outlook.live.held:
        words = 'unhold --reason "..."'
    return words
