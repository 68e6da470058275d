"""A log for the tests of this folder."""

import pytest

from tests.discover.logs import clicks, write_csv


@pytest.fixture(scope="session")
def rows():
    """The rows of a log."""
    return clicks()


@pytest.fixture
def log_csv(tmp_path, rows):
    """The log as one CSV file."""
    return write_csv(tmp_path / "clicks.csv", rows)
