"""How Prefect is set up."""

import subprocess
import sys

from flows.settings import SETTINGS, apply


def test_what_is_set_already_wins():
    """Settings can be changed from outside."""
    environment = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60"}
    apply(environment)
    assert environment == SETTINGS | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60"}


def test_prefect_reads_them(root):
    """A process that imports a flow has them in force: nothing sent out, nothing pickled, no slow start refused."""
    names = "server.analytics_enabled results.default_serializer flows.heartbeat_frequency logging.extra_loggers"
    script = ("import flows.tasks; from operator import attrgetter; from prefect.settings import get_current_settings;"
              f"print([attrgetter(name)(get_current_settings()) for name in {names.split()}])")
    said = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[False, 'json', 30, ['saec']]"
