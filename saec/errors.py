"""Defines every error that saec raises on purpose, as one tree.

    SaecError
    ├── ConfigError        a setting is missing, unknown or out of range
    ├── InputError         an hour's partition cannot be used      -> QUARANTINED(reason)
    ├── HourHeld           nothing can or should be learnt yet     -> HELD(reason: empty, label-shift)
    │   └── HourAbsent     the partition is not there (yet)        -> HELD(no-data)
    ├── TrainingError      training or clustering broke            -> FAILED(reason)
    ├── StoreError         a version, release or checkpoint cannot be written or read
    │   ├── IntegrityError bytes on disk differ from the manifest
    │   └── ReleaseConflict another writer took the release number
    └── LedgerError        the ledger cannot be read, or the lease is lost
        └── LeaseLost      a newer run holds the hour's lease (fencing)

A held challenger is a value (`saec.gate.verdict.Verdict`), not an exception. A message names the field, hour or file,
what was wanted, what was found and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SaecError(Exception):
    """Base of all errors that saec raises on purpose.

    `reason` is a short stable slug for the ledger ("truncated", "schema", "diverged"); the message is for people.
    """

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or type(self).default_reason

    default_reason = "error"


class ConfigError(SaecError):
    """A setting is missing, unknown or out of range."""

    default_reason = "config"


class InputError(SaecError):
    """An hour's partition cannot be used; the hour is quarantined."""

    default_reason = "input"


class HourHeld(SaecError):
    """An hour's partition is readable, but nothing is learnt from it (no rows, one class, a shifted click rate)."""

    default_reason = "held"


class HourAbsent(HourHeld):
    """The partition of an hour is not there (yet)."""

    default_reason = "no-data"


class TrainingError(SaecError):
    """Training or clustering produced something that must not be published."""

    default_reason = "diverged"


class StoreError(SaecError):
    """A version, release or checkpoint cannot be written or read."""

    default_reason = "store"


class IntegrityError(StoreError):
    """Bytes on disk are not the bytes the manifest names."""

    default_reason = "integrity"


class ReleaseConflict(StoreError):
    """Another writer created this release number first."""

    default_reason = "conflict"


class LedgerError(SaecError):
    """The ledger cannot be read or written."""

    default_reason = "ledger"


class LeaseLost(LedgerError):
    """A newer run holds this hour's lease; this run may not publish."""

    default_reason = "lease-lost"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint `; did you mean 'x'?` if one of the known names is close, otherwise empty."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def bullets(head: str, points: Iterable[str], tail: str) -> str:
    """A message of several points: one line each, between what they are and what to do.

    >>> print(bullets("two settings are wrong:", ["a is 1", "b is 2"], "Put them right"))
    two settings are wrong:
    - a is 1
    - b is 2
    Put them right
    """
    return "\n".join((head, *(f"- {point}" for point in points), tail))
