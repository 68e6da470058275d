"""The worker of `flows.deploy` under the conditions of a test: a short schedule, a short lease, steps that wait.

    DRILL_NAME=… DRILL_SCHEDULE='{"interval": 5}' python drill.py SETTINGS

Decisions: as a script it serves the hourly deployment of `flows.deploy` with only its name, its schedule and its
entrypoint changed. The entrypoint is this file again, so the process of each flow run is under the same conditions.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import serve
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.schedules import Cron

import saec.schedule.lease
from flows.deploy import CRON, RUNS_AT_ONCE, deployments
from flows.hourly import hourly
from flows.tasks import TASKS
from saec.settings_file import load_config


def may_wait(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    """The step, which does not begin while a file beside the workspace, `wait-at`, names it."""

    def step_or_wait(plan: Any, *results: Any) -> Any:
        wait_at = plan.config.workspace.parent / "wait-at"
        while wait_at.exists() and wait_at.read_text() == name:
            time.sleep(0.05)
        return step(plan, *results)

    return step_or_wait


if "DRILL_NAME" in os.environ:  # in the worker and its runs, not where pytest looks for tests
    saec.schedule.lease.LEASE_SECONDS = float(os.environ.get("DRILL_LEASE", saec.schedule.lease.LEASE_SECONDS))
    for task in TASKS.values():
        task.fn = may_wait(task.name, task.fn)


def main(settings: Path) -> None:
    """Serve the hourly flow until killed."""
    deployment = deployments(settings, load_config(settings), os.environ["DRILL_NAME"], Cron(CRON))[0]
    deployment.entrypoint = f"drill.{hourly.fn.__name__}"
    schedule = json.loads(os.environ["DRILL_SCHEDULE"])
    deployment.schedules = [DeploymentScheduleCreate.model_validate({"schedule": schedule})]
    serve(deployment, pause_on_shutdown=False, limit=RUNS_AT_ONCE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
