"""Nothing is unpickled on any load path, and no source of ours could.

Decisions: an audit hook listens while whole hours, a backfill, a report, scoring and verification run as commands of
their own, and must hear a pickle that is planted. Prefect's own pickles are not ours: no flow or task keeps a result
(`flows/settings.py`). The sources are read by the test of the architecture.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.faults.commands import Shell
from benchmarks.record import ROOT, Figures
from tests.conftest import Site

AST_CHECK = ("tests/test_architecture.py", "-k", "pickled")


def unpickled(shell: Shell, *words: object) -> list[str]:
    """What a command unpickles."""
    counts = shell.site.folder / "counts.json"
    counts.unlink(missing_ok=True)
    said = shell(*words, module="benchmarks.faults.audited", before=(str(counts),))
    if not counts.exists():
        raise RuntimeError(f"{words} did not end by itself: {said[-500:]}")
    return list(json.loads(counts.read_text(encoding="utf-8")))


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Commands under the hook; then the sources."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        site.simulate(3)
        shell = Shell(site)
        scored = ("score", "--in", site.file(site.hours[1]), "--out", site.folder / "scored.parquet")
        commands: list[tuple[object, ...]] = [
            ("run",),
            ("report", "--out", site.folder / "report.html"),
            scored,
            ("verify",),
            ("status",),
            ("backfill", "--from", site.hours[1], "--to", site.hours[2], "--only", "all"),
        ]
        found = {str(words[0]): unpickled(shell, *words) for words in commands}
        whole = site.live is not None and (site.folder / "scored.parquet").exists()
        seen = unpickled(shell, "--unpickle")
    for name, events in found.items():
        print(f"  saec {name}: {len(events)} {events[:3]}")
    count = sum(map(len, found.values()))
    figures.add(
        f"15. pickles read by {', '.join(found)}",
        count,
        "pickles",
        "= 0, and a planted one is heard",
        holds=count == 0 and bool(seen) and whole,
    )
    checked = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *AST_CHECK], cwd=ROOT, capture_output=True, text=True, check=False
    )
    figures.add(
        "15. sources that import or call a pickler",
        "none" if checked.returncode == 0 else "some",
        "",
        "none",
        holds=checked.returncode == 0,
    )
