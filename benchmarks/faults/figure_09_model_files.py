"""Damaged and hand-made model files: none is accepted, no code of theirs is run.

Decisions: mutations are of a real version's four files and its manifest, and of the folder they lie in (a file taken
away, added, exchanged, replaced by a link to itself); each must be found by `verify` and refused by `open`. A flawless
version of malicious files, whose digests all fit, is what somebody with write access can make: there the meaning of the
files is what is refused. An audit hook counts what a pickle would have called.
"""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from benchmarks.faults.mutations import BLIND, mutated
from benchmarks.record import Figures
from saec.errors import SaecError
from saec.serving import Model
from saec.serving.files import CODEBOOKS, INDEX, NETWORK, SCHEMA
from saec.store.manifest import MANIFEST
from saec.store.model_store import ModelStore
from tests.conftest import Site

FOLDER_FAULTS = ("missing", "added", "exchanged", "linked", "folder linked")
RAN: list[str] = []
"""What a malicious file got to run."""


def ran(what: str) -> None:
    """Note that code of a file was run."""
    RAN.append(what)


class Payload:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """What a pickle calls."""
        return ran, ("a pickle",)


def damage(version: Path, sound: dict[str, bytes], seed: int, number: int) -> str:
    """Damage a version as a mutation's number says; returns what was done."""
    names = sorted(sound)
    name, other = names[number % len(names)], names[(number + 1) % len(names)]
    fault = FOLDER_FAULTS[number // 50 % len(FOLDER_FAULTS)] if number % 50 == 0 else ""
    match fault:
        case "missing":
            (version / name).unlink()
        case "added":
            (version / "extra.safetensors").write_bytes(sound[name])
        case "exchanged":
            (version / name).write_bytes(sound[other])
            (version / other).write_bytes(sound[name])
        case "linked":
            (version / name).rename(version.parent / "elsewhere")
            (version / name).symlink_to(version.parent / "elsewhere")
        case "folder linked":
            version.rename(version.parent / "elsewhere")
            version.symlink_to(version.parent / "elsewhere")
        case _:
            kind, data = mutated(sound[name], BLIND, seed, number)
            (version / name).write_bytes(data)
            return f"{name}: {kind}"
    return f"{name}: {fault}"


def accepted(store: ModelStore, version: str) -> list[str]:
    """Which of the two ways to a version's files let it through; any error but the store's own is one too."""
    ways: dict[str, Callable[[], object]] = {
        "verify": lambda: store.verify(version),
        "open": lambda: store.open(version),
    }
    found = []
    for name, way in ways.items():
        try:
            problems = way()
        except SaecError:
            continue
        except Exception as error:  # noqa: BLE001 - it was not refused but broke something
            found.append(f"{name}: {type(error).__name__}")
            continue
        if name == "open" or not problems:
            found.append(name)
    return found


def mutate(site: Site, seed: int, mutations: int) -> list[str]:
    """Damage the live version again and again; returns what was accepted."""
    store, live = site.store, site.live
    assert live is not None
    whole = store.open(live)
    versions, sound = whole.parent, {path.name: path.read_bytes() for path in whole.iterdir()}
    found = []
    for number in range(mutations):
        done = damage(whole, sound, seed, number)
        found += [f"{done}: accepted by {way}" for way in accepted(store, live)]
        for path in (whole, versions / "elsewhere"):
            path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path, ignore_errors=True)
        whole.mkdir()
        for name, data in sound.items():
            (whole / name).write_bytes(data)
    assert store.verify(live) == [], "a sound version is not refused"
    return found


def tensors(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    """A safetensors file of any header."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


def malicious(files: dict[str, bytes], arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Versions that are whole by their digests and malicious by what is in them."""
    network = next(iter(arrays))
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    crafted = {
        "pickle": pickle.dumps(Payload()),
        "pickle in a header": tensors(pickle.dumps(Payload())),
        "huge header": (50 << 20).to_bytes(8, "little") + b'{"a":1}' + b" " * 4096,
        "header longer than the file": (1 << 19).to_bytes(8, "little") + b"{}",
        "header of 2^64-1 bytes": b"\xff" * 8 + b"{}",
        "long header, whole": tensors({"x" * (2 << 20): entry}, bytes(16)),
        "overlapping offsets": tensors({network: entry, "other": {**entry, "data_offsets": [8, 24]}}, bytes(24)),
        "offsets beyond the end": tensors({network: {**entry, "data_offsets": [0, 1 << 40]}}, bytes(16)),
        "negative offsets": tensors({network: {**entry, "data_offsets": [-16, 0]}}, bytes(16)),
        "shape that overflows": tensors({network: {**entry, "shape": [1 << 62, 1 << 62]}}, bytes(16)),
        "unknown type": tensors({network: {**entry, "dtype": "PICKLE"}}, bytes(16)),
        "deep nesting": tensors(b'{"__metadata__":' + b"[" * 100_000, b""),
        "names out of the folder": tensors({"../../../etc/passwd": entry}, bytes(16)),
        "not finite": save({**arrays, "steps_P": np.full_like(arrays["steps_P"], np.nan)}),
        "another network": save({**arrays, "deep.0.weight": np.zeros((1, 1), np.float32)}),
        "nothing": b"",
    }
    for name, data in crafted.items():
        for file in (NETWORK, CODEBOOKS, INDEX):
            yield f"{name} as {file}", {**files, file: data}
    schema = json.loads(files[SCHEMA])
    schemas: dict[str, Any] = {
        "terabytes of network": {**schema, "model": {**schema["model"], "hidden": [10**6, 10**6]}},
        "a field named as a path": {**schema, "fields": [*schema["fields"][:-1], {"name": "../../x"}]},
        "unknown keys": {**schema, "exec": "import os"},
        "another format": {**schema, "format": 99},
        "a list": [schema],
    }
    for name, value in schemas.items():
        yield f"{name} as {SCHEMA}", {**files, SCHEMA: json.dumps(value).encode()}
    yield f"deep nesting as {SCHEMA}", {**files, SCHEMA: b"[" * 100_000}
    yield f"YAML with a tag as {SCHEMA}", {**files, SCHEMA: b"!!python/object/apply:os.system ['true']"}


def forge(site: Site) -> Iterator[tuple[str, bool]]:
    """Commit malicious versions and read them as a server would; each with whether it got through."""
    live = site.live
    assert live is not None
    folder, hour = site.store.open(live), site.hours[-1]
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}
    for name, forged in malicious(files, load_file(folder / NETWORK)):
        with site.store.stage() as staged:
            for file, data in forged.items():
                (staged / file).write_bytes(data)
            version = site.store.commit(staged, hour, {"forged": name})
        through = not refused(lambda version=version: Model.read(site.store.open(version)))
        yield name, through


def refused(way: Callable[[], object]) -> bool:
    """Whether something ends in one of the store's own errors."""
    try:
        way()
    except SaecError:
        return True
    except Exception as error:  # noqa: BLE001 - it was not refused but broke the reader
        print(f"  {type(error).__name__}: {error}")
    return False


def escapes(site: Site) -> Iterator[tuple[str, bool]]:
    """Names that lead out of the store, as a version and as a file in a manifest; each with whether it was accepted."""
    live = site.live
    assert live is not None
    names = ("..", "../..", "/etc/passwd", f"{live}/../..", f"{live}\0", f"{live}\n", "", ".", "a" * 300, f" {live}")
    for name in names:
        for way in (site.store.open, site.store.manifest, site.store.remove):
            yield f"{way.__name__} of version {name!r}", not refused(lambda way=way, name=name: way(name))
    for name in ("../x", "/etc/passwd", "a/b", ".hidden", "x" * 200, "manifest.json", "a\\..\\b", "a\0b"):
        manifest = site.store.manifest(live)
        manifest["files"][name] = next(iter(manifest["files"].values()))
        path = site.store.objects.root / "versions" / live / MANIFEST
        sound = path.read_bytes()
        path.write_text(json.dumps(manifest))
        yield f"a file named {name!r}", bool(accepted(site.store, live))
        path.write_bytes(sound)


@contextmanager
def audited() -> Iterator[list[str]]:
    """What was looked up by a pickle meanwhile; the hook stays, as Python has no way to take one off."""
    found: list[str] = []
    listening = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event in ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec"):
            found.append(f"{event} {arguments[:2]}")

    sys.addaudithook(hook)
    yield found
    listening = False


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Mutate, forge, escape."""
    mutations = 300 if short else 10_000
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        site.simulate(3)
        site.advance(site.hours[-1])
        with audited() as called:
            through = mutate(site, seed, mutations)
            forged, escaped = list(forge(site)), list(escapes(site))
    for what, count in Counter(through + called + [name for name, yes in forged + escaped if yes]).most_common(20):
        print(f"  {count} {what}")
    called += RAN
    pickle.loads(pickle.dumps(Payload()))  # noqa: S301 - our own: had it been unpickled before, that would have been seen
    seen = "a pickle" in RAN
    counted = {
        f"9. model-file mutations accepted, of {mutations:,}": len(through),
        f"9. hand-made malicious versions accepted, of {len(forged)}": sum(yes for _, yes in forged),
        f"9. names that led out of the store, of {len(escaped)}": sum(yes for _, yes in escaped),
    }
    for name, count in counted.items():
        figures.add(name, count, "accepted", "= 0", holds=count == 0)
    figures.add(
        "9. code run by them", len(called), "calls", "= 0, and a payload that runs is seen", holds=seen and not called
    )
