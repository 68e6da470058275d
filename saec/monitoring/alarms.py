"""Defines the alarms: when the pipeline needs a person, and what that person does first.

Decisions: an alarm is a state that can be checked again (`saec status`, metrics), not an event that may be missed.
Prefect's automations (`flows.automations`) have the same names and thresholds. Each alarm says what was found, what was
wanted and the next command. The age of a live version counts from its publication, whatever hour it has learnt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from saec.config import AlarmsConfig
from saec.gate.watch import BEFORE
from saec.monitoring.outlook import Outlook, words_after

ALARMS = {
    "lost": "what it stands on is gone",
    "quiet": "no hour finished",
    "failed": "an hour FAILED",
    "held": "nothing published for hours",
    "old": "the live model is old",
    "worse": "what is live is shown worse",
    "disk": "the disk is nearly full",
}
"""Every alarm: its short name, and its name for people."""
BROKEN = {"lost"}
"""Alarms that also make read-only commands, and runs with nothing to do, fail."""
GB = 1e9


@dataclass(frozen=True)
class Alarm:
    """An active alarm."""

    name: str
    """One of ALARMS."""
    message: str
    """What was found, and what was wanted."""
    command: str
    """The command to run first, without `saec` in front."""


def alarms(outlook: Outlook, thresholds: AlarmsConfig) -> list[Alarm]:
    """The active alarms, in the order of ALARMS."""
    return [
        *_lost(outlook),
        *_quiet(outlook, thresholds.quiet_minutes),
        *_failed(outlook),
        *_held(outlook, thresholds.hours),
        *_old(outlook, thresholds.live_hours),
        *_worse(outlook),
        *_disk(outlook, thresholds.disk_free_gb),
    ]


def broken(fired: Iterable[Alarm]) -> list[Alarm]:
    """The alarms that no hour can clear by itself."""
    return [alarm for alarm in fired if alarm.name in BROKEN]


def _lost(outlook: Outlook) -> Iterator[Alarm]:
    """Something that must exist is missing."""
    for lost in outlook.lost:
        yield Alarm("lost", lost.message, lost.command)


def _quiet(outlook: Outlook, minutes: int) -> Iterator[Alarm]:
    """Nothing ended for too long, whatever the cause: schedule, worker, data or a run that hangs."""
    if outlook.finished:
        passed = (outlook.now - outlook.finished).total_seconds() / 60
        if passed > minutes:
            yield Alarm("quiet", f"no hour finished for {passed:,.0f} minutes, wanted one within {minutes}", "run")


def _failed(outlook: Outlook) -> Iterator[Alarm]:
    """The newest hour failed; a failed hour with later hours after it no longer matters."""
    newest = outlook.rows[-1] if outlook.rows else None
    if newest and newest.state == "FAILED":
        yield Alarm("failed", f"hour {newest.hour} is FAILED({newest.reason}): {newest.message}", words_after(newest))


def _held(outlook: Outlook, hours: int) -> Iterator[Alarm]:
    """Hours are done, but none is published."""
    streak = outlook.unpublished
    if len(streak) >= hours:
        yield Alarm(
            "held",
            f"{len(streak)} hours in a row published nothing, the newest is {streak[-1].ending}; "
            f"wanted fewer than {hours}",
            f"report --from {streak[0].hour}",
        )


def _old(outlook: Outlook, hours: int) -> Iterator[Alarm]:
    """What is served was published long ago."""
    if outlook.live_seconds is not None and outlook.live_seconds > 3600 * hours:
        yield Alarm(
            "old",
            f"{outlook.live_version} has been live for {outlook.live_seconds / 3600:,.1f} hours, wanted "
            f"a newer one within {hours}",
            "report",
        )


def _worse(outlook: Outlook) -> Iterator[Alarm]:
    """The hours that the live version served show it to be worse than the version before it, or than the original."""
    records = (row.record or {} for row in reversed(outlook.rows))
    watch = next((record["watch"] for record in records if record.get("watch")), None)
    if watch and watch["version"] == outlook.live_version and watch["text"]:
        before = outlook.live.previous if outlook.live and BEFORE in watch["worse_than"] else None
        yield Alarm("worse", watch["text"], f'rollback {before} --reason "..."' if before else "report")


def _disk(outlook: Outlook, free_gb: float) -> Iterator[Alarm]:
    """The disk may soon have no room for an hour."""
    if outlook.disk_free < free_gb * GB:
        yield Alarm(
            "disk", f"{outlook.disk_free / GB:.2f} GB free where the workspace is, wanted {free_gb:g}", "tidy --keep 2"
        )
