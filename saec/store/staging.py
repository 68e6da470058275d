"""Staging folders for work in progress; nothing is left behind, even after a kill.

Decisions: the owner of a staging folder has a kernel lock (flock) on it, which the kernel frees however the owner dies.
So no clock, process id or heartbeat is needed: a folder whose lock is free is an orphan.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from saec.durable import make_folder
from saec.failpoints import reached


@contextlib.contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """A fresh folder under `root`, removed on exit with all that is in it."""
    make_folder(root)
    folder = root / uuid.uuid4().hex
    with contextlib.ExitStack() as held:
        with _locked(root):  # a sweep must not meet the folder between its creation and its locking
            folder.mkdir()
            reached("staging.made")
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            held.enter_context(_locked(folder))
        reached("staging.locked")
        yield folder


def remove_orphan_folders(root: Path) -> int:
    """Remove the staging folders under `root` whose owner is dead; returns how many there were."""
    if not root.is_dir():
        return 0
    with _locked(root):
        return sum(_remove_if_orphan(folder) for folder in sorted(root.iterdir()) if folder.is_dir())


def _remove_if_orphan(folder: Path) -> bool:
    """Remove a staging folder unless somebody holds its lock, or is removing it himself."""
    try:
        with _locked(folder, fcntl.LOCK_NB):
            shutil.rmtree(folder, ignore_errors=True)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


@contextlib.contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[None]:
    """Hold the kernel's exclusive lock on a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(descriptor)
