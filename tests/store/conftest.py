"""A store in a local folder and one in S3 (moto on loopback), so that every contract test runs over both."""

from __future__ import annotations

import pytest

from saec.store.model_store import open_store
from tests.store.drills import commit_version
from tests.store.s3 import empty_bucket, s3_server


@pytest.fixture(scope="session")
def s3_endpoint():
    """Address of an S3 server on loopback, for the whole session."""
    pytest.importorskip("flask", reason="the S3 tests need moto[server]")
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_url(s3_endpoint, monkeypatch):
    """URL of a store in an empty bucket."""
    return empty_bucket(s3_endpoint, monkeypatch)


@pytest.fixture
def local_store(tmp_path):
    """An empty store in a local folder."""
    return open_store(tmp_path / "store")


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(tmp_path / "store")
    return open_store(request.getfixturevalue("s3_url"), cache=tmp_path / "cache")


@pytest.fixture
def commit():
    """A function that commits a small version of an hour: two files whose bytes follow from `content`."""
    return commit_version
