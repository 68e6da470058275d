"""Checkpoints of training state: what the next hour starts from.

Decisions:
- A checkpoint is named arrays in one safetensors file, named after its hour, its kind and the hash of its bytes, so it
  cannot change unnoticed; the ledger holds the names. The hash is BLAKE3, which takes a quarter of the time of sha256:
  all of a state is compared whenever a process opens it. Earlier releases wrote sha256, and such files are read.
- Big arrays grow and change in few places an hour. A checkpoint then holds only the elements touched since its base,
  the checkpoint of the hour before, and names that base; after `MOST_DELTAS` of these in a row a whole one is written.
  So an hour's checkpoint costs what the hour touched, and reading one costs a bounded chain.
- No checkpoint is ever whole in memory: files are written and hashed part by part, and `open` maps the whole one that a
  chain begins with, laying what the others changed over it (saec.data.paged).

Names of arrays: `group.NAME`; elements of a touched group are stored as `group.NAME` (values) and `group@` (places).
"""

from __future__ import annotations

import hashlib
import json
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from blake3 import blake3

from saec.data.paged import Column, Paged
from saec.data.shards import MOST_SHARDS
from saec.durable import make_folder, storage_errors, sync_folder, write_file, write_parts
from saec.errors import IntegrityError, StoreError
from saec.failpoints import reached
from saec.store.tensor_file import mapped_tensors, parts, read_metadata
from saec.train.tensors import section

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from saec.hours import Hour
    from saec.store.tensor_file import Tensor
    from saec.train.tensors import Arrays, Snapshot

MOST_DELTAS = 23
_WANTED = "shards.json"
_NAME_DIGITS = 16
_BLAKE3 = "b3"
"""What stands in a name before so many digits of a BLAKE3 hash."""


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
        bases = [None] if base is None else self._header(base)["shards"]
        if not snapshot.shards:
            return self._save(hour, kind, snapshot, base if bases in ([None], []) else None, 0)
        count, names = len(snapshot.shards), []
        for number, (shard, before) in enumerate(
            zip(snapshot.shards, bases if len(bases) == count else [None] * count, strict=True)
        ):
            if before and shard.touched is not None and not any(map(len, shard.touched.values())):
                names.append(before)
                continue
            # As if some deltas had come before: so whole ones fall due in different hours.
            names.append(self._save(hour, f"{kind}-{number}", shard, before, number * (MOST_DELTAS + 1) // count))
        return self._save(hour, kind, snapshot, None, 0, names)

    def _save(
        self, hour: Hour, kind: str, snapshot: Snapshot, base: str | None, depth: int, shards: list[str] | None = None
    ) -> str:
        """Write one file; `depth` is that of one that is whole for another reason than a full chain."""
        if snapshot.touched is not None and base is not None:
            depth = self._header(base)["depth"] + 1
        if depth > MOST_DELTAS:
            base, depth = None, 0
        if snapshot.touched is None or base is None:
            header: dict[str, Any] = {"base": None, "depth": depth, "lengths": {}}
            tensors = dict(snapshot.arrays if snapshot.whole is None else snapshot.whole())
        else:
            tensors, lengths = _touched(snapshot)
            header = {"base": base, "depth": depth, "lengths": lengths, "derived": sorted(snapshot.derived_groups)}
        if shards:
            header["shards"] = shards

        def named(digest: str) -> Path:
            return self._path(f"{hour.compact}-{kind}-{_BLAKE3}{digest[:_NAME_DIGITS]}")

        with storage_errors(f"write checkpoint of {hour} in {self.folder}"):
            make_folder(self.folder)
            sync_folder(self.folder.parent)  # a killed run may have made the folder and not come to that
            # Also where there is such a file: doing an hour again heals it.
            unnamed, data = self._path(f"{hour.compact}-{kind}"), parts(tensors, json.dumps(header, sort_keys=True))
            path = write_parts(unnamed, data, named, blake3())
        reached(f"checkpoint.{kind.partition('-')[0]}-{'shard-' if '-' in kind else ''}saved")
        return path.stem

    def rewritten(self, name: str, before: str | None) -> dict[int, str]:
        """Which shards of a checkpoint are based on no other, and were not in the one before: files by number."""
        old = {*self._files(before)} if before else set()
        files = self._files(name)
        return {
            number: file for number, file in enumerate(files) if file not in old and self._header(file)["base"] is None
        }

    def _files(self, name: str) -> list[str]:
        """The checkpoint of each shard: the record's own, where there are none."""
        shards: list[str] = self._header(name)["shards"]
        return shards or [name]

    def load(self, name: str) -> Arrays:
        """The arrays of a checkpoint, checked against its name, its bases included.

        Raises:
            StoreError: when it, or one it is based on, is not there.
            IntegrityError: when a file's bytes are not those it is named after.
        """
        return {name: np.array(array) for name, array in self.open(name).items()}

    def open(self, name: str, *, known: bool = False) -> dict[str, NDArray[Any] | Column]:
        """The same without reading what is large into memory; its groups are columns of one `Paged` each.

        Names of arrays of a shard begin with its number and a slash.

        Args:
            name: of the checkpoint.
            known: whether its bytes need no checking, having just been written.
        """
        header, arrays = self._read(name, known=known)
        if header["shards"]:
            opened: dict[str, NDArray[Any] | Column] = dict(arrays)
            for number, shard in enumerate(header["shards"]):
                opened |= {f"{number}/{name}": array for name, array in self.open(shard, known=known).items()}
            return opened
        deltas = []
        while header["base"] is not None:
            deltas.append((header, arrays))
            header, arrays = self._read(header["base"])
        opened = dict(arrays)
        groups: dict[str, Paged] = {}
        for header, delta in reversed(deltas):
            _apply(opened, groups, header, delta)
        return opened

    def verify(self, name: str) -> None:
        """Compare a checkpoint's bytes, and those of what it is based on, with their names; errors as for `load`."""
        links = [name]
        while links:
            links += _rests_on(self._read(links.pop())[0])

    def retain(self, names: Iterable[str]) -> list[str]:
        """Remove every checkpoint but these and those they are based on; returns the removed names."""
        kept: set[str] = set()
        links = [*names]
        while links:
            link = links.pop()
            if link not in kept and self._path(link).exists():
                kept.add(link)
                links += _rests_on(self._header(link))
        removed = sorted(path.stem for path in self.folder.glob("*.safetensors") if path.stem not in kept)
        for name in removed:
            self._path(name).unlink(missing_ok=True)
            reached("checkpoint.removed")
        return removed

    def want(self, shards: int, actor: str) -> None:
        """Have states that are trained from now on lie in so many shards.

        Raises:
            StoreError: when that cannot be written down.
        """
        at = datetime.now(UTC).isoformat(timespec="seconds")
        told = json.dumps({"shards": shards, "actor": actor, "at": at}, indent=1)
        with storage_errors(f"write {self.folder / _WANTED}"):
            make_folder(self.folder)
            write_file(self.folder / _WANTED, f"{told}\n".encode())

    def wanted(self) -> int | None:
        """In how many shards states are to lie; None where nobody has said so.

        Raises:
            IntegrityError: when what was written down cannot be read.
        """
        path = self.folder / _WANTED
        try:
            shards = json.loads(path.read_text(encoding="utf-8"))["shards"]
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            shards = None
        if type(shards) is not int or not 1 <= shards <= MOST_SHARDS:
            raise IntegrityError(f"{path} is not what saec reshard writes; write it anew: saec reshard --shards N")
        return shards

    def shards(self, name: str) -> int:
        """In how many shards a checkpoint lies; errors as for `load`."""
        return len(self._files(name))

    def largest(self) -> int:
        """Bytes of the largest checkpoint, 0 when there is none."""
        return max((path.stat().st_size for path in self.folder.glob("*.safetensors")), default=0)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _header(self, name: str) -> dict[str, Any]:
        """What a checkpoint is based on, from its file's head alone, which nothing vouches for."""
        try:
            with self._path(name).open("rb") as file:
                return _links(file)
        except FileNotFoundError:
            raise self._absent(name) from None
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"checkpoint {self._path(name)} has no readable header ({error}); {_REDO}") from None

    def _read(self, name: str, *, known: bool = False) -> tuple[dict[str, Any], Arrays]:
        """Header and mapped arrays of one file, once its bytes have been checked."""
        try:
            file = self._path(name).open("rb")
        except FileNotFoundError:
            raise self._absent(name) from None
        with file:
            if not known:
                digits = name.rpartition("-")[2]
                newer = digits.startswith(_BLAKE3) and len(digits) > _NAME_DIGITS
                kind: Any = blake3 if newer else hashlib.sha256
                found = hashlib.file_digest(file, kind).hexdigest()[:_NAME_DIGITS]
                if digits != (_BLAKE3 if newer else "") + found:
                    raise IntegrityError(
                        f"checkpoint {self._path(name)} was altered: its bytes hash to {found}; {_REDO}"
                    )
                file.seek(0)
            header = _links(file)
            file.seek(0)
            return header, mapped_tensors(file)

    def _absent(self, name: str) -> StoreError:
        return StoreError(f"there is no checkpoint {self._path(name)}; {_REDO}", reason="no-checkpoint")


_REDO = "do the hours from an earlier checkpoint again: saec backfill --from HOUR --to HOUR --only all"


def _links(file: BinaryIO) -> dict[str, Any]:
    """What a file says of what it is based on."""
    told = json.loads(read_metadata(file))
    known = {name: told[name] for name in ("base", "depth", "lengths")}
    return {"derived": told.get("derived", []), "shards": told.get("shards", []), **known}


def _rests_on(header: dict[str, Any]) -> list[str]:
    """The checkpoints that one needs: its shards, and the one it is based on."""
    return [*header["shards"], *([header["base"]] if header["base"] else [])]


def _touched(snapshot: Snapshot) -> tuple[dict[str, Tensor], dict[str, int]]:
    """What a delta stores: touched elements of the touched groups, other arrays whole, and the groups' lengths."""
    assert snapshot.touched is not None
    stored: dict[str, Tensor] = {f"{group}@": places for group, places in snapshot.touched.items()}
    lengths = {}
    for name, array in snapshot.arrays.items():
        group = name.partition(".")[0]
        if group in snapshot.touched:
            assert isinstance(array, np.ndarray | Column)
            lengths[group] = len(array)
            stored[name] = array[snapshot.touched[group]]
        else:
            stored[name] = array
    return stored, lengths


def _apply(
    arrays: dict[str, NDArray[Any] | Column], groups: dict[str, Paged], header: dict[str, Any], delta: Arrays
) -> None:
    """Bring a base's arrays, and the groups opened of it, to the state of a delta on it."""
    lengths = header["lengths"]
    for name in [name for name in arrays if name.partition(".")[0] not in {*lengths, *header["derived"]}]:
        del arrays[name]
    arrays |= {
        name: array for name, array in delta.items() if name.partition(".")[0] not in lengths and not name.endswith("@")
    }
    for group, length in lengths.items():
        values = section(delta, f"{group}.")
        if group not in groups:
            groups[group] = Paged({name: np.asarray(arrays[f"{group}.{name}"]) for name in values})
            arrays |= {f"{group}.{name}": groups[group].column(name) for name in values}
        groups[group].extend(length)
        groups[group].put(delta[f"{group}@"], values)
