"""A small pipeline for flows to run."""

from pathlib import Path

import pytest
import yaml

from saec.hours import Hour


@pytest.fixture
def settings_file(site) -> Path:
    """The small pipeline's settings as a flow takes them: a file."""
    path = site.folder / "settings.yaml"
    path.write_text(yaml.safe_dump(site.config().model_dump(mode="json")))
    return path


@pytest.fixture
def after_site(site, monkeypatch) -> Hour:
    """The clock stands in the hour after the last one that has data."""
    now = site.hours[-1] + 1
    monkeypatch.setattr(Hour, "now", lambda _lag=None: now)
    return now
