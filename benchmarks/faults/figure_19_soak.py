"""A soak: hundreds of hours, a seeded fault in each, and after each everything that must always hold.

Decisions: the faults take turns in an order drawn from the seed, so that each meets many others before and after it.
All hours are done by this process, but those that are to be killed by children of it, so that its memory and open
files are those of a run that never ends. Invariants are looked at when the fault is over and whoever was disturbed has
run again:

    the live version is whole, and older than before only where somebody rolled back
    the ledger has every hour since the first, each ended in one of the four ways; one whose data is late may be awaited
    no staging folder, no hour aside, no lease is left
    files open, bytes of the workspace and of memory do not grow, once retention has begun to remove
"""

from __future__ import annotations

import errno
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.faults import children
from benchmarks.record import Figures
from saec import steps
from saec.config import Config
from saec.data.hourly_files import write_hour
from saec.data.simulate import Simulation, simulate_hours
from saec.errors import LeaseLost, LedgerError, StoreError
from saec.hours import Hour, hour_range
from saec.ledger import OUTCOMES, HourRow, Ledger
from saec.store.manifest import version_hour
from tests.conftest import FIRST, STEPS, Site, instead

ROWS = Simulation(seed=3, rows_per_hour=400, users=50, items=30, clusters=4, base_rate=0.3, new_share=0.02)
SETTINGS = {
    "retention": 6,
    "vocabulary": {"evict_after": 12, "evict_floor": 1e9},
    "data": {"late": "fold", "absent_after": 1},
}
AWAITED = 3
"""Newest hours of which one may wait for its data."""
CALLS = ("open", "write", "fsync", "replace", "link", "mkdir")


class Soak:
    """A pipeline whose hours come one after another."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.site, self.draw, self.hour = Site(folder), random.Random(seed), FIRST
        self.late: list[Hour] = []
        self.live: str | None = None
        self.releases = 0
        self.outcomes: Counter[str] = Counter()

    @property
    def config(self) -> Config:
        """Small retention, so that it has work; late rows are learnt with the next hour."""
        return self.site.config(**SETTINGS)

    def deliver(self, change: Callable[[pa.Table], pa.Table] | None = None, hour: Hour | None = None) -> None:
        """The hour's file comes, changed or as it was produced."""
        (made,) = simulate_hours(ROWS, hour or self.hour, 1, self.site.folder / "data")
        if change:
            write_hour(self.site.folder / "data", made.hour, change(pq.read_table(made.path, partitioning=None)))

    def advance(self, **options: Any) -> list[HourRow]:
        """A scheduled run."""
        return self.site.advance(self.hour, config=self.config, **options)

    def backfill(self) -> None:
        """The last hours again, aside, and released."""
        first, last = (max(self.hour - back, FIRST) for back in (4, 1))
        self.site.backfill(first, last, "all", config=self.config, promote=True)

    def turn(self, fault: Callable[[Soak], None]) -> list[str]:
        """An hour with its fault; what is broken afterwards."""
        while self.late and self.late[0] <= self.hour - AWAITED:
            self.deliver(hour=self.late.pop(0))
        fault(self)
        self.advance()
        self.hour += 1
        return list(self.broken())

    def broken(self) -> Iterator[str]:
        """The invariants that do not hold."""
        store = self.site.store
        releases = store.releases()
        live = releases[-1].version if releases else None
        if live and (problems := store.verify(live)):
            yield f"the live version is not whole: {problems}"
        back = any(release.action == "rollback" for release in releases[self.releases :])
        if self.live and not back and (live is None or version_hour(live) < version_hour(self.live)):
            yield f"the live version went back from {self.live} to {live}"
        self.live, self.releases = live, len(releases)
        with self.site.pipeline(self.config) as pipeline:
            rows, holder = pipeline.ledger.rows(), pipeline.ledger.holder()
            aside, backfill = pipeline.ledger.backfills.aside(), pipeline.ledger.backfills.current()
        known = [row.hour for row in rows]
        if known != list(hour_range(FIRST, FIRST + (len(known) - 1))) or FIRST + len(known) < self.hour - AWAITED:
            yield f"hours are missing: {known}"
        if odd := [f"{row.hour} {row.state}" for row in rows if row.state not in OUTCOMES]:
            yield f"hours did not end: {odd}"
        left = [path.name for path in store.objects.scratch.iterdir()] if store.objects.scratch.exists() else []
        if left or holder or aside or backfill:
            yield f"something is left: {left} {holder} {aside} {backfill}"
        self.outcomes = Counter(f"{row.state}({row.reason})" if row.reason else row.state for row in rows)

    def bytes(self) -> int:
        """Bytes of the workspace, but for what is kept for ever: a row an hour in the ledger, a record a release."""
        paths = (path for path in (self.site.folder / "workspace").rglob("*") if path.is_file())
        passing = (path for path in paths if "ledger.db" not in path.name and path.parent.name != "releases")
        return sum(path.stat().st_size for path in passing)


def calm(soak: Soak) -> None:
    """Nothing at all."""
    soak.deliver()


def cut_short(soak: Soak) -> None:
    """The file ends early."""
    soak.deliver()
    path = soak.site.file(soak.hour)
    path.write_bytes(path.read_bytes()[: -soak.draw.randint(1, 2000)])


def bit_rot(soak: Soak) -> None:
    """A bit of a page is turned over."""
    soak.deliver()
    path = soak.site.file(soak.hour)
    data = bytearray(path.read_bytes())
    data[soak.draw.randint(4, len(data) // 2)] ^= 4
    path.write_bytes(data)


def no_rows(soak: Soak) -> None:
    """An empty file."""
    soak.deliver(lambda table: table.slice(0, 0))


def one_class(soak: Soak) -> None:
    """Nobody clicked."""
    soak.deliver(lambda table: _replaced(table, "clicked", np.zeros(table.num_rows, np.int8)))


def wrong_type(soak: Soak) -> None:
    """Ids as floats."""
    soak.deliver(lambda table: _replaced(table, "user_id", table["user_id"].to_numpy().astype(np.float64)))


def not_a_number(soak: Soak) -> None:
    """Prices that are no numbers."""
    soak.deliver(lambda table: _replaced(table, "price", np.full(table.num_rows, np.nan, np.float32)))


def late_file(soak: Soak) -> None:
    """The file comes three hours later, when the hour was stepped over."""
    soak.late.append(soak.hour)


def file_twice(soak: Soak) -> None:
    """The same file under two names."""
    soak.deliver()
    path = soak.site.file(soak.hour)
    path.with_name("part-1.parquet").write_bytes(path.read_bytes())


def run_twice(soak: Soak) -> None:
    """The run is started again when it is done."""
    soak.deliver()
    soak.advance()


def delivered_again(soak: Soak) -> None:
    """An hour that was learnt comes again with other labels, and rows of another are late."""
    soak.deliver()
    earlier = max(soak.hour - soak.draw.randint(1, 3), FIRST)
    soak.deliver(lambda table: _replaced(table, "clicked", 1 - table["clicked"].to_numpy()), earlier)


def killed(soak: Soak) -> None:
    """The run is killed at some instant."""
    soak.deliver()
    children.killed_after(soak.advance, soak.draw.uniform(0.0, 1.0))


def killed_backfill(soak: Soak) -> None:
    """A backfill is killed at some instant, and asked for again."""
    children.killed_after(soak.backfill, soak.draw.uniform(0.0, 2.0))
    soak.backfill()
    soak.deliver()


def backfilled(soak: Soak) -> None:
    """The last hours are done again aside and swapped in."""
    soak.backfill()
    soak.deliver()


def disk_full(soak: Soak) -> None:
    """Some write of the run meets a full disk."""
    soak.deliver()
    with full_disk(after=soak.draw.randint(1, 120)):
        soak.advance()


def lease_stolen(soak: Soak) -> None:
    """Another run takes the lease over in the middle of a step."""
    soak.deliver()
    step = soak.draw.choice(STEPS)

    def replaced(*arguments: Any) -> Any:
        later = datetime.now(UTC) + timedelta(hours=1)
        ledger = Ledger(soak.config.ledger_url, clock=lambda: later)
        ledger.release(ledger.acquire("another run", 60))
        ledger.close()
        return getattr(steps, step)(*arguments)

    with suppress(LeaseLost):
        soak.advance(run_step=instead(**{step: replaced}))


def busy(soak: Soak) -> None:
    """Another run is at work."""
    soak.deliver()
    with soak.site.pipeline(soak.config) as other, other.leased(), suppress(LedgerError):
        soak.advance()


def rolled_back(soak: Soak) -> None:
    """Somebody goes back to an earlier version, and releases the hold an hour later."""
    with suppress(StoreError):
        live = soak.site.live
        older = [version for version in soak.site.store.versions() if live and version < live]
        soak.site.store.rollback(older[-1] if older else str(live), actor="soak", reason="a fault")
    soak.deliver()
    soak.advance()
    with suppress(StoreError):
        soak.site.store.unhold(actor="soak", reason="mended")


def held(soak: Soak) -> None:
    """Somebody holds what is live for an hour."""
    soak.site.store.hold(actor="soak", reason="a fault")
    soak.deliver()
    soak.advance()
    soak.site.store.unhold(actor="soak", reason="over")


def orphan(soak: Soak) -> None:
    """A staging folder that nobody holds."""
    soak.deliver()
    folder = soak.site.store.objects.scratch / "orphan"
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(b"x" * 1000)


FAULTS: tuple[Callable[[Soak], None], ...] = (
    calm,
    cut_short,
    bit_rot,
    no_rows,
    one_class,
    wrong_type,
    not_a_number,
    late_file,
    file_twice,
    run_twice,
    delivered_again,
    killed,
    killed_backfill,
    backfilled,
    disk_full,
    lease_stolen,
    busy,
    rolled_back,
    held,
    orphan,
)


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """The disk is full from so many calls on that change it; they are counted in os, where all of ours are made."""
    real, left = {name: getattr(os, name) for name in CALLS}, [after]

    def wrap(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            reads = name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR)
            if left[0] < 0 and not reads:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
            return real[name](*arguments, **options)

        return call

    try:
        for name in CALLS:
            setattr(os, name, wrap(name))
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Hour after hour."""
    hours = 24 if short else 240
    disk, memory, files, broken = [], [], [], []
    logging.disable(logging.ERROR)
    with children.scratch() as folder:
        soak = Soak(folder, seed)
        for number in range(hours):
            if number % len(FAULTS) == 0:
                order = soak.draw.sample(FAULTS, len(FAULTS)) if number else list(FAULTS)
            fault = order[number % len(FAULTS)]
            found = soak.turn(fault)
            broken += [f"hour {number}, {fault.__name__}: {what}" for what in found]
            disk.append(soak.bytes())
            memory.append(_resident())
            files.append(len([*Path("/proc/self/fd").iterdir()]))
    logging.disable(logging.NOTSET)
    print(*broken, dict(soak.outcomes.most_common()), sep="\n  ")
    figures.add(
        f"19. invariants broken in {hours} hours, {len(FAULTS)} kinds of fault",
        len(broken),
        "invariants",
        "= 0",
        holds=not broken,
    )
    quarter = hours // 4
    for name, values, growth in (
        ("bytes of the workspace", disk, 1.25),
        ("bytes of memory", memory, 1.1),
        ("files open", files, 1.0),
    ):
        before, after = max(values[quarter : 2 * quarter]), max(values[-quarter:])
        told = short and values is disk  # retention has not begun to remove by then
        figures.add(
            f"19. {name}, most in the last quarter (in the second: {before:,})",
            after,
            name.split()[0],
            None if told else f"<= {growth:g} times",
            holds=None if told else after <= growth * before,
        )


def _resident() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _replaced(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    """The table with a column replaced."""
    return table.set_column(table.column_names.index(name), name, pa.array(values))
