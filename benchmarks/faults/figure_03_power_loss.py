"""Power loss: every disk it may leave of the store's protocols is sound, and every planted mistake is noticed.

Decisions: what a disk may look like is enumerated by `tests/store/power_loss.py`, what must hold of it by
`tests/store/drills.py`; here all drills are also killed at each call in turn, done again, and lose their power during
that. Only disks that differ within a drill are counted. Mistakes are noticed by the tests, run on each.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from itertools import count

import pytest

from benchmarks.faults import children
from benchmarks.faults.children import scratch
from benchmarks.faults.mutants import PLANTS, VARIABLE
from benchmarks.record import ROOT, Figures
from tests.store.drills import DRILLS, power_losses

STATES, SHORT_EVERY = 5_000, 12
_TESTS_FAILED = 1
"""Exit code of pytest when tests failed, unlike 2 to 5, with which it says that it could not run them."""


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Enumerate, then plant."""
    wrong = [*_disks(seed, SHORT_EVERY if short else 1)]
    violations = [problems for problems in wrong if problems]
    for problems in violations[:10]:
        print(f"  {problems}", flush=True)
    figures.add(
        "3. disks that a power loss may leave",
        len(wrong),
        "disks",
        None if short else f">= {STATES:,}",
        None if short else len(wrong) >= STATES,
    )
    figures.add("3. of these, not sound", len(violations), "disks", "0", not violations)
    clean = all(_tested("", tests) == 0 for tests in {tests for _, tests in PLANTS.values()})
    caught = [name for name, (_, tests) in PLANTS.items() if _tested(name, tests) == _TESTS_FAILED]
    print(f"  not noticed: {sorted(PLANTS.keys() - set(caught)) or 'nothing'}; without mistakes: {clean}", flush=True)
    figures.add(
        "3. planted mistakes noticed by the tests",
        len(caught),
        "mistakes",
        f"{len(PLANTS)} of {len(PLANTS)}",
        clean and len(caught) == len(PLANTS),
    )


def _disks(seed: int, every: int) -> Iterator[list[str]]:
    """What is wrong with each disk: after every drill, and after every few kills of it and its repetition."""
    draw, number = random.Random(seed), count()
    with pytest.MonkeyPatch.context() as patch, scratch() as folder:
        patch.setattr(os, "fsync", lambda _: None)  # its calls are what counts here
        for drill in DRILLS.values():
            calls = drill.record(patch, folder / f"{next(number)}").calls
            for kill_at in (0, *range(1, calls + 1, every)):
                (within := folder / f"{next(number)}").mkdir()
                yield from power_losses(drill, patch, within, draw, kill_at)


def _tested(planted: str, tests: str) -> int:
    """How pytest ends on one mistake, without what needs S3; in a child, which need not import all of it again."""

    def run() -> None:
        os.environ[VARIABLE] = planted
        logging.disable(logging.NOTSET)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        os._exit(
            pytest.main(
                [
                    "-q",
                    "-x",
                    "-k",
                    "not s3",
                    "-p",
                    "no:cacheprovider",
                    "-p",
                    "benchmarks.faults.mutants",
                    f"--basetemp={folder}/tests",
                    f"--rootdir={ROOT}",
                    str(ROOT / tests),
                ]
            )
        )

    with scratch() as folder:
        return children.end(children.fork(run))
