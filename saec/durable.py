"""Writes files that survive a crash: each write is complete or absent, and on disk before the call returns.

Decisions: data goes to a temporary name on the same file system, is fsynced, then takes its final name in one step
(rename or hard link), then the folder is fsynced. Without the first fsync a power loss can leave the final name with
empty data; without the second the name can vanish again. No file is rewritten in place, so a reader that has the old
file open or mapped keeps the old bytes. After a failed fsync the file is abandoned: the kernel may already have dropped
the data, so trying again proves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from saec.errors import StoreError
from saec.failpoints import reached

FILE_MODE = 0o644
FOLDER_MODE = 0o755
_PART = 1 << 16
"""Maximum number of bytes per call of write."""
REASONS = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.EROFS: "permission",
    errno.EIO: "io",
    errno.EXDEV: "other-file-system",
    errno.ENOMEM: "oom",
}
"""Reason in the ledger for each error of the operating system."""


def write_file(path: Path, data: bytes, mode: int = FILE_MODE) -> None:
    """Write `data` to `path`, replacing an existing file; readers see the old bytes or the new ones, complete.

    Raises:
        OSError: with the old file untouched, except that after a failed fsync of the folder the new one may be there.
    """
    with _temporary(path, [data], mode, path.parent) as temporary:
        temporary.replace(path)
        reached("durable.replaced")
        sync_folder(path.parent)


class Hash(Protocol):
    """A hash function that takes bytes part by part."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Take some more bytes."""

    def hexdigest(self) -> str:
        """The hash of all bytes so far, in hex."""


def write_parts(
    path: Path, parts: Iterable[bytes | memoryview], named: Callable[[str], Path], digest: Hash | None = None
) -> Path:
    """Write a file part by part, without holding it in memory, and name it after the hash of its bytes.

    Args:
        path: the file's name while it is written; errors name it.
        parts: its bytes.
        named: returns the final path, in the same folder, from the hash in hex.
        digest: the hash function; sha256 by default.

    Returns:
        The final path.

    Raises:
        OSError: as for `write_file`.
    """
    digest = hashlib.sha256() if digest is None else digest

    def hashed() -> Iterator[bytes | memoryview]:
        for part in parts:
            digest.update(part)
            yield part

    with _temporary(path, hashed(), FILE_MODE, path.parent) as temporary:
        final = named(digest.hexdigest())
        temporary.replace(final)
        reached("durable.replaced")
        sync_folder(path.parent)
    return final


def create_exclusively(path: Path, data: bytes, mode: int = FILE_MODE, scratch: Path | None = None) -> None:
    """Create `path` holding `data`; of any number of writers, processes or threads, exactly one succeeds.

    Args:
        path: Final name; its folder must exist.
        data: The whole content.
        mode: Permissions of the file, whatever the umask.
        scratch: Folder of the same file system for the temporary file; the folder of `path` when left out.

    Raises:
        FileExistsError: when there is such a file already; it is untouched.
        OSError: with no file at `path`.
    """
    with _temporary(path, [data], mode, scratch or path.parent) as temporary:
        path.hardlink_to(temporary)
        reached("durable.linked")
        try:
            sync_folder(path.parent)
        except OSError:
            path.unlink()  # the name may not survive a power loss, so nobody may rely on it
            raise


@contextlib.contextmanager
def _temporary(path: Path, parts: Iterable[bytes | memoryview], mode: int, folder: Path) -> Iterator[Path]:
    """A fsynced file holding all parts beside its destination, gone on exit unless it was renamed."""
    temporary = folder / f".{path.name}.{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            reached("durable.created")
            for part in parts:
                remaining = memoryview(part)
                while remaining:
                    remaining = remaining[os.write(descriptor, remaining[:_PART]) :]
                    reached("durable.part-written")
            os.fchmod(descriptor, mode)
            reached("durable.written")
            os.fsync(descriptor)
            reached("durable.synced")
        except OSError as error:
            error.filename = str(path)  # a write's own error names no file
            raise
        finally:
            os.close(descriptor)
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # the file is written, even if the temporary name cannot be removed
            temporary.unlink()


def remove_temporaries(folder: Path) -> int:
    """Remove what killed writers left in a folder, when nobody writes there; returns how many files."""
    left = [*folder.glob(".*.tmp")]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def sync_file(path: Path) -> None:
    """Write a file's data and permissions to disk (fsync)."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Write a folder's names (creations, renames, removals) to disk (fsync)."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)
    reached("durable.folder-synced")


def _sync(path: Path, flags: int) -> None:
    """Fsync whatever `path` names."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, readable by other users whatever the umask, each durably."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        reached("durable.folder-made")
        path.chmod(FOLDER_MODE)
    sync_folder(path.parent)


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def storage_errors(doing: str, *, absent_passes: bool = False) -> Iterator[None]:
    """Turn an operating system's error into a StoreError that says what failed, where and why.

    Args:
        doing: What was being done, as in "write versions/x/codes.bin".
        absent_passes: Whether FileNotFoundError is passed on, because the caller handles it.

    Raises:
        StoreError: of reason disk-full, permission, io, other-file-system or store.
    """
    try:
        yield
    except OSError as error:
        if absent_passes and isinstance(error, FileNotFoundError):
            raise
        where = f" at {error.filename}" if error.filename else ""
        raise StoreError(
            f"cannot {doing}: {error.strerror or error}{where}", reason=REASONS.get(error.errno or 0, "store")
        ) from error
