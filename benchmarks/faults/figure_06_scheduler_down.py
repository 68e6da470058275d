"""The scheduler is down for 24 hours: the first run after it does all of them, oldest first.

Decisions: nothing of Prefect is needed to miss its ticks. The clock is the argument `now` of a scheduled run, a moment
of the wall clock in some zone five minutes past an hour, as the schedule has it. That real servers and workers that
were down do the same is tested with their processes (`tests/processes/`).
"""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.record import Figures
from saec.hours import Hour
from tests.conftest import FIRST, Site

BEFORE = 2
"""Hours that were done before the scheduler went down."""


def figure(seed: int, short: bool, figures: Figures) -> None:
    """One run before the outage, one after it."""
    down = 6 if short else 24
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        site.simulate(BEFORE + down)
        stopped = FIRST.start.astimezone(ZoneInfo("America/New_York")) + timedelta(hours=BEFORE, minutes=5)
        before = _tick(site, stopped)
        after = _tick(site, stopped + timedelta(hours=down))
        again = _tick(site, stopped + timedelta(hours=down))
        rows = site.rows()
    alone = all(
        row.finished_at <= later.started_at for row, later in pairwise(rows) if row.finished_at and later.started_at
    )
    ordered = [row.hour for row in rows] == site.hours == before + after and alone and not again
    done = sum(row.hour in after and row.state in ("PUBLISHED", "HELD") and row.checkpoint is not None for row in rows)
    figures.add(
        f"6. hours done by one run after {down} without a scheduler", done, "hours", f"= {down}", holds=done == down
    )
    figures.add(
        "6. oldest first, one at a time, each once",
        str(ordered),
        "",
        "True",
        holds=ordered and all(row.attempts == 1 for row in rows),
    )


def _tick(site: Site, moment: datetime) -> list[Hour]:
    """What a scheduled run at this moment does."""
    return [row.hour for row in site.advance(Hour.of(moment) - 1)]
