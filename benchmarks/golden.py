"""Compares today's results on the quickstart and on a stretch of the news log with kept ones, to notice changes.

Decisions: a figure may change by as much as a seed changes it (`REACH`, from three seeds of the stretch) and no more;
outcomes may differ in two hours of a day. If you change a figure on purpose, renew the record and say why in
CHANGELOG.md:

    python -m benchmarks.golden            # compare
    python -m benchmarks.golden --renew    # write tests/golden.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.record import ROOT
from saec.config import Config
from saec.data.simulate import Simulation, simulate_hours
from saec.hours import Hour
from saec.ledger import HourRow
from saec.schedule.backfill import run_backfill
from saec.schedule.pipeline import Pipeline
from saec.schedule.progress import ask
from saec.settings_file import load_config

GOLDEN = ROOT / "tests" / "golden.json"
STRETCH = Hour.parse("2017-10-04T10"), Hour.parse("2017-10-05T17")
QUICKSTART = Hour.parse("2026-01-01T00"), Hour.parse("2026-01-01T05")
WEIGHTED = {
    "rows": (
        "auc_original_served",
        "auc_version_served",
        "auc_served",
        "logloss_original_served",
        "logloss_version_served",
        "logloss_served",
    ),
    "rows_gate": ("auc_original", "auc_compressed", "logloss_original", "logloss_compressed"),
}
"""Figures of a day, in the mean of its hours weighted by these rows."""
RATIOS = ("ratio_total", "ratio_version", "ratio_vectors")
"""Of the day's newest hour."""
REACH = 0.006
"""How far AUC and log loss of a day may move: three seeds of the stretch differ by up to 0.0042."""
LIVE_REACH = 0.02
"""The same of what was live: one hour held rather than published moved a day by 0.014."""
LIVE = ("auc_served", "logloss_served")
RATIO_REACH = 0.05
"""How far a ratio may move, as a share of it."""
MOVED_HOURS = 2
"""Number of hours of a day that may end with another outcome."""

Days = dict[str, dict[str, Any]]


def by_day(rows: Iterable[HourRow]) -> Days:
    """The figures of each day of some hours."""
    days: dict[str, list[HourRow]] = {}
    for row in rows:
        days.setdefault(str(row.hour)[:10], []).append(row)
    return {day: _figures(hours) for day, hours in days.items()}


def moved(found: Days, wanted: Days) -> list[str]:
    """Everything that has moved further than another seed would move it, in words."""
    told = [] if found.keys() == wanted.keys() else [f"days {sorted(found)}, wanted {sorted(wanted)}"]
    for day in sorted(found.keys() & wanted.keys()):
        ended, before = Counter(found[day]["outcomes"]), Counter(wanted[day]["outcomes"])
        if sum(((ended - before) + (before - ended)).values()) > 2 * MOVED_HOURS:
            told.append(f"{day}: outcomes {dict(ended)}, wanted {dict(before)}")
        for name, value in wanted[day].items():
            if name == "outcomes":
                continue
            reach = RATIO_REACH * value if name in RATIOS else LIVE_REACH if name in LIVE else REACH
            if not abs(found[day].get(name, float("nan")) - value) <= reach:
                told.append(f"{day}: {name} {found[day].get(name)}, wanted {value} (within {reach:.4g})")
    return told


def quickstart(folder: Path) -> Days:
    """Six simulated hours, as `make run` does them."""
    config = load_config(ROOT / "configs" / "quickstart.yaml")
    data = config.data.model_copy(update={"source": str(folder / "data")})
    simulate_hours(Simulation(), QUICKSTART[0], QUICKSTART[1].index - QUICKSTART[0].index + 1, folder / "data")
    return by_day(_done(config.model_copy(update={"workspace": folder / "workspace", "data": data}), QUICKSTART))


def globo(folder: Path) -> Days:
    """A day and a half of the news log, the gap in it included."""
    config = load_config(ROOT / "configs" / "globo.yaml")
    data = config.data.model_copy(update={"source": str(ROOT / config.data.source)})
    return by_day(_done(config.model_copy(update={"workspace": folder, "data": data}), STRETCH))


def _done(config: Config, span: tuple[Hour, Hour]) -> list[HourRow]:
    return run_backfill(Pipeline(config), ask(*span, "golden figures", promote=True))[1]


def _figures(hours: list[HourRow]) -> dict[str, Any]:
    """Outcomes, weighted means, and the ratios of the newest hour that has them."""
    records = [row.record for row in hours if row.record]
    figures: dict[str, Any] = {"outcomes": dict(sorted(Counter(row.state for row in hours).items()))}
    for weight, names in WEIGHTED.items():
        for name in names:
            known = [(record[weight], record[name]) for record in records if record.get(name) is not None]
            if total := sum(rows for rows, _ in known):
                figures[name] = round(sum(rows * value for rows, value in known) / total, 4)
    newest = next((record for record in reversed(records) if record.get("ratio_version")), {})
    return figures | {name: round(newest[name], 1) for name in RATIOS if name in newest}


def main() -> int:
    """Compare, or renew."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.golden", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--renew", action="store_true", help="write the record in place of comparing with it")
    renew = parser.parse_args().renew
    with tempfile.TemporaryDirectory() as folder:
        found = {"quickstart": quickstart(Path(folder) / "quickstart"), "globo": globo(Path(folder) / "globo")}
    if renew:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    wanted = json.loads(GOLDEN.read_text(encoding="utf-8"))
    told = [f"{name}, {said}" for name in found for said in moved(found[name], wanted[name])]
    print("\n".join(told) or "no figure has moved further than a seed does")
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main())
