"""The manifest of a version: what it is named by, what its files must be, and how it is read without trust.

Decisions: the version id ends in the sha256 of the manifest's content, which names the sha256 of every file; so the id
covers every byte, the same content always has the same id, and nothing in it comes from the wall clock. A manifest is
small JSON of known shape; names of versions and files match patterns that leave no way out of their folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saec.errors import IntegrityError, StoreError
from saec.hours import Hour
from saec.store.objects import FileEntry

MANIFEST = "manifest.json"
MANIFEST_LIMIT = 1 << 20
"""Most bytes of a manifest."""
FORMAT = 1

_VERSION = re.compile(r"(\d{8}T\d{2})-[0-9a-f]{12}", re.ASCII)
_FILE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"


class _Entry(BaseModel):
    """What is asked of a file's entry."""

    model_config = ConfigDict(extra="forbid", strict=True)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class _Shape(BaseModel):
    """What is asked of any manifest; the fields of the caller pass unchecked."""

    model_config = ConfigDict(extra="allow", strict=True)
    format: Literal[1]
    version: str
    files: Annotated[dict[Annotated[str, Field(pattern=_FILE)], _Entry], Field(min_length=1)]


def compose(hour: Hour, fields: Mapping[str, Any], files: Mapping[str, FileEntry]) -> dict[str, Any]:
    """The manifest of a version, with its id under `version`.

    Args:
        hour: The hour whose rows the version was last trained on.
        fields: What else the manifest says: plain JSON values, finite numbers only.
        files: Digest and size of every file, by name.

    Raises:
        StoreError: reason "manifest", when `fields` are not plain JSON or take a name that the store fills.
    """
    taken = sorted({"format", "version", "files"} & fields.keys())
    if taken:
        raise StoreError(f"manifest fields {', '.join(taken)} are filled by the store; leave them out",
                         reason="manifest")
    entries = {name: {"sha256": entry.sha256, "bytes": entry.bytes} for name, entry in files.items()}
    try:
        text = json.dumps({**fields, "hour": str(hour), "format": FORMAT, "files": entries}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"the manifest of hour {hour} is not plain JSON of finite numbers: {error}",
                         reason="manifest") from None
    content: dict[str, Any] = json.loads(text)
    return {**content, "version": _identify(hour, content)}


def encode(manifest: Mapping[str, Any]) -> bytes:
    """The manifest's bytes on disk, for programs and people."""
    return (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()


def parse(data: bytes, version: str) -> dict[str, Any]:
    """Read the manifest of a version, trusting nothing in it.

    Raises:
        IntegrityError: when it is not a manifest, or not this version's.
    """
    try:
        shape = _Shape.model_validate_json(data)
        manifest: dict[str, Any] = json.loads(data)
    except (ValidationError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{MANIFEST} of version {version} is not a manifest: {_first_problem(error)}") from None
    content = {key: value for key, value in manifest.items() if key != "version"}
    if shape.version != version or _identify(version_hour(version), content) != version or encode(manifest) != data:
        raise IntegrityError(f"{MANIFEST} of version {version} was altered: it does not give that id; "
                             "roll back to another version (saec versions)")
    return manifest


def entries(manifest: Mapping[str, Any]) -> dict[str, FileEntry]:
    """Digest and size of every file that a parsed manifest names."""
    return {name: FileEntry(entry["sha256"], entry["bytes"]) for name, entry in manifest["files"].items()}


def version_hour(version: str) -> Hour:
    """The hour that a version id begins with.

    Raises:
        StoreError: reason "version-id", when the text is no version id (so that it can never become a path).
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise StoreError(f"{version!r} is not a version id like 20171001T03-0123456789ab; list them with saec versions",
                         reason="version-id")
    return Hour.parse(match.group(1))


def bad_file_names(names: Iterator[str]) -> list[str]:
    """Those names that a version's files may not have."""
    return [name for name in names if re.fullmatch(_FILE, name) is None or name == MANIFEST]


def _identify(hour: Hour, content: Mapping[str, Any]) -> str:
    """The version id of a manifest's content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{hour.compact}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def _first_problem(error: Exception) -> str:
    """The first complaint, without the input that caused it."""
    if isinstance(error, ValidationError):
        problem = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(str(part)[:64] for part in problem['loc'])}: {problem['msg'][:200]}"
    return type(error).__name__
