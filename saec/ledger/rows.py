"""The frozen values that the ledger returns; they outlive their session, with times in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict

from saec.errors import LedgerError
from saec.hours import Hour

OUTCOMES = ("PUBLISHED", "HELD", "QUARANTINED", "FAILED")
"""How an hour can end; until then its state is RUNNING."""
SETTINGS_REASONS = ("config", "meaning")
"""Reasons of a FAILED hour that are faults of the settings: waiting does not help, and later hours fail too."""

BackfillState = Literal["RUNNING", "PAUSED", "STOPPED", "DONE", "CANCELLED"]
OPEN_STATES: tuple[BackfillState, ...] = ("RUNNING", "PAUSED", "STOPPED")
"""States in which a backfill can continue; RUNNING without a valid lease means that it was interrupted."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write, until a newer lease is given out."""

    owner: str
    """Who holds it: host, process and run, for messages."""
    fence: int
    """Fencing number: higher than that of every lease before."""
    expires_at: datetime
    """When another run may take over, UTC."""
    taken_over: bool = False
    """Whether the holder before let it expire, and so may still be alive and not know that it was replaced."""

    def in_use(self) -> LedgerError:
        """The message to another run that asks for the lease."""
        return LedgerError(
            f"the ledger is in use by {self.owner} until {self.expires_at:%Y-%m-%dT%H:%M:%SZ}; wait for "
            "that run to end (saec status)",
            reason="busy",
        )


@dataclass(frozen=True, slots=True)
class HourRow:
    """The ledger's row of an hour."""

    hour: Hour
    state: str
    """RUNNING or one of OUTCOMES."""
    attempts: int
    """How often the hour was begun."""
    fence: int
    """Fencing number of the lease it was last written under."""
    stage: str = ""
    """Step reached by the last attempt."""
    reason: str | None = None
    """Slug beneath the outcome, such as "no-data"."""
    message: str | None = None
    """The same for people."""
    input_digest: str | None = None
    """sha256 of the partition that was read."""
    delivery: str | None = None
    """Mark of what lay in the hour's folder when that was last looked at (`saec.data.partitions.available_hours`)."""
    config_digest: str | None = None
    """`Config.digest` of the last attempt."""
    parent: Hour | None = None
    """The trained hour that this one builds on; None for the first."""
    checkpoint: str | None = None
    """Name of the training state after the hour; None when it trained nothing."""
    version: str | None = None
    """Version committed for the hour."""
    stale_because: str | None = None
    """Why the hour's result is out of date; None if it is not."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    """Wall time of the last finished attempt."""
    record: dict[str, Any] | None = None
    """Everything the report shows of the hour."""

    @property
    def ending(self) -> str:
        """Its state with the reason beneath, for people: HELD(no-data)."""
        return f"{self.state}({self.reason})" if self.reason else self.state

    @property
    def settings_at_fault(self) -> bool:
        """Whether it FAILED for a reason that only new settings, or a person's permission, can fix."""
        return self.state == "FAILED" and self.reason in SETTINGS_REASONS

    @property
    def learnt(self) -> tuple[str, str] | None:
        """The training state that the hour left to later ones, the original's and the challenger's; None without."""
        return (self.checkpoint, self.record["challenger"]) if self.checkpoint and self.record else None


class Result(TypedDict, total=False):
    """What an attempt at an hour left; the meaning of each field is that of `HourRow`, unset is None."""

    message: str | None
    input_digest: str | None
    delivery: str | None
    parent: Hour | None
    checkpoint: str | None
    version: str | None
    record: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill: the request and its state."""

    first: Hour
    """First hour of the range."""
    last: Hour
    """Last hour of the range, included."""
    only: str
    """Which hours: `saec.schedule.planner.Only`."""
    promote: bool
    """Whether what passes goes live: hour by hour, or, where hours are done aside, the newest one at the end."""
    stop_on_failure: bool
    """Whether an hour that is FAILED or QUARANTINED stops it."""
    replace: bool
    """Whether frozen hours are done too."""
    aside: bool
    """Whether hours are done aside and swapped in at the end, because later hours build on them."""
    follow: bool
    """Whether hours that are done meanwhile are done again too, since the range reached up to the newest."""
    actor: str
    """Who asked."""
    fence: int = 0
    """Fencing number it began under: what was written under this or a higher one is its own work."""
    state: BackfillState = "RUNNING"
    asked: Literal["pause", "cancel"] | None = None
    """Pending request for after the current hour: pause or cancel."""
    message: str | None = None
    """Reason for its state, for people."""
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def open(self) -> bool:
        """Whether it can go on."""
        return self.state in OPEN_STATES

    def __str__(self) -> str:
        """What it is about, for people."""
        return f"backfill {self.first} to {self.last} ({self.only})"


def report_record(row: HourRow) -> dict[str, Any]:
    """What the report shows of an hour: its record, and how it ended."""
    return {
        **(row.record or {}),
        "hour": str(row.hour),
        "outcome": row.state,
        "reason": row.reason,
        "message": row.message,
        "version": row.version,
        "stale_because": row.stale_because,
    }
