"""Named blobs: the small interface that the model store needs, and its local implementation, files in a folder.

Decisions: a name is a relative path of plain parts, checked by the callers' patterns. Every write is complete and
durable on return. Writers coordinate only through create-if-absent, because local folders and S3 both have it.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from saec.durable import FILE_MODE, create_exclusively, make_folder, storage_errors, sync_file, sync_folder
from saec.errors import IntegrityError
from saec.failpoints import reached
from saec.store.staging import remove_orphan_folders, staging_folder

Buffer = bytes | mmap.mmap
"""A file's bytes, read or mapped."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a manifest says of a file."""

    sha256: str
    """Of the file's bytes, in hex."""
    bytes: int
    """Size of the file."""

    @classmethod
    def of(cls, data: Buffer) -> FileEntry:
        """The entry of a file with these bytes."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))

    def unlike(self, found: FileEntry) -> str:
        """How a file differs from what is wanted, in words."""
        return f"wanted {self.bytes} bytes of sha256 {self.sha256[:12]}…, found {found.bytes} of {found.sha256[:12]}…"


class Objects(Protocol):
    """Named blobs; every name is a relative path such as `releases/00000001.json`."""

    @property
    def scratch(self) -> Path:
        """Local folder for work in progress, on the store's own file system where it has one."""

    def put(self, name: str, source: Path) -> None:
        """Store a file under a name, replacing an existing blob atomically; may move `source`."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Store `data` unless the name is taken; returns whether the name now holds `data`."""

    def settle(self, name: str) -> None:
        """Make an existing blob durable: its writer may have died before it was."""

    def get(self, name: str, limit: int) -> bytes:
        """The whole blob; FileNotFoundError when absent, IntegrityError when longer than `limit` bytes."""

    def entry(self, name: str) -> FileEntry:
        """Digest and size of the stored bytes, read now; FileNotFoundError when absent."""

    def list(self, prefix: str) -> list[str]:
        """All names under a folder's name, at any depth, sorted."""

    def delete(self, name: str) -> None:
        """Remove a blob; nothing happens when it is absent."""

    def sweep(self) -> int:
        """Remove what killed writers left beside the blobs; returns how much. Nobody else may be writing."""

    def move(self, name: str, to: str) -> None:
        """Give a blob another name, which is free."""

    def near(self, files: Mapping[str, FileEntry]) -> LocalObjects:
        """Local objects among which these files are (downloaded first where the store is remote)."""


@dataclass(frozen=True)
class LocalObjects:
    """Objects that are files under a local folder; symbolic links below it are never followed."""

    root: Path
    """Folder that holds everything; created by the first write."""

    @property
    def scratch(self) -> Path:
        """Staging lives inside the store, so that a rename out of it is atomic."""
        return self.root / ".staging"

    def put(self, name: str, source: Path) -> None:
        """Move a file to its name, durably and readable by every user (libraries write models with mode 0600)."""
        with storage_errors(f"write {name}"):
            path = self._writable(name)
            source.chmod(FILE_MODE)
            sync_file(source)
            reached("store.file-synced")
            source.replace(path)
            reached("store.file-renamed")
            sync_folder(path.parent)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Create a file holding `data`, unless there is one."""
        with storage_errors(f"write {name}"):
            path = self._writable(name)
            with staging_folder(self.scratch) as scratch:
                try:
                    create_exclusively(path, data, scratch=scratch)
                except FileExistsError:
                    self.settle(name)
                    with self._reading(name) as file:
                        return bool(file.read(len(data) + 1) == data)
            return True

    def settle(self, name: str) -> None:
        """Make the name durable; the file's contents were durable before it."""
        with storage_errors(f"sync {name}"):
            sync_folder(self._writable(name).parent)

    def get(self, name: str, limit: int) -> bytes:
        """Read a file of at most `limit` bytes."""
        with self._reading(name) as file:
            data = file.read(limit + 1)
        check_size(name, len(data), limit)
        return data

    def entry(self, name: str) -> FileEntry:
        """Hash a file."""
        with self._reading(name) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return FileEntry(digest, file.tell())

    def list(self, prefix: str) -> list[str]:
        """Files under a folder; a link counts as one name, whatever it points at."""
        names: list[str] = []
        with storage_errors(f"list {prefix}"):
            for folder, folders, files in os.walk(self.root / prefix, onerror=_raise_unless_absent):
                links = [child for child in folders if Path(folder, child).is_symlink()]
                within = Path(folder).relative_to(self.root).as_posix()  # once: a log of years has many records
                names += [f"{within}/{child}".removeprefix("./") for child in (*files, *links)]
        return sorted(names)

    def delete(self, name: str) -> None:
        """Remove a file, and its folder when that was the last one, durably."""
        with storage_errors(f"remove {name}"):
            folder = self._path(name).parent
            with contextlib.suppress(FileNotFoundError):
                (folder / Path(name).name).unlink()
                reached("store.file-removed")
                sync_folder(folder)
            with contextlib.suppress(OSError):  # not empty yet
                folder.rmdir()

    def sweep(self) -> int:
        """Remove staging folders that nobody holds, and folders whose last file was being removed."""
        removed = remove_orphan_folders(self.scratch)
        for folder in self.root.glob("versions/*/"):
            with contextlib.suppress(OSError):  # not empty, or a link
                folder.rmdir()
                removed += 1
        return removed

    def move(self, name: str, to: str) -> None:
        """Rename a file, durably; its folder goes when it was the last one there."""
        with storage_errors(f"move {name} to {to}"):
            source, target = self._path(name), self._writable(to)
            source.replace(target)
            sync_folder(target.parent)
            sync_folder(source.parent)
            with contextlib.suppress(OSError):  # not empty yet
                source.parent.rmdir()

    def near(self, files: Mapping[str, FileEntry]) -> LocalObjects:  # noqa: ARG002
        """These objects: they are local already."""
        return self

    def _path(self, name: str) -> Path:
        """Where a name lives; refuses to walk through a symbolic link below the root."""
        path = self.root / name
        for parent in Path(name).parents:
            if (self.root / parent).is_symlink() and parent != Path():
                raise IntegrityError(f"{self.root / parent} is a symbolic link; a store holds plain folders only")
        return path

    def _writable(self, name: str) -> Path:
        """Where a name lives, with its folder made and durable.

        The folders are synced even when they are there: a killed run may have made them and not come to that.
        """
        path = self._path(name)
        make_folder(path.parent)
        for parent in Path(name).parent.parents:
            sync_folder(self.root / parent)
        return path

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[BufferedReader]:
        """A plain file, open for reading; links, devices and pipes are refused."""
        path = self._path(name)
        with storage_errors(f"read {name}", absent_passes=True):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise IntegrityError(f"{path} is not a plain file; a store holds no links, pipes or devices")
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
                yield file


def _raise_unless_absent(error: OSError) -> None:
    """A folder that cannot be listed is an error, one that is not there is empty."""
    if not isinstance(error, FileNotFoundError):
        raise error


def check_size(name: str, size: int, limit: int) -> None:
    """Refuse a blob that is larger than it may be, so that nothing large is parsed."""
    if size > limit:
        raise IntegrityError(f"{name} is longer than the {limit} bytes it may have")
