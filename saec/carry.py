"""Compares training state with the settings' fields: refuses what does not fit, or carries it over if permitted.

    workspace/checkpoints/migrations.json    what `saec migrate` has permitted: from which fields to which

Decisions: the schema that the state was learnt by is that of the version made with it, in the challenger's checkpoint.
Where the settings' schema means something else, the hour is refused before anything is read. A permission is for one
pair of schemas and holds wherever the first meets the second, so a backfill over that border does as the hour did. The
carrying over is done anew whenever such an hour is done: checkpoints stay as they were written, and the settings of
before are good for as long as no hour has been done with the new ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from saec.data.meaning import Comparison, compare, fingerprint
from saec.data.schema import parse_schema, schema_of
from saec.durable import write_file
from saec.errors import ConfigError, IntegrityError, bullets
from saec.hours import Hour
from saec.serving.files import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from saec.data.schema import Schema
    from saec.train.tensors import Arrays
    from saec.workspace import Workspace

REASON = "meaning"
"""Why an hour is FAILED whose training state was learnt for other fields than the settings have."""
PERMITS = "migrations.json"
_TOLD = 4
"""Differences that a message names."""


@dataclass(frozen=True)
class Permit:
    """From the fields of one schema to those of another."""

    old: str
    """`saec.data.meaning.fingerprint` of the state's schema."""
    new: str
    """That of the settings."""
    keep: tuple[str, ...]
    """Fields whose column was only renamed."""


def carried_from(workspace: Workspace, challenger: Arrays, name: str) -> tuple[int, ...] | None:
    """From which old field each field of the settings goes on, -1 for a new one; None where the state fits as it is.

    Args:
        workspace: with the settings and what was permitted.
        challenger: state of the challenger after the hour before.
        name: of its checkpoint.

    Raises:
        ConfigError: reason "meaning", where the state does not fit and may not be carried over.
    """
    found = compare(state_schema(challenger, f"checkpoint {name}"), schema_of(workspace.config))
    if found.alike:
        return None
    permit = _permits(workspace).get((fingerprint(found.old), fingerprint(found.new)))
    if permit is None:
        raise ConfigError(refusal(found, Hour.parse(name.partition("-")[0])), reason=REASON)
    return compare(found.old, found.new, permit.keep).sources_F


def state_schema(challenger: Arrays, origin: str) -> Schema:
    """The schema that training state was learnt by.

    Raises:
        IntegrityError: when the state names none that this saec reads.
    """
    try:
        return parse_schema(challenger[f"files.{SCHEMA}"].tobytes())
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"{origin} has no schema that this saec reads ({error}); begin a new workspace") from None


def refusal(found: Comparison, after: Hour) -> str:
    """What does not fit, a line for each difference, and the way on."""
    told = [*found.differences[:_TOLD]]
    if more := len(found.differences) - len(told):
        told.append(f"and {more} more")
    way = "begin a new workspace: that cannot be carried over"
    if not found.lasting:
        way = "carry the state over from this hour on: saec migrate --dry-run says how, saec migrate does it"
    return bullets(
        f"the settings mean something else than the training state after hour {after} was trained for:",
        told,
        f"Nothing was learnt. Put the settings back as they were, or {way}",
    )


def permit(workspace: Workspace, found: Comparison, keep: Collection[str], actor: str) -> None:
    """Permit that state is carried over, which the next hour does.

    Args:
        workspace: whose.
        found: between the schemas of the state and of the settings.
        keep: fields whose column was only renamed.
        actor: who permits it.
    """
    wanted = {
        "old": fingerprint(found.old),
        "new": fingerprint(found.new),
        "keep": sorted(keep),
        "actor": actor,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "differences": list(found.differences),
    }
    others = [known for known in _read(workspace) if (known["old"], known["new"]) != (wanted["old"], wanted["new"])]
    text = json.dumps([*others, wanted], indent=1)
    write_file(workspace.checkpoints.folder / PERMITS, f"{text}\n".encode())


def permitted(workspace: Workspace, found: Comparison) -> bool:
    """Whether state may be carried over already."""
    return (fingerprint(found.old), fingerprint(found.new)) in _permits(workspace)


def _permits(workspace: Workspace) -> dict[tuple[str, str], Permit]:
    """What was permitted, by schemas."""
    known: Iterable[dict[str, Any]] = _read(workspace)
    permits = (Permit(entry["old"], entry["new"], tuple(entry["keep"])) for entry in known)
    return {(permit.old, permit.new): permit for permit in permits}


def _read(workspace: Workspace) -> list[dict[str, Any]]:
    path = workspace.checkpoints.folder / PERMITS
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return [dict(entry, old=entry["old"], new=entry["new"], keep=list(entry["keep"])) for entry in known]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(f"{path} is not what saec migrate writes ({error}); remove it and migrate again") from None
