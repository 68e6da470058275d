"""Sets Prefect's settings for saec, whatever the machine's own profile says.

Decisions: environment variables, because Prefect's server and the processes of served flows inherit them. A variable
that is already set wins, so every setting can be changed from outside. They must be set before `prefect` is imported.
"""

import os
from collections.abc import MutableMapping

HOST = "127.0.0.1"
"""Where servers listen: this machine alone."""

SETTINGS = {
    # Nothing is sent out.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Nothing is pickled: no flow or task keeps a result, and if one ever did, it would be JSON.
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    # saec's own log lines belong to the run they come from; those of the lease's thread belong to none.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "saec",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # A killed run can be told from a long one: a sign of life every 30 seconds, the shortest there is.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    # Without a server Prefect starts one of its own, which on a busy machine takes longer than its default, 20 seconds.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}


def apply(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what is not set yet."""
    for name, value in SETTINGS.items():
        environment.setdefault(name, value)
