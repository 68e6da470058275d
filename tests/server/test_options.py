"""The model server's options, on the command line or in the environment; the same for both commands."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from saec.cli.main import cli
from saec.server.__main__ import main


@pytest.fixture
def told(monkeypatch, site_settings):
    """Starts nothing: a function that gives a command and returns the options that the server was told."""
    seen = []
    monkeypatch.setattr("saec.server.serve.serve", lambda *given: seen.append(given))
    monkeypatch.setattr("saec.server.__main__.serve", lambda *given: seen.append(given))

    def tell(*words, alone=False, code=0):
        where = ["--store", "s", "--row-id", "id"] if alone else ["serve", "--config", str(site_settings)]
        result = CliRunner().invoke(main if alone else cli, [*where, *words])
        assert result.exit_code == code, result.output
        return seen.pop() if code == 0 else result.output

    return tell


@pytest.fixture
def site_settings(tmp_path) -> Path:
    """A file of settings that logs scored rows."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "data: {source: d, time_column: t, label_column: c, row_id_columns: [id]}\nfields: [{name: user}]\n"
        "store: s\nserving: {log: scored}\n"
    )
    return path


@pytest.mark.parametrize("alone", [False, True])
def test_both_commands_take_the_same(monkeypatch, told, alone):
    """An option goes before its variable, that before the default."""
    monkeypatch.setenv("SAEC_SERVER_PORT", "8081")
    monkeypatch.setenv("SAEC_SERVER_MAX_ROWS", "7")
    store, options, ids = told("--max-rows", "5", "--log", "there", alone=alone)
    assert (store, ids) == ("s", ("id",) if alone else ["id"])
    assert (options.host, options.port, options.max_rows, options.log) == ("127.0.0.1", 8081, 5, Path("there"))


def test_rows_are_logged_where_the_settings_say(told):
    """The pipeline looks for them there; a server without settings logs nothing unless told to."""
    assert told()[1].log == Path("scored")
    assert told(alone=True)[1].log is None


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--max-rows", "0", "x>=1"), ("--host", "", "it is empty"), ("--port", "99999", "0<=x<=65535")],
)
def test_an_option_that_is_not_valid_is_named(told, alone, option, value, said):
    """An empty host would be every address of the machine."""
    output = told(option, value, alone=alone, code=2)
    assert option in output
    assert said in output
