"""Pages in Prefect's UI: the overview, a page and a table for each hour, a backfill's plan and progress bar.

Decisions: pages are artifacts, made only from the ledger's rows. Their keys contain pipeline, id and hour
(`shop-1a2b3c4d-hour-20171001t03`), so that pipelines can share a server, and an hour that is redone gets a new version
of its page. The overview is one artifact that is rewritten, so that its address stays valid and versions do not pile
up. A page that cannot be drawn or stored is logged and changes no outcome, because the ledger is already written.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey
from prefect.client.schemas.objects import State

from flows.events import pipeline_name
from saec.config import Config
from saec.hours import Hour
from saec.ledger import HourRow, report_record
from saec.monitoring.alarms import Alarm
from saec.monitoring.outlook import Outlook
from saec.report import text
from saec.report.hour import hour_markdown, models_table
from saec.report.overview import overview_markdown
from saec.schedule.progress import Span

OVERVIEW = "overview"
PLAN = "backfill-plan"
PROGRESS = "backfill-progress"
MOST_SPANS = 200
"""Most lines of a backfill's plan."""
log = logging.getLogger("saec.pages")


def page_key(config: Config, page: str | Hour) -> str:
    """The key of a pipeline's page, or of an hour's; keys are lowercase letters, digits and dashes."""
    of = f"hour-{page.compact.lower()}" if isinstance(page, Hour) else page
    return re.sub("[^a-z0-9]+", "-", f"{pipeline_name(config).lower()}-{of}").strip("-")


def show_hour(config: Config, row: HourRow, history: Sequence[HourRow]) -> None:
    """Show an hour's page, with its figure among the hours before it, and its models in a table of their own."""
    record = report_record(row)
    with _tried(f"page of hour {row.hour}"):
        create_markdown_artifact(
            key=page_key(config, row.hour),
            markdown=hour_markdown(record, [report_record(other) for other in history]),
            description=f"Hour {row.hour}: {row.state}",
        )
        if models := models_table(record):
            create_table_artifact(
                key=f"{page_key(config, row.hour)}-models",
                table=models,
                description=f"Hour {row.hour}: original, challenger and champion",
            )


def tag_hour(row: HourRow, run: UUID) -> None:
    """Tag the hour's run with its outcome and reason, for the UI's filters.

    Tags are set once the hour is over: a run that starts with tags passes them to its tasks, and for each tag of a task
    Prefect first asks the server for a slot.
    """
    with _tried(f"tags of hour {row.hour}"), get_client(sync_client=True) as client:
        client.update_flow_run(run, tags=["saec", row.state, *filter(None, [row.reason])])


def end_again(run: UUID, hour: Hour, state: State[Any]) -> None:
    """Change how an hour's run ended."""
    with _tried(f"end of hour {hour}"), get_client(sync_client=True) as client:
        client.set_flow_run_state(run, state.model_copy(update={"data": None}), force=True)


def show_overview(config: Config, outlook: Outlook, fired: Sequence[Alarm]) -> None:
    """Show where the pipeline stands, on a page whose address stays the same: it is rewritten in place."""
    with _tried("overview"):
        markdown = overview_markdown(outlook, fired, lambda hour: f"/artifacts/key/{page_key(config, hour)}")
        described = "Alarms: " + (", ".join(alarm.name for alarm in fired) or "none")
        if (standing := overview_id(config)) is None:
            create_markdown_artifact(key=page_key(config, OVERVIEW), markdown=markdown, description=described)
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(standing, ArtifactUpdate(data=markdown, description=described))


def overview_id(config: Config) -> UUID | None:
    """The id of the overview, which its address ends in; None before the first."""
    wanted = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=[page_key(config, OVERVIEW)]))
    with get_client(sync_client=True) as client:
        found = client.read_latest_artifacts(artifact_filter=wanted)
    return found[0].latest_id if found else None


def show_progress(config: Config, done: int, left: int, seconds: float | None) -> None:
    """Show how far a backfill has come, as a further version of the one progress bar."""
    with _tried("progress of the backfill"):
        estimate = f", about {text.duration(seconds)} left" if seconds else ""
        create_progress_artifact(
            key=page_key(config, PROGRESS),
            progress=100.0 * done / max(done + left, 1),
            description=f"{done} of {text.plural(done + left, 'hour')} done{estimate}",
        )


def show_plan(config: Config, plan: Sequence[Span]) -> None:
    """Show what a backfill would do, as a table that stays small however long the range is."""
    with _tried("plan of the backfill"):
        table: list[dict[str, Any]] = [
            {"hours (UTC)": str(span), "action": span.action, "why": span.why, "estimate": text.duration(span.seconds)}
            for span in plan[:MOST_SPANS]
        ]
        if len(plan) > MOST_SPANS:
            table.append(
                {
                    "hours (UTC)": "…",
                    "action": "",
                    "estimate": "",
                    "why": f"and {len(plan) - MOST_SPANS:,} further lines: saec backfill --dry-run --json",
                }
            )
        create_table_artifact(key=page_key(config, PLAN), table=table, description="What the backfill would do")


@contextmanager
def _tried(what: str) -> Iterator[None]:
    """Go on without a page that fails."""
    try:
        yield
    except Exception:
        log.exception("the %s cannot be shown", what)
