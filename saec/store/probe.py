"""Tests the guarantee of a store that everything else depends on: if two writers create a name, one wins.

Decisions: the store itself is tested, because neither its version nor its documentation is reliable: some S3-compatible
stores have ignored If-None-Match, or checked it and let two writers through (docs/standard-installation.md).
"""

from __future__ import annotations

import contextlib
from uuid import uuid4

from saec.errors import StoreError
from saec.store.objects import Objects


def check_creates_once(objects: Objects) -> None:
    """Create a name twice; the second time must be refused. The name is removed again.

    >>> from saec.store.model_store import open_store
    >>> check_creates_once(open_store("workspace/store").objects)

    Raises:
        StoreError: reason "store-overwrites" when the second creation is let through.
    """
    name, kept = f"probes/{uuid4().hex}", b""
    try:
        created = objects.put_if_absent(name, b"first") and not objects.put_if_absent(name, b"second")
        with contextlib.suppress(FileNotFoundError):
            kept = objects.get(name, limit=16)
    finally:
        objects.delete(name)
    if not created or kept != b"first":
        raise StoreError(
            "the model store lets a second writer overwrite what a first one created, so two runs could "
            "publish over each other; use one that refuses PutObject with If-None-Match: *",
            reason="store-overwrites",
        )
