"""The backfill flow: does a range of hours on request, with the hourly flow's planner.

    python -m flows.backfill --config configs/quickstart.yaml --from 2017-10-01T03 --to 2017-10-01T08

Decisions: a backfill changes the live version only with `promote`; it can be paused, cancelled or killed, and resumed.
Each parameter has a type and a line of documentation, from which the UI makes its form.
"""

import logging
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import click
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.commands import REFUSED, config_option, end, settled
from flows.hour import FlowPipeline, Ranks, broken_off, run_hours
from flows.pages import MOST_SPANS, show_plan
from saec.config import Config
from saec.errors import ConfigError, SaecError
from saec.hours import Hour
from saec.ledger import Backfill, HourRow
from saec.schedule.backfill import give_up, run_backfill
from saec.schedule.planner import Only, PlannedHour
from saec.schedule.progress import ask, spans, would_do
from saec.settings_file import load_config

# Only the form uses the pattern; the run checks other input and refuses it with a message.
_FORM = {"pattern": r"^(\d{4}-\d{2}-\d{2}T\d{2})?$"}
HourText = Annotated[str, Field(json_schema_extra=_FORM, examples=["2017-10-01T03"])]
Action = Literal["start", "dry run", "pause", "resume", "cancel"]
log = logging.getLogger("saec.schedule.backfill")


@flow(name="backfill", flow_run_name="backfill {action} {first} {last}", persist_result=False)
def backfill(  # noqa: PLR0913 - the fields of its form
    action: Action = "start",
    first: HourText = "",
    last: HourText = "",
    only: Only = "missing",
    promote: bool = False,
    stop_on_failure: bool = True,
    replace: bool = False,
    ranks: Ranks = 1,
    *,
    config: Path,
) -> State[Any]:
    """Do the hours of a range, oldest first, or control the open backfill.

    Args:
        action: Start a backfill; dry run shows the plan as a table; pause, resume or cancel
            apply to the open one and ignore the fields below.
        first: First hour of the range, UTC, as 2017-10-01T03.
        last: Last hour of the range, included.
        only: Which hours: those never done, those that failed, those whose data or past changed since, or all.
        promote: Whether versions that pass the gate go live; otherwise they are kept in the store.
        stop_on_failure: Whether an hour that fails or is quarantined stops the backfill.
        replace: Whether frozen hours are done too (older than `retention`).
        ranks: Processes that train together, the run's own among them.
        config: YAML file with the pipeline's settings, as the worker sees it; fixed by saec deploy.
    """
    try:
        pipeline = FlowPipeline(load_config(config), actor="backfill flow", ranks=ranks)
    except SaecError as error:
        return broken_off(error)
    wanted = {"only": only, "promote": promote, "stop_on_failure": stop_on_failure, "replace": replace}
    try:
        return _act(pipeline, action, first, last, wanted)
    except SaecError as error:
        if isinstance(error, ConfigError) or error.reason in ("open-backfill", "no-backfill"):
            return Completed(name=REFUSED, message=str(error))  # the request is wrong; nothing has failed
        return broken_off(error)


def _act(pipeline: FlowPipeline, action: Action, first: str, last: str, wanted: dict[str, Any]) -> State[Any]:
    """What the flow does, with the errors that its parameters may lead to."""
    if action in ("pause", "cancel"):
        turned = pipeline.ledger.backfills.ask("pause") if action == "pause" else give_up(pipeline)
        return Completed(name="Asked", message=f"{turned} is {turned.state}, asked to {turned.asked or 'do nothing'}")
    if action == "resume":
        return _run(pipeline, None)
    asked = ask(*_range(first, last), pipeline.actor, **wanted)
    if action == "dry run":
        return _shown(pipeline.config, would_do(pipeline.config, pipeline.ledger, asked).plan)
    return _run(pipeline, asked)


def _range(first: str, last: str) -> tuple[Hour, Hour]:
    """Both ends of a range."""
    if not (first and last):
        raise ConfigError("name the first and the last hour of the range, UTC, as 2017-10-01T03")
    if (stop := Hour.parse(last)) < (start := Hour.parse(first)):
        raise ConfigError(f"the last hour {stop} is before the first {start}; swap them")
    return start, stop


def _run(pipeline: FlowPipeline, asked: Backfill | None) -> State[Any]:
    """Begin or resume a backfill; one that stopped is a failure, however its hours ended."""
    stood: list[Backfill] = []
    released: list[str | None] = []

    def work() -> list[HourRow]:
        backfill, rows = run_backfill(pipeline, asked, listener=pipeline)
        stood.append(backfill)
        pipeline.tell_again(rows)
        released.extend(row.version for row in rows if row.state == "PUBLISHED")
        return rows

    state = run_hours(pipeline, work)
    if stood:
        state.message = f"{stood[0]} is {stood[0].state}: " + "; ".join(filter(None, [stood[0].message, state.message]))
    if released and state.name == "HELD":  # by some hour's gate, which is less than what went live
        state.name = "PUBLISHED"
    return state


def _shown(config: Config, plan: list[PlannedHour]) -> State[Any]:
    """Log and show a plan."""
    told = spans(plan)
    for span in told[:MOST_SPANS]:
        log.info("%s %s: %s", span, span.action, span.why)
    show_plan(config, told)
    actions = Counter(planned.action for planned in plan)
    said = ", ".join(f"{count} to {action}" for action, count in sorted(actions.items()))
    return Completed(name="Planned", message=said)


@click.command()
@config_option
@click.option("--from", "first", default="", help="First hour, UTC, as 2017-10-01T03.")
@click.option("--to", "last", default="", help="Last hour, included.")
@click.option(
    "--only",
    type=click.Choice(get_args(Only)),
    default="missing",
    show_default=True,
    help="Which hours: never done, failed, changed since, or all.",
)
@click.option("--promote", is_flag=True, help="Let versions that pass the gate go live.")
@click.option(
    "--stop-on-failure/--keep-going",
    default=True,
    show_default=True,
    help="Whether an hour that fails or is quarantined stops the backfill.",
)
@click.option("--replace", is_flag=True, help="Do frozen hours too.")
@click.option(
    "--action",
    type=click.Choice(get_args(Action)),
    default="start",
    show_default=True,
    help="Start one, show what it would do, or turn to the open one.",
)
def command(config: Path, first: str, last: str, **how: Any) -> None:
    """Do the hours of a range as Prefect runs, then print them."""
    settings = settled(config)
    try:
        ends = _range(first, last) if first or last or how["action"] in ("start", "dry run") else ()
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    range_ = dict(zip(("first", "last"), map(str, ends), strict=False))
    end(backfill(config=config, **range_, **how, return_state=True), settings, *ends)


if __name__ == "__main__":
    command()
