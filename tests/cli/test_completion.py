"""What shells complete, and help in colour."""

import builtins
import shutil
import subprocess

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from saec import __main__
from saec.cli.completion import SHELLS
from saec.cli.main import cli


def completed(*words: str, begun: str = "") -> list[str]:
    """What a shell would offer."""
    return [item.value for item in ShellComplete(cli, {}, "saec", "_SAEC_COMPLETE").get_completions([*words], begun)]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_script(shell):
    """It asks the installed command through click's variable."""
    script = CliRunner().invoke(cli, ["completion", shell]).stdout
    assert f"_SAEC_COMPLETE={shell}_complete" in script


def test_the_script_is_bash():
    """Bash takes it."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    script = CliRunner().invoke(cli, ["completion", "bash"]).stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_commands_and_options_are_completed():
    """By what was begun."""
    assert completed(begun="ver") == ["verify", "versions"]
    assert "--out" in completed("card", begun="--o")
    assert completed("completion", begun="z") == ["zsh"]


def test_versions_are_completed_from_the_store(shell):
    """Newest first; nothing where the settings are absent."""
    versions = shell.site.store.versions()
    assert completed("rollback", "--config", str(shell.config)) == versions[::-1]
    assert completed("card", "--config", str(shell.config), begun=versions[0]) == [versions[0]]
    assert completed("card", "--config", "absent.yaml") == []


def test_help_is_coloured_on_a_screen_alone(monkeypatch):
    """Headings and commands are told apart; without a terminal, and with NO_COLOR, the same words are plain."""
    plain = CliRunner().invoke(cli, ["--help"]).stdout
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = CliRunner().invoke(cli, ["--help"], color=True).stdout
    assert "\x1b[" not in plain
    assert "\x1b[1mModels\x1b[0m" in shown
    assert click.unstyle(shown) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert CliRunner().invoke(cli, ["versions", "--help"], color=True).stdout.count("\x1b[") == 0


@pytest.mark.parametrize(("missing", "ends"), [("click", SystemExit), ("saec.cli.main", ModuleNotFoundError)])
def test_a_package_without_the_command_line_says_what_to_install(monkeypatch, missing, ends):
    """As `pipx run saec` would meet it: the extra to install, no traceback; a fault of our own is shown."""
    real = builtins.__import__

    def absent(name, *how):
        if name == "saec.cli.main":
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *how)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ends, match=r"needs click.*saec\[pipeline\]" if ends is SystemExit else "No module"):
        __main__.main()
