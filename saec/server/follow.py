"""Follows the store: loads a newly released version while the live one answers, checks it, and swaps it in.

Decisions: one thread asks every `poll_seconds` whether there is a newer release record, which takes one small request
(and lists the whole log once a minute, in case a person has removed a record). A version is opened (every byte compared
with its manifest), checked (its recorded rows give the recorded scores) and warmed up with a row; then one assignment
swaps it in. A version that fails is refused: the live one stays, the failure is logged once, and the version is tried
again after growing pauses. An unreachable store changes nothing; at the start the last good version answers until the
store responds.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from saec.errors import SaecError
from saec.server.last_good import LastGood
from saec.server.live import Live, Standing
from saec.server.openapi import document, example_row
from saec.serving import Model
from saec.store.model_store import ModelStore
from saec.store.releases import Release

log = logging.getLogger(__name__)

FULL_LOOK_SECONDS = 60.0
"""How often the whole release log is listed."""
LONGEST_PAUSE = 60.0
"""Most seconds until a refused version is tried again."""


@dataclass
class _Refused:
    """A version that could not be used, and when it is tried again."""

    version: str
    pause: float
    due: float


class Follower:
    """Keeps `standing` up to date with the store; use it as a context manager."""

    def __init__(
        self,
        store: ModelStore,
        standing: Standing,
        *,
        poll_seconds: float,
        last_good: LastGood | None = None,
        max_rows: int = 10_000,
        row_ids: tuple[str, ...] = (),
        open_model: Callable[[Path], Model] | None = None,
    ) -> None:
        """A follower at rest.

        Args:
            store: what is followed.
            standing: where versions are swapped in.
            poll_seconds: seconds between two looks.
            last_good: where the last good version is kept, None for nowhere.
            max_rows: most rows of a request, for the OpenAPI document.
            row_ids: columns that identify rows, for the same.
            open_model: opens the verified folder of a version; `Model.open` when left out.
        """
        self._store, self._standing, self._last_good = store, standing, last_good
        self._poll_seconds, self._max_rows, self._row_ids = poll_seconds, max_rows, row_ids
        self._open = open_model or (lambda folder: Model.open(folder, verify=False))
        self._known: Release | None = None
        self._listed_at = float("-inf")
        self._unreachable = False
        self._refused: _Refused | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow-store", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=2.0)  # a store that does not answer is not waited for

    def recall(self) -> None:
        """Answer from the last good version, until the store has been asked."""
        try:
            with self._alone():
                kept = self._last_good.last() if self._last_good else None
                if kept:
                    self._swap_in(self._proved(*kept, from_cache=True))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the copy, the store has the version
            log.warning("the last good version cannot be used: %s", _said(error))

    def look(self) -> None:
        """Ask the store once, and do as it says; never raises."""
        try:
            release = self._ask()
        except Exception as error:  # noqa: BLE001 - the thread has to outlive whatever a store does
            self._miss(error)
            return
        if self._unreachable:
            log.info("the store answers again")
        self._unreachable, self._known = False, release
        self._standing.saw_store()
        if release is None or release.version is None:
            self._standing.waiting_for = "the store has no live version yet"
        else:
            self._follow(release, release.version)

    def _run(self) -> None:
        self.recall()
        while True:
            self.look()
            if self._stop.wait(self._poll_seconds):
                return

    def _ask(self) -> Release | None:
        """The last record of the release log."""
        listing = time.monotonic() - self._listed_at >= FULL_LOOK_SECONDS
        release = self._store.live_after(None if listing else self._known)
        if listing:
            self._listed_at = time.monotonic()
        return release

    def _follow(self, release: Release, version: str) -> None:
        """Make the release's version answer."""
        live = self._standing.live
        if live and live.model.version == version:
            self._standing.refused = self._refused = None
            if live.from_cache or live.release != release:
                self._standing.live = replace(live, release=release, from_cache=False)
        elif self._refused is None or self._refused.version != version or time.monotonic() >= self._refused.due:
            with self._alone():
                self._load(release, version)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Lock out loading and keeping by other workers."""
        return self._last_good.alone() if self._last_good else contextlib.nullcontext()

    def _load(self, release: Release, version: str) -> None:
        """Load a version and swap it in, or refuse it."""
        started = time.perf_counter()
        try:
            folder = self._store.open(version)
            proved = self._proved(folder, release, from_cache=False)
        except Exception as error:  # noqa: BLE001 - a version may be damaged in any way; the live one goes on answering
            self._refuse(version, error)
            return
        self._swap_in(proved)
        self._standing.refused = self._refused = None
        log.info(
            "version %s answers, loaded in %.3f s, scored by %s (%s by %s: %s)",
            version,
            time.perf_counter() - started,
            proved.model.engine,
            release.action,
            release.actor,
            release.reason,
        )
        self._keep(folder, release)

    def _proved(self, folder: Path, release: Release, *, from_cache: bool) -> Live:
        """A version opened, checked on its recorded rows, and warmed."""
        model = self._open(folder)
        model.check()
        model.score([example_row(model)])
        openapi = document(model, self._max_rows, self._row_ids)
        return Live(model, release, datetime.now(UTC), from_cache, openapi)

    def _swap_in(self, proved: Live) -> None:
        """The assignment that makes a version answer."""
        before, self._standing.live = self._standing.live, proved
        self._standing.swaps += before is not None

    def _refuse(self, version: str, error: Exception) -> None:
        """Stay with what is live, and try again later."""
        again = self._refused if self._refused and self._refused.version == version else None
        pause = min(2 * again.pause, LONGEST_PAUSE) if again else 1.0
        self._refused = _Refused(version, pause, time.monotonic() + pause)
        self._standing.refused = version, _said(error)
        self._standing.refusals += 1
        self._standing.waiting_for = "the live version of the store cannot be used; the log says why"
        if not again:
            log.error(
                "version %s is refused, %s: %s",
                version,
                "the one before goes on answering" if self._standing.live else "and there is no other",
                _said(error),
            )

    def _miss(self, error: Exception) -> None:
        """Note that the store did not respond."""
        if not self._unreachable:
            log.warning("the store cannot be asked what is live; going on as before: %s", _said(error))
        self._unreachable = True
        self._standing.failed_polls += 1
        self._standing.waiting_for = "the store cannot be asked what is live; the log says why"

    def _keep(self, folder: Path, release: Release) -> None:
        """Keep a version as the last good one; that it cannot be kept is no reason not to answer from it."""
        try:
            if self._last_good:
                self._last_good.keep(folder, release)
        except (SaecError, OSError) as error:
            log.warning("the last good version is not kept, a restart will need the store: %s", _said(error))


def _said(error: Exception) -> str:
    """An error in one line."""
    return str(error) if isinstance(error, SaecError) else f"{type(error).__name__}: {error}"
