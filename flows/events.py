"""Sends a pipeline's events to Prefect, for automations and other listeners.

    saec.hour.published, .held, .quarantined, .failed    an hour has ended
    saec.pipeline.lost, saec.publishing.stalled,
    saec.live.worse, saec.disk.low                       an alarm that a run found set off when it ended
    saec.pipeline.deployed                               the automations are in place; their clocks start

Decisions: the resource is the pipeline, so that an automation follows one pipeline whatever runs it, and the hour is a
related resource; every payload has a `message` for notifications. Events never disturb an hour: one that cannot be sent
is logged, and a background thread does the sending.
"""

import functools
import logging
from collections.abc import Iterable
from typing import Any

from prefect.events import emit_event

from saec.config import Config
from saec.hours import Hour
from saec.ledger import HourRow, Ledger, report_record
from saec.monitoring.alarms import Alarm
from saec.report import text
from saec.report.records import explanation

HOUR_ENDED = "saec.hour."
PUBLISHED, FAILED = f"{HOUR_ENDED}published", f"{HOUR_ENDED}failed"
DEPLOYED = "saec.pipeline.deployed"
OF_ALARMS = {
    "lost": "saec.pipeline.lost",
    "held": "saec.publishing.stalled",
    "worse": "saec.live.worse",
    "disk": "saec.disk.low",
}
"""Events of the alarms that Prefect could not tell from the hours' events alone."""
log = logging.getLogger("saec.events")


def pipeline_name(config: Config) -> str:
    """The pipeline's name."""
    return config.pipeline_name(_id(config.ledger_url))


def resource(config: Config) -> dict[str, str]:
    """The pipeline as the subject of events."""
    return {
        "prefect.resource.id": f"saec.pipeline.{_id(config.ledger_url)}",
        "prefect.resource.name": pipeline_name(config),
    }


@functools.lru_cache
def _id(ledger_url: str) -> str:
    """The pipeline's id, read once a process."""
    ledger = Ledger(ledger_url)
    try:
        return ledger.pipeline_id
    finally:
        ledger.close()


def tell_hour(config: Config, row: HourRow) -> None:
    """Send the event of an ended hour."""
    why = text.plain(explanation(report_record(row)))
    _tell(
        f"{HOUR_ENDED}{row.state.lower()}",
        config,
        row.hour,
        {
            "message": f"hour {row.hour} {row.ending}: {why}",
            "hour": str(row.hour),
            "outcome": row.state,
            "reason": row.reason,
            "version": row.version,
            "attempts": row.attempts,
            "seconds": row.seconds,
        },
    )


def tell_alarms(config: Config, fired: Iterable[Alarm]) -> None:
    """Send the events of alarms."""
    for alarm in fired:
        if alarm.name in OF_ALARMS:
            message = f"{alarm.message}; first: saec {alarm.command}"
            _tell(OF_ALARMS[alarm.name], config, None, {"message": message})


def tell_deployed(config: Config) -> None:
    """Send the event that the automations are in place."""
    _tell(DEPLOYED, config, None, {"message": f"pipeline {pipeline_name(config)} is deployed"})


def _tell(event: str, config: Config, hour: Hour | None, payload: dict[str, Any]) -> None:
    """Send an event."""
    related = (
        [
            {
                "prefect.resource.id": f"saec.hour.{hour.compact}",
                "prefect.resource.role": "hour",
                "prefect.resource.name": str(hour),
            }
        ]
        if hour
        else []
    )
    try:
        emit_event(event, resource=resource(config), related=related, payload=payload)
    except Exception:
        log.exception("event %s cannot be sent", event)
