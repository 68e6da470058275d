"""Runs a short form of all benchmarks and compares the figures with the kept results: `make bench`.

Decisions: short forms never overwrite the kept results. Machines differ and may be busy, so figures are compared as
ratios, new over kept. The median ratio of a benchmark measures how fast the machine is now; a figure further than
`APART` from that median has changed by itself. Figures of other sizes than the kept ones have other names and are not
compared. A target that was met and is no longer met is a failure.

    make bench
    python -m benchmarks.all hours gate     # only these
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.record import RESULTS, RESULTS_VARIABLE, ROOT

SHORT: dict[str, tuple[str, ...]] = {
    "hours": (),
    "training": ("--batches", "8", "--rounds", "3"),
    "clustering": ("--quick",),
    "index": (),
    "vocabulary": (),
    "serving": ("--features", "1000000", "--rounds", "3"),
    "http_path": ("--rounds", "3", "--requests", "100"),
    "scale": ("--features", "1000000"),
    "ranks": ("--batches", "4096", "--rounds", "1"),
    "schedule": ("--ranks", ""),
    "gate": ("--challengers", "100", "--sites", "50"),
    "orchestration": (),
    "first_day": ("--logs", "2"),
}
"""Arguments of each benchmark's short form."""
MEASURED = ("s", "ms", "CPU s", "ns/key", "samples/s", "rows/s", "requests/s", "million keys/s", "bytes", "bytes/key")
"""Units of figures that are compared."""
APART = 2.0


def moved(found: list[dict[str, Any]], kept: list[dict[str, Any]]) -> Iterator[str]:
    """What differs between the figures of a run and the kept ones, in words.

    >>> kept = [{"name": n, "value": 2.0, "unit": "s", "holds": True} for n in "abc"]
    >>> now = [{"name": n, "value": v, "unit": "s", "holds": v < 9} for n, v in (("a", 3.0), ("b", 3.0), ("c", 9.0))]
    >>> list(moved(now, kept))
    ['c: its target held and does not now', 'c: 4.50 times the kept 2 s, where the median of all is 1.50']
    """
    before = {figure["name"]: figure for figure in kept}
    pairs = [(figure, before[figure["name"]]) for figure in found if figure["name"] in before]
    for now, then in pairs:
        if then["holds"] and now["holds"] is False:
            yield f"{now['name']}: its target held and does not now"
    ratios = {
        now["name"]: now["value"] / then["value"]
        for now, then in pairs
        if now["unit"] in MEASURED and now["unit"] == then["unit"] and then["value"] and now["value"]
    }
    median = statistics.median(ratios.values()) if ratios else 1.0
    for name, ratio in ratios.items():
        if not 1 / APART < ratio / median < APART:
            then = before[name]
            yield (
                f"{name}: {ratio:.2f} times the kept {then['value']:.4g} {then['unit']}, where the median of all is "
                f"{median:.2f}"
            )


def main() -> int:
    """Run them one after the other; 1 when one fails or a target no longer holds."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.all", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SHORT)}; all when left out")
    names = parser.parse_args().names or list(SHORT)
    if unknown := set(names) - set(SHORT):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(SHORT)}")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            failed |= _run(name, Path(folder))
    return int(failed)


def _run(name: str, folder: Path) -> bool:
    """One benchmark; whether it failed."""
    console = Console()
    started = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *SHORT[name]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {RESULTS_VARIABLE: str(folder)},
    )
    seconds = time.perf_counter() - started
    if ended.returncode or not (folder / f"{name}.json").exists():
        console.print(f"{name}: failed after {seconds:.0f} s\n{ended.stderr[-2000:]}", style="red", markup=False)
        return True
    record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    kept = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    told = list(moved(record["figures"], kept["figures"]))
    console.print(
        f"{name}: {seconds:.0f} s, {len(record['figures'])} figures, kept ones of {kept['commit']}", style="bold"
    )
    for line in told:
        console.print(f"  {line}", markup=False)
    return any("target held" in line for line in told)


if __name__ == "__main__":
    sys.exit(main())
