"""Health check: says in one line and an exit code whether hours are scheduled and picked up.

    python -m flows.health                                # every pipeline of the server: has its schedule runs ahead?
    python -m flows.health --config configs/shop.yaml     # this one is deployed, too, and none of its runs waits

Decisions: the server's own /health stays green while its scheduler fails, and a hanging worker is a running process; so
the check looks at the runs themselves. Without --config a server without pipelines is healthy, because the first one is
deployed only to a healthy server. It uses plain HTTP instead of Prefect's client, whose import would take seconds of
CPU every half minute.
"""

import base64
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from flows.settings import HOST

SECONDS = 10.0


class Unhealthy(Exception):
    """What is wrong, and what to do."""


@dataclass(frozen=True)
class Server:
    """A Prefect server's API."""

    url: str
    auth: str | None = None
    """`user:password`, where it asks for one."""

    def found(self, what: str, **wanted: Any) -> list[dict[str, Any]]:
        """The deployments or flow runs that a filter finds.

        Raises:
            Unhealthy: when the server does not answer, or not with them.
        """
        headers = {"Content-Type": "application/json"}
        if self.auth:
            headers["Authorization"] = f"Basic {base64.b64encode(self.auth.encode()).decode()}"
        request = urllib.request.Request(f"{self.url}/{what}/filter", json.dumps(wanted).encode(), headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
                items: list[dict[str, Any]] = json.load(answer)
        except urllib.error.HTTPError as error:
            hint = "; set PREFECT_API_AUTH_STRING" if error.code == 401 else ""
            raise Unhealthy(f"the Prefect server at {self.url} answers {error.code} {error.reason}{hint}") from None
        except (OSError, ValueError) as error:
            raise Unhealthy(f"no Prefect server at {self.url}: {error}") from None
        return items

    def pipelines(self, name: str | None) -> list[dict[str, Any]]:
        """The hourly deployments: all, or the one of this name.

        Raises:
            Unhealthy: when the one that is asked for is not there.
        """
        wanted = {"tags": {"all_": ["saec"]}} | ({"name": {"any_": [name]}} if name else {})
        found = self.found("deployments", deployments=wanted, flows={"name": {"any_": ["hourly"]}})
        if name and not found:
            raise Unhealthy(f"hourly/{name} is not deployed; run saec deploy with its settings")
        return found

    def scheduled(self, pipeline: dict[str, Any], **due: datetime) -> list[dict[str, Any]]:
        """The first run of a pipeline that is still to start, due before or after a moment."""
        when = {f"{side}_": moment.isoformat() for side, moment in due.items()}
        return self.found(
            "flow_runs",
            limit=1,
            sort="EXPECTED_START_TIME_ASC",
            flow_runs={
                "deployment_id": {"any_": [pipeline["id"]]},
                "state": {"type": {"any_": ["SCHEDULED"]}},
                "expected_start_time": when,
            },
        )


def check(server: Server, name: str | None, late: timedelta, now: datetime) -> Iterator[str]:
    """One line a pipeline that is healthy.

    Args:
        server: where to ask.
        name: the pipeline whose runs must also be picked up; None asks of every pipeline whether it is scheduled.
        late: how long a run may wait for a worker.
        now: the present moment.

    Raises:
        Unhealthy: at the first pipeline that is not.
    """
    for pipeline in server.pipelines(name):
        said = f"hourly/{pipeline['name']}"
        if pipeline["paused"] or not any(schedule["active"] for schedule in pipeline["schedules"]):
            raise Unhealthy(f"{said} has no active schedule; resume it in the UI, or deploy it again if it has none")
        if name and (waiting := server.scheduled(pipeline, before=now - late)):
            raise Unhealthy(
                f"{said} was due at {waiting[0]['expected_start_time']} and nobody took it; look at the "
                f"worker of {pipeline['work_pool_name'] or 'saec deploy'}"
            )
        ahead = server.scheduled(pipeline, after=now)
        if not ahead:
            raise Unhealthy(
                f"{said} has an active schedule and no run ahead: the server's scheduler is not at work; "
                "read the server's log and start it again"
            )
        yield f"{said} runs next at {ahead[0]['expected_start_time']}"


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The pipeline whose runs must also be picked "
    "up, by its settings; without it, every pipeline must be scheduled.",
)
@click.option("--name", help="The same by the deployment's name.")
@click.option(
    "--url",
    envvar="PREFECT_API_URL",
    default=f"http://{HOST}:4200/api",
    show_default=True,
    help="The server's API, by default $PREFECT_API_URL.",
)
@click.option("--late", default=300, show_default=True, help="Seconds that a run may wait for a worker.")
@click.option("--auth", envvar="PREFECT_API_AUTH_STRING", hidden=True)
def command(config: Path | None, name: str | None, url: str, late: int, auth: str | None) -> None:
    """Exit with 0 when hours are scheduled and picked up, else say what is wrong and exit with 1."""
    name = name or (config.stem if config else None)
    try:
        healthy = list(check(Server(url, auth), name, timedelta(seconds=late), datetime.now(UTC)))
    except Unhealthy as error:
        click.echo(f"unhealthy: {error}")
        sys.exit(1)
    click.echo("healthy: " + ("; ".join(healthy) or "no pipeline is deployed yet"))


if __name__ == "__main__":
    command()
