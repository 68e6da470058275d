"""Retention removes old versions, and never one that somebody depends on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from saec.errors import StoreError
from saec.hours import Hour
from saec.store.model_store import open_store
from saec.store.retention import removable
from tests.properties import examples

HOUR = Hour.parse("2017-10-01T03")
PERSON = {"actor": "ann", "reason": "test"}


@pytest.mark.fault(69)
def test_the_oldest_go_first(store, commit):
    """Of five versions, keeping two: the live, the previous and the protected one stay whatever their age."""
    versions = [commit(store, hour=HOUR + hour) for hour in range(6)]
    for version in versions[:2]:
        store.publish(version, actor="run", reason="passed", fence=1)
    assert store.retain(2, {versions[2]}) == [versions[3]]
    assert store.versions() == [*versions[:3], *versions[4:]]
    assert store.retain(2, {versions[2]}) == []
    assert store.objects.list(f"versions/{versions[3]}") == []


def test_nothing_is_removed_from_a_short_list():
    """Fewer versions than are kept: none may go."""
    assert removable(["a", "b"], 3, None, set()) == []
    assert removable([], 3, None, set()) == []


def test_a_manifest_goes_before_its_files(store, commit, monkeypatch):
    """A removal that stops half way leaves an invisible version, not a damaged one."""
    version, real = commit(store), store.objects.delete
    deleted = []
    monkeypatch.setattr(type(store.objects), "delete", lambda _, name: (deleted.append(name), real(name)))
    store.remove(version)
    assert deleted[0] == f"versions/{version}/manifest.json"
    assert len(deleted) == 3


def test_no_empty_folder_stays(local_store, commit):
    """On a disk the folder of a removed version goes too."""
    version = commit(local_store)
    folder = local_store.open(version)
    local_store.remove(version)
    assert not folder.exists()


@pytest.mark.fault(69)
def test_a_rollback_while_retention_runs_is_seen(store, commit, monkeypatch):
    """A version that goes live after the list of old ones was made is not removed."""
    versions = [commit(store, hour=HOUR + hour) for hour in range(4)]
    store.publish(versions[3], actor="run", reason="passed", fence=1)
    remove = store.remove

    def remove_and_roll_back(version):
        remove(version)
        if version == versions[0]:
            store.rollback(versions[1], **PERSON)

    monkeypatch.setattr(store, "remove", remove_and_roll_back)
    assert store.retain(1) == [versions[0], versions[2]]
    assert store.verify(versions[1]) == []


class Retention(RuleBasedStateMachine):
    """Any sequence of what runs and people do to a store."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = open_store(Path(self.folder.name) / "store")
        self.hour, self.protected, self.released = HOUR, set(), []

    @rule()
    def publish_next_hour(self):
        """An hourly run."""
        self.hour += 1
        with self.store.stage() as staged:
            (staged / "codes.bin").write_bytes(str(self.hour).encode())
            version = self.store.commit(staged, self.hour, {})
        try:
            self.store.publish(version, actor="run", reason="passed", fence=1)
        except StoreError as error:
            assert error.reason == "held"  # noqa: PT017

    @precondition(lambda self: self.store.versions())
    @rule(data=st.data())
    def roll_back(self, data):
        """A person goes back to any kept version."""
        self.store.rollback(data.draw(st.sampled_from(self.store.versions())), **PERSON)

    @precondition(lambda self: self.store.live() and self.store.live().held)
    @rule()
    def unhold(self):
        """A person ends the hold."""
        self.store.unhold(**PERSON)

    @precondition(lambda self: self.store.versions())
    @rule(data=st.data())
    def protect(self, data):
        """A reader opens a version."""
        self.protected.add(data.draw(st.sampled_from(self.store.versions())))

    @rule(keep=st.integers(0, 3))
    def retain(self, keep):
        """The end of an hourly run: what is left is what must be, and nothing else but the latest."""
        before, last = self.store.versions(), self.store.live()
        removed = self.store.retain(keep, self.protected)
        needed = self.protected | ({last.version, last.previous} if last else set())
        assert self.store.versions() == [
            version for index, version in enumerate(before) if version in needed or index >= len(before) - keep
        ]
        assert removed == [version for version in before if version not in self.store.versions()]

    @invariant()
    def live_and_previous_are_whole(self):
        """The live version and the one to roll back to are always there, byte for byte."""
        last = self.store.live()
        for version in filter(None, (last.version, last.previous) if last else ()):
            assert self.store.verify(version) == []

    def teardown(self):
        """Leave nothing behind."""
        self.folder.cleanup()


TestRetention = Retention.TestCase
TestRetention.settings = settings(max_examples=examples(15), stateful_step_count=15, deadline=None)


@pytest.mark.fault(3)
def test_the_folder_of_a_removal_that_was_killed_goes_with_the_next_run(local_store, commit):
    """A process that dies between the last file of a version and its folder leaves an empty folder, not for long."""
    kept = commit(local_store)
    (local_store.objects.root / "versions" / "20171001T02-0123456789ab").mkdir()
    assert local_store.remove_orphans() == 1
    assert [path.name for path in (local_store.objects.root / "versions").iterdir()] == [kept]
