"""Reads and writes safetensors files that need not fit into memory: part by part, and memory-mapped.

Decisions: the library's writer needs every tensor in memory plus a copy of its bytes, and its reader copies too, which
is too much for a table of gigabytes. The files are compatible in both directions. Tensors are sorted by the size of
their numbers, then by name, so that each is aligned.
"""

from __future__ import annotations

import json
import struct
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from saec.data.cohorts import Arranged
from saec.data.keymap import Merged
from saec.data.paged import Column, mapped, pages_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

TYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
_NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}
_LONGEST_HEADER = 1 << 20
_METADATA = '{"__metadata__":'

Tensor = np.ndarray[Any, Any] | Column | Merged | Arranged


def parts(tensors: Mapping[str, Tensor], metadata: str) -> Iterator[bytes | memoryview]:
    """The bytes of a file that holds these tensors, in parts that fit into memory.

    Args:
        tensors: by name.
        metadata: a text that the file carries under the name `saec`.
    """
    header: dict[str, Any] = {"__metadata__": {"saec": metadata}}
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    end = 0
    for name in ordered:
        tensor = tensors[name]
        start, end = end, end + tensor.dtype.itemsize * int(np.prod(tensor.shape, dtype=np.int64))
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for name in ordered:
        tensor = tensors[name]
        for part in [tensor] if isinstance(tensor, np.ndarray) else tensor.parts():
            yield np.ascontiguousarray(part).reshape(-1).view(np.uint8).data


def read_header(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    """The header of a file, and where its tensors begin.

    Raises:
        struct.error, ValueError: when there is none.
    """
    (length,) = struct.unpack("<Q", file.read(8))
    header: dict[str, Any] = json.loads(file.read(min(length, _LONGEST_HEADER)))
    return header, 8 + length


def read_metadata(file: IO[bytes]) -> str:
    """The text that a file carries.

    Raises:
        struct.error, ValueError, KeyError, TypeError: when there is none.
    """
    (length,) = struct.unpack("<Q", file.read(8))
    text = file.read(min(length, _LONGEST_HEADER)).decode()
    if text.startswith(_METADATA):  # the rest, which describes each array, is the longest part
        metadata, _ = json.JSONDecoder().raw_decode(text, len(_METADATA))
    else:
        metadata = json.loads(text)["__metadata__"]
    told: str = metadata["saec"]
    return told


def mapped_tensors(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    """The tensors of a file whose bytes have been checked, read as they are used; nobody can write to them."""
    header, start = read_header(file)
    del header["__metadata__"]
    pages = pages_of(file)
    return {
        name: mapped(pages, np.dtype(TYPES[told["dtype"]]), told["shape"], start + told["data_offsets"][0])
        for name, told in header.items()
    }
