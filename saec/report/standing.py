"""Describes the state of the pipeline in lines of text, for the terminal's panel and the overview in Prefect's UI.

Decisions: the lines are made once, from the outlook alone, so that both say the same. A line is shown only if it has
content, except those that the person on call must be able to see empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from saec.hours import Hour
from saec.monitoring.outlook import SERVED_HOURS, Outlook
from saec.report import text
from saec.report.headline import gap_text
from saec.schedule.progress import Progress

_DAY = 86400


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a label, its text, and whether it is good, neutral or needs attention."""

    label: str
    said: str
    tone: Literal["good", "plain", "attention"] = "plain"


def standing(outlook: Outlook) -> Iterator[Line]:
    """The state of the pipeline, starting with what is live."""
    yield _live(outlook)
    if outlook.data_until:
        learnt = Hour.of(outlook.data_until) - 1
        yield Line("data", f"learnt up to hour {learnt}, which ended {age(outlook.data_seconds)} ago")
    if pair := outlook.served.get("live-original"):
        yield Line("served", f"last {SERVED_HOURS} hours, {text.count(pair.rows)} rows")
        yield Line("AUC", gap_text(pair.auc))
        yield Line("log loss", gap_text(pair.logloss))
    if outlook.live and outlook.live.held:
        yield Line("held", f"by {outlook.live.actor}: {outlook.live.reason}", "attention")
    yield Line("at work", running(outlook) or "nothing")
    yield Line("next hour", _next(outlook))
    yield Line("backlog", _backlog(outlook))
    if outlook.backfill:
        yield _backfill(outlook.backfill, at_work=outlook.lease is not None)
    if outlook.waiting and outlook.due:  # else it is the next hour
        yield Line("waits for", f"{outlook.waiting.hour}: {outlook.waiting.why}")
    if outlook.stale:
        yield Line("stale", f"{listed(outlook.stale)}; redo with saec backfill --only stale", "attention")
    if outlook.unpublished:
        said = f"{text.plural(len(outlook.unpublished), 'hour')} since the last one, {_reasons(outlook)}"
        yield Line("unpublished", said, "attention")
    yield Line("disk", f"{text.size(outlook.disk_free)} free")


def running(outlook: Outlook) -> str | None:
    """The run at work and its progress, or what a dead run left."""
    at = f"hour {outlook.unfinished.hour}, {outlook.unfinished.stage or 'begun'}" if outlook.unfinished else ""
    if outlook.lease:
        return f"{at or 'between hours'} ({outlook.lease.owner}, lease until {outlook.lease.expires_at:%H:%M:%S} UTC)"
    return f"nothing; {at} was left by a run that ended early" if at else None


def listed(hours: Sequence[Hour]) -> str:
    """How many hours, and the first and last of them."""
    if not hours:
        return "nothing"
    first, last = min(hours), max(hours)
    return str(first) if len(hours) == 1 else f"{text.plural(len(hours), 'hour')}, {first} to {last}"


def age(seconds: float | None) -> str:
    """How long ago: as a duration, from two days on in days."""
    if seconds is None or seconds < 2 * _DAY:
        return text.duration(seconds)
    return text.plural(int(seconds // _DAY), "day")


def _live(outlook: Outlook) -> Line:
    if not outlook.live or not outlook.live_version:
        return Line(
            "live", "nothing: the live version is gone" if outlook.has_published else "no version yet", "attention"
        )
    live = outlook.live
    how = f"{live.action}, {live.actor}" if live.action in ("publish", "rollback") else "held or unheld since"
    return Line("live", f"{live.version}, for {age(outlook.live_seconds)} ({how})", "good")


def _next(outlook: Outlook) -> str:
    """The hour that comes next, and when."""
    hour = outlook.next_hour
    if hour is None:
        return "none until data.source has one"
    if outlook.due:
        return f"{hour}, due now"
    if outlook.waiting:
        return f"{hour}: {outlook.waiting.why}"
    over = hour >= Hour.of(outlook.now)
    return f"{hour}, over at {(hour + 1).start:%H:%M} UTC" if over else f"{hour}, when its partition comes"


def _backlog(outlook: Outlook) -> str:
    """The hours that are due, and how long they are likely to take."""
    said = listed([planned.hour for planned in outlook.due])
    return said if outlook.backlog_seconds is None else f"{said}, about {text.duration(outlook.backlog_seconds)}"


def _backfill(progress: Progress, *, at_work: bool) -> Line:
    """How far the open backfill has come, and why it does not go on."""
    backfill, left = progress.backfill, len(progress.left)
    said = f"{backfill}: {progress.done} of {text.plural(progress.done + left, 'hour')} done"
    if progress.seconds_left:
        said += f", about {text.duration(progress.seconds_left)} left"
    if backfill.state == "RUNNING" and at_work:
        return Line("backfill", said)
    state = "interrupted" if backfill.state == "RUNNING" else backfill.state.lower()
    return Line("backfill", f"{said}; {state}" + (f": {backfill.message}" if backfill.message else ""), "attention")


def _reasons(outlook: Outlook) -> str:
    """Why the newest hours published nothing, each reason once, the newest last."""
    return ", ".join(dict.fromkeys(row.ending for row in outlook.unpublished))
