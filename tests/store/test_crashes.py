"""Whatever happens at whatever step of publishing, readers see the old version or the new one, whole."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from saec.errors import SaecError, StoreError
from saec.store.model_store import open_store
from tests.store.drills import HOUR
from tests.store.faults import Fault
from tests.store.power_loss import Killed


def publish_hour(store, commit):
    """Commit and publish the second hour."""
    version = commit(store, hour=HOUR + 1, content=b"second hour")
    store.publish(version, actor="run", reason="passed", fence=1, expected=1)
    return version


def prepared(folder, commit):
    """A store with a first hour live, and the id that the second hour will have."""
    store = open_store(folder)
    first = commit(store)
    store.publish(first, actor="run", reason="passed", fence=1)
    twin = open_store(folder.with_name(f"{folder.name}-twin"))
    return store, first, commit(twin, hour=HOUR + 1, content=b"second hour")


def calls_of_a_publication(tmp_path, monkeypatch, commit):
    """Every call that an undisturbed publication makes."""
    store, _, _ = prepared(tmp_path / "undisturbed", commit)
    with monkeypatch.context() as patch:
        fault = Fault(patch, 0, None)
        publish_hour(store, commit)
    return fault.trace


@pytest.mark.fault(2, 21, 24, 25, 27)
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Killed, id="kill"),
        pytest.param(errno.ENOSPC, id="ENOSPC"),
        *(
            pytest.param(error, id=errno.errorcode[error], marks=pytest.mark.slow)
            for error in (errno.EIO, errno.EACCES, errno.EXDEV)
        ),
    ],
)
def test_every_call_of_a_publication_may_fail(tmp_path, monkeypatch, commit, error):
    """After each fault the live version is whole and the old or the new one; a rerun publishes the same version."""
    calls = len(calls_of_a_publication(tmp_path, monkeypatch, commit))
    assert calls > 30
    model, first, second = prepared(tmp_path / "model", commit)
    for at in range(1, calls + 1):
        store = open_store(shutil.copytree(model.objects.root, tmp_path / f"{at}"))
        with monkeypatch.context() as patch:
            Fault(patch, at, error)
            failed = False
            try:
                publish_hour(store, commit)
            except (Killed, SaecError, OSError):
                failed = True
        live = store.live().version
        assert live in (first, second), at
        if failed and error is not Killed:
            assert live == first, f"call {at} failed and the live version moved"
        assert set(store.versions()) <= {first, second}
        assert [store.verify(version) for version in store.versions()] == [[]] * len(store.versions()), at
        store.remove_orphans()
        assert publish_hour(store, commit) == second
        assert store.live().version == second
        assert store.verify(second) == []
        assert list(store.objects.scratch.iterdir()) == [], f"something is left of the fault at call {at}"


@pytest.mark.fault(7)
def test_the_order_of_a_publication(tmp_path, monkeypatch, commit):
    """Each file is on the disk before it has its name, all names before the manifest's, and that before the release.

    The folders above are synced before the release too, even where a run that was killed had made them already.
    """
    trace = calls_of_a_publication(tmp_path, monkeypatch, commit)
    named = {index: call[1:] for index, call in enumerate(trace) if call[0] in ("replace", "link")}
    assert [Path(target).name for _, target in named.values()] == [
        "codes.bin",
        "schema.json",
        "manifest.json",
        "00000002.json",
    ]
    for index, (source, target) in named.items():
        assert ("fsync", source) in trace[:index], f"{target} has its name before its data is on the disk"
        following = [call[1] for call in trace[index:] if call[0] == "fsync"]
        assert following[0] == str(Path(target).parent), f"the name of {target} is not brought to the disk"
        for folder in (tmp_path / "undisturbed", Path(target).parent.parent):
            assert ("fsync", str(folder)) in trace[:index], f"{folder} may forget the folder of {target}"


@pytest.mark.fault(21, 24)
@pytest.mark.parametrize(("error", "reason"), [(errno.ENOSPC, "disk-full"), (errno.EROFS, "permission")])
def test_a_full_or_read_only_disk_has_its_reason(local_store, commit, monkeypatch, error, reason):
    """The reason slug tells the ledger what to write beside FAILED."""
    commit(local_store)

    def failing(*args):
        raise OSError(error, os.strerror(error), str(args[0]))

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(StoreError) as caught:
        commit(local_store, content=b"other")
    assert caught.value.reason == reason
