"""Calls of the operating system that fail when they are told to."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from tests.store.power_loss import Killed

CALLS = (
    (os, "open"),
    (os, "mkdir"),
    (os, "write"),
    (os, "fchmod"),
    (os, "chmod"),
    (os, "fsync"),
    (os, "replace"),
    (os, "link"),
    (os, "unlink"),
    (os, "rmdir"),
    (io, "open"),
)
"""What changes a file system, where pathlib and shutil call it."""
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EXDEV)


class Fault:
    """Makes the call with number `at`, of all calls that change the file system, fail; a kill fails all later ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, error: Any) -> None:
        self.at, self.error, self.trace = at, error, []
        for module, name in CALLS:
            monkeypatch.setattr(module, name, self._wrap(name, getattr(module, name)))

    def _wrap(self, name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            synced = [Path(f"/proc/self/fd/{args[0]}").readlink()] if name == "fsync" else args
            self.trace.append((name, *(str(arg) for arg in synced if not isinstance(arg, int | memoryview))))
            if len(self.trace) == self.at or (self.error is Killed and len(self.trace) > self.at):
                raise Killed if self.error is Killed else OSError(self.error, os.strerror(self.error), str(args[0]))
            return real(*args, **kwargs)

        return call
