"""What the Prefect UI shows beside the runs: a page of each hour, a table of the last hours, the plan of a backfill.

Decisions: pages are artifacts, made from the ledger's rows alone, under keys that say the hour (`hour-20171001t03`), so
an hour that is done again gets a further version of its page. A page that cannot be drawn or stored is logged and
changes no outcome: the ledger has spoken before.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from saec.hours import Hour
from saec.ledger import HourRow, report_record
from saec.planner import PlannedHour
from saec.report import text
from saec.report.hour import hour_markdown
from saec.report.records import Record, total_seconds

TABLE_HOURS = 48
HOURS_KEY = "hours"
PLAN_KEY = "backfill-plan"
log = logging.getLogger("saec.pages")

COLUMNS: dict[str, Callable[[Record], str]] = {
    "hour (UTC)": lambda record: record["hour"],
    "outcome": lambda record: record["outcome"] + (f" ({record['reason']})" if record.get("reason") else ""),
    "AUC orig.": lambda record: text.decimal(record.get("auc_original")),
    "AUC compr.": lambda record: text.decimal(record.get("auc_compressed")),
    "loss orig.": lambda record: text.decimal(record.get("logloss_original")),
    "loss compr.": lambda record: text.decimal(record.get("logloss_compressed")),
    "bytes": lambda record: text.times(record.get("ratio_total")),
    "time": lambda record: text.duration(total_seconds(record)),
}


def hour_key(hour: Hour) -> str:
    """The key of an hour's page; keys are lowercase letters, digits and dashes.

    >>> hour_key(Hour.parse("2017-10-01T03"))
    'hour-20171001t03'
    """
    return f"hour-{hour.compact.lower()}"


def show_hour(row: HourRow, history: Sequence[HourRow]) -> None:
    """Show an hour's page, with its figure among the hours before it."""
    with _tried(f"page of hour {row.hour}"):
        record = report_record(row)
        create_markdown_artifact(
            key=hour_key(row.hour),
            markdown=hour_markdown(record, [report_record(other) for other in history]),
            description=f"Hour {row.hour}: {row.state}",
        )


def tag_hour(row: HourRow) -> None:
    """Tag the hour's run with its outcome and reason, for the UI's filters.

    Tags are set once the hour is over: a run that starts with tags passes them to its tasks, and for each tag of a task
    Prefect first asks the server for a slot.
    """
    with _tried(f"tags of hour {row.hour}"), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.id), tags=["saec", row.state, *filter(None, [row.reason])])


def show_hours(rows: Sequence[HourRow]) -> None:
    """Show the last hours of the ledger in a table, newest first."""
    with _tried("table of hours"):
        records = [report_record(row) for row in reversed(rows[-TABLE_HOURS:])]
        table = [{heading: cell(record) for heading, cell in COLUMNS.items()} for record in records]
        create_table_artifact(key=HOURS_KEY, table=table, description=f"The last {TABLE_HOURS} hours")


def show_plan(plan: Iterable[PlannedHour]) -> None:
    """Show what a backfill would do."""
    with _tried("plan of the backfill"):
        table: list[dict[str, Any]] = [
            {"hour (UTC)": str(planned.hour), "action": planned.action, "why": planned.why,
             "estimate": text.duration(planned.seconds)} for planned in plan
        ]
        create_table_artifact(key=PLAN_KEY, table=table, description="What the backfill would do")


@contextmanager
def _tried(what: str) -> Iterator[None]:
    """Go on without a page that fails."""
    try:
        yield
    except Exception:
        log.exception("the %s cannot be shown", what)
