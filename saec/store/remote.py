"""Named blobs in S3 or any other object store with create-if-absent, with a cache of files on the local disk.

Decisions: obstore retries transient failures, with jitter and within a minute. Reading back distinguishes a lost answer
to a create from a lost race. Cached files are compared with their sha256 each time a version is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from saec.durable import storage_errors
from saec.errors import StoreError
from saec.store.objects import FileEntry, LocalObjects, check_size
from saec.store.staging import remove_orphan_folders, staging_folder

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

RETRY: RetryConfig = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
"""A request that fails is made again so often, and in this time at most."""
_CREATE_TRIES = 3


class RemoteObjects:
    """Objects in S3 or another store with create-if-absent, through obstore, which retries what may be retried."""

    def __init__(self, url: str, cache: Path) -> None:
        """Take the store's address from `url`, its credentials from the environment (AWS_…, GOOGLE_…)."""
        self._url = _without_secrets(url)
        self._cache = LocalObjects(cache)
        try:
            self._store: ObjectStore = from_url(url, retry_config=RETRY)
        except (BaseError, ValueError) as error:
            raise StoreError(
                f"cannot open the model store {self._url}: {type(error).__name__}; wanted a folder or a "
                "URL such as s3://bucket/prefix",
                reason="store-url",
            ) from None

    @property
    def scratch(self) -> Path:
        """Staging lives in the cache."""
        return self._cache.scratch

    def put(self, name: str, source: Path) -> None:
        """Upload a file; the name appears when all of it is there."""
        with self._errors(f"write {name}"):
            obstore.put(self._store, name, source)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Upload `data` unless the name is taken.

        When the answer to a successful upload is lost, its retry finds the name taken, by ourselves; only reading
        back tells. A name that was taken and is not there (S3's 409: two at once) is tried again.
        """
        for _ in range(_CREATE_TRIES):
            with self._errors(f"write {name}"):
                try:
                    obstore.put(self._store, name, data, mode="create")
                except AlreadyExistsError:
                    with contextlib.suppress(FileNotFoundError):
                        return self._read(name) == data
                else:
                    return True
        return False

    def settle(self, name: str) -> None:
        """Do nothing: an object store shows only what it has stored."""

    def get(self, name: str, limit: int) -> bytes:
        """Download a blob of at most `limit` bytes."""
        with self._errors(f"read {name}", absent=True):
            size = obstore.head(self._store, name)["size"]
            check_size(name, size, limit)
            return self._read(name)

    def entry(self, name: str) -> FileEntry:
        """Download and hash a blob, keeping nothing."""
        digest, size = hashlib.sha256(), 0
        with self._errors(f"read {name}", absent=True):
            for chunk in obstore.get(self._store, name).stream():
                digest.update(chunk)
                size += len(chunk)
        return FileEntry(digest.hexdigest(), size)

    def list(self, prefix: str) -> list[str]:
        """All names under a folder's name."""
        with self._errors(f"list {prefix}"):
            return sorted(found["path"] for page in obstore.list(self._store, prefix) for found in page)

    def delete(self, name: str) -> None:
        """Remove a blob."""
        with self._errors(f"remove {name}"), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def move(self, name: str, to: str) -> None:
        """Copy a blob to another name and remove the first."""
        with self._errors(f"move {name} to {to}"):
            obstore.rename(self._store, name, to)

    def sweep(self) -> int:
        """Remove staging folders of the cache that nobody holds; others may be filling the cache."""
        return remove_orphan_folders(self.scratch)

    def near(self, files: Mapping[str, FileEntry]) -> LocalObjects:
        """The cache, after downloading the files that it lacks or holds with other bytes."""
        for name, wanted in files.items():
            with contextlib.suppress(FileNotFoundError):
                if self._cache.entry(name) == wanted:
                    continue
            self._download(name)
        return self._cache

    def _download(self, name: str) -> None:
        """Bring one blob into the cache."""
        with staging_folder(self.scratch) as staging, self._errors(f"read {name}", absent=True):
            target = staging / "download"
            with target.open("wb") as file:
                for chunk in obstore.get(self._store, name).stream():
                    file.write(chunk)
            self._cache.put(name, target)

    def _read(self, name: str) -> bytes:
        return bytes(obstore.get(self._store, name).bytes())

    @contextlib.contextmanager
    def _errors(self, doing: str, *, absent: bool = False) -> Iterator[None]:
        """Turn obstore's errors into StoreError; an absent blob stays FileNotFoundError where the caller asks."""
        try:
            with storage_errors(f"{doing} in {self._url}", absent_passes=absent):
                yield
        except BaseError as error:
            raise StoreError(
                f"cannot {doing} in {self._url}: {type(error).__name__}: {str(error).splitlines()[0][:300]}"
            ) from error


def open_objects(url: str, cache: Path | None = None) -> LocalObjects | RemoteObjects:
    """The objects behind a folder's path or a URL.

    Args:
        url: A path, `file:///path`, or a URL that obstore knows (s3, gs, az).
        cache: Where a remote store's files are kept; by default a folder of this store in the user's cache.
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return LocalObjects(Path(parts.path if parts.scheme else url))
    name = hashlib.sha256(_without_secrets(url).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return RemoteObjects(url, cache or home / "saec" / name)


def _without_secrets(url: str) -> str:
    """The URL without user, password and query, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
