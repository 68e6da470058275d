"""The commands' options and exit codes, without any server."""

import pytest
from click.testing import CliRunner
from prefect.states import Completed, Crashed, Failed

from flows.backfill import command as backfill
from flows.commands import exit_code
from flows.hourly import command as hourly


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (Completed(), 0),
        (Completed(name="PUBLISHED"), 0),
        (Completed(name="Planned"), 0),
        (Completed(name="HELD"), 3),
        (Completed(name="QUARANTINED"), 3),
        (Failed(), 1),
        (Crashed(), 1),
    ],
)
def test_exit_codes(state, code):
    """0 done, 1 failed, 3 held or quarantined."""
    assert exit_code(state) == code


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (hourly, [], "--config"),
        (hourly, ["--config", "nowhere.yaml"], "nowhere.yaml"),
        (
            backfill,
            ["--config", "configs/quickstart.yaml", "--from", "yesterday", "--to", "2017-10-01T03"],
            "yesterday",
        ),
        (
            backfill,
            ["--config", "configs/quickstart.yaml", "--from", "2017-10-01T04", "--to", "2017-10-01T03"],
            "before",
        ),
        (
            backfill,
            [
                "--config",
                "configs/quickstart.yaml",
                "--from",
                "2017-10-01T04",
                "--to",
                "2017-10-01T05",
                "--only",
                "some",
            ],
            "some",
        ),
    ],
)
def test_wrong_usage(command, arguments, said, root, monkeypatch):
    """What is wrong with the options or settings is said before Prefect is started; exit code 2."""
    monkeypatch.chdir(root)
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert said in result.output
