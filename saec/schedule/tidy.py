"""Removes what is too old to be needed: after each hour as configured, or on request when the disk is full.

Decisions: both follow the same rule, so that a person removes what an hour would have removed. The live version, the
one before it and the newest training state always stay. Files that `saec repair` set aside are left to a person.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from saec.failpoints import reached

if TYPE_CHECKING:
    from saec.ledger import HourRow, Ledger
    from saec.workspace import Workspace


def retain(workspace: Workspace, ledger: Ledger, kept: int) -> list[HourRow]:
    """Remove old versions, checkpoints and hour folders; the caller must hold the lease.

    Args:
        workspace: of the pipeline.
        ledger: what was done.
        kept: latest hours whose training state and versions are kept.

    Returns:
        The hours whose training state is kept, oldest first.

    Raises:
        StoreError: when the store does not answer.
        OSError: when the disk does not.
    """
    standing, aside = ledger.trained(kept), ledger.backfills.aside()
    names = [name for row in (*standing, *aside[-kept:]) for name in row.learnt or ()]
    workspace.store().retain(kept, {row.version for row in aside if row.version})
    reached("retention.versions-removed")
    workspace.checkpoints.retain(names)
    reached("retention.checkpoints-removed")
    workspace.retain({row.hour for row in standing})
    return standing


def used(workspace: Workspace) -> Counter[str]:
    """Bytes of everything in the workspace's folder, by the first part of its name."""
    root, sizes = workspace.config.workspace, Counter[str]()
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            sizes[path.relative_to(root).parts[0]] += path.stat().st_size
    return sizes
