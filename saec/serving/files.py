"""Maps the files of a version into memory, without copies; processes that map the same file share its pages.

    index.safetensors      keyless index from feature key to code, all fields together
    codebooks.safetensors  codewords of all fields, the default codewords among them
    network.safetensors    parameters of the network
    schema.json            fields, crosses, hash key and network layout: how a row becomes keys and a score
    recorded.safetensors   keys of a few rows of the gate; the manifest has the scores they must give
    original_codebooks.safetensors, original_network.safetensors
                           only in an ensemble: the quantised original, and its share of the logit

Decisions: a file is opened once, without following links, and what is checked are the bytes that are used. The header
of a safetensors file is read here, strictly, since the library's numpy loader copies; the tensors must lie end to end
and fill the file. The store never rewrites a file in place, so a map stays what it was.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saec.errors import IntegrityError
from saec.store.manifest import MANIFEST, MANIFEST_LIMIT, entries, parse
from saec.store.objects import Buffer, FileEntry

INDEX, CODEBOOKS, NETWORK, SCHEMA = "index.safetensors", "codebooks.safetensors", "network.safetensors", "schema.json"
RECORDED = "recorded.safetensors"
ORIGINAL_CODEBOOKS, ORIGINAL_NETWORK = "original_codebooks.safetensors", "original_network.safetensors"
HEADER_LIMIT = 1 << 20
"""Most bytes of a file's header, and of the schema."""

Tensors = dict[str, NDArray[Any]]
_DTYPES: dict[str, np.dtype[Any]] = {
    "I8": np.dtype("<i1"),
    "U8": np.dtype("<u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
_MOST_AXES = 8


def map_file(path: Path) -> Buffer:
    """The bytes of a plain file, mapped.

    Raises:
        IntegrityError: when it is absent, a link, or no file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise IntegrityError(f"{path} is no plain file; run saec verify")
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if status.st_size else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}; run saec verify") from None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a version in a folder of the version's name."""
    data = map_file(folder / MANIFEST)
    if len(data) > MANIFEST_LIMIT:
        raise IntegrityError(f"{folder / MANIFEST} has {len(data):,} bytes, over the {MANIFEST_LIMIT:,} allowed")
    return parse(bytes(data), folder.name)


def verify(folder: Path, manifest: dict[str, Any], opened: Callable[[str], Buffer]) -> None:
    """Compare the files of a folder with what its manifest says of them.

    Args:
        folder: the version.
        manifest: as `read_manifest` gives it.
        opened: gives a file's bytes.

    Raises:
        IntegrityError: naming a file that is missing, altered or unexpected.
    """
    files = entries(manifest)
    if unexpected := sorted({path.name for path in folder.iterdir()} - files.keys() - {MANIFEST}):
        raise IntegrityError(f"{folder / unexpected[0]} is not in the manifest; run saec verify {folder.name}")
    for name, wanted in files.items():
        if (found := FileEntry.of(opened(name))) != wanted:
            raise IntegrityError(
                f"{folder / name} was altered: {wanted.unlike(found)}; roll back to another version (saec versions)"
            )


def tensors(data: Buffer, origin: Path) -> Tensors:
    """The tensors of a safetensors file, as views of its bytes.

    Raises:
        IntegrityError: naming the file, when it is not one that we would write.
    """
    try:
        return _views(data)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        said = f"{type(error).__name__}: {str(error)[:200]}"
        raise IntegrityError(f"{origin} is not a readable safetensors file: {said}; run saec verify") from None


def _views(data: Buffer) -> Tensors:
    length = int.from_bytes(data[:8], "little")
    if length > HEADER_LIMIT:
        raise ValueError(f"it has a header of {length:,} bytes, over the {HEADER_LIMIT:,} allowed")
    start = 8 + length
    if len(data) < start:
        raise ValueError(f"it ends within its header, after {len(data):,} bytes")
    header = json.loads(data[8:start], object_pairs_hook=_distinct)
    header.pop("__metadata__", None)
    views, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (first, last) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if entry.keys() != {"dtype", "shape", "data_offsets"} or not all(map(_is_size, (*shape, first, last))):
            raise ValueError(f"tensor {name[:64]!r} is described by something else than sizes")
        count = 1
        for axis in shape:
            count *= axis
        if first != end or last - first != count * dtype.itemsize or len(shape) > _MOST_AXES:
            raise ValueError(f"tensor {name[:64]!r} of shape {shape} does not lie in bytes {first} to {last}")
        if start + last > len(data):
            raise ValueError(f"tensor {name[:64]!r} ends beyond the end of the file")
        views[name], end = np.frombuffer(data, dtype, count, start + first).reshape(shape), last
    if start + end != len(data):
        raise ValueError(f"{len(data) - start - end} bytes belong to no tensor")
    return views


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found
