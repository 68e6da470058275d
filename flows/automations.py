"""Prefect automations of a pipeline (alarms, zombie runs); `saec deploy` installs them by name.

Decisions: a clock that waits for an event restarts with each such event, so it runs out exactly the configured time
after the last one (a clock with fixed periods would take up to twice as long). Prefect names a run's last event after
its state, and ours are called PUBLISHED or HELD; so the zombie clock accepts any event of a run as a sign of life,
otherwise it would crash runs that ended well. Installing compares first: an automation that already matches keeps its
clock, and a paused one stays paused. `alarms.notify` names the user's notification block; without it, an automation
that fires only creates an event in Prefect's UI.
"""

from datetime import timedelta
from typing import Any

from prefect.automations import (
    AutomationCore,
    ChangeFlowRunState,
    DoNothing,
    EventTrigger,
    Posture,
    ResourceSpecification,
    SendNotification,
)
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes
from prefect.exceptions import ObjectNotFound

from flows.events import DEPLOYED, FAILED, HOUR_ENDED, OF_ALARMS, PUBLISHED, pipeline_name, resource, tell_deployed
from saec.config import Config
from saec.errors import ConfigError
from saec.monitoring.alarms import ALARMS

HEARTBEAT = "prefect.flow-run.heartbeat"
FLOWS = ["hourly", "backfill", "hour"]
"""Names of our flows."""
ZOMBIE_SECONDS = 90
"""Three heartbeats."""
ZOMBIE = "a run without a sign of life"
_NOT_OURS = {"id", "owner_resource"}


def install_automations(config: Config) -> None:
    """Create or update the pipeline's automations, by name.

    Raises:
        ConfigError: when `alarms.notify` names a block that the server does not have.
    """
    with get_client(sync_client=True) as client:
        for wanted in automations(config, _notification(client, config.alarms.notify)):
            _install(client, wanted)
    tell_deployed(config)


def automations(config: Config, notification: Any = None) -> list[AutomationCore]:
    """The automations of a pipeline.

    Args:
        config: all settings.
        notification: id of the block to send notifications with; None sends none.
    """
    alarms, waits = config.alarms, {DEPLOYED}
    triggers = {
        "quiet": _silence(config, {f"{HOUR_ENDED}*"}, waits, timedelta(minutes=alarms.quiet_minutes)),
        "lost": _event(config, OF_ALARMS["lost"]),
        "failed": _event(config, FAILED),
        "held": _event(config, OF_ALARMS["held"]),
        "old": _silence(config, {PUBLISHED}, waits, timedelta(hours=alarms.live_hours)),
        "worse": _event(config, OF_ALARMS["worse"]),
        "disk": _event(config, OF_ALARMS["disk"]),
    }
    described = {
        "quiet": f"No hour finished for {alarms.quiet_minutes} minutes: see saec status, then the hourly runs.",
        "lost": "The pipeline has lost its source, store or ledger: see saec status.",
        "failed": "An hour is FAILED: its page says why; saec run --hour redoes it.",
        "held": f"{alarms.hours} hours in a row published nothing: their pages say why.",
        "old": f"Nothing was published for {alarms.live_hours} hours: the live version is getting old.",
        "worse": "The hours that the live version served show it to be worse: see saec status, then saec rollback.",
        "disk": f"Less than {alarms.disk_free_gb:g} GB free where the workspace is.",
    }
    return [
        _zombie(notification),
        *(
            _automation(f"saec {pipeline_name(config)}: {ALARMS[name]}", described[name], trigger, notification)
            for name, trigger in triggers.items()
        ),
    ]


def _zombie(notification: Any) -> AutomationCore:
    """A run whose machine died is marked CRASHED; its hour is taken over by the next run, whatever its state says."""
    trigger = EventTrigger(
        after={HEARTBEAT},
        expect={"prefect.flow-run.*"},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        match_related=ResourceSpecification({"prefect.resource.role": ["flow"], "prefect.resource.name": FLOWS}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        within=timedelta(seconds=ZOMBIE_SECONDS),
    )
    crash = ChangeFlowRunState(
        name=None, state=StateType.CRASHED, force=False, message=f"No heartbeat for {ZOMBIE_SECONDS} seconds."
    )
    described = "Its process or machine is gone; the next run takes its hour over."
    return _automation(f"saec: {ZOMBIE}", described, trigger, notification, crash)


def _silence(config: Config, expected: set[str], started_by: set[str], within: timedelta) -> EventTrigger:
    """A trigger that fires once when this much time has passed since the last expected event."""
    return EventTrigger(
        after=expected | started_by,
        expect=expected,
        match=_of(config),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        within=within,
    )


def _event(config: Config, expected: str) -> EventTrigger:
    """A trigger that fires at each of these events."""
    return EventTrigger(expect={expected}, match=_of(config), posture=Posture.Reactive)


def _of(config: Config) -> ResourceSpecification:
    """Events of this pipeline alone."""
    return ResourceSpecification({"prefect.resource.id": [resource(config)["prefect.resource.id"]]})


def _automation(
    name: str, described: str, trigger: EventTrigger, notification: Any, *first: ActionTypes
) -> AutomationCore:
    """An automation that performs an optional action and then sends the user's notification."""
    actions: list[ActionTypes] = list(first)
    if notification:
        actions.append(
            SendNotification(
                block_document_id=notification, subject=name, body=described + "\n\n{{ event.payload.message }}"
            )
        )
    return AutomationCore(
        name=name, description=described, tags=["saec"], trigger=trigger, actions=actions or [DoNothing()]
    )


def _install(client: SyncPrefectClient, wanted: AutomationCore) -> None:
    """Create an automation, or change the one of its name where it differs."""
    found = next(iter(client.read_automations_by_name(wanted.name)), None)
    if found is None:
        client.create_automation(wanted)
        return
    kept = wanted.model_dump(exclude=_NOT_OURS) | {"enabled": found.enabled}
    if kept != found.model_dump(exclude=_NOT_OURS):
        client.update_automation(found.id, AutomationCore(**kept))


def _notification(client: SyncPrefectClient, name: str) -> Any:
    """The id of the user's notification block; None when none is named."""
    if not name:
        return None
    kind, _, block = name.partition("/")
    try:
        return client.read_block_document_by_name(block, kind, include_secrets=False).id
    except ObjectNotFound:
        raise ConfigError(
            f"alarms.notify names the block {name!r}, which this Prefect server does not have; make it "
            "in its UI under Blocks, or leave alarms.notify empty"
        ) from None
