"""Deltas: from one version to another with fewer bytes over the wire and the same bytes on disk.

A delta says of every file how it follows from the base's: it is the same, or it comes whole, or as differences word by
word. docs/format.md describes the container.

Decisions:
- The network is most of a version, and an hour's training moves each of its numbers a little: the difference of two
  floats, taken as integers, is small, so its upper bytes are mostly zeros and compress away. Codewords likewise.
- The index comes whole. Its cells hang together: with the base's seed and layout, a thousandth of the keys replaced
  changes three cells in four (docs/LOG.md), and an hour replaces a sixth of them.
- Nothing is believed. The base must be the one the delta was made from, to the byte; the result must be what its own
  manifest names, and is on the disk before it takes its name. So base plus delta is the full version, or nothing.
- numpy and the standard library only, so that a server's host can apply deltas.

Shapes: W words of a file.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from saec.durable import make_folder, storage_errors, sync_folder, write_file
from saec.errors import IntegrityError, StoreError
from saec.store import manifest as manifests
from saec.store.manifest import MANIFEST, MANIFEST_LIMIT
from saec.store.objects import FileEntry
from saec.store.staging import remove_orphan_folders, staging_folder

FORMAT = 1
HEADER_LIMIT = 1 << 20
"""Most bytes of a delta's header."""
_WORDS = {"words1": 1, "words2": 2, "words4": 4}
"""Methods that take differences, and the bytes of their words."""
_MEMORY_LIMIT = 256 << 20
"""Most memory that decompressing may take beside its output."""

Files = dict[str, bytes]


def make_delta(base: Path, new: Path) -> bytes:
    """What turns one version into another; the same two versions give the same bytes.

    Args:
        base: Folder of a version, named by its id.
        new: Folder of the version wanted.

    Raises:
        IntegrityError: when either is not whole.
    """
    old, wanted = _read_version(base), _read_version(new)
    methods, payloads = {}, {}
    for name, data in wanted.items():
        methods[name], payload = _encoded(old.get(name), data)
        if payload:
            payloads[name] = np.frombuffer(payload, np.uint8)
    about = {"format": FORMAT, "base": base.name, "version": new.name, "methods": methods}
    return bytes(save(payloads, {"delta": json.dumps(about, sort_keys=True)}))


def apply_delta(base: Path, delta: bytes, out: Path) -> Path:
    """Make the version that a delta leads to.

    Args:
        base: Folder of the version that it was made from.
        delta: Bytes from `make_delta`, which may come from anywhere.
        out: Folder of versions; the new one appears in it whole, under its id.

    Returns:
        The new version's folder. One that is there already, whole, is left as it is.

    Raises:
        IntegrityError: when the base is another version or not whole, or the delta is damaged; nothing was written.
        StoreError: when writing failed, or a folder of that name holds something else.
    """
    about, payloads = _read_delta(delta)
    if about.get("base") != base.name:
        raise IntegrityError(f"the delta leads from version {about.get('base')!r:.40} to {about['version']}, the base "
                             f"is {base.name}; apply it to the right one, or fetch the whole version")
    files = _decoded(_read_version(base), about, payloads)
    folder = out / str(about["version"])
    with storage_errors(f"write version {folder.name}"):
        if folder.exists():
            _require_equal(folder, files)
        else:
            _write_version(folder, files)
    return folder


def _encoded(old: bytes | None, new: bytes) -> tuple[str, bytes]:
    """The method that takes fewest bytes for a file, and its payload."""
    if old == new:
        return "same", b""
    forms = {"whole": new}
    if old is not None and len(old) == len(new):
        forms |= {method: _differences(old, new, size) for method, size in _WORDS.items()}
    method = min(forms, key=lambda name: len(zlib.compress(forms[name], 1)))  # as good a judge as xz, and quick
    return method, lzma.compress(forms[method])


def _differences(old: bytes, new: bytes, size: int) -> bytes:
    """Words of the new file less those of the old one: signs in the lowest bit, then the lowest bytes of all words."""
    moved_W = (_words(new, size) - _words(old, size)).view(f"<i{size}")
    folded_W = (moved_W << 1) ^ (moved_W >> (8 * size - 1))
    planes: bytes = folded_W.view(np.uint8).reshape(-1, size).T.tobytes()
    return planes


def _from_differences(old: bytes, planes: bytes, size: int) -> bytes:
    """The new file of the old one's length."""
    folded_W = np.frombuffer(planes, np.uint8).reshape(size, -1).T.copy().view(f"<u{size}")[:, 0]
    moved_W = (folded_W >> 1) ^ -(folded_W & 1)
    new: bytes = (_words(old, size) + moved_W).tobytes()
    return new[: len(old)]


def _words(data: bytes, size: int) -> NDArray[Any]:
    """A file as little-endian words, the last one filled up with zeros."""
    return np.frombuffer(data + bytes(-len(data) % size), f"<u{size}")


def _read_delta(delta: bytes) -> tuple[dict[str, Any], Files]:
    """What a delta says of itself, and its payloads by file."""
    length = int.from_bytes(delta[:8], "little")
    if length > HEADER_LIMIT:
        raise _unreadable(f"a header of {length:,} bytes, over the {HEADER_LIMIT:,} allowed")
    try:
        about = json.loads(json.loads(delta[8 : 8 + length])["__metadata__"]["delta"])
        known = about["format"] == FORMAT and isinstance(about["methods"], dict)
        manifests.version_hour(about["version"])  # it becomes a folder's name
        payloads = {name: payload.tobytes() for name, payload in load(delta).items()}
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError, StoreError) as error:
        raise _unreadable(repr(error)[:200]) from None
    if not known:
        raise _unreadable(f"format {about['format']!r:.20}, wanted {FORMAT} with a method for each file")
    return about, payloads


def _unreadable(found: str) -> IntegrityError:
    """The error for bytes that are no delta."""
    return IntegrityError(f"this is not a delta that saec reads: {found}; fetch it again, or the whole version")


def _decoded(old: Files, about: Mapping[str, Any], payloads: Files) -> Files:
    """The new version's files, compared with its manifest, and that with its id."""
    version, methods = about["version"], about["methods"]
    manifest = _decoded_file(methods.get(MANIFEST), old[MANIFEST], payloads.get(MANIFEST, b""), MANIFEST_LIMIT)
    entries = manifests.entries(manifests.parse(manifest, version))
    files = {MANIFEST: manifest}
    for name, entry in entries.items():
        files[name] = _decoded_file(methods.get(name), old.get(name, b""), payloads.get(name, b""), entry.bytes)
        _require(files[name], entry, f"the delta's {name} for version {version}; fetch it again")
    return files


def _decoded_file(method: Any, old: bytes, payload: bytes, limit: int) -> bytes:
    """One file by its method; more than `limit` bytes are never made, so a small payload cannot fill the memory."""
    try:
        if method == "same":
            return old
        if method == "whole":
            return _decompressed(payload, limit)
        size = _WORDS[method]
        return _from_differences(old, _decompressed(payload, limit + size), size)
    except (KeyError, TypeError, ValueError, lzma.LZMAError) as error:
        raise IntegrityError(f"the delta is damaged: {error!r:.200}; fetch it again") from None


def _decompressed(payload: bytes, limit: int) -> bytes:
    """The first `limit` bytes; whether these were all is for the caller's digest to tell."""
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_LIMIT).decompress(payload, limit)


def _read_version(folder: Path) -> Files:
    """All files of a version, each compared with its manifest."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            manifest = file.read(MANIFEST_LIMIT + 1)
        files = {MANIFEST: manifest}
        for name, entry in manifests.entries(manifests.parse(manifest, folder.name)).items():
            files[name] = (folder / name).read_bytes()
            _require(files[name], entry, f"{folder / name}; run saec verify {folder.name}")
    except OSError as error:
        raise IntegrityError(f"{folder} is not a whole version: {error.strerror} at {error.filename}") from None
    return files


def _require(data: bytes, wanted: FileEntry, what: str) -> None:
    """Raise IntegrityError unless bytes are those wanted."""
    if (found := FileEntry.of(data)) != wanted:
        raise IntegrityError(f"{wanted.unlike(found)} in {what}")


def _require_equal(folder: Path, files: Files) -> None:
    """Raise StoreError unless a folder holds exactly these files."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    if found != files:
        raise StoreError(f"{folder} is there already and is not the whole version; remove it and apply the delta again",
                         reason="exists")


def _write_version(folder: Path, files: Files) -> None:
    """Write a folder aside and give it its name once all of it is on the disk."""
    staging = folder.parent / ".staging"
    make_folder(folder.parent)
    remove_orphan_folders(staging)
    with staging_folder(staging) as aside:
        for name, data in files.items():
            write_file(aside / name, data)
        aside.chmod(0o755)
        aside.rename(folder)
        sync_folder(folder.parent)
    with contextlib.suppress(OSError):  # another is being written
        staging.rmdir()
