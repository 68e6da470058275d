"""Takes the ledger's lease, waits for it, renews it from a thread and gives it back.

Decisions: a run that dies is replaced within `LEASE_SECONDS`, or at once if it died on this machine, because the kernel
frees the lock on the workspace's file that every run here has. A run that was only taken for dead can neither write the
ledger nor publish, because its successor raises the fencing number of both.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from saec.durable import REASONS
from saec.errors import IntegrityError, LeaseLost, LedgerError, SaecError, StoreError
from saec.failpoints import reached

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

    from saec.ledger import Lease, Ledger
    from saec.store.model_store import ModelStore

LEASE_SECONDS = 120.0
ASK_SECONDS = 1.0
"""Seconds between attempts of a run that waits for the lease."""
LOCK_SECONDS, LOCK_ASK_SECONDS = 5.0, 0.05
"""Seconds to wait for the lock while the lease is free, and seconds between two attempts to get it."""
LOCK = "run.lock"
log = logging.getLogger(__name__)


@contextmanager
def held(ledger: Ledger, store: ModelStore, workspace: Path, actor: str, patience: float) -> Iterator[Lease]:
    """Hold the lease, renewed until the end.

    Args:
        ledger: whose lease.
        store: a run that may still be alive is shut out of it, and what dead runs left in it is removed.
        workspace: folder of the lock by which runs on this machine know whether another one is alive.
        actor: who asks, for messages.
        patience: seconds to wait while another run has the lease; that run is told to give it up.

    Raises:
        LedgerError: reason "busy", when another run holds it still.
        StoreError: when the workspace cannot be written.
    """
    with _lock_file(workspace) as lock:
        lease = _acquire(ledger, lock, actor, patience, above=_last_fence(store))
        reached("lease.taken")
        done = threading.Event()
        heart = threading.Thread(target=_renew, args=(ledger, lease, done), name="saec lease", daemon=True)
        heart.start()
        try:
            if lease.taken_over:
                why = "took over from a run that did not give its lease back"
                store.fence(actor=lease.owner, reason=why, fence=lease.fence)
                reached("lease.fenced")
            store.remove_orphans()
            reached("lease.orphans-removed")
            yield lease
        finally:
            done.set()
            heart.join()
            reached("lease.to-be-given-back")
            _give_back(ledger, lease)
            reached("lease.given-back")


def _lock_file(workspace: Path) -> FileIO:
    """The file that every run here locks, opened.

    Raises:
        StoreError: reason "permission" or another of the disk's, when the workspace cannot be written.
    """
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        return (workspace / LOCK).open("ab", buffering=0)
    except OSError as error:
        raise StoreError(
            f"the workspace {workspace} cannot be written ({error.strerror}), so nothing was done: "
            "give this user write permission, mount it for writing, or name another workspace in the settings",
            reason=REASONS.get(error.errno or 0, "io"),
        ) from None


def at_work(ledger: Ledger, workspace: Path) -> Lease | None:
    """The lease of the run at work; None if no run is at work, or if the holder is known to have died."""
    holder = ledger.holder()
    if holder is None or not is_here(holder) or not (workspace / LOCK).exists():
        return holder
    with (workspace / LOCK).open("rb", buffering=0) as lock:
        return None if _locked(lock) else holder


def is_here(holder: Lease) -> bool:
    """Whether a run is on this machine."""
    return f" on {socket.gethostname()}, process " in holder.owner


def _acquire(ledger: Ledger, lock: FileIO, actor: str, patience: float, above: int) -> Lease:
    """Take the lease, or wait for it."""
    deadline = time.monotonic() + patience
    owner = f"{actor} on {socket.gethostname()}, process {os.getpid()}"
    while True:
        alone, holder = _alone(ledger, lock)
        try:
            if holder and not alone:
                raise holder.in_use()
            dead = holder.fence if holder and is_here(holder) else None
            return ledger.acquire(owner, LEASE_SECONDS, dead=dead, above=above)
        except LedgerError as error:
            if error.reason != "busy" or time.monotonic() >= deadline:
                raise
        ledger.want(2 * ASK_SECONDS)
        time.sleep(ASK_SECONDS)


def _alone(ledger: Ledger, lock: FileIO) -> tuple[bool, Lease | None]:
    """Whether this run has the lock, and who has the lease.

    Nobody takes a free lease without having the lock, because the next run that got the lock would think the holder of
    the lease dead. While the lease is free, another run has the lock only for the moment in which it begins or ends; if
    it has it for longer, that run hangs.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        alone, holder = _locked(lock), ledger.holder()
        if alone or holder or time.monotonic() >= deadline:
            return alone, holder
        time.sleep(LOCK_ASK_SECONDS)


def _last_fence(store: ModelStore) -> int:
    """Fencing number of the last release; a ledger that was restored from a copy may not know it.

    A damaged release log is reported by the hour that needs it.
    """
    try:
        last = store.live()
    except IntegrityError:
        return 0
    return last.fence if last else 0


def _locked(lock: FileIO) -> bool:
    """Whether this process is the only one here that runs hours; the lock stays until the file is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _renew(ledger: Ledger, lease: Lease, done: threading.Event) -> None:
    """Renew the lease until done; a lease that is lost stays lost, and the next write says so."""
    while not done.wait(LEASE_SECONDS / 4):
        try:
            ledger.renew(lease, LEASE_SECONDS)
            reached("lease.renewed")
        except SaecError as error:
            log.warning("lease of %s not renewed: %s", lease.owner, error)


def _give_back(ledger: Ledger, lease: Lease) -> None:
    try:
        ledger.release(lease)
    except LeaseLost:
        log.warning("%s was replaced by a newer run", lease.owner)
