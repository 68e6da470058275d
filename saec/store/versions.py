"""Stores versions: folders of files that are complete and verified, or do not exist.

Decisions: the files of a version come first, each durable, and `manifest.json` last; a version without a manifest does
not exist for readers, and the next commit of the same content completes it, since its id, and so its file names and
bytes, are the same. A version never changes; it is only added, repaired to the very same bytes, or removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from saec.durable import sha256_file, storage_errors
from saec.errors import IntegrityError, SaecError, StoreError
from saec.failpoints import reached
from saec.hours import Hour
from saec.store import manifest as manifests
from saec.store.manifest import MANIFEST, MANIFEST_LIMIT
from saec.store.objects import FileEntry, Objects
from saec.store.staging import staging_folder


class VersionStore:
    """The versions in a set of objects, under `versions/<id>/`."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def stage(self) -> AbstractContextManager[Path]:
        """A fresh folder to build a version in, removed on exit with what was not committed."""
        return staging_folder(self.objects.scratch)

    def commit(self, staged: Path, hour: Hour, manifest: Mapping[str, Any]) -> str:
        """Make the files of a staged folder a version.

        Args:
            staged: A folder from `stage`, holding plain files only; they may be gone afterwards.
            hour: The hour whose rows the version was last trained on.
            manifest: What else to say of the version; `files`, `hour`, `version` and `format` are added.

        Returns:
            The version's id; committing the same content again gives the same id and bytes, and repairs damage.

        Raises:
            StoreError: when the folder or manifest is unfit (nothing was written), or writing failed (no version).
        """
        with storage_errors(f"read staged folder {staged}"):
            files = _describe(staged)
        content = manifests.compose(hour, manifest, files)
        version: str = content["version"]
        encoded = manifests.encode(content)
        if len(encoded) > MANIFEST_LIMIT:
            raise StoreError(
                f"the manifest of {version} has {len(encoded)} bytes, over the {MANIFEST_LIMIT} allowed; "
                "put tables into a file of the version",
                reason="manifest",
            )
        # Written even when it is all there: a killed run may have named files that never reached the disk.
        for name in files:
            self.objects.put(_name(version, name), staged / name)
            reached("version.file-written")
        with storage_errors(f"write {staged / MANIFEST}"):
            (staged / MANIFEST).write_bytes(encoded)
        reached("version.manifest-staged")
        self.objects.put(_name(version, MANIFEST), staged / MANIFEST)
        reached("version.committed")
        return version

    def versions(self) -> list[str]:
        """Ids of all versions that have a manifest, oldest hour first."""
        return [version for version, names in self._folders().items() if MANIFEST in names]

    def manifest(self, version: str) -> dict[str, Any]:
        """What a version's manifest says.

        Raises:
            StoreError: reason "no-version", when there is none.
            IntegrityError: when it is damaged.
        """
        manifests.version_hour(version)
        try:
            data = self.objects.get(_name(version, MANIFEST), MANIFEST_LIMIT)
        except FileNotFoundError:
            raise StoreError(
                f"the store has no version {version}; list those it has with saec versions", reason="no-version"
            ) from None
        return manifests.parse(data, version)

    def open(self, version: str) -> Path:
        """A local folder with the version's files, each just compared with its sha256.

        Raises:
            StoreError: reason "no-version", when there is none.
            IntegrityError: naming what is missing, altered or unexpected.
        """
        manifest = self.manifest(version)
        files = manifests.entries(manifest)
        encoded = manifests.encode(manifest)
        own = FileEntry.of(encoded)
        near = self.objects.near({_name(version, name): entry for name, entry in {**files, MANIFEST: own}.items()})
        problems = _problems(near, version, files)
        if problems:
            raise IntegrityError(
                f"version {version} in {near.root} cannot be used: {'; '.join(problems)}; "
                "roll back to another version (saec versions)"
            )
        return near.root / "versions" / version

    def verify(self, version: str) -> list[str]:
        """What is wrong with a version's stored bytes; empty when nothing is."""
        try:
            return _problems(self.objects, version, manifests.entries(self.manifest(version)))
        except StoreError as error:
            return [str(error)]

    def remove(self, version: str) -> None:
        """Remove a version: its manifest first, so that nobody ever sees a part of it."""
        manifests.version_hour(version)
        self.objects.delete(_name(version, MANIFEST))
        reached("version.manifest-removed")
        for name in self.objects.list(f"versions/{version}"):
            self.objects.delete(name)

    def remove_orphans(self) -> int:
        """Remove what killed runs left: staging folders nobody holds, versions without a manifest, empty folders.

        Call it with the ledger's lease: an unfinished version must not be one that a live run is writing.

        Returns:
            How many folders and unfinished versions were removed.
        """
        unfinished = [version for version, names in self._folders().items() if MANIFEST not in names]
        for version in unfinished:
            self.remove(version)
        return self.objects.sweep() + len(unfinished)

    def _folders(self) -> dict[str, set[str]]:
        """The names in each folder under `versions/` that is named like a version, in order."""
        folders: dict[str, set[str]] = {}
        for name in self.objects.list("versions"):
            _, version, *rest = name.split("/", 2)
            if rest and (version in folders or _is_version(version)):
                folders.setdefault(version, set()).add(rest[0])
        return dict(sorted(folders.items()))


def _describe(staged: Path) -> dict[str, FileEntry]:
    """Digest and size of every file of a staged folder, in order of names."""
    paths = sorted(staged.iterdir())
    bad = [path.name for path in paths if path.is_symlink() or not path.is_file()]
    bad += manifests.bad_file_names(path.name for path in paths)
    if bad or not paths:
        found = f"holds {', '.join(map(repr, bad))}" if bad else "is empty"
        raise StoreError(
            f"staged folder {staged} {found}; wanted plain files named by letters, digits and _ . - "
            "(manifest.json is the store's own)",
            reason="staged",
        )
    return {path.name: FileEntry(sha256_file(path), path.stat().st_size) for path in paths}


def _problems(objects: Objects, version: str, files: Mapping[str, FileEntry]) -> list[str]:
    """Differences between the stored files of a version and its manifest."""
    prefix = _name(version, "")
    found = {name.removeprefix(prefix) for name in objects.list(f"versions/{version}")}
    problems = [f"{name} is not in the manifest" for name in sorted(found - files.keys() - {MANIFEST})]
    for name, wanted in files.items():
        try:
            stored = objects.entry(prefix + name)
        except FileNotFoundError:
            problems.append(f"{name} is missing")
        except SaecError as error:
            problems.append(str(error))
        else:
            if stored != wanted:
                problems.append(f"{name} was altered: {wanted.unlike(stored)}")
    return problems


def _name(version: str, file: str) -> str:
    """The object that holds a file of a version."""
    return f"versions/{version}/{file}"


def _is_version(text: str) -> bool:
    """Whether a folder is named like a version."""
    try:
        manifests.version_hour(text)
    except SaecError:
        return False
    return True
