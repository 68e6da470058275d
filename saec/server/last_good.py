"""Keeps the last good version on the local disk, so that a server can answer at once if it starts without the store.

Decisions: the files are kept as the store keeps them (`versions/<id>/`, durable, manifest last, verified when
opened), so the folder that a remote store is downloaded to is this very folder and nothing is copied twice; of a
store in a local folder a copy is made. `last.json`, the release that was live, is replaced in one step after the
files are there. Older versions are removed, which who has them mapped does not notice. The folder belongs to one
server; its workers load and keep in turn, so that a remote version is downloaded once and mapped by all.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saec.durable import make_folder, storage_errors, write_file
from saec.errors import IntegrityError
from saec.store.manifest import MANIFEST, parse, version_hour
from saec.store.objects import LocalObjects
from saec.store.releases import Release
from saec.store.versions import VersionStore

_LAST, _LOCK = "last.json", "lock"
_BY_STORE = ("version", "format", "hour", "files")
"""What `commit` writes into a manifest itself."""


class LastGood:
    """The last version that a server answered from, and the release that made it live."""

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        """What is kept in a folder; `shared` where other workers keep it there too."""
        self._objects, self._shared = LocalObjects(folder), shared
        self._versions = VersionStore(self._objects)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While the other workers wait; a folder that cannot be locked is used all the same."""
        if not self._shared:
            yield
            return
        try:
            make_folder(self._objects.root)
            lock = (self._objects.root / _LOCK).open("ab")
        except OSError:
            yield
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def keep(self, files: Path, release: Release) -> None:
        """Keep a version's files and its release, replacing the previous ones.

        Args:
            files: the version's folder, just verified.
            release: the record by which it is live.

        Raises:
            StoreError: when it cannot be written; the previous version is then still kept.
        """
        version = files.name
        if self._versions.verify(version):  # something is missing or damaged
            self._copy(files)
        with storage_errors(f"keep version {version} as the last good one"):
            write_file(self._objects.root / _LAST, release.model_dump_json(indent=2).encode())
        for other in self._versions.versions():
            if other != version:
                self._versions.remove(other)
        self._versions.remove_orphans()

    def last(self) -> tuple[Path, Release] | None:
        """The files of what was kept, verified, and its release; None when nothing was.

        Raises:
            IntegrityError: when what was kept is damaged.
        """
        try:
            release = Release.model_validate_json(self._objects.get(_LAST, 1 << 16))
        except FileNotFoundError:
            return None
        except ValueError:
            raise IntegrityError(
                f"{self._objects.root / _LAST} is not the record of a release; it will be replaced "
                "when the store is reached"
            ) from None
        return (self._versions.open(release.version), release) if release.version else None

    def _copy(self, files: Path) -> None:
        """Bring a version's files here, as the store would."""
        manifest = parse((files / MANIFEST).read_bytes(), files.name)
        with storage_errors(f"copy version {files.name}"), self._versions.stage() as staged:
            for name in manifest["files"]:
                shutil.copyfile(files / name, staged / name)
            said = {name: value for name, value in manifest.items() if name not in _BY_STORE}
            self._versions.commit(staged, version_hour(files.name), said)
