"""An object store that fails for a moment, loses answers, or cuts uploads."""

from __future__ import annotations

from datetime import timedelta

import pytest

from saec.errors import ReleaseConflict, StoreError
from saec.store import remote
from saec.store.model_store import open_store
from tests.store.proxy import proxied
from tests.store.s3 import empty_bucket

RUN = {"actor": "run", "reason": "passed", "fence": 1}
RELEASES = "/releases/"


@pytest.fixture
def proxy(s3_endpoint):
    """A proxy before S3."""
    with proxied(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def distant(s3_endpoint, proxy, monkeypatch, tmp_path):
    """A store that is reached through the proxy."""
    url = empty_bucket(s3_endpoint, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    return open_store(url, cache=tmp_path / "cache")


@pytest.mark.fault(29)
@pytest.mark.parametrize("action", [500, 503, "lose"])
def test_a_moments_failure_is_tried_again(distant, proxy, commit, action):
    """Two bad answers to an upload, then a good one: the version is whole."""
    proxy.spoil("PUT", "codes.bin", action, action)
    version = commit(distant)
    assert proxy.count("PUT", "codes.bin") == 3
    assert distant.verify(version) == []


@pytest.mark.fault(29)
def test_a_store_that_stays_down_is_a_failure_in_bounded_time(distant, proxy, commit):
    """Each request is made at most six times; the error's reason is `store`, and what is live is still live."""
    live = distant.publish(commit(distant), **RUN)
    proxy.spoil("PUT", "codes.bin", *[503] * 1_000)
    with pytest.raises(StoreError) as refused:
        commit(distant, content=b"other")
    assert refused.value.reason == "store"
    assert timedelta(seconds=60) >= remote.RETRY["retry_timeout"]
    assert proxy.count("PUT", "codes.bin") == 1 + 6
    assert distant.live() == live


@pytest.mark.fault(30)
def test_an_upload_that_is_cut_leaves_nothing_under_its_name(distant, proxy, commit, monkeypatch):
    """Half of the bytes came: the name is not there, and the version is not listed."""
    monkeypatch.setattr(remote, "RETRY", remote.RETRY | {"max_retries": 1})
    store = open_store(distant.objects._url, cache=distant.objects.scratch.parent)
    proxy.spoil("PUT", "codes.bin", *["cut"] * 10)
    with pytest.raises(StoreError):
        commit(store, content=b"x" * 100_000)
    assert store.versions() == []
    assert not [name for name in store.objects.list("versions") if name.endswith("codes.bin")]


@pytest.mark.fault(31)
def test_the_answer_to_a_release_is_lost(distant, proxy, commit):
    """The record was written; the retry is told that it is there, and finds that it is its own: one release."""
    version = commit(distant)
    proxy.spoil("PUT", RELEASES, "lose")
    assert distant.publish(version, **RUN).version == version
    assert proxy.count("PUT", RELEASES) == 2
    assert [release.version for release in distant.releases()] == [version]


@pytest.mark.fault(32)
def test_two_at_once_is_tried_again(distant, proxy, commit):
    """A 409 says that another request was under way: nobody has the name, so it is asked for again."""
    version = commit(distant)
    proxy.spoil("PUT", RELEASES, 409)
    assert distant.publish(version, **RUN).sequence == 1
    assert [release.version for release in distant.releases()] == [version]


@pytest.mark.fault(32)
def test_a_race_that_is_lost_is_said_so(distant, proxy, commit):
    """A 412 for a name that another writer has is a conflict, and is not tried again."""
    version, other = commit(distant), commit(distant, content=b"other")
    first = distant.publish(version, **RUN)
    asked = proxy.count("PUT", RELEASES)
    with pytest.raises(ReleaseConflict):
        distant._log.append(None, action="publish", version=other, held=False, previous=None, **RUN)
    assert proxy.count("PUT", RELEASES) == asked + 1
    assert distant.live() == first
