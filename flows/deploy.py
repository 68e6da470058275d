"""Deploys a pipeline to Prefect: both flows as deployments of a server, run by this process or by workers.

    python -m flows.deploy --config configs/quickstart.yaml      # then http://127.0.0.1:4200
    python -m flows.deploy --config configs/quickstart.yaml --work-pool saec && prefect worker start --pool saec

Decisions: without a work pool this process runs the flows and, if none answers, a server. With a work pool it registers
the flows and exits, and any number of workers run them. Deployments are named after the settings file, so that
pipelines can share a server. Hourly runs are scheduled in UTC, where no hour is skipped or doubled. Only the ledger's
lease limits concurrent runs: a run that finds another at work ends HELD at once, whereas Prefect's slots stay taken for
minutes after a worker died. The schedule stays active when this command ends; the next run makes up for missed hours.
Deploying again replaces the schedule, but a paused one stays paused, because a restart must not undo a decision made in
an incident.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron, Schedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.annotations import freeze
from pydantic import ValidationError

from flows.automations import install_automations
from flows.backfill import backfill
from flows.commands import config_option, settled
from flows.events import pipeline_name
from flows.hourly import hourly
from flows.pages import OVERVIEW, page_key
from flows.server import PORT, server
from flows.settings import SETTINGS
from saec.config import Config
from saec.errors import SaecError
from saec.store.model_store import open_store
from saec.store.probe import check_creates_once

CRON = "5 * * * *"
_OF = "Pipeline: "
"""Text before the pipeline's name in a deployment's description."""
RUNS_AT_ONCE = 3
"""Maximum number of runs started at once. Only one works and the others end HELD, but each is a process that imports
torch, and after a night's outage all late runs would otherwise start in the same second."""


def deployments(
    config: Path, settings: Config, name: str, schedule: Schedule, work_pool: str | None = None, ranks: int = 1
) -> list[RunnerDeployment]:
    """Both flows as deployments: `hourly/NAME` on its schedule, `backfill/NAME` on request.

    The settings file is fixed, so that no form and no caller can point a pipeline's runs at another one.
    """
    common: dict[str, Any] = {
        "parameters": {"config": freeze(str(config.absolute())), "ranks": ranks},
        "tags": ["saec"],
        "entrypoint_type": EntrypointType.MODULE_PATH,
    }
    if work_pool:
        # A worker starts runs in a folder of their own and knows nothing of our settings; paths in the settings file
        # are relative to the folder that this command runs in.
        common |= {"work_pool_name": work_pool, "job_variables": {"working_dir": str(Path.cwd()), "env": SETTINGS}}
    return [
        RunnerDeployment.from_flow(flow, name, schedule=when, description=_described(flow, settings), **common)
        for flow, when in ((hourly, schedule), (backfill, None))
    ]


def _described(flow: Flow[..., Any], settings: Config) -> str:
    """The description on a deployment's page, with the link to the overview first."""
    overview = f"/artifacts/key/{page_key(settings, OVERVIEW)}"
    return (
        f"**[Where the pipeline stands]({overview})**: what is live, alarms, the last hours; after the first "
        f"run.\n\n{flow.description}\n\n{_OF}{pipeline_name(settings)}"
    )


def require_own(name: str, settings: Config) -> None:
    """Refuse a deployment name that another pipeline uses on this server.

    Raises:
        click.ClickException: naming that pipeline.
    """
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(f"{hourly.name}/{name}")
        except ObjectNotFound:
            return
    _, told, owner = (found.description or "").partition(_OF)
    if told and owner != pipeline_name(settings):
        raise click.ClickException(
            f"{hourly.name}/{name} is the deployment of another pipeline on this server, "
            f"{owner}, with settings {found.parameters.get('config')}; this one is "
            f"{pipeline_name(settings)}: give it a name of its own with --name, or delete that "
            f"deployment if it is gone: prefect deployment delete {hourly.name}/{name}"
        )


def paused(name: str) -> bool:
    """Whether somebody paused the hourly deployment or its schedule."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(f"{hourly.name}/{name}")
        except ObjectNotFound:
            return False
    return found.paused or any(not schedule.active for schedule in found.schedules)


def ensure_process_pool(name: str) -> None:
    """Make the work pool unless it is there.

    Raises:
        click.ClickException: when a pool of this name starts runs in another way than as processes.
    """
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound:
            pool = client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    if pool.type != "process":
        raise click.ClickException(
            f"work pool {name} is of type {pool.type}, and saec's runs are processes of "
            "a worker; give another name to --work-pool"
        )


def _scheduled(cron: str, timezone: str) -> Schedule:
    """The schedule that the options ask for."""
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        why = "; ".join(str(one["msg"]) for one in error.errors())
        raise click.UsageError(f"no schedule can be made of --cron {cron!r} --timezone {timezone!r}: {why}") from None
    return Cron(cron, timezone=timezone)


@click.command()
@config_option
@click.option("--name", help="Name of both deployments; by default that of the settings file.")
@click.option("--cron", default=CRON, show_default=True, help="When the hourly flow runs.")
@click.option("--timezone", default="UTC", show_default=True, help="Zone of --cron; others may skip or double an hour.")
@click.option("--work-pool", help="Register in this work pool, made if absent, and end; workers do the rest.")
@click.option("--ranks", type=click.IntRange(1), default=1, metavar="N", help="Runs train in N processes.")
@click.option("--port", default=PORT, show_default=True, help="Port of the server that is started, on 127.0.0.1.")
def command(
    config: Path, name: str | None, cron: str, timezone: str, work_pool: str | None, ranks: int, port: int
) -> None:
    """Serve the hourly and the backfill flow, with a server and its UI, until interrupted."""
    settings, schedule, name = settled(config), _scheduled(cron, timezone), name or config.stem
    try:
        check_creates_once(open_store(settings.store_url).objects)
        with server(port, start=not work_pool) as url, temporary_settings({PREFECT_API_URL: url}):
            require_own(name, settings)
            install_automations(settings)
            if paused(name):
                schedule = replace(schedule, active=False)
                click.echo(f"{hourly.name}/{name} was paused and stays so; its switch is on its page in the UI")
            click.echo(f"Prefect UI: {url.removesuffix('/api')}")
            _hand_over(deployments(config, settings, name, schedule, work_pool, ranks), work_pool)
    except SaecError as error:
        raise click.ClickException(str(error)) from None


def _hand_over(handed: list[RunnerDeployment], work_pool: str | None) -> None:
    """Register deployments in a work pool, or serve them from this process until it is interrupted."""
    if not work_pool:
        serve(*handed, pause_on_shutdown=False, limit=RUNS_AT_ONCE)
        return
    ensure_process_pool(work_pool)
    for deployment in handed:
        deployment.apply()
    click.echo(f"in work pool {work_pool}; run it with: prefect worker start --pool {work_pool}")


if __name__ == "__main__":
    command()
