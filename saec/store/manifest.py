"""The manifest of a version: gives the version its id, lists its files, and is read without trust.

Decisions: the version id ends in the sha256 of the manifest's content, which names the sha256 of every file; so the id
covers every byte, the same content always has the same id, and nothing in it comes from the wall clock. A manifest is
small JSON of known shape; names of versions and files match patterns that leave no way out of their folder. It is
checked with the standard library alone, since serving reads it too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from saec.errors import IntegrityError, StoreError
from saec.hours import Hour
from saec.store.objects import FileEntry

MANIFEST = "manifest.json"
MANIFEST_LIMIT = 1 << 20
"""Most bytes of a manifest."""
FORMAT = 2

_VERSION = re.compile(r"(\d{8}T\d{2})-[0-9a-f]{12}", re.ASCII)
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


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
        raise StoreError(
            f"manifest fields {', '.join(taken)} are filled by the store; leave them out", reason="manifest"
        )
    entries = {name: {"sha256": entry.sha256, "bytes": entry.bytes} for name, entry in files.items()}
    try:
        text = json.dumps({**fields, "hour": str(hour), "format": FORMAT, "files": entries}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"the manifest of hour {hour} is not plain JSON of finite numbers: {error}", reason="manifest"
        ) from None
    content: dict[str, Any] = json.loads(text)
    return {**content, "version": _identify(hour, content)}


def encode(manifest: Mapping[str, Any]) -> bytes:
    """The manifest's bytes on disk: as few as JSON takes."""
    return _canonical(manifest)


def parse(data: bytes, version: str) -> dict[str, Any]:
    """Read the manifest of a version, trusting nothing in it.

    Raises:
        IntegrityError: when it is not a manifest, or not this version's.
    """
    try:
        manifest = json.loads(data, parse_constant=_refuse)
        problem = _problem(manifest)
    except (ValueError, RecursionError) as error:
        problem = f"{type(error).__name__}: {str(error)[:200]}"
    if problem:
        raise IntegrityError(f"{MANIFEST} of version {version} is not a manifest: {problem}")
    content = {key: value for key, value in manifest.items() if key != "version"}
    if (
        manifest["version"] != version
        or _identify(version_hour(version), content) != version
        or (encode(manifest) != data)
    ):
        raise IntegrityError(
            f"{MANIFEST} of version {version} was altered: it does not give that id; "
            "roll back to another version (saec versions)"
        )
    return dict(manifest)


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
        raise StoreError(
            f"{version!r} is not a version id like 20171001T03-0123456789ab; list them with saec versions",
            reason="version-id",
        )
    return Hour.parse(match.group(1))


def bad_file_names(names: Iterator[str]) -> list[str]:
    """Those names that a version's files may not have."""
    return [name for name in names if _FILE.fullmatch(name) is None or name == MANIFEST]


def _identify(hour: Hour, content: Mapping[str, Any]) -> str:
    """The version id of a manifest's content."""
    return f"{hour.compact}-{hashlib.sha256(_canonical(content)).hexdigest()[:12]}"


def _canonical(content: Mapping[str, Any]) -> bytes:
    """The one way in which equal content is written."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _problem(manifest: object) -> str:
    """Why something is not a manifest, "" if it is one; the caller's own fields are not checked."""
    if not isinstance(manifest, dict):
        return f"wanted an object, found {type(manifest).__name__}"
    if type(manifest.get("format")) is not int or manifest["format"] != FORMAT:
        return f"it is of another format than {FORMAT}; read it with the saec that published it"
    if not isinstance(manifest.get("version"), str):
        return "version: wanted text"
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        return "files: wanted an object of at least one file"
    bad = [name for name, entry in files.items() if _FILE.fullmatch(name) is None or not _is_entry(entry)]
    return f"files.{bad[0][:64]}: wanted a plain name, a sha256 in hex and a number of bytes" if bad else ""


def _is_entry(entry: object) -> bool:
    """Whether something is a file's entry and nothing more."""
    if not isinstance(entry, dict) or entry.keys() != {"sha256", "bytes"}:
        return False
    sha256, size = entry["sha256"], entry["bytes"]
    return isinstance(sha256, str) and bool(_SHA256.fullmatch(sha256)) and type(size) is int and size >= 0


def _refuse(constant: str) -> None:
    """Refuse NaN and infinity, which JSON does not know."""
    raise ValueError(f"{constant} is no JSON number")
