"""Runs the figures from the command line, in order, and ends with the record.

Decisions: a figure that breaks counts as not met, and the others are still measured. Only a whole run is
kept in benchmarks/results/; a short or partial one is kept in the workspace. Exit code 1 when anything does not hold.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
import time
import traceback

from benchmarks import faults
from benchmarks.record import RESULTS, ROOT, Figures

_MODULE = re.compile(r"figure_(\d\d)_\w+")
PARTIAL = ROOT / "workspace" / "faults"


def found() -> dict[int, str]:
    """The module of each figure, by its number on the scoreboard, in order."""
    names = (module.name for module in pkgutil.iter_modules(faults.__path__))
    numbered = {int(match[1]): match[0] for name in names if (match := _MODULE.fullmatch(name))}
    return dict(sorted(numbered.items()))


def main() -> int:
    """Parse, measure, record."""
    options = _parser().parse_args()
    whole = not options.short and not options.only
    figures = Figures("faults", results=RESULTS if whole else PARTIAL)
    for number in options.only or found():
        _measure(number, options.seed, figures, short=options.short)
    record = figures.finish()
    return int(any(figure["holds"] is False for figure in record["figures"]))


def _measure(number: int, seed: int, figures: Figures, *, short: bool) -> None:
    """One figure, with a line before and after it."""
    module = importlib.import_module(f"{faults.__name__}.{found()[number]}")
    title = (module.__doc__ or "").partition("\n")[0]
    print(f"figure {number}: {title}", flush=True)
    started = time.perf_counter()
    try:
        module.figure(seed, short, figures)
    except Exception as error:  # noqa: BLE001 - a figure that breaks does not hold; the others are still wanted
        traceback.print_exc()
        figures.add(f"{number}. {title}", f"{type(error).__name__}: {error}"[:300], "error", target="runs", holds=False)
    print(f"figure {number}: {time.perf_counter() - started:.1f} s", flush=True)


def _parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=faults.__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what every random choice follows from")
    parser.add_argument("--short", action="store_true", help="small counts: minutes in place of an hour")
    parser.add_argument("--only", type=int, nargs="+", choices=list(found()), help="numbers of figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
