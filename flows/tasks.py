"""The six steps of an hour as Prefect tasks.

Decisions: a task is the step itself. What steps pass to each other is small (names, digests, figures), so Prefect can
inspect it and draw which task fed which. Prefect caches and keeps nothing: a repeated step reads the same files and
writes the same bytes. Only transient failures are retried (`saec.schedule.retries`). Tasks have no tags: for each tag
Prefect asks the server for a slot before the task starts, which took 2 s per task.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from saec.schedule.retries import JITTER, PAUSES, may_pass
from saec.steps import cluster, gate, ingest, publish, retrain, train

P = ParamSpec("P")
T = TypeVar("T")


def _worth_retrying(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question after a failed attempt."""
    return may_pass(state.data)


def _as_task(step: Callable[..., Any]) -> Task[..., Any]:
    """A step under its own name, with its hour in the run's name."""
    return task(
        name=step.__name__,
        task_run_name=f"{step.__name__} {{plan.hour}}",
        retries=len(PAUSES),
        retry_delay_seconds=list(PAUSES),
        retry_jitter_factor=JITTER,
        retry_condition_fn=_worth_retrying,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(step)


TASKS = {step.__name__: _as_task(step) for step in (ingest, train, cluster, retrain, gate, publish)}
"""The steps as tasks, by name."""


def as_task_run(step: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a step as a task run."""
    as_task: Any = TASKS[step.__name__]
    result: T = as_task(*args, **kwargs)
    return result
