"""Bytes over the wire from version to version of a store: whole, compressed, and as a delta; by file.

Every delta is applied, and what comes out compared with the full version byte for byte. Versions follow each other as
they lie in the store, oldest hour first: the way of a server that takes each of them.

    saec run --config configs/globo.yaml
    python -m benchmarks.deltas workspace/globo/store
"""

from __future__ import annotations

import json
import lzma
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
from safetensors.numpy import load

from benchmarks.record import Figures
from saec.store.delta import apply_delta, make_delta
from saec.store.model_store import open_store

DELTA, WHOLE = "delta", "whole version"


@dataclass(frozen=True)
class Step:
    """From one version to the next."""

    whole: dict[str, int]
    """Bytes of each file of the new version."""
    packed: dict[str, int]
    """The same, each compressed by itself."""
    carried: dict[str, int]
    """Bytes that the delta has for each."""
    methods: dict[str, str]
    total: int
    """Bytes of the delta, its header included."""
    seconds: tuple[float, float]
    """To make it and to apply it."""
    exact: bool
    """Whether base and delta gave the full version, to the byte."""


def step(base: Path, new: Path) -> Step:
    """Make, apply and compare one delta."""
    start = time.perf_counter()
    delta = make_delta(base, new)
    made = time.perf_counter()
    files = {path.name: path.read_bytes() for path in new.iterdir()}
    with tempfile.TemporaryDirectory() as out:
        begun = time.perf_counter()
        folder = apply_delta(base, delta, Path(out))
        applied = time.perf_counter()
        exact = files == {path.name: path.read_bytes() for path in folder.iterdir()}
    about = json.loads(delta[8 : 8 + int.from_bytes(delta[:8], "little")])["__metadata__"]["delta"]
    payloads = load(delta)
    return Step(
        whole={name: len(data) for name, data in files.items()},
        packed={name: len(lzma.compress(data)) for name, data in files.items()},
        carried={name: payloads[name].size if name in payloads else 0 for name in files},
        methods=json.loads(about)["methods"],
        total=len(delta),
        seconds=(made - start, applied - begun),
        exact=exact,
    )


def add_bytes(figures: Figures, name: str, found: list[int], whole: list[int]) -> None:
    """Median and 90% quantile of some bytes, and their median share of those of the whole version."""
    figures.add(f"{name}, median", float(np.median(found)), "bytes")
    figures.add(f"{name}, 90% quantile", float(np.quantile(found, 0.9)), "bytes")
    if found is not whole:
        figures.add(f"{name}, share of the whole version", float(np.median(np.divide(found, whole))), "share")


def report(figures: Figures, steps: list[Step]) -> None:
    """Add the figures of all steps."""
    whole = [sum(one.whole.values()) for one in steps]
    figures.add("versions that follow another", len(steps), "versions")
    add_bytes(figures, WHOLE, whole, whole)
    add_bytes(figures, f"{WHOLE}, each file compressed by xz", [sum(one.packed.values()) for one in steps], whole)
    add_bytes(figures, DELTA, [one.total for one in steps], whole)
    for name in sorted({name for one in steps for name in one.whole}):
        having = [one for one in steps if name in one.whole]
        of_file = [one.whole[name] for one in having]
        add_bytes(figures, f"{name}, whole", of_file, of_file)
        add_bytes(figures, f"{name}, in the delta", [one.carried[name] for one in having],
                  [sum(one.whole.values()) for one in having])
        methods = Counter(one.methods[name] for one in having)
        figures.add(f"{name}, how", ", ".join(f"{how} {count}" for how, count in methods.most_common()), "deltas")
    for number, done in enumerate(("made", "applied")):
        figures.add(f"{done} in, median", float(np.median([one.seconds[number] for one in steps])), "s")
    exact = sum(one.exact for one in steps)
    figures.add("base and delta give the full version to the byte", exact, "deltas", f"= {len(steps)}",
                exact == len(steps))


@click.command()
@click.argument("store")
def main(store: str) -> None:
    """Measure the deltas between all versions of a store."""
    versions = open_store(store)
    folders = [versions.open(version) for version in versions.versions()]
    if len(folders) < 2:
        raise click.UsageError(f"{store} has fewer than two versions; let some hours publish first")
    figures = Figures("deltas")
    report(figures, [step(base, new) for base, new in pairwise(folders)])
    figures.finish()


if __name__ == "__main__":
    main()
