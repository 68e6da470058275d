"""Records the figures of a benchmark: prints a table and one line of JSON, and keeps the JSON in results/.

Decisions: the record names the command, the commit (`-dirty` when tracked files differ from it) and the hardware, so
that a figure can be measured again. A figure with a target says whether the target is met. Text from the machine is the
processor's name and sizes, never a path or a host name.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RESULTS_VARIABLE = "SAEC_BENCHMARK_RESULTS"
"""Folder for a run's record in place of results/; short forms use it, so that they replace no kept record."""


class Figures:
    """The figures of one benchmark run, in the order they were added.

    >>> figures = Figures("example")
    >>> figures.add("rows a second", 1200.0, "rows/s", target=">= 1000", holds=True)
    >>> figures.record()["figures"][0]["holds"]
    True
    """

    def __init__(self, name: str, *, results: Path | None = None) -> None:
        """Start a record of `python -m benchmarks.<name>`, kept in `results`, or among all results."""
        self.name = name
        self._results = results or Path(os.environ.get(RESULTS_VARIABLE) or RESULTS)
        self._figures: list[dict[str, Any]] = []

    def add(
        self, name: str, value: float | str, unit: str, target: str | None = None, holds: bool | None = None
    ) -> None:
        """Add one figure.

        Args:
            name: what was measured, in words.
            value: what came out.
            unit: of the value ("s", "share", "bytes", "rows", ...).
            target: what was wanted, as text ("<= 0.05"); None when the figure is only reported.
            holds: whether the target was met; None exactly when there is no target.

        Raises:
            ValueError: for a target without `holds`, or `holds` without a target.
        """
        if (target is None) != (holds is None):
            raise ValueError(f"figure {name!r}: target and holds come together, got {target!r} and {holds!r}")
        # A numpy bool or float is not JSON; a target met is a plain bool.
        plain = value if isinstance(value, str | int) else float(value)
        self._figures.append(
            {
                "name": name,
                "value": plain,
                "unit": unit,
                "target": target,
                "holds": None if holds is None else bool(holds),
            }
        )

    def record(self) -> dict[str, Any]:
        """The run so far as one JSON object: command, commit, hardware, figures."""
        command = " ".join(["python -m", f"benchmarks.{self.name}", *sys.argv[1:]])
        return {"command": command, "commit": commit(), "hardware": hardware(), "figures": self._figures}

    def finish(self) -> dict[str, Any]:
        """Print the table, keep the record as `results/<name>.json` and print it as the last line; returns it."""
        record = self.record()
        Console().print(self._table())
        self._results.mkdir(parents=True, exist_ok=True)
        kept = json.dumps(record, indent=1, allow_nan=False) + "\n"
        (self._results / f"{self.name}.json").write_text(kept, encoding="utf-8")
        print(json.dumps(record, allow_nan=False), flush=True)
        return record

    def _table(self) -> Table:
        """The figures for people."""
        table = Table(title=f"benchmarks.{self.name}")
        for column in ("figure", "value", "unit", "target", "holds"):
            table.add_column(column, justify="right" if column == "value" else "left")
        for figure in self._figures:
            value = figure["value"]
            holds = {None: "", True: "yes", False: "NO"}[figure["holds"]]
            table.add_row(
                figure["name"],
                f"{value:,.6g}" if isinstance(value, float) else str(value),
                figure["unit"],
                figure["target"] or "",
                holds,
            )
        return table


def commit() -> str:
    """Abbreviated commit of the checkout, `-dirty` when tracked files differ from it; `unknown` outside git.

    Kept results do not count: one benchmark's new figures do not make the next one's code another.
    """
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("-dirty" if _git("diff", "--name-only", "HEAD", "--", ".", ":!benchmarks/results") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    """What git answers in the checkout."""
    return subprocess.run(
        ["git", *arguments],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def hardware() -> str:
    """Processor, usable cores, memory, system and Python, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
