"""Measures what Prefect adds to an hour, by doing the same hours with `saec` alone and as flow runs on a server.

`python -m benchmarks.orchestration [HOURS]`, by default 8 simulated hours of 20,000 rows. The server is started on a
free port with a database of its own, unless PREFECT_API_URL names one. Each hour's time goes from the end of the hour
before to its own end, so that everything counts: subflow, tasks, ledger, the hour's page with its figure. The first
hour of each way is left out (imports); the rest is compared hour by hour.
"""

import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.record import Figures
from saec.config import Config
from saec.data.simulate import Simulation, simulate_hours
from saec.hours import Hour
from saec.ledger import Backfill, HourRow
from saec.schedule.backfill import run_backfill
from saec.schedule.pipeline import NOBODY, Listener, Pipeline
from saec.schedule.progress import ask
from saec.settings_file import load_config
from saec.workspace import Workspace

HOURS = 8
ROWS = 20_000
FIRST = Hour.parse("2026-01-01T00")
MOST_SECONDS, MOST_SHARE = 3.0, 0.1


class Laps:
    """Seconds from each hour's end to the next one's: a listener, before another one."""

    def __init__(self, then: Listener = NOBODY) -> None:
        self._then = then
        self.seconds: list[float] = []
        self.rows: list[HourRow] = []
        self._last = time.perf_counter()

    def on_plan(self, done: int, left: int, seconds: float | None) -> None:
        """Nothing to note."""
        self._then.on_plan(done, left, seconds)

    def on_step(self, hour: Hour, step: str) -> None:
        """Nothing to note."""
        self._then.on_step(hour, step)

    def on_hour(self, row: HourRow) -> None:
        """Note that an hour has ended, and was shown."""
        self._then.on_hour(row)
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self.rows.append(row)
        self._last = now


def configured(folder: Path, name: str) -> Config:
    """The quickstart's settings with a workspace of its own."""
    settings = yaml.safe_load(Path("configs/quickstart.yaml").read_text(encoding="utf-8"))
    settings["workspace"], settings["data"]["source"] = str(folder / name), str(folder / "data")
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return load_config(path)


def alone(config: Config, hours: int) -> Laps:
    """All hours through the library."""
    laps = Laps()
    run_backfill(Pipeline(config), _all(hours), listener=laps)
    return laps


def orchestrated(config: Config, hours: int) -> Laps:
    """All hours as subflow runs of one flow run."""
    from prefect import flow  # noqa: PLC0415 - Prefect reads its settings when it is imported: after PREFECT_HOME is set

    from flows.hour import FlowPipeline, run_hours  # noqa: PLC0415

    pipeline = FlowPipeline(config, actor="benchmark")
    laps = Laps(pipeline)

    @flow(name="benchmark", persist_result=False)
    def measured() -> Any:
        return run_hours(pipeline, lambda: run_backfill(pipeline, _all(hours), listener=laps)[1])

    measured(return_state=True)
    return laps


def _all(hours: int) -> Backfill:
    """Every hour there is."""
    return ask(FIRST, FIRST + (hours - 1), "benchmark", stop_on_failure=False)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def compare(figures: Figures, before: Laps, after: Laps) -> None:
    """Add the figures; the hours must be the same to the byte."""
    if [row.version for row in before.rows] != [row.version for row in after.rows]:
        raise SystemExit("the two ways made different versions; there is nothing to compare")
    direct, flows = before.seconds[1:], after.seconds[1:]
    added = [flow - step for step, flow in zip(direct, flows, strict=True)]
    figures.add("an hour through saec alone, median", median(direct), "s")
    figures.add("an hour as a flow run, median", median(flows), "s")
    holds = median(added) <= max(MOST_SECONDS, MOST_SHARE * median(direct))
    figures.add("added by the flow, median", median(added), "s", f"<= {MOST_SECONDS:g} s or {MOST_SHARE:.0%}", holds)
    figures.add("added by the flow, most", max(added), "s")
    figures.add("hours compared", len(added), "hours")
    published = sum(row.state == "PUBLISHED" for row in after.rows)
    figures.add("of all hours published, the same versions both ways", published, "hours")


def main() -> None:
    """Do the hours both ways."""
    hours = int(sys.argv[1]) if sys.argv[1:] else HOURS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("PREFECT_HOME", str(folder / "prefect"))
        from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415

        from flows.server import server  # noqa: PLC0415

        simulate_hours(Simulation(rows_per_hour=ROWS), FIRST, hours, folder / "data")
        with server(free_port()) as url, temporary_settings({PREFECT_API_URL: url}):
            before = alone(configured(folder, "alone"), hours)
            Workspace._resident = None  # noqa: SLF001 - the second way starts as cold as the first
            after = orchestrated(configured(folder, "flows"), hours)
        figures = Figures("orchestration")
        compare(figures, before, after)
        figures.finish()


if __name__ == "__main__":
    main()
