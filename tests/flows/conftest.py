"""A Prefect server for the whole session, and a small pipeline that a flow can be pointed at."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.testing.utilities import prefect_test_harness

from saec.hours import Hour


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Prefect's test server; it takes about ten seconds to start, so once a session and only where it is asked for."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


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
