"""The command line over the small pipelines of tests/conftest.py."""

import json
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from saec.cli.main import cli
from saec.workspace import Workspace


class Shell:
    """Types commands about a site; `shell("run")` is `saec run --config SITE`."""

    def __init__(self, site) -> None:
        self.site = site
        self.config = site.folder / "config.yaml"
        self.configure()

    def configure(self, **changed: dict) -> None:
        """Write the site's settings, some sections changed in part."""
        self.config.write_text(yaml.safe_dump(self.site.config(**changed).model_dump(mode="json")))

    def __call__(self, *words: object, code: int | None = 0) -> Result:
        """Type a command, and see that it leaves with this exit code; with any when None."""
        Workspace._resident = None
        result = CliRunner().invoke(cli, [*map(str, words), "--config", str(self.config)], catch_exceptions=False)
        assert code in (None, result.exit_code), result.output
        return result

    def json(self, *words: object, code: int | None = 0) -> Any:
        """Type a command with --json; its answer, which must be all of standard output."""
        return json.loads(self(*words, "--json", code=code).stdout)


@pytest.fixture
def shell(site) -> Shell:
    """Five hours done, the last of them live; two to come."""
    return Shell(site)


@pytest.fixture
def fresh_shell(fresh) -> Shell:
    """Seven hours of data, nothing done."""
    return Shell(fresh)


@pytest.fixture
def empty_shell(simulated, tmp_path) -> Shell:
    """A configuration and nothing else."""
    return Shell(type(simulated)(tmp_path))
