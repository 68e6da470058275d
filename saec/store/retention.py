"""Decides which versions retention removes: all but the latest few and those in use."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from saec.store.releases import Release


def removable(versions: Sequence[str], keep: int, last: Release | None, protected: AbstractSet[str]) -> list[str]:
    """The versions that retention removes, oldest first.

    Never among them: the `keep` latest; the live version, which is also the one rolled back to and the one held; the
    version live before it, to which a rollback goes; and `protected` ones.

    Args:
        versions: Ids of all versions, oldest first.
        keep: How many of the latest stay in any case.
        last: The last record of the release log.
        protected: Ids that somebody uses (open readers, a comparison under way).
    """
    needed = {last.version, last.previous} if last else set()
    return [version for version in versions[: max(0, len(versions) - keep)] if version not in needed | protected]
