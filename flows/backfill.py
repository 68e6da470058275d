"""The backfill flow: the hourly flow's planner over a range of hours, by hand.

    python -m flows.backfill --config configs/quickstart.yaml --from 2017-10-01T03 --to 2017-10-01T08 --dry-run

Decisions: a backfill never moves the live model unless told to promote; it may be stopped and started again, since what
is done is not missing any more. Each parameter has a type and a line of its own, from which the UI makes its form.
"""

import logging
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import click
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.commands import config_option, end, settled
from flows.hour import FlowPipeline, advance
from flows.pages import show_plan
from saec.config import load_config
from saec.errors import ConfigError
from saec.hours import Hour
from saec.planner import Only, PlannedHour

HourText = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}$", examples=["2017-10-01T03"])]
log = logging.getLogger("saec.backfill")


@flow(name="backfill", flow_run_name="backfill {first} to {last}", persist_result=False)
def backfill(
    config: Path,
    first: HourText,
    last: HourText,
    only: Only = "missing",
    promote: bool = False,
    stop_on_failure: bool = True,
    dry_run: bool = False,
) -> State[Any]:
    """Do the hours of a range, oldest first.

    Args:
        config: YAML file with the pipeline's settings, as the worker sees it.
        first: First hour of the range, UTC, as 2017-10-01T03.
        last: Last hour of the range, included.
        only: Which hours: those never done, those that failed, those whose data or past changed since, or all.
        promote: Whether versions that pass the gate go live; otherwise they are kept in the store.
        stop_on_failure: Whether an hour that fails or is quarantined ends the backfill.
        dry_run: Only show what would be done, as the table backfill-plan.
    """
    start, stop = Hour.parse(first), Hour.parse(last)
    if stop < start:
        raise ConfigError(f"the last hour {stop} is before the first {start}; swap them")
    pipeline = FlowPipeline(load_config(config), actor="backfill flow")

    def plan() -> list[PlannedHour]:
        return pipeline.backfill(start, stop, only)

    if dry_run:
        return _shown(plan())
    return advance(pipeline, plan, promote=promote, stop_on_failure=stop_on_failure)


def _shown(plan: list[PlannedHour]) -> State[Any]:
    """Log and show a plan."""
    for planned in plan:
        log.info("%s %s: %s", planned.hour, planned.action, planned.why)
    show_plan(plan)
    actions = Counter(planned.action for planned in plan)
    said = ", ".join(f"{count} to {action}" for action, count in sorted(actions.items()))
    return Completed(name="Planned", message=said)


@click.command()
@config_option
@click.option("--from", "first", required=True, help="First hour, UTC, as 2017-10-01T03.")
@click.option("--to", "last", required=True, help="Last hour, included.")
@click.option("--only", type=click.Choice(["missing", "failed", "stale", "all"]), default="missing", show_default=True,
              help="Which hours: never done, failed, changed since, or all.")
@click.option("--promote", is_flag=True, help="Let versions that pass the gate go live.")
@click.option("--stop-on-failure/--keep-going", default=True, show_default=True,
              help="Whether an hour that fails or is quarantined ends the backfill.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def command(config: Path, first: str, last: str, **how: Any) -> None:
    """Do the hours of a range as Prefect runs, then print them."""
    settings = settled(config)
    try:
        start, stop = Hour.parse(first), Hour.parse(last)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if stop < start:
        raise click.UsageError(f"--to {stop} is before --from {start}")
    end(backfill(config, str(start), str(stop), **how, return_state=True), settings, start, stop)


if __name__ == "__main__":
    command()
