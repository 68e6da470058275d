"""Detects what a pipeline has lost: its source, its store, the live version in the store, or its ledger.

Decisions: having no live version is normal before the first publication, and the worst case after it; the ledger tells
the two apart. The check takes two listings and one manifest, not the bytes of a version, because every status request
makes it; `saec verify` compares bytes. The named command works in the current state: a rollback only goes to a version
that was just found complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saec.config import Config
from saec.data.source_problem import source_problem
from saec.errors import SaecError
from saec.ledger import HourRow
from saec.store.manifest import entries
from saec.store.model_store import ModelStore
from saec.store.releases import Release


@dataclass(frozen=True)
class Lost:
    """Something that must be there and is not."""

    message: str
    """What was found, and what was wanted."""
    command: str
    """What to type first, without `saec` in front."""


@dataclass(frozen=True)
class Shelf:
    """What the store says of what is live."""

    live: Release | None
    """The last release; None before the first, and where the store does not say."""
    made_live: Release | None
    """The release by which the live version became live."""
    lost: Lost | None
    """What is missing; None when the store holds what is live, or nothing was ever published."""


def look_into(store: ModelStore, rows: Sequence[HourRow]) -> Shelf:
    """See what is live, and whether it is really there.

    Args:
        store: the model store; one that cannot be read is lost, not an error.
        rows: the ledger, oldest first.
    """
    try:
        live, made_live = store.live(), store.made_live()
        return Shelf(live, made_live, _gone(store, live, rows))
    except (SaecError, OSError) as error:
        return Shelf(None, None, Lost(f"the model store cannot be read: {error}", "verify"))


def look_at_source(config: Config, rows: Sequence[HourRow]) -> Lost | None:
    """See whether hours can come of the source.

    Args:
        config: all settings.
        rows: the ledger, oldest first.
    """
    problem = source_problem(config.data, known=any(row.input_digest for row in rows))
    if problem is None:
        return None
    own = Path(config.data.source).absolute().is_relative_to(config.workspace.absolute())
    return Lost(problem, "simulate" if own and not rows else "run")


def _gone(store: ModelStore, live: Release | None, rows: Sequence[HourRow]) -> Lost | None:
    """What is missing of a store that can be read."""
    published = [row for row in rows if row.state == "PUBLISHED" and row.version]
    if live is None or live.version is None:
        return _no_release(store, published) if published else None
    problem = _incomplete(store, live.version)
    if problem is None:
        return _no_hours(live.version) if not rows else None
    return Lost(f"{live.version} is live, and {problem}", way_back(store, published))


def _no_release(store: ModelStore, published: Sequence[HourRow]) -> Lost:
    """The ledger knows of publications, and the store of none."""
    return Lost(
        f"nothing is live, though {len(published)} hours of the ledger are PUBLISHED, the newest as "
        f"{published[-1].version}: the release log of `store` is gone; mount it, restore it, or publish again",
        way_back(store, published),
    )


def _no_hours(version: str) -> Lost:
    """The store knows of a publication, and the ledger of no hour."""
    return Lost(
        f"{version} is live, and the ledger knows of no hour: restore it, or see that `ledger` and "
        "`workspace` in the settings are right; a run would start again from the oldest hour",
        "verify",
    )


def _incomplete(store: ModelStore, version: str) -> str | None:
    """What a version lacks by the names in the store; None when it has all that its manifest names."""
    there = {name.rpartition("/")[2] for name in store.objects.list(f"versions/{version}")}
    if not there:
        return "the store does not hold it"
    try:
        missing = entries(store.manifest(version)).keys() - there
    except SaecError as error:
        return str(error)
    return f"its {', '.join(sorted(missing))} is missing" if missing else None


def way_back(store: ModelStore, published: Sequence[HourRow]) -> str:
    """The command that gets something live again: back to the newest version that is whole, else its hour again."""
    whole = next((name for name in reversed(store.versions()) if not store.verify(name)), None)
    if whole:
        return f'rollback {whole} --reason "..."'
    return f"run --hour {published[-1].hour} --replace" if published else "run"
