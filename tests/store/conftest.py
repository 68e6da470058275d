"""A store in a local folder and one in S3 (moto on loopback), so that every contract test runs over both."""

from __future__ import annotations

import itertools
import logging
import os
import warnings

import pytest

from saec.store.model_store import open_store
from tests.store.drills import commit_version

BUCKETS = itertools.count()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No real fsync, which costs time and only a power loss can tell from none; its calls are still counted."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def s3_endpoint():
    """Address of an S3 server on loopback, for the whole session."""
    pytest.importorskip("flask", reason="the S3 tests need moto[server]")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer  # noqa: PLC0415
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3_endpoint, monkeypatch):
    """URL of a store in an empty bucket."""
    boto3 = pytest.importorskip("boto3")
    settings = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "canary-secret", "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": s3_endpoint, "AWS_ALLOW_HTTP": "true"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    bucket = f"models-{next(BUCKETS)}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/ctr/hourly"


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
