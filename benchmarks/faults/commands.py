"""Sets up a small pipeline as a user has it: a settings file, and commands in separate processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import yaml

from benchmarks.record import ROOT
from flows.settings import SETTINGS
from tests.conftest import Site


class Shell:
    """Runs commands on a site, with some variables set in the environment."""

    def __init__(self, site: Site, **environment: str) -> None:
        self.site, self.settings = site, site.folder / "settings.yaml"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        home = {"PREFECT_HOME": str(site.folder / "prefect"), "PREFECT_SERVER_LOGGING_LEVEL": "WARNING"}
        self.environment = kept | SETTINGS | home | {"PYTHONPATH": str(ROOT)} | environment
        self.configure()

    def configure(self, **changed: Any) -> None:
        """Write the settings; a value that is no section replaces what is there."""
        sections = {name: value for name, value in changed.items() if isinstance(value, dict)}
        plain = {name: value for name, value in changed.items() if name not in sections}
        settings = self.site.config(**sections).model_dump(mode="json") | plain
        self.settings.write_text(yaml.safe_dump(settings), encoding="utf-8")

    def __call__(self, *words: object, module: str = "saec.cli.main", before: tuple[str, ...] = ()) -> str:
        """What `saec WORDS` says on both streams; `before` goes before the words, `module` may be another command."""
        command = [sys.executable, "-m", module, *before, *map(str, words), "--config", str(self.settings)]
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return ended.stdout
