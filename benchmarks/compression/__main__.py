"""Runs the comparison from the command line: tunes, runs missing passes, compares, and writes figures and docs.

Without options it is a short form that takes a few minutes of one core: 24 hours of the real log, two sizes, all peers
with the tuning of the kept results. Its results are not part of docs/results.md.

Examples:
    python -m benchmarks.compression                            # the short form
    python -m benchmarks.compression --name compression --hours 233 --scored 48 --last 2017-10-11T02 --ratios 100 1000
        --tune-hours 24 --seeds 1 --methods trained-pq robe     # pieces of the table; what is known is not run again
    python -m benchmarks.compression --render-only              # docs/results.md and its figures from what is kept
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

import torch

from benchmarks.compression import figures, judged, runs, truth
from benchmarks.compression.settings import AXES, FEW, LEARNING, RATIOS
from benchmarks.compression.stretch import Stretch
from benchmarks.record import RESULTS, hardware
from saec.hours import Hour
from saec.settings_file import load_config


def main() -> None:
    """Parse, run, render."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    if not options.render_only:
        _run(options)
    if options.name in figures.DATA or options.render_only:
        figures.render(RESULTS, options.name)
    else:
        print("\n".join(figures.in_short(RESULTS, options.name)))


def _run(options: argparse.Namespace) -> None:
    """Everything that is not known yet."""
    config = load_config(options.config)
    data = config.data.model_copy(update={"source": options.data or config.data.source})
    config = config.model_copy(update={"data": data, "threads": 1})
    work = Path(options.work) / options.name
    stretch = Stretch(config, Hour.parse(options.last), options.hours, options.scored, work / "rows")
    stretch.encode()
    kept = runs.Kept.load(RESULTS / f"{options.name}-runs.json", _description(options))
    ratios = tuple(options.ratios)
    earlier = Stretch(config, Hour.parse(options.tune_last), options.tune_hours, options.tune_scored, work / "rows")
    if options.tune_hours:
        earlier.encode()
        kept.content["tuned_on"] = [options.tune_last, options.tune_hours, options.tune_scored]
    elif not kept.content["choices"]:
        kept.content["choices"] = runs.choices_of(RESULTS / f"{options.choices_of}-runs.json")
    kept.forget(options.redo)
    commands = kept.content.setdefault("commands", [])
    if (command := " && ".join([*options.after, _command()])) not in commands:
        commands.append(command)
    kept.content |= {
        "truth": truth.figures(stretch),
        "rows": len(stretch.labels_B),
        "original_bytes": round(stretch.census.original_bytes),
        "hardware": hardware(),
    }
    if options.tune_hours:
        runs.tune(kept, "original", LEARNING, earlier, ratios, options.jobs)
    runs.run_all(kept, runs.originals(kept, options.seeds), stretch, work / "scores", options.jobs)
    for method in options.methods:
        if options.tune_hours:
            axes = (AXES if options.tune_all else FEW)[method]
            runs.tune(kept, method, axes, earlier, ratios, options.jobs)
        jobs = runs.jobs_of(kept, method, ratios, options.seeds)
        runs.run_all(kept, jobs, stretch, work / "scores", options.jobs)
        judged.judge(kept, stretch.labels_B, work / "scores")
    judged.judge(kept, stretch.labels_B, work / "scores")


def _command() -> str:
    """The command as given, without the paths of working files and data on this machine."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--work")
    parser.add_argument("--after", action="append")
    return shlex.join(["python", "-m", "benchmarks.compression", *parser.parse_known_args()[1]])


def _description(options: argparse.Namespace) -> dict[str, Any]:
    """What makes results comparable: another value of any of these starts afresh."""
    names = ("config", "last", "hours", "scored")
    return {"scored_on": "the hour after"} | {name: getattr(options, name) for name in names}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compression",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", default="compression-short", help="of the kept results")
    parser.add_argument("--config", default="configs/globo.yaml")
    parser.add_argument("--data", help="folder of the hours, if not the configuration's")
    parser.add_argument("--last", default="2017-10-06T02", help="last hour")
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--scored", type=int, default=8, help="so many of the last hours are scored")
    parser.add_argument("--tune-last", default="2017-10-06T02", help="last hour of the stretch for tuning")
    parser.add_argument(
        "--tune-hours", type=int, default=0, help="0 takes peers as they were tuned in the kept results"
    )
    parser.add_argument("--tune-scored", type=int, default=8)
    parser.add_argument("--tune-all", action="store_true", help="try every choice of every peer, not the few that tell")
    parser.add_argument(
        "--choices-of", metavar="NAME", default="compression", help="results from which to take how peers were tuned"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--methods",
        nargs="*",
        choices=list(AXES),
        default=list(AXES),
        help="methods with a pass of their own; what shares the original's pass is always there",
    )
    parser.add_argument("--ratios", type=int, nargs="+", choices=RATIOS, default=[30, 300], help="1/30 is 30")
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--work", default="workspace/compression", help="folder for encoded rows and scores")
    parser.add_argument(
        "--redo",
        nargs="+",
        choices=["original", *AXES],
        default=[],
        help="passes to make again",
    )
    parser.add_argument(
        "--after",
        action="append",
        default=[],
        metavar="COMMAND",
        help="the command that made the data, to be shown before this one",
    )
    parser.add_argument("--render-only", action="store_true", help="write docs and figures from what is kept")
    return parser


if __name__ == "__main__":
    main()
