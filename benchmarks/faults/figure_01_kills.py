"""SIGKILL anywhere in an hour or a backfill: afterwards the same bytes as if nothing had happened.

Decisions: three kills in four are at fail points, each of them in turn and at any of the times it is reached; the rest
at random instants. After a kill the same command is given once more, then the next hour comes; then every file of the
workspace is compared with a pipeline that was never disturbed, so anything left over counts too. Not compared: ledger
and release log byte by byte (they hold times and attempts; their rows and versions are), metrics, the lock.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import saec.schedule.lease
from benchmarks.faults import children
from benchmarks.record import Figures
from tests.conftest import Site

KILLS, SHORT = 200, 8
PLACES = 40
_RETENTION = 4
_PASSING = ("ledger.db", "metrics.prom", "run.lock", "store/releases/")


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Kill, do again, compare."""
    wanted = SHORT if short else KILLS
    with children.scratch() as folder:
        scenarios = _scenarios(folder)
        hit: Counter[str] = Counter()
        recovered = 0
        for number, (scenario, kill) in enumerate(_kills(scenarios, wanted, random.Random(seed))):
            differs, place = scenario.recover(kill, folder / "killed")
            hit[place] += 1
            recovered += not differs
            if differs:
                print(f"  kill {number} of {scenario.name} at {place}: {differs}", flush=True)
    figures.add(
        "1. kills after which the bytes are the same", recovered, "kills", f"{wanted} of {wanted}", recovered == wanted
    )
    named = len(hit.keys() - {"instant"})
    figures.add(
        "1. fail points killed at",
        named,
        "fail points",
        None if short else f">= {PLACES}",
        None if short else named >= PLACES,
    )
    figures.add("1. of these kills, at random instants", hit["instant"], "kills")


@dataclass
class _Scenario:
    """A command, and what a pipeline looks like before it and after it."""

    name: str
    before: Site
    command: Callable[[Site], object]
    next_hour: int
    """Index of the hour that comes after the command."""
    after: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    places: dict[str, int] = field(default_factory=dict)
    """How often each fail point is reached."""

    def prepare(self, folder: Path) -> None:
        """Find out how it goes when nothing disturbs it."""
        self.places = Counter(children.places(lambda: self._command(self.before.copy(folder / "places"))))
        site = self.before.copy(folder / "undisturbed")
        self.seconds = children.do(lambda: self._command(site))
        children.do(lambda: self._next(site))
        self.after = _state(site)

    def recover(self, kill: str | float, folder: Path) -> tuple[list[str], str]:
        """Kill the command (at a fail point or after seconds), give it again; what differs, and where it was killed."""
        landed = False
        while not landed:
            shutil.rmtree(folder, ignore_errors=True)
            site = self.before.copy(folder)
            work = lambda: self._command(site)  # noqa: B023 - called within this turn
            landed = children.killed_at(work, kill) if isinstance(kill, str) else children.killed_after(work, kill)
            if not landed:
                kill = random.Random(str(kill)).uniform(0, self.seconds)
        children.do(lambda: (self._command(site), self._next(site)))
        found = _state(site)
        shutil.rmtree(folder)
        differs = [name for name in self.after.keys() | found.keys() if self.after.get(name) != found.get(name)]
        return sorted(differs), kill.partition("@")[0] if isinstance(kill, str) else "instant"

    def _command(self, site: Site) -> None:
        saec.schedule.lease.LEASE_SECONDS = 0.4  # renewed every tenth of a second, so that a kill may meet it
        self.command(site)

    def _next(self, site: Site) -> None:
        site.advance(site.hours[self.next_hour], config=_config(site))


def _config(site: Site) -> Any:
    return site.config(retention=_RETENTION)


def _scenarios(folder: Path) -> list[_Scenario]:
    """An hourly run that does two hours, and a backfill of two hours that is done aside, swapped in and promoted."""
    done = Site(folder / "done")
    done.simulate()
    children.do(lambda: done.advance(done.hours[3], config=_config(done)))

    def hourly(site: Site) -> None:
        site.advance(site.hours[5], config=_config(site))

    def backfill(site: Site) -> None:
        site.backfill(site.hours[2], site.hours[3], "all", config=_config(site), promote=True)

    scenarios = [_Scenario("hours", done, hourly, 6), _Scenario("backfill", done, backfill, 4)]
    for scenario in scenarios:
        scenario.prepare(folder / scenario.name)
    return scenarios


def _kills(scenarios: list[_Scenario], count: int, draw: random.Random) -> Iterator[tuple[_Scenario, str | float]]:
    """Where to kill what."""
    places = [(scenario, name) for scenario in scenarios for name in scenario.places]
    draw.shuffle(places)
    for number in range(count):
        scenario, name = places[number % len(places)]
        if number % 4 == 3:
            yield scenario, draw.uniform(0, scenario.seconds)
        else:
            yield scenario, f"{name}@{draw.randint(1, scenario.places[name])}"


def _state(site: Site) -> dict[str, Any]:
    """Everything that must come out the same."""
    files = {name: sha for name, sha in site.digests("workspace").items() if not name.startswith(_PASSING)}
    rows = {f"row {row.hour}": (row.state, row.reason, row.version, row.learnt) for row in site.rows()}
    return (
        files
        | rows
        | {
            "released": [release.version for release in site.store.releases() if release.action == "publish"],
            "live": site.live,
        }
    )
