"""Finds inconsistencies between store, release log, ledger and training state, and moves bad files aside.

    missing       something names it, but it does not exist
    altered       its bytes do not match its name
    orphan        no run made it, or the run that did died before it finished
    unreachable   complete, but nothing names it: a run died before the ledger knew it, or a backfill was cancelled

Decisions: the check changes nothing and takes no lease, so the files of a running hour may briefly show as orphans.
Files that are set aside are moved to `set-aside/` within the store and never deleted. The live version and the release
log are left to a person, who must decide what replaces them. Unreachable items are harmless; retention removes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from saec.errors import IntegrityError, StoreError
from saec.schedule.lease import at_work
from saec.store.manifest import MANIFEST

if TYPE_CHECKING:
    from saec.ledger import Ledger
    from saec.store.model_store import ModelStore
    from saec.workspace import Workspace

ASIDE = "set-aside"
_OURS = re.compile(
    rf"versions/\d{{8}}T\d{{2}}-[0-9a-f]{{12}}/[^/]+|releases/\d{{8}}\.json|(\.staging|{ASIDE})/.+", re.ASCII
)


@dataclass(frozen=True)
class Finding:
    """One inconsistency."""

    kind: Literal["missing", "altered", "orphan", "unreachable"]
    what: str
    """Name of a version, release, checkpoint, hour, or file of the store."""
    problem: str


def examine(workspace: Workspace, ledger: Ledger) -> Iterator[Finding]:
    """All inconsistencies, except the bytes of versions, which `ModelStore.verify` compares."""
    store = workspace.store()
    yield from _stray(store)
    for name, problem in store.release_problems().items():
        yield Finding("missing" if name not in store.objects.list("releases") else "altered", name, problem)
    yield from _unnamed(store, ledger)
    yield from _hours(workspace, ledger, store)


def set_aside(store: ModelStore) -> list[str]:
    """Move damaged versions that are not live, and files that are no part of a store, to `set-aside/`; their names.

    Call it with the ledger's lease, so that no files of a running hour are moved.
    """
    live = store.live()
    damaged = [name for name in store.versions() if store.verify(name) and not (live and live.version == name)]
    names = {finding.what for finding in _stray(store) if not finding.what.startswith("versions/")}
    names |= {name for version in damaged for name in store.objects.list(f"versions/{version}")}
    taken = {name.split("/")[1] for name in store.objects.list(ASIDE)}
    number = next(number for number in range(1, len(taken) + 2) if str(number) not in taken)
    # A version's manifest goes first, so that nobody sees a partial version.
    for name in sorted(names, key=lambda name: (not name.endswith(f"/{MANIFEST}"), name)):
        store.objects.move(name, f"{ASIDE}/{number}/{name}")
    return sorted(names)


def _stray(store: ModelStore) -> Iterator[Finding]:
    """Files that do not belong to a store, and versions that were begun and never finished."""
    names = store.objects.list("")
    yield from (Finding("orphan", name, "is no part of a model store") for name in names if not _OURS.fullmatch(name))
    folders = {name.rpartition("/")[0] for name in names if name.startswith("versions/") and _OURS.fullmatch(name)}
    yield from (
        Finding("orphan", folder, f"has no {MANIFEST}: the next run removes what a killed one left")
        for folder in sorted(folders)
        if f"{folder}/{MANIFEST}" not in names
    )


def _unnamed(store: ModelStore, ledger: Ledger) -> Iterator[Finding]:
    """Versions that neither the ledger nor the release log names."""
    named = {row.version for row in (*ledger.rows(), *ledger.backfills.aside())}
    if not store.release_problems():
        named |= {release.version for release in store.releases()}
    yield from (
        Finding("unreachable", version, "is named by no hour of the ledger and no release")
        for version in store.versions()
        if version not in named
    )


def _hours(workspace: Workspace, ledger: Ledger, store: ModelStore) -> Iterator[Finding]:
    """Hours that contradict the ledger: not finished, not released, or without the state that later hours need."""
    rows = ledger.rows()
    running = at_work(ledger, workspace.config.workspace)
    released = {release.version for release in store.releases()} if not store.release_problems() else None
    for row in rows:
        if row.state == "RUNNING" and not running:
            yield Finding("orphan", f"hour {row.hour}", "was begun and not finished; the next run does it again")
        if released is not None and row.state == "PUBLISHED" and row.version not in released:
            yield Finding("missing", f"hour {row.hour}", f"is PUBLISHED, but no release names {row.version}")
    for row in ledger.trained(workspace.config.retention):
        for name in row.learnt or ():
            try:
                workspace.checkpoints.verify(name)
            except IntegrityError as error:
                yield Finding("altered", f"checkpoint {name}", str(error))
            except StoreError as error:
                yield Finding("missing", f"checkpoint {name}", str(error))
