"""The scoreboard of faults, in its short form."""

import json
import subprocess
import sys

import pytest

from benchmarks.faults.__main__ import found

ASKING = {16}
"""Figures that ask a service outside this machine, and do not hold where that cannot be reached."""
ALONE = {1, 3, 12, 15, 17, 19}
"""Figures that take ten seconds and more."""
OTHERS = sorted(found().keys() - ASKING - ALONE)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("numbers", [*([number] for number in sorted(ALONE)), OTHERS[::2], OTHERS[1::2]], ids=str)
def test_every_figure_holds(numbers, root):
    """Each figure meets its target with small counts; the last line is the record of the run.

    Most take less than a process needs to start, so several are in one.
    """
    command = [sys.executable, "-m", "benchmarks.faults", "--seed", "1", "--short", "--only", *map(str, numbers)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert all(figure["holds"] for figure in json.loads(ended.stdout.splitlines()[-1])["figures"] if figure["target"])
