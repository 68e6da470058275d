"""Checks before training whether the disk has room for an hour.

Decisions: an hour writes its candidate, the staged version and the committed one, each about as large as the last
version, and at most one more whole checkpoint of the original. The other files of an hour's folder are small in
comparison, or as large as the rows just ingested, which had room. Refusing early leaves the disk as it is; failing late
would fill it for everybody.
"""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING

from saec.errors import StoreError
from saec.store.manifest import entries

if TYPE_CHECKING:
    from pathlib import Path

    from saec.hours import Hour
    from saec.workspace import Workspace

VERSIONS = 3
"""How many times the last version's bytes must be free where versions are staged."""
CHECKPOINTS = 1
"""How many times the largest checkpoint's bytes must be free where checkpoints are."""


def require_space(workspace: Workspace, hour: Hour, champion: str | None) -> None:
    """Refuse an hour that does not fit on the disk.

    Args:
        workspace: of the pipeline.
        hour: which hour, for the message.
        champion: the last version, None when there is none.

    Raises:
        StoreError: reason "disk-full", with the bytes wanted and free.
    """
    needs: Counter[Path] = Counter()
    store = workspace.store()
    if champion is not None:
        files = entries(store.manifest(champion)).values()
        needs[_there(store.objects.scratch)] += VERSIONS * sum(file.bytes for file in files)
    needs[_there(workspace.checkpoints.folder)] += CHECKPOINTS * workspace.checkpoints.largest()
    wanted: Counter[int] = Counter()
    for folder, need in needs.items():
        device = folder.stat().st_dev
        wanted[device] += need
        if (free := free_bytes(folder)) < wanted[device]:
            raise StoreError(
                f"hour {hour} is not begun: {free:,} bytes are free at {folder}, and it may need {wanted[device]:,} "
                "(three times the last version, and a checkpoint); make room, or lower retention, then saec "
                f"run --hour {hour}",
                reason="disk-full",
            )


def free_bytes(folder: Path) -> int:
    """Bytes free where a folder is, or will be."""
    return shutil.disk_usage(_there(folder)).free


def _there(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return folder if folder.exists() or folder == folder.parent else _there(folder.parent)
