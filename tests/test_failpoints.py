"""Fail points: no effect by default, otherwise the effect that the environment sets."""

import os
import signal
import subprocess
import sys

import pytest

from saec import failpoints
from saec.errors import ConfigError

SCRIPT = """
from saec.failpoints import reached
for turn in range(3):
    print(turn, flush=True)
    reached("a.b")
    reached("c")
"""


def run(**environment):
    """A process that reaches two places three times; its exit code and what it said before."""
    clean = {name: value for name, value in os.environ.items() if name != failpoints.VARIABLE}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=clean | environment, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout.split()


@pytest.mark.parametrize(
    ("spec", "code", "turns"),
    [
        (None, 0, 3),
        ("a.b:kill", -signal.SIGKILL, 1),
        ("c:exit@2", 1, 2),
        ("a.b:kill@4", 0, 3),
        ("elsewhere:kill", 0, 3),
    ],
)
def test_a_process_ends_where_it_is_told_to(spec, code, turns):
    """At the named place, the Nth time it is reached; without the variable, nowhere."""
    assert run(**({failpoints.VARIABLE: spec} if spec else {})) == (code, [*map(str, range(turns))])


@pytest.mark.parametrize("spec", ["a.b", "a.b:burn", "a.b:kill@0", ":kill", "a.b:kill@x"])
def test_a_place_that_cannot_be_read_is_refused(spec):
    """A drill that does nothing would prove nothing."""
    with pytest.raises(ConfigError, match="SAEC_FAIL"):
        failpoints.fault(spec)


def test_it_is_off():
    """Nothing is armed unless the environment says so."""
    assert failpoints.on_reach is None
