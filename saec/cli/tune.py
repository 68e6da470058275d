"""`saec tune`: searches for better settings on the user's own log, and judges them on hours that it never saw.

Decisions: the name of the scratch folder contains everything that the result depends on, so the same command continues
where it was killed, and a different one starts fresh. The folder keeps the result, so that it can be shown again at
once; rows and pipelines, which are large, are removed once they have been judged.
"""

# ruff: noqa: PLC0415 - torch takes a second to import, so the body imports what it needs
from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from saec.cli.session import Session, example, shared_options
from saec.errors import ConfigError
from saec.hours import Hour

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from saec.cli.progress import Bar
    from saec.config import Config
    from saec.gate.paired import Paired
    from saec.tuning.replayed import Told

FEWEST_SEARCHED, FEWEST_JUDGED = 3, 2
RESULT = "result.json"


@click.command(epilog=example("saec tune --judged 48"))
@click.option("--from", "first", type=Hour.parse, metavar="HOUR", help="First hour (UTC); default: the oldest.")
@click.option("--to", "last", type=Hour.parse, metavar="HOUR", help="Last hour, included; default: the newest.")
@click.option(
    "--judged",
    type=click.IntRange(min=FEWEST_JUDGED),
    help="Number of last hours to judge on, excluded from the search; default: a fifth.",
)
@click.option(
    "--turns", type=click.IntRange(min=1), default=24, show_default=True, help="Maximum number of changes to try."
)
@click.option(
    "--write",
    "into_file",
    is_flag=True,
    help="Write the changes to the settings if they are better on the judged hours.",
)
@shared_options
def tune(
    session: Session, first: Hour | None, last: Hour | None, judged: int | None, turns: int, *, into_file: bool
) -> int | None:
    """Search for better settings on hours of the log itself, and judge them on later hours.

    The settings that matter (learning rates, bound on the logits, first-order start, prior, admission) are
    changed one at a time, as long as the searched hours show that it helps. Then two whole pipelines, with the old and
    the new settings, run all hours in a scratch folder of the workspace, and their versions are compared on hours that
    the search never saw. The live version is neither read nor changed, and without --write the settings file stays as
    it is. The same command continues a search that was stopped.
    """
    searched, kept_back = _hours(session.config, first, last, judged)
    folder = _scratch(session.config, searched, kept_back, turns)
    result = _known(folder) or _tuned(session, folder, searched, kept_back, turns)
    better = bool(result["judged"]) and result["judged"]["logloss_upper"] < 0
    lasting = _lasting(session.config, result["changes"])
    afresh = lasting if lasting and session.ledger.newest() else ()  # a ledger that is read leaves files behind
    written = into_file and better and not afresh
    if written:
        from saec.tuning.lines import write_into

        write_into(session.config_path, result["changes"])
    session.answer({**result, "better": better, "written": written, "new_workspace": bool(afresh)})
    _tell(session, result, better=better, afresh=afresh, written=written)
    return None


def _lasting(config: Config, changes: dict[str, float]) -> tuple[str, ...]:
    """The changes, by name, that a model which has begun does not take."""
    from saec.data.meaning import compare
    from saec.data.schema import schema_of
    from saec.tuning.dials import turned

    return tuple(told.split()[0] for told in compare(schema_of(config), schema_of(turned(config, changes))).lasting)


def _hours(config: Config, first: Hour | None, last: Hour | None, judged: int | None) -> tuple[list[Hour], list[Hour]]:
    """Hours that are searched, and those that are judged on."""
    from saec.data.partitions import available_hours

    hours = sorted(available_hours(config.data, first, last))
    kept_back = judged or max(len(hours) // 5, FEWEST_JUDGED)
    if len(hours) < FEWEST_SEARCHED + kept_back:
        raise ConfigError(
            f"there are {len(hours)} hours to tune on, wanted {FEWEST_SEARCHED} to search and {kept_back} to judge on; "
            "widen --from and --to, or ask for fewer with --judged"
        )
    return hours[:-kept_back], hours[-kept_back:]


def _scratch(config: Config, searched: Sequence[Hour], judged: Sequence[Hour], turns: int) -> Path:
    """The folder of a tuning, named by what its result depends on."""
    asked = [config.digest, config.data.source, str(searched[0]), str(judged[0]), str(judged[-1]), len(judged), turns]
    return config.workspace / "tune" / hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _known(folder: Path) -> dict[str, Any] | None:
    """The result of a finished search."""
    with suppress(FileNotFoundError):
        found: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return found
    return None


def _tuned(session: Session, folder: Path, searched: list[Hour], kept_back: list[Hour], turns: int) -> dict[str, Any]:
    """Search, judge, and save the result."""
    from saec.cli.progress import Bar
    from saec.durable import make_folder, write_file
    from saec.tuning.dials import turned
    from saec.tuning.judged import Replay, judge
    from saec.tuning.lines import as_yaml
    from saec.tuning.replayed import Rows, Trials
    from saec.tuning.search import search

    make_folder(folder)
    rows = Rows(session.config, folder / "rows")
    with Bar(session.notes, total=1, unit="of the rows") as bar:
        fit = rows.encode([*searched, *kept_back], _told(bar, 0, "reading hours"))
    to_search, to_judge = ([hour for hour in hours if hour in set(fit)] for hours in (searched, kept_back))
    if len(to_search) < FEWEST_SEARCHED or not to_judge:
        raise ConfigError(
            f"{len(to_search)} of the hours to search and {len(to_judge)} of those to judge on can be learnt from; "
            f"look at them with {session.command('check')}"
        )
    trials = Trials(session.config, rows, to_search, folder / "trials")
    with Bar(session.notes, total=turns, unit="turns") as bar:
        changes, tried = search(trials, turns, lambda done, doing: _told(bar, done, doing))
    found, seconds = None, {"search": round(trials.seconds(), 1)}
    if changes:
        hours = [*searched, *kept_back]
        present, tuned = (
            Replay.of(turned(session.config, some), hours, len(kept_back), folder / name)
            for name, some in (("present", {}), ("tuned", changes))
        )
        with Bar(session.notes, total=2, unit="pipelines") as bar:
            present.run(_told(bar, 0, "as set"))
            tuned.run(_told(bar, 1, "as tuned"))
        found = judge(rows, to_judge, present, tuned)
        seconds |= {"hour_as_set": round(present.seconds() / len(hours), 3)}
        seconds |= {"hour_as_tuned": round(tuned.seconds() / len(hours), 3)}
    result = {
        "searched": {"from": str(searched[0]), "to": str(searched[-1]), "hours": len(to_search)},
        "judged_on": {"from": str(kept_back[0]), "to": str(kept_back[-1]), "hours": len(to_judge)},
        "turns": [turn.as_dict() for turn in tried],
        "changes": changes,
        "yaml": as_yaml(changes),
        "judged": _judged(found),
        "seconds": seconds,
    }
    write_file(folder / RESULT, json.dumps(result).encode())
    for name in ("rows", "trials", "present", "tuned"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return result


def _told(bar: Bar, done: int, doing: str) -> Told:
    """A callback that shows progress on a bar."""
    return lambda part: bar.show(done + part, doing)


def _judged(found: Paired | None) -> dict[str, float] | None:
    """Plain values for JSON."""
    if found is None:
        return None
    told: dict[str, float] = {"hours": found.hours, "rows": found.rows}
    for metric, gap in (("auc", found.auc), ("logloss", found.logloss)):
        told |= {
            f"{metric}_as_set": gap.second,
            f"{metric}_as_tuned": gap.first,
            f"{metric}_difference": gap.difference,
            f"{metric}_lower": gap.lower,
            f"{metric}_upper": gap.upper,
        }
    return told


def _tell(session: Session, result: dict[str, Any], *, better: bool, afresh: Sequence[str], written: bool) -> None:
    """Print the changes tried, their gain on hours that the search never saw, and the lines of YAML."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for heading in ("dial", "from", "to", "log loss on the searched hours", ""):
        table.add_column(heading, justify="left" if heading in ("dial", "") else "right")
    for turn in result["turns"]:
        reach = (turn["logloss_upper"] - turn["logloss_lower"]) / 2
        table.add_row(
            Text(turn["dial"]),
            f"{turn['before']:g}",
            f"{turn['value']:g}",
            f"{turn['logloss_difference']:+.5f} ± {reach:.5f}",
            Text("kept", "green") if turn["kept"] else "",
        )
    session.screen.print(table)
    seconds, searched = result["seconds"], result["searched"]
    session.say(
        f"{len(result['turns'])} turns on {searched['hours']:,} hours from {searched['from']} to {searched['to']}, "
        f"{seconds['search']:,.0f} CPU seconds"
    )
    if not result["changes"]:
        session.say("no change is shown to help: keep the settings as they are")
        return
    judged, on = result["judged"], result["judged_on"]
    if judged is None:
        session.say(
            f"no version served an hour from {on['from']} to {on['to']}: there is nothing to judge by", "yellow"
        )
        return
    session.say(
        f"on {judged['hours']:,} later hours, {judged['rows']:,} rows, whole versions: "
        f"AUC {_gap(judged, 'auc')}, log loss {_gap(judged, 'logloss')}; "
        f"an hour took {seconds['hour_as_set']:.2f} s as set, {seconds['hour_as_tuned']:.2f} s as tuned"
    )
    if not better:
        session.say("hours that the search never saw do not show the gain: keep the settings as they are")
    session.say(f"for {session.config_path}:")
    session.say(result["yaml"], "green")
    if written:
        session.say("written; the pipeline uses them from the next hour on")
    elif better and afresh:
        session.say(
            f"{', '.join(afresh)} counts when a model starts, and this workspace has one that began otherwise: put the "
            "lines into a copy of the file with another `workspace`, and run it over the hours there are; "
            f"{session.config_path} is left as it is",
            "yellow",
        )


def _gap(judged: dict[str, float], metric: str) -> str:
    """One metric as set, as tuned, and the difference with its interval."""
    reach = (judged[f"{metric}_upper"] - judged[f"{metric}_lower"]) / 2
    return (
        f"{judged[f'{metric}_as_set']:.4f} to {judged[f'{metric}_as_tuned']:.4f} "
        f"({judged[f'{metric}_difference']:+.4f} ± {reach:.4f})"
    )
