"""Checkpoints of training state: what the next hour starts from.

Decisions:
- A checkpoint is named arrays in one safetensors file, named after its hour, its kind and the sha256 of its bytes, so
  it cannot change unnoticed; the ledger holds the names.
- Big arrays grow and change in few places an hour. A checkpoint then holds only the elements touched since its base,
  the checkpoint of the hour before, and names that base; after `MOST_DELTAS` of these in a row a whole one is written.
  So an hour's checkpoint costs what the hour touched, and reading one costs a bounded chain.

Names of arrays: `group.NAME`; elements of a touched group are stored as `group.NAME` (values) and `group@` (places).
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from safetensors.numpy import load, save

from saec.durable import make_folder, storage_errors, sync_folder, write_file
from saec.errors import IntegrityError, StoreError
from saec.failpoints import reached

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from saec.hours import Hour
    from saec.train.tensors import Arrays, Snapshot

MOST_DELTAS = 23
_NAME_DIGITS = 16
_LONGEST_HEADER = 1 << 20
_METADATA = '{"__metadata__":'


class Checkpoints:
    """The checkpoints in one folder."""

    def __init__(self, folder: Path) -> None:
        """Keep checkpoints in this folder, which is made when the first is saved."""
        self.folder = folder

    def save(self, hour: Hour, kind: str, snapshot: Snapshot, base: str | None = None) -> str:
        """Write a checkpoint durably and return its name; the same state on the same base gives the same name.

        Raises:
            StoreError: when it cannot be written.
        """
        depth = 0 if base is None else self._header(base)["depth"] + 1
        lengths: dict[str, int] = {}
        if snapshot.touched is None or base is None or depth > MOST_DELTAS:
            base, depth, arrays = None, 0, snapshot.arrays
        else:
            arrays, lengths = _touched(snapshot.arrays, snapshot.touched)
        header = {"base": base, "depth": depth, "lengths": lengths}
        contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        data = save(contiguous, {"saec": json.dumps(header, sort_keys=True)})
        name = f"{hour.compact}-{kind}-{hashlib.sha256(data).hexdigest()[:_NAME_DIGITS]}"
        with storage_errors(f"write checkpoint {self._path(name)}"):
            make_folder(self.folder)
            sync_folder(self.folder.parent)  # a killed run may have made the folder and not come to that
            write_file(self._path(name), data)  # also where there is such a file: doing an hour again heals it
        reached(f"checkpoint.{kind}-saved")
        return name

    def load(self, name: str) -> Arrays:
        """The arrays of a checkpoint, checked against its name, its bases included.

        Raises:
            StoreError: when it, or one it is based on, is not there.
            IntegrityError: when a file's bytes are not those it is named after.
        """
        header, arrays = self._read(name)
        deltas = []
        while header["base"] is not None:
            deltas.append((arrays, header["lengths"]))
            header, arrays = self._read(header["base"])
        for delta, lengths in reversed(deltas):
            _apply(arrays, delta, lengths)
        return arrays

    def verify(self, name: str) -> None:
        """Compare a checkpoint's bytes, and those of what it is based on, with their names; errors as for `load`."""
        link: str | None = name
        while link is not None:
            link = self._read(link)[0]["base"]

    def retain(self, names: Iterable[str]) -> list[str]:
        """Remove every checkpoint but these and those they are based on; returns the removed names."""
        kept: set[str] = set()
        for name in names:
            link: str | None = name
            while link is not None and link not in kept and self._path(link).exists():
                kept.add(link)
                link = self._header(link)["base"]
        removed = sorted(path.stem for path in self.folder.glob("*.safetensors") if path.stem not in kept)
        for name in removed:
            self._path(name).unlink(missing_ok=True)
            reached("checkpoint.removed")
        return removed

    def largest(self) -> int:
        """Bytes of the largest checkpoint, 0 when there is none."""
        return max((path.stat().st_size for path in self.folder.glob("*.safetensors")), default=0)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _header(self, name: str) -> dict[str, Any]:
        """What a checkpoint is based on, from its file's head alone, which nothing vouches for."""
        try:
            with self._path(name).open("rb") as file:
                return _parse_header(file)
        except FileNotFoundError:
            raise self._absent(name) from None
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"checkpoint {self._path(name)} has no readable header ({error}); {_REDO}") from None

    def _read(self, name: str) -> tuple[dict[str, Any], Arrays]:
        """Header and arrays of one file, once its bytes have been checked."""
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            raise self._absent(name) from None
        found = hashlib.sha256(data).hexdigest()[:_NAME_DIGITS]
        if not name.endswith(f"-{found}"):
            raise IntegrityError(f"checkpoint {self._path(name)} was altered: its bytes hash to {found}; {_REDO}")
        return _parse_header(io.BytesIO(data)), load(data)

    def _absent(self, name: str) -> StoreError:
        return StoreError(f"there is no checkpoint {self._path(name)}; {_REDO}", reason="no-checkpoint")


_REDO = "do the hours from an earlier checkpoint again: saec backfill --from HOUR --to HOUR --only all"


def _parse_header(file: BinaryIO) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", file.read(8))
    text = file.read(min(length, _LONGEST_HEADER)).decode()
    if text.startswith(_METADATA):  # the rest, which describes each array, is the longest part
        metadata, _ = json.JSONDecoder().raw_decode(text, len(_METADATA))
    else:
        metadata = json.loads(text)["__metadata__"]
    header = json.loads(metadata["saec"])
    return {name: header[name] for name in ("base", "depth", "lengths")}


def _touched(arrays: Arrays, touched: dict[str, NDArray[np.int64]]) -> tuple[Arrays, dict[str, int]]:
    """What a delta stores: touched elements of the touched groups, other arrays whole, and the groups' lengths."""
    stored: Arrays = {f"{group}@": places for group, places in touched.items()}
    lengths = {}
    for name, array in arrays.items():
        group = name.partition(".")[0]
        if group in touched:
            lengths[group] = len(array)
            stored[name] = array[touched[group]]
        else:
            stored[name] = array
    return stored, lengths


def _apply(arrays: Arrays, delta: Arrays, lengths: dict[str, int]) -> None:
    """Bring a base's arrays to the state of a delta on it."""
    whole = {name for name in arrays if name.partition(".")[0] not in lengths}
    for name in whole - delta.keys():
        del arrays[name]
    for name, values in delta.items():
        group = name.partition(".")[0]
        if name.endswith("@"):
            continue
        if group not in lengths:
            arrays[name] = values
            continue
        if len(arrays[name]) != lengths[group]:
            grown = np.zeros((lengths[group], *values.shape[1:]), values.dtype)
            grown[: len(arrays[name])] = arrays[name]
            arrays[name] = grown
        arrays[name][delta[f"{group}@"]] = values
