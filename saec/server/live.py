"""Holds the live version that the server answers with: one reference, replaced atomically.

Decisions: a request takes the reference once and uses nothing else, so that each answer comes from exactly one version.
A replaced version is freed when the last request that uses it ends, by Python's reference counting.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from saec.hours import Hour
from saec.serving import Model
from saec.store.manifest import version_hour
from saec.store.releases import Release


@dataclass(frozen=True)
class Live:
    """A version that answers."""

    model: Model
    release: Release
    """The last record of the release log, which makes it live."""
    since: datetime
    """When this process began to answer from it."""
    from_cache: bool
    """Whether it is the last good version of an earlier process, and the store has not confirmed it yet."""
    openapi: bytes
    """The OpenAPI document for its columns."""

    @property
    def hour(self) -> Hour:
        """The hour whose clicks it was last trained on."""
        return version_hour(self.model.version)

    def described(self) -> dict[str, Any]:
        """The answer of /v1/model, less what is about the store."""
        manifest = self.model.manifest
        return {
            "version": self.model.version,
            "hour": str(self.hour),
            "since": self.since.isoformat(timespec="milliseconds"),
            "from_cache": self.from_cache,
            "release": self.release.model_dump(include={"sequence", "action", "held", "actor", "reason", "at"}),
            "engine": self.model.engine,
            "columns": self.model.columns,
            "metrics": manifest.get("metrics", {}),
            "compression": manifest.get("compression", {}),
        }


@dataclass
class Standing:
    """The server's state: written by the thread that follows the store, read by requests and metrics."""

    live: Live | None = None
    waiting_for: str = "the first look at the store is not over"
    """Why nothing is live, while nothing is."""
    refused: tuple[str, str] | None = None
    """The version that the store has live and this server cannot use, and what is wrong with it."""
    swaps: int = 0
    """Times that one version took the place of another."""
    refusals: int = 0
    """Times that a version could not be used."""
    failed_polls: int = 0
    """Looks at the store that found it unreachable or its log damaged."""
    seen_at: datetime | None = None
    """When the store last answered."""

    def saw_store(self) -> None:
        """Note that the store has just answered."""
        self.seen_at = datetime.now(UTC)
