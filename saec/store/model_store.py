"""The model store: versions, the release log, and the rules for what may go live.

Decisions: every change is based on the last release record and takes the next number; if another writer came first, the
change is refused. A rollback also holds publishing, otherwise the next hour's run would undo it. While publishing is
held, and for an hour older than the live one, a version is archived (committed) but not published.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path

from saec.errors import IntegrityError, ReleaseConflict, StoreError
from saec.store.manifest import version_hour
from saec.store.objects import Objects
from saec.store.releases import Release, ReleaseLog, check_fence
from saec.store.remote import open_objects
from saec.store.retention import removable
from saec.store.versions import VersionStore


class ModelStore(VersionStore):
    """Versions and which of them is live.

    >>> store = open_store("workspace/store")
    >>> store.live() is None or store.live().version in store.versions()
    True
    """

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self._log = ReleaseLog(objects)

    def live(self) -> Release | None:
        """The last release: its `version` is live, its `held` says whether publishing is refused; None before it."""
        return self._log.last()

    def live_after(self, known: Release | None) -> Release | None:
        """The same for a caller that knows the last record: one request to the store while nothing new was released."""
        return self._log.after(known)

    def made_live(self) -> Release | None:
        """The release by which the live version became live, which a hold after it does not change."""
        return self._log.newest("publish", "rollback")

    def before_live(self) -> str | None:
        """The version before the live one was published; None when that came by a rollback, or it is not kept."""
        made = self.made_live()
        before = made.previous if made and made.action == "publish" else None
        return before if before in self.versions() else None

    def releases(self) -> list[Release]:
        """Every release, oldest first."""
        return self._log.all()

    def release_problems(self) -> dict[str, str]:
        """What is wrong with the release log, by record."""
        return self._log.problems()

    def publish(self, version: str, *, actor: str, reason: str, fence: int, expected: int | None = None) -> Release:
        """Make a committed version live.

        Publishing the live version again changes nothing, so a run that died after publishing can be repeated.

        Args:
            version: Id from `commit`.
            actor: Who publishes, a person or a run.
            reason: Why.
            fence: Fencing number of the ledger's lease.
            expected: Number of the last release when the decision was taken (0: there was none); None asks for no more
                than that nobody releases during this call.

        Returns:
            The release by which the version is live.

        Raises:
            LeaseLost: when a newer lease released before.
            StoreError: reason "held"; reason "superseded" when the live version is of a later hour.
            IntegrityError: when the version's stored files are not those of its manifest.
            ReleaseConflict: when the last release is not the expected one, or another writer was first.
        """
        last = self.live()
        check_fence(last, fence)
        if last and last.version == version:
            self._log.settle(last)
            return last
        _refuse_held_or_older(last, version)
        if expected is not None and expected != (last.sequence if last else 0):
            raise ReleaseConflict(
                f"publishing {version} was decided on release {expected}, but the last one is "
                f"{last.sequence if last else 0}; compare with the version that is live now"
            )
        self._require_whole(version)
        return self._log.append(
            last,
            action="publish",
            version=version,
            held=False,
            actor=actor,
            reason=reason,
            fence=fence,
            previous=last.version if last else None,
        )

    def rollback(self, version: str, *, actor: str, reason: str, fence: int | None = None) -> Release:
        """Make a kept version live again and hold publishing until `unhold`.

        Args:
            version: Id of a version in the store, verified first.
            actor: Who rolls back.
            reason: Why.
            fence: Fencing number of a lease; None for a person, who needs no lease and acts at once.

        Raises:
            StoreError: reason "no-version".
            IntegrityError: when the version's files are damaged; the live version stays.
            ReleaseConflict: when another writer was first.
        """
        self.manifest(version)
        self._require_whole(version)
        last = self.live()
        previous = last.version if last and last.version != version else (last.previous if last else None)
        return self._log.append(
            last,
            action="rollback",
            version=version,
            held=True,
            actor=actor,
            reason=reason,
            fence=_fence(fence, last),
            previous=previous,
        )

    def hold(self, *, actor: str, reason: str, fence: int | None = None) -> Release:
        """Hold publishing: the live version stays until `unhold`; arguments as for `rollback`."""
        last = self.live()
        return self._log.append(
            last,
            action="hold",
            version=last.version if last else None,
            held=True,
            actor=actor,
            reason=reason,
            fence=_fence(fence, last),
            previous=last.previous if last else None,
        )

    def unhold(self, *, actor: str, reason: str, fence: int | None = None) -> Release:
        """End a hold or a rollback's hold: the next hour may publish again; arguments as for `rollback`.

        Raises:
            StoreError: reason "not-held".
        """
        last = self.live()
        if last is None or not last.held:
            raise StoreError(
                "nothing is held: the next version that passes its gate will be published", reason="not-held"
            )
        return self._log.append(
            last,
            action="unhold",
            version=last.version,
            held=False,
            actor=actor,
            reason=reason,
            fence=_fence(fence, last),
            previous=last.previous,
        )

    def fence(self, *, actor: str, reason: str, fence: int) -> Release:
        """Shut out runs of older leases: from now on only this fencing number or a higher one can release.

        Call it when taking over from a run that may still be alive: its own release then comes too late.
        """
        last = self.live()
        return self._log.append(
            last,
            action="fence",
            version=last.version if last else None,
            held=bool(last and last.held),
            actor=actor,
            reason=reason,
            fence=fence,
            previous=last.previous if last else None,
        )

    def retain(self, keep: int, protected: AbstractSet[str] = frozenset()) -> list[str]:
        """Remove old versions and return their ids, oldest first; see `removable` for what always stays.

        What is live is looked up again before each removal, for a rollback may come in between.
        """
        removed: list[str] = []
        for version in removable(self.versions(), keep, self.live(), protected):
            if removable([version], 0, self.live(), protected):
                self.remove(version)
                removed.append(version)
        return removed

    def _require_whole(self, version: str) -> None:
        """Raise IntegrityError unless the stored bytes of a version are those of its manifest."""
        problems = self.verify(version)
        if problems:
            raise IntegrityError(f"version {version} cannot go live: {'; '.join(problems)}")


def open_store(url: str | Path, cache: Path | None = None) -> ModelStore:
    """Open a model store; nothing is written until the first commit.

    Args:
        url: A local folder, or a URL that obstore knows such as `s3://bucket/prefix`; credentials come from the
            environment.
        cache: Folder for files downloaded from a remote store; by default in the user's cache.
    """
    return ModelStore(open_objects(str(url), cache))


def _refuse_held_or_older(last: Release | None, version: str) -> None:
    """The two rules of publishing that depend on what is live."""
    if last is None:
        return
    if last.held:
        raise StoreError(
            f"{version} is archived, not published: {last.actor} holds {last.version or 'the store'} "
            f"({last.reason}); end that with saec unhold",
            reason="held",
        )
    if last.version and version_hour(version) < version_hour(last.version):
        raise StoreError(
            f"{version} is archived, not published: the live version {last.version} is of a later hour; "
            "to go back on purpose use saec rollback",
            reason="superseded",
        )


def _fence(fence: int | None, last: Release | None) -> int:
    """The fencing number of a change: a person's takes that of the last release."""
    return fence if fence is not None else (last.fence if last else 0)
