"""Simulates power losses: records every change to a disk, then builds each state in which the disk could be found.

Decisions: the disk is as forgetful as POSIX allows. A name that was made, moved or removed counts only once its folder
was fsynced; till then any subset of such changes may have happened, in any order, a rename's two halves apart. What is
in a file counts once it was fsynced; till then it may be what it was, nothing, half or all of what was written.
Recorded by standing in for the functions of os that change names or sync, so the writes of any library are seen at its
file's next rename, link or fsync. The order of calls decides, not their time, so nothing here depends on a clock.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest

MOST_CHOICES = 64
"""Of more states after one call than this, so many are drawn at random."""
ROOT = 0


class Killed(BaseException):
    """The process is dead: no except, finally or with block of it has any effect on the disk."""


@dataclass(frozen=True)
class Event:
    """One change of the disk, or a sync."""

    kind: str
    """folder (is made), link, unlink, sync (of a folder), write, fsync (of a file), mark."""
    node: int = ROOT
    """The folder whose name changes or is synced; the file that is written or synced."""
    name: str = ""
    target: int | None = None
    """What the name stands for from now on; None when it is removed."""
    data: bytes = b""


@dataclass
class Found:
    """A disk after a power loss."""

    files: dict[str, bytes]
    folders: list[str]
    marks: tuple[str, ...]
    """What the program had been told was done."""

    def lay_out(self, root: Path) -> Path:
        """Write it into a folder that does not exist yet."""
        root.mkdir()
        for name in self.folders:
            (root / name).mkdir()
        for name, data in self.files.items():
            (root / name).write_bytes(data)
        return root

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from another."""
        return (*sorted(self.files.items()), *self.folders, self.marks)


class Disk:
    """Records every change below a folder, which is taken to be safely on the disk at the beginning."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path, kill_at: int = 0) -> None:
        self.root, self.events, self.calls, self.kill_at = root.resolve(), [], 0, kill_at
        self._nodes: dict[str, int] = {}
        self._content: dict[int, bytes] = {}
        self._folders: set[int] = set()
        self._count = 0
        for path in [self.root, *sorted(self.root.rglob("*"))]:
            self._appeared(path)
        self.start = len(self.events)
        for name, record in {
            "mkdir": self._made,
            "replace": self._moved,
            "rename": self._moved,
            "link": self._linked,
            "unlink": self._removed,
            "rmdir": self._removed,
            "fsync": self._synced,
        }.items():
            patch.setattr(os, name, self._wrap(getattr(os, name), record))

    def mark(self, what: str) -> None:
        """Note that the program was told that something is done."""
        self.events.append(Event("mark", name=what))

    def revive(self) -> None:
        """A new process on the same machine: what the killed one did is there, though not yet safely on the disk."""
        self.kill_at = 0

    def _wrap(self, real: Any, record: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.kill_at and self.calls >= self.kill_at:
                raise Killed
            if record == self._synced:  # before the descriptor is gone, and its data read as it is now
                return record(real, *args)
            path = [self._path(arg, options) for arg in args if isinstance(arg, str | Path)]
            if record in (self._moved, self._linked):
                self._look(path[0])
            result = real(*args, **options)
            record(*path)
            return result

        return call

    @staticmethod
    def _path(given: str | Path, options: dict[str, Any]) -> Path:
        """The whole path of an argument, which may be relative to an open folder."""
        folder = options.get("dir_fd")
        return Path(given) if folder is None else Path(f"/proc/self/fd/{folder}").readlink() / given

    def _node(self, path: Path) -> int | None:
        return self._nodes.get(str(path))

    def _look(self, path: Path) -> int | None:
        """Notice a file that a library made or wrote since it was last looked at."""
        if not path.is_relative_to(self.root) or not path.exists():
            return self._node(path)
        node = self._node(path)
        if node is None:
            return self._appeared(path)
        if node not in self._folders and (data := path.read_bytes()) != self._content[node]:
            self._content[node] = data
            self.events.append(Event("write", node, data=data))
        return node

    def _appeared(self, path: Path) -> int:
        """A name that was not known yet."""
        node, self._count = self._count, self._count + 1
        self._nodes[str(path)] = node
        if path.is_dir():
            self._folders.add(node)
            self.events.append(Event("folder", node))
        else:
            self._content[node] = path.read_bytes()
            self.events.append(Event("write", node, data=self._content[node]))
        if path != self.root:
            self.events.append(Event("link", self._nodes[str(path.parent)], path.name, node))
        return node

    def _made(self, path: Path) -> None:
        self._look(path)

    def _linked(self, source: Path, target: Path) -> None:
        if target.is_relative_to(self.root):
            node = self._nodes[str(source)]
            self._nodes[str(target)] = node
            self.events.append(Event("link", self._nodes[str(target.parent)], target.name, node))

    def _moved(self, source: Path, target: Path) -> None:
        self._linked(source, target)
        self._removed(source)

    def _removed(self, path: Path) -> None:
        if self._nodes.pop(str(path), None) is not None:
            self.events.append(Event("unlink", self._nodes[str(path.parent)], path.name))

    def _synced(self, real: Any, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        node = self._look(path)
        real(descriptor)
        if node is not None:
            self.events.append(Event("sync" if node in self._folders else "fsync", node))

    def found(self, draw: random.Random) -> Iterator[Found]:
        """Every disk that a power loss may leave, after each call in turn; each once."""
        state = _State()
        seen: set[tuple[Any, ...]] = set()
        for index, event in enumerate(self.events):
            state.take(event, safe=index < self.start)
            if index < self.start - 1:
                continue
            for disk in state.possible(draw):
                if disk.key not in seen:
                    seen.add(disk.key)
                    yield disk


@dataclass
class _State:
    """What is safely on the disk, and what is still to come."""

    names: dict[tuple[int, str], int] = field(default_factory=dict)
    pending_names: list[Event] = field(default_factory=list)
    content: dict[int, bytes] = field(default_factory=dict)
    pending_content: dict[int, bytes] = field(default_factory=dict)
    folders: set[int] = field(default_factory=set)
    marks: tuple[str, ...] = ()

    def take(self, event: Event, *, safe: bool) -> None:
        """Go on by one event; a safe one needs no sync."""
        if event.kind == "folder":
            self.folders.add(event.node)
        elif event.kind == "mark":
            self.marks = (*self.marks, event.name)
        elif event.kind == "write":
            (self.content if safe else self.pending_content)[event.node] = event.data
        elif event.kind == "fsync":
            self.content[event.node] = self.pending_content.pop(event.node, self.content.get(event.node, b""))
        elif event.kind in ("link", "unlink"):
            self.pending_names.append(event)
            if safe:
                self._settle(event.node)
        else:
            self._settle(event.node)

    def _settle(self, folder: int) -> None:
        """The names of a folder are on the disk."""
        _apply(self.names, [event for event in self.pending_names if event.node == folder])
        self.pending_names = [event for event in self.pending_names if event.node != folder]

    def possible(self, draw: random.Random) -> Iterator[Found]:
        """Disks that may be found now: any of the pending names with any content of the files that are not synced."""
        files = sorted(self.pending_content)
        contents = [self._contents(node) for node in files]
        choices = [[False, True]] * len(self.pending_names) + [range(len(each)) for each in contents]
        total = 1
        for choice in choices:
            total *= len(choice)
        picks = (
            product(*choices)
            if total <= MOST_CHOICES
            else (tuple(draw.choice(choice) for choice in choices) for _ in range(MOST_CHOICES))
        )
        for pick in picks:
            taken = [event for event, there in zip(self.pending_names, pick, strict=False) if there]
            chosen = dict(zip(files, pick[len(self.pending_names) :], strict=True))
            now = {node: contents[files.index(node)][index] for node, index in chosen.items()}
            yield self._tree(taken, self.content | now)

    def _contents(self, node: int) -> list[bytes]:
        """What may be in a file that is not synced."""
        new = self.pending_content[node]
        return sorted({self.content.get(node, b""), b"", new[: len(new) // 2], new})

    def _tree(self, taken: list[Event], content: dict[int, bytes]) -> Found:
        """The files that can be reached from the root."""
        names = dict(self.names)
        _apply(names, taken)
        children: dict[int, list[tuple[str, int]]] = {}
        for (folder, name), node in names.items():
            children.setdefault(folder, []).append((name, node))
        files, folders, todo = {}, [], [("", ROOT)]
        for prefix, folder in todo:
            for name, node in sorted(children.get(folder, [])):
                if node in self.folders:
                    folders.append(prefix + name)
                    todo.append((f"{prefix}{name}/", node))
                else:
                    files[prefix + name] = content.get(node, b"")
        return Found(files, folders, self.marks)


def _apply(names: dict[tuple[int, str], int], events: list[Event]) -> None:
    """Change names in order."""
    for event in events:
        if event.target is None:
            names.pop((event.node, event.name), None)
        else:
            names[event.node, event.name] = event.target
