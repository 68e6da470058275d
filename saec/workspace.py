"""The workspace: stores an hour's files between its steps, and the training state between hours.

    workspace/ledger.db             the ledger (unless it is elsewhere)
    workspace/store/                the model store (unless it is elsewhere)
    workspace/checkpoints/          training state, see saec.store.checkpoints
    workspace/hours/20171001T03/    rows, quarantine, vectors set aside, codes, the candidate's files, scores
    workspace/aside/20171001T03/    the same for an hour that a backfill does aside

Decisions: steps pass names and digests, never data; a file is verified against its digest when it is read. Original and
challenger stay in memory between steps of one process, under the name of the checkpoint that they equal. A step that
finds another name, or none, reads the checkpoint. Both ways give the same bytes.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from safetensors.numpy import load, save

from saec.compression.challenger import Challenger
from saec.data.late import encoded_alike, load_identities
from saec.durable import make_folder, sha256_file, sync_folder, write_file
from saec.errors import IntegrityError
from saec.failpoints import reached
from saec.store.checkpoints import Checkpoints
from saec.store.model_store import ModelStore, open_store
from saec.train.original import Original

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from saec.config import Config
    from saec.data.hashing import Keys
    from saec.hours import Hour
    from saec.train.tensors import Arrays

M = TypeVar("M")
_STANDING, _ASIDE = "hours", "aside"
_HOUR_FOLDERS = "[0-9]*T[0-9][0-9]"


@dataclass(frozen=True)
class FileDigest:
    """A file of the hour's folder: its name, and the digest of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Resident:
    """The models in memory, at most one of each kind, with the names of the checkpoints that they equal."""

    digest: str
    """Of their settings."""
    originals: dict[str, Original] = field(default_factory=dict)
    challengers: dict[str, Challenger] = field(default_factory=dict)


class Workspace:
    """The folders of one pipeline."""

    _resident: Resident | None = None
    """The models in memory, for all workspaces of the process."""

    def __init__(self, config: Config, *, aside: bool = False) -> None:
        """The configured workspace; folders are created when something is first written.

        Args:
            config: all settings.
            aside: whether hours are done aside, to be swapped in later.
        """
        self.config = config
        self._hours = config.workspace / (_ASIDE if aside else _STANDING)
        self.checkpoints = Checkpoints(config.workspace / "checkpoints")

    def store(self) -> ModelStore:
        """The configured model store."""
        return open_store(self.config.store_url)

    def folder(self, hour: Hour) -> Path:
        """The folder of an hour's files."""
        return self._hours / hour.compact

    def write(self, hour: Hour, name: str, arrays: Arrays) -> FileDigest:
        """Write arrays into the hour's folder."""
        data = save({key: np.asarray(array, order="C") for key, array in arrays.items()})
        make_folder(self.folder(hour))
        write_file(self.folder(hour) / name, data)
        reached(f"workspace.{name.partition('.')[0]}-written")
        return FileDigest(name, hashlib.sha256(data).hexdigest())

    def read(self, hour: Hour, file: FileDigest) -> Arrays:
        """Read arrays of the hour's folder back; errors as for `verified`."""
        return load(self.verified(hour, file))

    def describe(self, hour: Hour, folder: str) -> tuple[FileDigest, ...]:
        """The files of a folder within the hour's, as they are now."""
        paths = sorted((self.folder(hour) / folder).iterdir())
        return tuple(FileDigest(f"{folder}/{path.name}", sha256_file(path)) for path in paths)

    def verified(self, hour: Hour, file: FileDigest) -> bytes:
        """The bytes of a file of the hour's folder.

        Raises:
            IntegrityError: when the file is gone or not the one that was written.
        """
        path = self.folder(hour) / file.name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise IntegrityError(f"{path} is gone; run the hour again: saec run --hour {hour}") from None
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise IntegrityError(f"{path} is not what was written; run the hour again: saec run --hour {hour}")
        return data

    def identities(self, hour: Hour, learners: Iterable[Hour]) -> Keys:
        """The rows of an hour that were learnt with any of these hours, identified as in `saec.data.late`."""
        known = [load_identities(folder, hour) for folder in self._learnt(learners)]
        return np.concatenate([np.empty(0, np.uint64), *known])

    def encoded_alike(self, learners: Iterable[Hour]) -> bool:
        """Whether the rows learnt with these hours are recorded with keys that mean the same as the settings' keys."""
        return all(encoded_alike(self.config, folder) for folder in self._learnt(learners))

    def _learnt(self, learners: Iterable[Hour]) -> Iterator[Path]:
        """The parent folder of the hours' folders: done aside, or in force."""
        for folder in (self.folder(learner) for learner in learners):
            yield folder if folder.exists() else self.config.workspace / _STANDING / folder.name

    def save_original(self, hour: Hour, original: Original, base: str | None) -> str:
        """Checkpoint the original and keep it in memory; returns the checkpoint's name."""
        name = self.checkpoints.save(hour, "original", original.snapshot(), base)
        for number, file in self.checkpoints.rewritten(name, base).items():
            original.rebase(number, self.checkpoints.open(file, known=True))
        keep(self._in_memory.originals, name, original)
        return name

    def original(self, name: str) -> Original:
        """The original of a checkpoint, read-only."""
        found = self._in_memory.originals.get(name)
        if found is None:
            found = Original.restore(self.config, self.checkpoints.open(name), f"checkpoint {name}")
            keep(self._in_memory.originals, name, found)
        return found

    def take_original(self, name: str | None, sources_F: tuple[int, ...] | None = None) -> Original:
        """The original of a checkpoint (None: a fresh one), to be trained: it leaves the memory until it is saved.

        Args:
            name: of the checkpoint.
            sources_F: if it was trained for other fields: for each field its index among those, -1 for a new one.
        """
        if name is None:
            original = Original(self.config)
        elif sources_F is None:
            original = self.original(name)
        else:
            original = Original.restore(self.config, self.checkpoints.open(name), f"checkpoint {name}", sources_F)
        self._in_memory.originals.clear()
        original.scratch = self.checkpoints.folder if name else None
        if (shards := self.checkpoints.wanted()) not in (None, original.shards):
            original.reshard(shards)
        return original

    def save_challenger(self, hour: Hour, challenger: Challenger) -> str:
        """Checkpoint the challenger and keep it in memory; returns the checkpoint's name."""
        name = self.checkpoints.save(hour, "challenger", challenger.snapshot())
        keep(self._in_memory.challengers, name, challenger)
        return name

    def challenger(self, name: str, restored: Callable[[Arrays], Challenger]) -> Challenger:
        """The challenger of a checkpoint, read-only.

        Args:
            name: of the checkpoint.
            restored: makes it from the checkpoint's arrays if it is not in memory.
        """
        found = self._in_memory.challengers.get(name)
        if found is None:
            found = restored(self.checkpoints.load(name))
            keep(self._in_memory.challengers, name, found)
        return found

    def take_challenger(self, name: str, restored: Callable[[Arrays], Challenger]) -> Challenger:
        """The challenger of a checkpoint, to be trained; arguments as for `challenger`."""
        challenger = self.challenger(name, restored)
        self._in_memory.challengers.clear()
        return challenger

    @property
    def _in_memory(self) -> Resident:
        """The models in memory for these settings."""
        if Workspace._resident is None or Workspace._resident.digest != self.config.digest:
            Workspace._resident = Resident(self.config.digest)
        return Workspace._resident

    def clear(self, hour: Hour, *, keep: tuple[str, ...]) -> None:
        """Remove the files of an hour that only its steps need."""
        if self.folder(hour).is_dir():
            for path in self.folder(hour).iterdir():
                if path.name not in keep:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def retain(self, hours: set[Hour]) -> None:
        """Remove the folders of all hours but these; anything not named like an hour is left alone."""
        kept = {hour.compact for hour in hours}
        for path in self._hours.glob(_HOUR_FOLDERS):
            if path.name not in kept and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
                reached("retention.folder-removed")

    def swap_in(self) -> None:
        """Replace hours' folders with those that were done aside."""
        aside, standing = self.config.workspace / _ASIDE, self.config.workspace / _STANDING
        for path in sorted(aside.glob(_HOUR_FOLDERS)):
            make_folder(standing)
            shutil.rmtree(standing / path.name, ignore_errors=True)
            reached("swap.old-folder-removed")
            path.replace(standing / path.name)
            reached("swap.folder-moved")
            sync_folder(standing)

    def drop_aside(self) -> None:
        """Remove the folders of all hours that were done aside."""
        shutil.rmtree(self.config.workspace / _ASIDE, ignore_errors=True)


def keep(models: dict[str, M], name: str, model: M) -> None:
    """Keep a model in memory, replacing the previous one."""
    models.clear()
    models[name] = model
