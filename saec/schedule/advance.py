"""Does a scheduled run: looks for late data, does every hour that is due, and replays what changed if configured.

Decisions: Prefect, cron and a person start the same run. A running backfill gives way to it, so the run waits for the
lease; another scheduled run does the same hours, so there is nothing to wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from saec.hours import Hour
from saec.schedule.backfill import run_backfill
from saec.schedule.late import note_late
from saec.schedule.lease import LEASE_SECONDS, is_here
from saec.schedule.pipeline import NOBODY
from saec.schedule.progress import ask

if TYPE_CHECKING:
    from saec.ledger import HourRow
    from saec.schedule.pipeline import Listener, Pipeline

REPLAY = "replay of late data"
"""Name of the requester of a backfill of hours that late data has made stale."""
PATIENCE = 1800.0
"""Seconds that a scheduled run waits for a backfill to end its hour."""


def advance(pipeline: Pipeline, now: Hour | None = None, listener: Listener = NOBODY) -> list[HourRow]:
    """Advance the ledger.

    Args:
        pipeline: the pipeline.
        now: the first hour that counts as not over yet; by the clock when left out.
        listener: told how it goes.

    Returns:
        The hours that were done, as they ended.

    Raises:
        LedgerError: reason busy, when another scheduled run is at work.
        LeaseLost: when this one was replaced.
    """
    config, ledger = pipeline.config, pipeline.ledger
    with pipeline.leased(_patience(pipeline)) as lease:
        folded = {late.row.hour: late for late in note_late(config, ledger, lease)}
        rows = pipeline.run(lease, pipeline.due(now), late=folded, listener=listener)
        for row in rows:
            for hour in folded.keys() & {*map(Hour.parse, (row.record or {}).get("late", {}))}:
                ledger.delivered(lease, hour, folded[hour].delivery, folded_into=row.hour)
    if config.data.late == "replay":
        rows += _replay(pipeline, now, listener)
    return rows


def _patience(pipeline: Pipeline) -> float:
    """How long to wait for the lease.

    A backfill gives it up after its current hour. If a run on another machine has died, its lease expires; waiting for
    that is better than leaving the hour to the next scheduled run.
    """
    current = pipeline.ledger.backfills.current()
    if current and current.state == "RUNNING":
        return PATIENCE
    holder = pipeline.ledger.holder()
    return 0.0 if holder is None or is_here(holder) else LEASE_SECONDS


def _replay(pipeline: Pipeline, now: Hour | None, listener: Listener) -> list[HourRow]:
    """Redo stale hours, or continue a replay whose run died; a replay that was stopped waits for a person."""
    ledger, current = pipeline.ledger, pipeline.ledger.backfills.current()
    if current:
        mine = current.actor == REPLAY and current.state == "RUNNING"
        return run_backfill(pipeline, now=now, listener=listener)[1] if mine else []
    newest = ledger.newest()
    rows = ledger.rows(newest[-1].hour - pipeline.config.retention) if newest else []
    stale = [row.hour for row in rows if row.stale_because]
    if not stale:
        return []
    asked = ask(stale[0], rows[-1].hour, REPLAY, only="stale", promote=True)
    return run_backfill(pipeline, asked, now=now, listener=listener)[1]
