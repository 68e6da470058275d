"""Operations on a small store while something breaks, and what must be true of it afterwards."""

from __future__ import annotations

import random
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saec.errors import SaecError
from saec.hours import Hour
from saec.store.checkpoints import Checkpoints
from saec.store.model_store import ModelStore, open_store
from saec.train.tensors import Snapshot
from tests.store.power_loss import Disk, Found, Killed

HOUR = Hour.parse("2017-10-01T03")


def commit_version(store: ModelStore, hour: Hour = HOUR, content: bytes = b"codes", **fields: Any) -> str:
    """Commit a small version of an hour: two files whose bytes follow from `content`."""
    with store.stage() as staged:
        (staged / "codes.bin").write_bytes(content)
        (staged / "schema.json").write_bytes(b"{}")
        return store.commit(staged, hour, {"rows": 3, **fields})


class Drill(ABC):
    """Something done in a folder, which a power loss may interrupt."""

    @abstractmethod
    def before(self, folder: Path) -> None:
        """What is safely there."""

    @abstractmethod
    def act(self, folder: Path, disk: Disk | None = None) -> None:
        """Do it; the disk is told what the program may rely on from then on."""

    @abstractmethod
    def problems(self, folder: Path, marks: tuple[str, ...]) -> Iterator[str]:
        """What is wrong with what was found, before and after it is done again."""

    def record(self, patch: pytest.MonkeyPatch, folder: Path, kill_at: int = 0) -> Disk:
        """Do it, and again where it was killed; returns the disk's record of it."""
        folder.mkdir()
        self.before(folder)
        with patch.context() as recording:
            disk = Disk(recording, folder, kill_at)
            if kill_at:
                with pytest.raises(Killed):
                    self.act(folder, disk)
                disk.revive()
            self.act(folder, disk)
        return disk

    def wrong(self, found: Found, folder: Path) -> list[str]:
        """What is wrong with a disk after a power loss."""
        try:
            return [*self.problems(found.lay_out(folder), found.marks)]
        except SaecError as error:
            return [f"{type(error).__name__}: {error}"]
        finally:
            shutil.rmtree(folder)


class Publication(Drill):
    """A version is committed and released."""

    def __init__(self, *, first: bool = False) -> None:
        self.first = first

    def before(self, folder: Path) -> None:
        """An earlier version is live, unless this is the first."""
        if not self.first:
            publish(open_store(folder), HOUR, b"first hour")

    def act(self, folder: Path, disk: Disk | None = None) -> None:
        """As the step `publish` does, and the run before it."""
        store = open_store(folder)
        store.remove_orphans()
        version = commit_version(store, HOUR + 1, b"second hour")
        if disk:
            disk.mark(f"committed {version}")
        store.publish(version, actor="run", reason="passed", fence=1)
        if disk:
            disk.mark(f"published {version}")

    def problems(self, folder: Path, marks: tuple[str, ...]) -> Iterator[str]:
        """The live version is the old or the new one, whole; what was said to be done is done; it can be done again."""
        store = open_store(folder)
        yield from broken(store)
        live = store.live()
        if live is None and not self.first:
            yield "nothing is live any more"
        for what, version in (mark.split() for mark in marks):
            if version not in store.versions():
                yield f"{version} was {what} and is gone"
            if what == "published" and (live is None or live.version != version):
                yield f"{version} was published and is not live"
        self.act(folder)
        again = store.live()
        if again is None or again.version != store.versions()[-1]:
            yield "publishing again did not publish"
        yield from broken(store)
        if list(store.objects.scratch.iterdir()):
            yield "something is left in the staging folder"


class Rollback(Publication):
    """A person goes back to the version before."""

    def before(self, folder: Path) -> None:
        """Two versions were live, one after the other."""
        super().before(folder)
        super().act(folder)

    def act(self, folder: Path, disk: Disk | None = None) -> None:
        """As `saec rollback` does."""
        store = open_store(folder)
        release = store.rollback(store.versions()[0], actor="ann", reason="worse")
        if disk:
            disk.mark(f"published {release.version}")

    def problems(self, folder: Path, marks: tuple[str, ...]) -> Iterator[str]:
        """What is live is whole; a rollback that was said to be done holds."""
        store = open_store(folder)
        yield from broken(store)
        live = store.live()
        if live is None or (marks and (live.version != marks[-1].split()[1] or not live.held)):
            yield "the rollback was done and does not hold"


class Retention(Drill):
    """Old versions are removed."""

    def before(self, folder: Path) -> None:
        """Four versions were live, one after the other."""
        for number in range(4):
            publish(open_store(folder), HOUR + number, b"%d" % number)

    def act(self, folder: Path, disk: Disk | None = None) -> None:
        """As the end of an hour does."""
        open_store(folder).retain(2)

    def problems(self, folder: Path, marks: tuple[str, ...]) -> Iterator[str]:
        """What is listed is whole, and it can be done again."""
        store = open_store(folder)
        yield from broken(store)
        self.act(folder)
        store.remove_orphans()
        if len(store.versions()) != 2 or len(list((folder / "versions").iterdir())) != 2:
            yield "retention leaves something"
        yield from broken(store)


class Checkpointing(Drill):
    """An hour's training state is saved."""

    def before(self, folder: Path) -> None:
        """The hour before has its state."""
        self._save(folder, HOUR)

    def act(self, folder: Path, disk: Disk | None = None) -> None:
        """As the steps `train` and `retrain` do."""
        name = self._save(folder, HOUR + 1)
        if disk:
            disk.mark(name)

    def problems(self, folder: Path, marks: tuple[str, ...]) -> Iterator[str]:
        """Every checkpoint that has its name is whole, and one that was said to be saved is there."""
        checkpoints = Checkpoints(folder / "checkpoints")
        for name in {*marks, *(path.stem for path in checkpoints.folder.glob("[!.]*.safetensors"))}:
            checkpoints.load(name)
        return iter(())

    @staticmethod
    def _save(folder: Path, hour: Hour) -> str:
        arrays = {"table.vectors": np.full((2, 3), hour.index, np.float32)}
        return Checkpoints(folder / "checkpoints").save(hour, "original", Snapshot(arrays, None))


class FirstCheckpoint(Checkpointing):
    """The same, when there is no folder of checkpoints yet."""

    def before(self, folder: Path) -> None:
        """Nothing was done yet."""


def publish(store: ModelStore, hour: Hour, content: bytes) -> str:
    """Commit a version and make it live."""
    version = commit_version(store, hour, content)
    store.publish(version, actor="run", reason="passed", fence=1)
    return version


def broken(store: ModelStore) -> Iterator[str]:
    """What is wrong with what readers may see."""
    live = store.live()
    if live and live.version:
        yield from (f"live: {problem}" for problem in store.verify(live.version))
    for version in store.versions():
        yield from (f"{version}: {problem}" for problem in store.verify(version))


DRILLS = {
    "publication": Publication(),
    "first publication": Publication(first=True),
    "rollback": Rollback(),
    "retention": Retention(),
    "checkpoint": Checkpointing(),
    "first checkpoint": FirstCheckpoint(),
}


def power_losses(
    drill: Drill, patch: pytest.MonkeyPatch, folder: Path, draw: random.Random, kill_at: int = 0
) -> Iterator[list[str]]:
    """What is wrong with each disk that a power loss may leave of a drill."""
    for number, found in enumerate(drill.record(patch, folder / "recorded", kill_at).found(draw)):
        yield drill.wrong(found, folder / f"{number}")
    shutil.rmtree(folder / "recorded")
