"""Whenever the power fails, the disk holds the old version or the new one, whole, and all that was promised."""

from __future__ import annotations

import random

import pytest

from tests.store.drills import DRILLS, power_losses
from tests.store.power_loss import Disk, Found


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "first publication" else name for name in DRILLS]
)  # which is a part of any publication
def test_every_disk_that_a_power_loss_may_leave_is_sound(name, tmp_path, monkeypatch):
    """After each call of publishing, rollback, retention and saving a checkpoint; and it can be done again."""
    wrong = [*power_losses(DRILLS[name], monkeypatch, tmp_path, random.Random(1))]
    assert len(wrong) > 5
    assert [problems for problems in wrong if problems] == []


@pytest.mark.fault(2, 7)
@pytest.mark.parametrize(
    ("name", "kill_at"),
    [
        pytest.param("publication", 8, marks=pytest.mark.slow),
        pytest.param("publication", 25, marks=pytest.mark.slow),
        ("first checkpoint", 2),
    ],
)  # thousands of disks each
def test_a_power_loss_after_a_kill_is_survived_too(name, kill_at, tmp_path, monkeypatch):
    """What a killed run named and did not sync, a file or the release itself, is not relied on by the next run."""
    wrong = [*power_losses(DRILLS[name], monkeypatch, tmp_path, random.Random(1), kill_at)]
    assert [problems for problems in wrong if problems] == []


def test_the_disk_forgets_what_was_not_synced(tmp_path, monkeypatch):
    """A file that is written and moved into place, nothing synced, may be absent, empty, torn or whole, or old."""
    (tmp_path / "store").mkdir()
    target = tmp_path / "store" / "file"
    target.write_bytes(b"old!")
    with monkeypatch.context() as patch:
        disk = Disk(patch, tmp_path / "store")
        target.with_name("new").write_bytes(b"new!")
        target.with_name("new").replace(target)
    states = [found.files for found in disk.found(random.Random(1))]
    assert {state.get("file") for state in states} == {b"old!", b"new!", b"ne", b""}


def test_a_disk_is_laid_out(tmp_path):
    """Files and folders as they were found."""
    root = Found({"a/b": b"x"}, ["a"], ()).lay_out(tmp_path / "found")
    assert (root / "a" / "b").read_bytes() == b"x"
