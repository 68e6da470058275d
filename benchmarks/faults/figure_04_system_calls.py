"""Every system call of a publication fails, in every way: the live version's bytes do not change.

Decisions: a publication is what the step `publish` does, staging included. Where a call's failure is survived (a
temporary name that cannot be removed) the new version is live, whole; else the old one is, and every byte of it and of
the release log is as before. Either way the same publication, done again, succeeds and leaves nothing behind.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.children import scratch
from benchmarks.record import Figures
from saec.errors import SaecError
from saec.store.model_store import open_store
from tests.store.drills import HOUR, Publication, broken, publish
from tests.store.faults import ERRORS, Fault

SHORT_EVERY = 4


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Count the publications of which a call failed, and those that did harm."""
    del seed  # every call is tried
    with pytest.MonkeyPatch.context() as patch, scratch() as folder:
        patch.setattr(os, "fsync", lambda _: None)  # in memory there is nothing to sync
        publish(open_store(folder / "before"), HOUR, b"first hour")
        trace = _publication(folder / "undisturbed", folder / "before", 0, 0, patch)[1]
        calls = range(1, len(trace) + 1, SHORT_EVERY if short else 1)
        harm = {
            (trace[at - 1][0], at, errno.errorcode[error]): wrong
            for error in ERRORS
            for at in calls
            if (wrong := [*_harm(folder, at, error, patch)])
        }
    for case, wrong in harm.items():
        print(f"  {case}: {wrong}", flush=True)
    tried = len(ERRORS) * len(calls)
    figures.add("4. failing system calls of a publication", tried, "calls")
    figures.add("4. of these, live version unchanged", 1 - len(harm) / tried, "share", "1", not harm)


def _publication(
    root: Path, before: Path, at: int, error: int, patch: pytest.MonkeyPatch
) -> tuple[bool, list[tuple[str, ...]]]:
    """Publish into a copy of a store while a call fails; whether that was noticed, and all calls."""
    shutil.copytree(before, root)
    with patch.context() as broken_calls:
        fault = Fault(broken_calls, at, error)
        try:
            Publication().act(root)
        except (SaecError, OSError):
            return True, fault.trace
    return False, fault.trace


def _harm(folder: Path, at: int, error: int, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """What is wrong after one failing call."""
    root = folder / "failing"
    failed, _ = _publication(root, folder / "before", at, error, patch)
    store, old = open_store(root), open_store(folder / "before").live()
    live = store.live()
    if failed and live != old:
        yield "it failed and the live version moved"
    if failed and old and old.version and _bytes(root, old.version) != _bytes(folder / "before", old.version):
        yield "bytes of the live version changed"
    yield from broken(store)
    yield from Publication().problems(root, ())
    shutil.rmtree(root)


def _bytes(root: Path, version: str) -> dict[str, str]:
    """sha256 of what serving depends on: the live version's files and the release log."""
    paths = [*(root / "versions" / version).iterdir(), *(root / "releases").iterdir()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
