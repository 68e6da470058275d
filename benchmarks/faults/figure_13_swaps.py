"""Hot swaps and rollbacks of the model server under load: no answer fails, none is of two versions.

Decisions: every version scores every request differently, and the callers compare each answer with what the version it
names gives in the library; so an answer that mixes two versions, or names the wrong one, is seen.
"""

from __future__ import annotations

from benchmarks.faults.children import scratch
from benchmarks.record import Figures
from tests.server.swaps import swapped_under_load

SWAPS, ROLLBACKS = 1_000, 100
SHORT_SWAPS, SHORT_ROLLBACKS = 40, 5
SECONDS = 1.0


def figure(_seed: int, short: bool, figures: Figures) -> None:
    """Swap, roll back, and look at every answer."""
    swaps, rollbacks = (SHORT_SWAPS, SHORT_ROLLBACKS) if short else (SWAPS, ROLLBACKS)
    with scratch() as folder:
        drill = swapped_under_load(folder, swaps, rollbacks)
    load, within = drill.load, sum(taken <= SECONDS for taken in drill.rollback_seconds)
    seconds = sorted(load.seconds)
    figures.add(
        f"13. answers that failed over {swaps:,} swaps and {rollbacks} rollbacks",
        len(load.failed),
        "answers",
        f"0 of {len(seconds):,}",
        not load.failed and bool(seconds),
    )
    figures.add(
        "13. answers of two versions, or of another than they name", len(load.mixed), "answers", "0", not load.mixed
    )
    figures.add(
        "13. rollbacks that the server obeyed within a second",
        within,
        "rollbacks",
        f"{rollbacks} of {rollbacks}",
        within == rollbacks,
    )
    figures.add("13. versions that answered some request", len(load.answers), "versions")
    figures.add("13. slowest 1 % of answers while versions are swapped", 1e3 * seconds[int(0.99 * len(seconds))], "ms")
    figures.add("13. what the server's memory grew by", drill.grown / 1e6, "MB")
