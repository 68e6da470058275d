"""How Prefect is set up."""

import json
import os
import subprocess
import sys

import pytest

from flows.settings import SETTINGS, apply


def test_what_is_set_already_wins():
    """Settings can be changed from outside."""
    environment = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60"}
    apply(environment)
    assert environment == SETTINGS | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60"}


@pytest.mark.slow  # a process that imports Prefect
def test_a_served_flow_writes_the_log(root):
    """A process that imports a flow, as Prefect's do, writes each line once, also after Prefect set up its logging."""
    script = "import logging, flows.hourly; logging.getLogger('saec.x').info('said')"
    said = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"SAEC_LOG": "json"},
    ).stderr
    (line,) = [json.loads(line) for line in said.splitlines()]
    assert (line["message"], line["hour"], line["version"]) == ("said", None, None)


@pytest.mark.slow  # a process that imports Prefect
def test_prefect_reads_them(root):
    """A process that imports a flow has them in force: nothing sent out, nothing pickled, no slow start refused."""
    names = "server.analytics_enabled results.default_serializer flows.heartbeat_frequency logging.extra_loggers"
    script = (
        "import flows.tasks; from operator import attrgetter; from prefect.settings import get_current_settings;"
        f"print([attrgetter(name)(get_current_settings()) for name in {names.split()}])"
    )
    said = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[False, 'json', 30, ['saec']]"
