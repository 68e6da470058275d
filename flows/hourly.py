"""The hourly flow: does every hour that is due.

    python -m flows.hourly --config configs/quickstart.yaml

Decisions: a scheduled run has no hour as a parameter; it does every hour that is due by the ledger and the current
clock, oldest first. So it makes up for missed runs, and late runs find nothing left to do. With PREFECT_API_URL set it
uses that server, otherwise one that Prefect starts for it.
"""

from pathlib import Path
from typing import Any

import click
from prefect import flow
from prefect.client.schemas.objects import State

from flows.commands import config_option, end, settled
from flows.hour import FlowPipeline, Ranks, broken_off, run_hours
from saec.errors import SaecError
from saec.hours import Hour
from saec.schedule.advance import advance
from saec.settings_file import load_config


@flow(name="hourly", flow_run_name=lambda: f"hourly {Hour.now()}", persist_result=False)
def hourly(ranks: Ranks = 1, *, config: Path) -> State[Any]:
    """Advance the ledger: do every hour that is due, oldest first; deal with data that came late.

    Args:
        ranks: Processes that train together, the run's own among them.
        config: YAML file with the pipeline's settings, as the worker sees it; fixed by saec deploy.
    """
    try:
        pipeline = FlowPipeline(load_config(config), actor="hourly flow", ranks=ranks)
        return run_hours(pipeline, lambda: advance(pipeline, listener=pipeline))
    except SaecError as error:
        return broken_off(error)


@click.command()
@config_option
def command(config: Path) -> None:
    """Do every hour that is due as Prefect runs, then print the last hours."""
    settings = settled(config)
    end(hourly(config=config, return_state=True), settings)


if __name__ == "__main__":
    command()
