"""The command as a whole: starting, helping, failing."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from saec import __version__
from saec.cli.main import SECTIONS, cli, describe
from saec.cli.session import printable, whoami
from saec.errors import ConfigError, HourAbsent, InputError, StoreError


def leaves(group: click.Group = cli):
    """Every command, those of groups included."""
    for command in group.commands.values():
        yield from leaves(command) if isinstance(command, click.Group) else [command]


@pytest.fixture(params=leaves(), ids=lambda command: command.name)
def leaf(request) -> click.Command:
    return request.param


def saec(*words: str):
    return CliRunner().invoke(cli, words)


def test_the_program_starts():
    """As a process of its own: --version and nothing else, without loading what is heavy."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "saec.cli.main", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"saec, version {__version__}\n"
    assert not {"torch", "pyarrow", "numpy", "sqlalchemy", "pydantic"} & {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines()
    }


def test_help_lists_every_command_by_section():
    """Nothing is hidden, nothing is listed twice."""
    said = saec("--help").stdout
    for section, commands in SECTIONS.items():
        assert f"{section}:" in said
        assert all(f"\n  {command.name} " in said for command in commands)
    assert {command for commands in SECTIONS.values() for command in commands} == set(cli.commands.values())


def test_every_command_answers_json_and_shows_an_example(leaf):
    """All take --config, --json and --debug, explain each option, and end their help with a command to copy."""
    names = {option for param in leaf.params for option in param.opts}
    assert {"--config", "--json", "--debug"} <= names
    assert all(param.help for param in leaf.params if isinstance(param, click.Option))
    assert leaf.epilog.startswith("\b\nExample: saec ")


@pytest.mark.parametrize("words", ["", "nosuch", "run --nosuch", "rollback", "run --hour 2026-01-01T99"])
def test_wrong_usage_is_exit_code_2(words, empty_shell):
    """No command, no such command or option, an argument missing, an hour that is none."""
    assert saec(*words.split()).exit_code == 2


def test_a_mistyped_setting_is_named_with_the_right_one(empty_shell):
    """Exit code 2, the file and the knob, no traceback; as JSON where JSON is asked for."""
    text = empty_shell.config.read_text()
    empty_shell.config.write_text(text.replace("auc_margin", "auc_margn"))
    result = empty_shell("status", code=2)
    assert "gate.auc_margn: no such setting; did you mean 'auc_margin'?" in result.stderr
    assert "Traceback" not in result.stderr
    error = empty_shell.json("status", code=2)["error"]
    assert (error["kind"], error["reason"], error["exit"]) == ("ConfigError", "config", 2)


def test_the_environment_names_the_configuration(empty_shell, monkeypatch):
    """SAEC_CONFIG stands in for --config; without either the message names a file to try."""
    monkeypatch.chdir(empty_shell.site.folder)
    assert "configs/quickstart.yaml" in saec("status").stderr
    monkeypatch.setenv("SAEC_CONFIG", str(empty_shell.config))
    (empty_shell.site.folder / "data").mkdir()
    assert saec("status").exit_code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (click.UsageError("x"), 2),
        (HourAbsent("x"), 3),
        (InputError("x"), 1),
        (StoreError("x"), 1),
        (PermissionError(13, "x"), 1),
        (ZeroDivisionError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_an_exit_code_and_words(error, code):
    """Whatever happens is described in one message for people and a reason for programs."""
    described = describe(error)
    assert described["exit"] == code
    assert described["message"]
    assert json.dumps(described)


def test_a_fault_of_ours_shows_where_only_when_asked(empty_shell, monkeypatch):
    """A message without traceback, exit code 1; --debug adds the traceback."""
    monkeypatch.setattr("saec.cli.outlook.look", lambda _: 1 / 0)
    said = empty_shell("status", code=1).stderr
    assert "a fault in saec, ZeroDivisionError" in said
    assert "Traceback" not in said
    assert "Traceback" in empty_shell("status", "--debug", code=1).stderr


def test_messages_cannot_drive_the_terminal():
    """Control characters that came with a file name are shown, not obeyed; line breaks stay."""
    assert printable("a\x1b[2Jb\r\nc") == "a�[2Jb�\nc"


def test_a_user_without_a_name_has_a_number(monkeypatch):
    """A container may know no user names."""

    def unknown():
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert whoami().startswith("user ")


def test_deploy_becomes_the_flows(empty_shell, monkeypatch):
    """Its process turns into that of the flows, with the configuration and further arguments, so signals reach them."""
    became = []
    monkeypatch.setattr("os.execv", lambda program, command: became.append((program, command)))
    monkeypatch.setattr("os.dup2", lambda *_: None)
    monkeypatch.setattr("sys.stdout.fileno", lambda: 1, raising=False)
    empty_shell("deploy", "--port", "4321")
    command = ["-m", "flows.deploy", "--config", str(empty_shell.config), "--port", "4321"]
    assert became == [(sys.executable, [sys.executable, *command])]
