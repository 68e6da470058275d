"""The release log: numbered records, each created once and never changed; only the highest number counts.

Decisions: one mechanism, "create the next number if it is absent", provides compare-and-set, history, rollback and
hold. A record carries the state after it (live version, held or not), so a reader needs only the last one. It also
carries the lease's fencing number, which never decreases along the log: a run that lost its lease cannot release
anything. With a random token a writer recognises its own record if the answer to its write was lost.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from saec.errors import IntegrityError, LeaseLost, ReleaseConflict
from saec.failpoints import reached
from saec.store.objects import Objects

_NAME = re.compile(r"releases/(\d{8})\.json", re.ASCII)
_LIMIT = 1 << 16

Action = Literal["publish", "rollback", "hold", "unhold", "fence"]


class Release(BaseModel):
    """One record of the log, and the state of the store after it."""

    model_config = ConfigDict(frozen=True)

    sequence: int = Field(ge=1)
    """Number of the record, from 1."""
    action: Action
    """What was done; "fence" only shuts out a run that was replaced."""
    version: str | None
    """Live version from now on; None when nothing was published yet."""
    held: bool
    """Whether publishing is refused from now on."""
    actor: str
    """Who did it: a person or a run."""
    reason: str
    """Why."""
    at: str
    """When, ISO 8601 in UTC."""
    previous: str | None
    """The version that was live before the present one became it."""
    fence: int = Field(ge=0)
    """Fencing number of the writer's lease."""
    token: str = ""
    """Random text that distinguishes this record from any other."""

    @field_validator("action", mode="before")
    @classmethod
    def _renamed(cls, action: object) -> object:
        """Records written before the command was called `saec unhold` say "release"."""
        return "unhold" if action == "release" else action


class ReleaseLog:
    """The records in a set of objects, `releases/<8 digits>.json`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def last(self) -> Release | None:
        """The record with the highest number, None before the first."""
        sequences = self._sequences()
        return self._read(sequences[-1]) if sequences else None

    def after(self, known: Release | None) -> Release | None:
        """The last record, for a caller that knows one: while none follows it, nothing is listed."""
        if known is not None:
            try:
                self._objects.get(_name(known.sequence + 1), _LIMIT)
            except FileNotFoundError:
                return known
        return self.last()

    def all(self) -> list[Release]:
        """Every record, oldest first."""
        return [self._read(sequence) for sequence in self._sequences()]

    def newest(self, *actions: Action) -> Release | None:
        """The last record of one of these actions, None when there is none."""
        records = (self._read(sequence) for sequence in reversed(self._sequences()))
        return next((record for record in records if record.action in actions), None)

    def problems(self) -> dict[str, str]:
        """What is wrong with the records, by name: one is damaged, or its number is missing."""
        sequences = self._sequences()
        found = {
            _name(number): "is missing, though later ones are there"
            for number in set(range(1, len(sequences) and sequences[-1])) - {*sequences}
        }
        for sequence in sequences:
            try:
                self._read(sequence)
            except IntegrityError as error:
                found[_name(sequence)] = str(error)
        return dict(sorted(found.items()))

    def append(self, after: Release | None, *, fence: int, **state: Any) -> Release:
        """Add the record that follows `after`, if nothing followed it yet.

        Args:
            after: The last record, on which the change was decided.
            fence: Fencing number of the writer's lease.
            **state: The other fields of the record.

        Raises:
            LeaseLost: when a record with a higher fencing number is in the log.
            ReleaseConflict: when another writer followed `after` first.
        """
        check_fence(after, fence)
        release = Release(
            sequence=after.sequence + 1 if after else 1,
            fence=fence,
            token=secrets.token_hex(8),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            **state,
        )
        data = (release.model_dump_json(indent=2) + "\n").encode()
        reached("release.decided")
        if not self._objects.put_if_absent(_name(release.sequence), data):
            raise ReleaseConflict(
                f"{release.action} of {release.version} lost: another writer created release "
                f"{release.sequence} first; look at it with saec versions, then try again"
            )
        reached("release.written")
        return release

    def settle(self, release: Release) -> None:
        """Make a record that was read durable, because its writer may have been killed."""
        self._objects.settle(_name(release.sequence))

    def _sequences(self) -> list[int]:
        """The numbers of all records, ascending."""
        matches = (_NAME.fullmatch(name) for name in self._objects.list("releases"))
        return sorted(int(match.group(1)) for match in matches if match)

    def _read(self, sequence: int) -> Release:
        """One record; a damaged one is an error, never replaced by an older one."""
        name = _name(sequence)
        try:
            release = Release.model_validate_json(self._objects.get(name, _LIMIT))
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            raise IntegrityError(
                f"{name} is not a release record: {problem['loc']}: {problem['msg'][:200]}; restore "
                "it from a copy, or remove it to go back to the record before"
            ) from None
        if release.sequence != sequence:
            raise IntegrityError(f"{name} says it is release {release.sequence}; it was copied or renamed")
        return release


def check_fence(last: Release | None, fence: int) -> None:
    """Refuse a writer whose lease is older than that of the last record.

    Raises:
        LeaseLost: when it is.
    """
    if last and fence < last.fence:
        raise LeaseLost(
            f"lease {fence} may not release: release {last.sequence} was made under the newer lease "
            f"{last.fence}; this run was replaced, stop it"
        )


def _name(sequence: int) -> str:
    return f"releases/{sequence:08d}.json"
