"""Where the pipeline stands and what to type next, from the ledger and the list of files alone (no model is loaded)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from saec.data.partitions import available_hours
from saec.planner import PlannedHour, due_now

if TYPE_CHECKING:
    from saec.cli.session import Session
    from saec.hours import Hour
    from saec.ledger import HourRow, Lease
    from saec.store.releases import Release


@dataclass(frozen=True)
class Outlook:
    """Where the pipeline stands."""

    rows: list[HourRow]
    """The ledger, oldest first."""
    due: list[PlannedHour]
    """Hours that a run would do or step over now, oldest first."""
    waiting: PlannedHour | None
    """The hour whose partition is waited for."""
    has_data: bool
    """Whether `data.source` holds any hour."""
    lease: Lease | None
    """The lease of the run at work; None when nothing runs."""
    live: Release | None
    """The last release; None before the first."""

    @property
    def stale(self) -> list[Hour]:
        """Hours whose result no longer stands."""
        return [row.hour for row in self.rows if row.stale_because]

    @property
    def unfinished(self) -> HourRow | None:
        """The hour that was begun last and not finished: at work, or left by a run that died."""
        return next((row for row in reversed(self.rows) if row.state == "RUNNING"), None)


def look(session: Session) -> Outlook:
    """See where the pipeline stands now."""
    rows = session.ledger.rows()
    plan = due_now(session.config, session.ledger)
    return Outlook(
        rows=rows,
        due=[planned for planned in plan if planned.action in ("do", "step-over")],
        waiting=next((planned for planned in plan if planned.action == "wait"), None),
        has_data=bool(rows) or bool(available_hours(session.config.data.source)),
        lease=session.ledger.holder(),
        live=session.store.live(),
    )


def idle_line(outlook: Outlook) -> str:
    """Why nothing is due."""
    if outlook.waiting:
        return f"nothing is due: hour {outlook.waiting.hour} {outlook.waiting.why}"
    if not outlook.has_data:
        return "nothing is due: data.source holds no hour yet"
    if not outlook.rows:
        return "nothing is due: no hour of data.source is over yet"
    newest = outlook.rows[-1]
    return f"nothing is due: the newest hour, {newest.hour}, is {newest.state}, and no later one has come"


def next_words(outlook: Outlook) -> str | None:
    """The command to type next, without `saec` in front; None when there is nothing to do."""
    newest = outlook.rows[-1] if outlook.rows else None
    words = None
    if outlook.lease:
        pass  # a run is at work
    elif outlook.due:
        words = "run"
    elif newest is None and not outlook.has_data:
        words = "simulate"
    elif newest is not None and newest.state in ("FAILED", "QUARANTINED"):
        words = f"run --hour {newest.hour}"
    elif outlook.stale:
        words = f"backfill --only stale --from {outlook.stale[0]} --to {outlook.stale[-1]}"
    elif outlook.live and outlook.live.held:
        words = 'release --reason "..."'
    return words
