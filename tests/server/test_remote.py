"""A store behind S3: followed over the network, kept on the local disk."""

import shutil

import pytest

from saec.server.follow import Follower
from saec.server.last_good import LastGood
from saec.server.live import Standing
from saec.store.model_store import open_store
from tests.server.versions import publish
from tests.store.s3 import empty_bucket, s3_server


@pytest.mark.server
def test_an_object_store_is_followed_and_its_last_version_kept(tmp_path, monkeypatch):
    """What is downloaded is what is kept, once; a restart with the network away answers from it."""
    cache, standing = tmp_path / "cache", Standing()
    with s3_server() as endpoint:
        url = empty_bucket(endpoint, monkeypatch)
        store = open_store(url, cache)
        follower = Follower(store, standing, poll_seconds=1, last_good=LastGood(cache))
        elsewhere = open_store(url, tmp_path / "elsewhere")
        for seed in (1, 2):
            version = publish(elsewhere, seed)
            follower.look()
            assert standing.live.model.version == version
            assert [folder.name for folder in (cache / "versions").iterdir()] == [version]
    shutil.rmtree(tmp_path / "elsewhere")
    again = Standing()
    Follower(store, again, poll_seconds=1, last_good=LastGood(cache)).recall()
    assert (again.live.model.version, again.live.from_cache) == (version, True)
