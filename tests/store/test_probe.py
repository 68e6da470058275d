"""A store that lets two creators through is told from one that does not."""

import pytest

from saec.errors import StoreError
from saec.store.objects import LocalObjects
from saec.store.probe import check_creates_once


def test_a_sound_store_passes_and_keeps_nothing(store):
    """A folder and an S3 store refuse the second creation; no trace of the question stays."""
    check_creates_once(store.objects)
    assert store.objects.list("probes") == []


class Overwriting(LocalObjects):
    """A store that ignores If-None-Match, as S3-compatible ones did for years."""

    def put_if_absent(self, name, data):
        self._writable(name).write_bytes(data)
        return True


class Forgetful(LocalObjects):
    """A store that answers as it should and overwrites all the same."""

    def put_if_absent(self, name, data):
        first = not (self.root / name).exists()
        self._writable(name).write_bytes(data)
        return first


@pytest.mark.parametrize("kind", [Overwriting, Forgetful])
def test_a_store_that_overwrites_is_refused(kind, tmp_path):
    """Whether it admits it or not."""
    with pytest.raises(StoreError, match="If-None-Match") as refused:
        check_creates_once(kind(tmp_path / "store"))
    assert refused.value.reason == "store-overwrites"
    assert not list((tmp_path / "store").rglob("probes/*"))
