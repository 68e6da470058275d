"""Plants mistakes in the protocols, one at a time, which the tests must notice.

    PLANTED=no-file-fsync python -m pytest -p benchmarks.faults.mutants tests/store/test_power_loss.py

Decisions: a pytest plugin, so that what is run on a mistake is the suite as it is; planted before tests are collected.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import saec.durable
import saec.gate.verdict
import saec.ledger.ledger
import saec.store.model_store
import saec.store.releases
from saec.durable import sync_folder
from saec.gate.verdict import Status, Verdict
from saec.hours import Hour
from saec.store import manifest as manifests
from saec.store.model_store import ModelStore
from saec.store.releases import Release, ReleaseLog
from saec.store.versions import VersionStore, _describe, _name

VARIABLE = "PLANTED"
_POWER_LOSS = "tests/store/test_power_loss.py"


class _Forgetful:
    """The module os, whose fsync leaves out one kind of file."""

    def __init__(self, leaves_out: Callable[[int], bool]) -> None:
        self._leaves_out = leaves_out

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        """Sync, or not."""
        if not self._leaves_out(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)


def _no_file_fsync() -> None:
    saec.durable.os = _Forgetful(stat.S_ISREG)


def _no_directory_fsync() -> None:
    saec.durable.os = _Forgetful(stat.S_ISDIR)


def _manifest_before_files() -> None:
    def commit(self: VersionStore, staged: Path, hour: Hour, manifest: Mapping[str, Any]) -> str:
        files = _describe(staged)
        content = manifests.compose(hour, manifest, files)
        version: str = content["version"]
        (staged / manifests.MANIFEST).write_bytes(manifests.encode(content))
        for name in (manifests.MANIFEST, *files):
            self.objects.put(_name(version, name), staged / name)
        return version

    VersionStore.commit = commit


def _release_before_manifest() -> None:
    really = VersionStore.commit

    def commit(self: ModelStore, staged: Path, hour: Hour, manifest: Mapping[str, Any]) -> str:
        version = manifests.compose(hour, manifest, _describe(staged))["version"]
        last = self.live()
        if not last or last.version != version:
            self._log.append(
                last, action="publish", version=version, held=False, actor="run", reason="early", fence=1, previous=None
            )
        return really(self, staged, hour, manifest)

    ModelStore.commit = commit


def _release_overwritten_in_place() -> None:
    def append(self: ReleaseLog, _after: Release | None, *, fence: int, **state: Any) -> Release:
        release = Release(sequence=1, fence=fence, at="", **state)
        root = self._objects.root
        path = root / "releases" / "00000001.json"
        path.parent.mkdir(exist_ok=True)
        sync_folder(root)
        with path.open("wb") as file:
            file.write(release.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
        return release

    ReleaseLog.append = append


def _release_lease_unchecked() -> None:
    for module in (saec.store.model_store, saec.store.releases):
        module.check_fence = lambda *_: None


def _ledger_lease_unchecked() -> None:
    saec.ledger.ledger._check_lease = lambda *_: None  # noqa: SLF001 - it is what is broken here


def _nan_accepted() -> None:
    really = saec.gate.verdict.judge

    def judge(*args: Any, **options: Any) -> Verdict:
        verdict = really(*args, **options)
        return replace(verdict, status=Status.PASS) if verdict.reason == "metric" else verdict

    saec.gate.verdict.judge = judge


PLANTS: dict[str, tuple[Callable[[], None], str]] = {
    "no-file-fsync": (_no_file_fsync, _POWER_LOSS),
    "no-directory-fsync": (_no_directory_fsync, _POWER_LOSS),
    "manifest-before-files": (_manifest_before_files, _POWER_LOSS),
    "release-before-manifest": (_release_before_manifest, _POWER_LOSS),
    "release-overwritten-in-place": (_release_overwritten_in_place, _POWER_LOSS),
    "release-lease-unchecked": (_release_lease_unchecked, "tests/store/test_releases.py"),
    "ledger-lease-unchecked": (_ledger_lease_unchecked, "tests/test_ledger.py"),
    "nan-accepted-by-the-gate": (_nan_accepted, "tests/gate/test_verdict.py"),
}
"""Each mistake, and the tests that are to notice it."""


def pytest_configure() -> None:
    """Plant what the environment names."""
    if planted := os.environ.get(VARIABLE):
        PLANTS[planted][0]()
