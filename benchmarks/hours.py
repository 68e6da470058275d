"""Measures CPU seconds of an hour, step by step: with few rows, with many, and over all ten days of the news log.

Times are user and system time of one process with one thread, which does the hours one after the other, as a schedule
or a backfill does. Work outside the steps (planning, the ledger, removing old files) counts as `around`. Earlier hours,
which are not measured, fill the tables and warm the process up.

    python -m benchmarks.hours            # simulated hours of some 330 rows, a busy stretch of the news log; a minute
    python -m benchmarks.hours --whole    # and all 233 hours of the news log; some minutes
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.record import ROOT, Figures
from saec.config import Config
from saec.data.simulate import Simulation, simulate_hours
from saec.hours import Hour
from saec.ledger import HourRow
from saec.schedule.backfill import run_backfill
from saec.schedule.pipeline import Pipeline
from saec.schedule.progress import ask
from saec.settings_file import load_config

SMALL = Hour.parse("2026-01-01T00"), Hour.parse("2026-01-01T23")
SMALL_ROWS = 256
"""Mean rows of an hour; the second half of the day, which is measured, has a third more."""
BUSY = Hour.parse("2017-10-04T10"), Hour.parse("2017-10-04T20")
WHOLE = Hour.parse("2017-10-01T03"), Hour.parse("2017-10-11T02")
FEW = 600
"""Rows of the hours of the news log that count as small."""
AROUND = "around"
Timed = list[tuple[HourRow, dict[str, float]]]
"""Hours with the CPU seconds of their steps."""


@dataclass
class Clock:
    """Seconds of each step of each hour; a listener of a run."""

    hours: Timed = field(default_factory=list)
    read: Callable[[], float] = time.process_time
    """CPU seconds so far, or other seconds."""
    _step: str = AROUND
    _since: float = 0.0
    _spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        """Time runs from now."""
        self._since = self.read()

    def on_plan(self, done: int, left: int, seconds: float | None) -> None:
        """Nothing to note."""

    def on_step(self, hour: Hour, step: str) -> None:
        """The step before has ended."""
        now = self.read()
        self._spent[self._step] += now - self._since
        self._step, self._since = step, now

    def on_hour(self, row: HourRow) -> None:
        """The hour has ended."""
        self.on_step(row.hour, AROUND)
        if row.record:
            self.hours.append((row, dict(self._spent)))
        self._spent.clear()


def timed(config: Config, span: tuple[Hour, Hour], read: Callable[[], float] = time.process_time) -> Timed:
    """The hours of a range with the seconds of their steps."""
    clock = Clock(read=read)
    run_backfill(Pipeline(config), ask(*span, "benchmark", promote=True), listener=clock)
    return clock.hours


def configured(name: str, folder: Path, source: Path) -> Config:
    """A configuration of the repository on a workspace of its own, with one thread."""
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    data = config.data.model_copy(update={"source": str(source)})
    return config.model_copy(update={"workspace": folder / f"{name}-workspace", "data": data, "threads": 1})


def told(figures: Figures, what: str, hours: Timed, target: float | None = None) -> None:
    """Add the mean rows of some hours, the median of their CPU seconds, and the share of each step in these."""
    seconds = statistics.median(sum(spent.values()) for _, spent in hours)
    total = sum(sum(spent.values()) for _, spent in hours)
    figures.add(f"{what}, rows", statistics.fmean((row.record or {})["rows"] for row, _ in hours), "rows")
    figures.add(
        f"{what}, an hour",
        seconds,
        "CPU s",
        None if target is None else f"<= {target}",
        None if target is None else seconds <= target,
    )
    for step in hours[-1][1]:
        figures.add(f"{what}, {step}", sum(spent[step] for _, spent in hours) / total, "share")


@click.command()
@click.option("--whole", is_flag=True, help="All hours of the news log too.")
def main(whole: bool) -> None:
    """Time the hours and keep the figures."""
    figures = Figures("hours")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = SMALL[1].index - SMALL[0].index + 1
        simulate_hours(Simulation(rows_per_hour=SMALL_ROWS), SMALL[0], count, folder / "data")
        small = timed(configured("quickstart", folder, folder / "data"), SMALL)
        told(figures, "small, simulated", small[len(small) // 2 :], 0.3)
        news = ROOT / load_config(ROOT / "configs" / "globo.yaml").data.source
        if not news.exists():
            click.echo(f"the news log is not at {news}: only simulated hours are timed")
        elif whole:
            hours = timed(configured("globo", folder, news), WHOLE)
            figures.add("news log, all hours", sum(sum(spent.values()) for _, spent in hours), "CPU s")
            told(figures, "news log, any", hours)
            few = [(row, spent) for row, spent in hours if (row.record or {})["rows"] < FEW]
            told(figures, f"news log, under {FEW} rows", few)
            told(figures, "news log, busy", [timed for timed in hours if BUSY[0] + 7 <= timed[0].hour <= BUSY[1]])
        else:
            told(figures, "news log, busy", timed(configured("globo", folder, news), BUSY)[7:])
    figures.finish()


if __name__ == "__main__":
    main()
