"""Measures memory, seconds and bytes of an hour on training states of millions of features.

The figures show what grows with the hour and what grows with the state. A state over four fields, in which every
feature has a row of 16 numbers, is written as a whole checkpoint without ever being in memory. Every third feature has
a frequency of its own. Then an hour of 50,000 rows is done on it in a process of its own, which reads everything first:

- write: the state, as the hour that ends a chain of checkpoints writes it, in a process of its own;
- open: the checkpoint's bytes are compared with the digest in its name, and mapped;
- train: features looked up and admitted, rows scored and learnt, as in `saec.steps.train`;
- save: the hour's delta;
- choose: how features came back is counted, and the head is chosen at the cut and at the hour's end, by the dial;
- cluster: the heads of both moments, in the second hour from the clusters of the first;
- index: both heads;
- then, apart from the hour, choosing a head that is the same at all sizes ("choose-alike").

What an hour has besides follows its rows. Clustering and the index follow the head, which the dial makes a share of
the state, so the sum of the hour leaves them out. Features of the hour lie at random places of the state, and a tenth
of the cells are new ones, so each feature that the hour touches costs a page, which is the worst case. The second hour
is done in the same process. Memory is the most that was resident, pages of files included (VmHWM), before clustering
("peak") and at the end. Seconds are CPU seconds, so that a busy neighbour counts for little; of the wall where it says
so.

    python -m benchmarks.scale                       # 1, 5 and 20 million
    python -m benchmarks.scale --features 100000000  # 26 GB of disk
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.record import Figures
from saec.compression.codebooks import Centroids
from saec.compression.codes import Standards
from saec.compression.dial import Allowance
from saec.compression.fields import Clusters, cluster_fields
from saec.compression.heads import scores
from saec.compression.index import RetrievalIndex
from saec.compression.moments import Choice, HourPast, Moment
from saec.compression.quantised import code_bits
from saec.config import Config
from saec.data.keymap import KeyRun
from saec.data.paged import CHUNK
from saec.data.rows import EncodedRows
from saec.hours import Hour
from saec.model.table import first_values
from saec.train.original import Original
from saec.train.tensors import Snapshot, learner_state
from saec.workspace import Workspace

SIZES = (1_000_000, 5_000_000, 20_000_000)
FIELDS, WIDTH, ROWS, SEED = 4, 16, 50_000, 1
NEW_SHARE = 0.1
RATIO = 200.0
SAME_HEAD = 150_000
"""Features of the head that is the same at all sizes; about as many as the dial gives for a million features."""
FIRST = Hour.parse("2026-01-02T05")
MOST_BYTES, MOST_TIMES = 4 << 30, 3
"""Targets for 100 million features: peak memory, and the hour's time over that for a million."""


class Made:
    """A long array that is made as it is written."""

    def __init__(self, kind: type, shape: tuple[int, ...], make: Callable[[NDArray[np.int64]], NDArray[Any]]) -> None:
        """An array whose elements at some places `make` gives."""
        self.dtype, self.shape, self._make = np.dtype(kind), shape, make

    def parts(self) -> Iterator[NDArray[Any]]:
        """All elements, some at a time."""
        for start in range(0, self.shape[0], CHUNK):
            yield self._make(np.arange(start, min(start + CHUNK, self.shape[0]))).astype(self.dtype)


def settings(folder: Path) -> Config:
    """Four plain fields under a small network."""
    return Config.model_validate(
        {
            "workspace": str(folder),
            "threads": 1,
            "data": {"source": "nowhere", "time_column": "time", "label_column": "clicked"},
            "fields": [{"name": f"field{number}"} for number in range(FIELDS)],
            "model": {"width": WIDTH, "hidden": [64, 32]},
            "vocabulary": {"admit_after": 1},
        }
    )


def key_of(ids_N: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Keys as even as hashes, distinct for distinct ids: an odd multiple, turned and multiplied again."""
    keys_N = (ids_N.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return (keys_N ^ (keys_N >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)


def frequency_of(ids_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often features were seen: some a thousand times, half of them about once."""
    fractions_N = np.where(ids_N % 3 == 0, ids_N * 0.6180339887 % 1, 0)
    return np.asarray(1 + 1000 // (1 + ids_N % 1000) + fractions_N)


def write_whole(folder: Path, name: str, shards: int) -> dict[str, Any]:
    """Write a state once more as a whole checkpoint in so many shards, in this process; its name is under `name`."""
    torch.set_num_threads(1)
    workspace = Workspace(settings(folder))
    original = workspace.take_original(name)
    started = time.process_time()
    if shards > 1:
        original.reshard(shards)
    dealt = time.process_time()
    original.touched_all()
    written = workspace.checkpoints.save(FIRST, "original", original.snapshot())
    return {"name": written, "deal": dealt - started, "write": time.process_time() - dealt, "peak": peak()}


def build(workspace: Workspace, features: int) -> str:
    """Write the whole checkpoint of a state of so many features; returns its name."""
    original = Original(workspace.config)
    shared, shared_VD = original.vocabulary.shared, original.table.vectors_VD
    run = KeyRun.of(key_of(np.arange(features)))

    some_ND = first_values(key_of(np.arange(CHUNK)), WIDTH, SEED)  # and over again: what they are costs nothing

    def vectors(rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        own = some_ND[(rows_N - shared) % CHUNK]
        own[rows_N < shared] = shared_VD[rows_N[rows_N < shared]]
        return own

    arrays: dict[str, Any] = {
        "vocabulary.keys_V": Made(np.uint64, (features,), key_of),
        "vocabulary.fields_V": Made(np.uint16, (features,), lambda ids_N: ids_N % FIELDS),
        "vocabulary.sightings_V": Made(np.uint32, (features,), lambda ids_N: 1 + 1000 // (1 + ids_N % 1000)),
        "vocabulary.frequency_V": Made(np.float32, (features,), frequency_of),
        "vocabulary.last_seen_V": Made(np.int32, (features,), lambda ids_N: FIRST.index - 1 - ids_N // FIELDS % 300),
        "vocabulary.row_V": Made(np.int64, (features,), lambda ids_N: shared + ids_N),
        "table.vectors_VD": Made(np.float32, (shared + features, WIDTH), vectors),
        "table.squares_V": Made(np.float32, (shared + features,), lambda rows_N: 1 / (1.0 + rows_N)),
        "run.keys_V": run.keys_V,
        "run.ids_V": run.ids_V,
        "run_starts.starts": run.starts,
    }
    return workspace.checkpoints.save(FIRST, "original", Snapshot(arrays | learner_state(original.learner)))


def rows_of(hour: Hour, features: int) -> EncodedRows:
    """An hour's rows, in four fields, a tenth of the cells new."""
    random = np.random.default_rng(hour.index)
    ids_BF = random.integers(0, features // FIELDS, (ROWS, FIELDS)) * FIELDS + np.arange(FIELDS)
    new_BF = random.random((ROWS, FIELDS)) < NEW_SHARE
    ids_BF[new_BF] += features * (1 + hour.index - FIRST.index)
    times_B = hour.start_ms + np.arange(ROWS)
    return EncodedRows((random.random(ROWS) < 0.2).astype(np.uint8), times_B, key_of(ids_BF))


Heads = list[tuple[Moment, Choice, int]]
"""Of the cut and of the hour's end: the moment, the head, and the most codewords of a field."""


def choose(past: HourPast, most: int | None) -> Heads:
    """Count how features came back, and choose the head at the cut and at the end: so many, or by the dial."""
    standards = Standards.start(FIELDS, WIDTH)
    scored = partial(scores, returns=past.returned(standards.returns), worth=standards.worth)
    heads = []
    for end in (False, True):
        moment = past.moment(end=end)
        allowance = Allowance.of(past.original.config, moment.rows, RATIO)
        head, _ = moment.best(scored, most or allowance.features, [])
        heads.append((moment, head[head.candidates.own_N], allowance.codewords))
    return heads


def clustered(config: Config, heads: Heads, before: Clusters | None, coded: RetrievalIndex | None) -> list[Clusters]:
    """The clusters of both heads, from those of the hour before and the codes that its index gives."""
    found = []
    for moment, head, codewords in heads:
        known, codes_H = head.candidates, np.zeros(len(head), np.int16)
        if coded is not None:
            codes_H = (coded.lookup(head.keys_N) + 1).astype(np.int16)
        centroids = Centroids.empty(FIELDS, WIDTH) if before is None else before.centroids
        drawn_errors_F = np.full(FIELDS, np.inf) if before is None else before.drawn_errors_F
        vectors_HD = moment.vectors(head)
        found.append(
            cluster_fields(
                config, vectors_HD, known.fields_N, known.frequency_N, centroids, drawn_errors_F, codewords, codes_H
            )
        )
    return found


def indexed(config: Config, heads: Heads, clusters: list[Clusters]) -> RetrievalIndex:
    """The indexes of both heads; returns that of the hour's end."""
    for (_, head, _), found in zip(heads, clusters, strict=True):
        index = RetrievalIndex.build(
            head.keys_N,
            found.codes_H - 1,
            code_bits=code_bits(found.centroids.counts_F),
            fingerprint_bits=config.compression.fingerprint_bits,
        )
    return index


def do_hours(folder: Path, name: str, features: int) -> dict[str, float]:
    """Two hours in this process; what each stage took."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    workspace = Workspace(settings(folder))
    took: dict[str, float] = {}
    clusters: list[Clusters | None] = [None]
    index = None
    begun = time.perf_counter()
    for number, which in enumerate(("first", "second"), 1):
        started, hour = time.process_time(), FIRST + number

        def done(stage: str, which: str = which) -> None:
            nonlocal started
            took[f"{which} {stage}"] = time.process_time() - started
            started = time.process_time()

        rows = rows_of(hour, features)
        started = time.process_time()
        original = workspace.take_original(name)
        done("open")
        prepared = original.prepare(hour, rows)
        original.score(prepared)
        at_cut = original.learn(hour, rows, prepared, ROWS * 9 // 10)
        done("train")
        name = workspace.save_original(hour, original, name)
        done("save")
        written = workspace.checkpoints.folder.glob(f"{hour.compact}-*.safetensors")
        took[f"{which} delta"] = sum(path.stat().st_size for path in written)
        past = HourPast(original, hour, rows.keys_BS, ROWS * 9 // 10, at_cut)
        heads = choose(past, None)
        done("choose")
        took[f"{which} head"] = len(heads[-1][1])
        took[f"{which} peak"] = peak()
        clusters = [*clustered(workspace.config, heads, clusters[-1], index)]
        done("cluster")
        index = indexed(workspace.config, heads, clusters)
        done("index")
        took[f"{which} peak-indexed"] = peak()
        heads = choose(HourPast(original, hour, rows.keys_BS, ROWS * 9 // 10, at_cut), SAME_HEAD)
        done("choose-alike")
        took[f"{which} head-alike"] = len(heads[-1][1])
        took[f"{which} wall"] = time.perf_counter() - begun
        begun = time.perf_counter()
    return took


def peak() -> int:
    """Most bytes that were resident in this process so far; a child's rusage would begin at its parent's."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(lines["VmHWM"].split()[0]) << 10


def alone(*arguments: str) -> dict[str, Any]:
    """What this module prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", *arguments]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


def measure(figures: Figures, features: int, shards: int) -> tuple[float, float]:
    """Add the figures of one size; returns the seconds of the first hour with the dial's head and with the same."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(settings(Path(folder)))
        written = alone("--whole-of", folder, build(workspace, features), str(shards))
        name = written.pop("name")
        workspace.checkpoints.retain([name])
        whole = sum(path.stat().st_size for path in workspace.checkpoints.folder.glob("*.safetensors"))
        what = f"{features:,} features" + (f" in {shards} shards" if shards > 1 else "")
        figures.add(f"{what}, whole checkpoint", whole / features, "B/feature")
        figures.add(f"{what}, largest file", workspace.checkpoints.largest(), "bytes")
        took = {f"whole {what}": value for what, value in written.items()}
        took |= alone("--hours-of", folder, name, str(features))
    for stage, value in took.items():
        unit = {
            "head": "features",
            "head-alike": "features",
            "delta": "bytes",
            "peak": "bytes",
            "peak-indexed": "bytes",
        }.get(stage.split()[1], "s")
        wanted = stage == "first peak" and features == 100_000_000
        figures.add(
            f"{what}, {stage}",
            value,
            unit,
            f"<= {MOST_BYTES}" if wanted else None,
            value <= MOST_BYTES if wanted else None,
        )
    hour = sum(took[f"first {stage}"] for stage in ("open", "train", "save"))
    return hour + took["first choose"], hour + took["first choose-alike"]


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--features", type=int, multiple=True, default=SIZES)
@click.option("--shards", type=int, default=1, help="In how many shards the state lies.")
@click.option("--hours-of", type=(Path, str, int), hidden=True, help="Do the hours in this process, print the figures.")
@click.option("--whole-of", type=(Path, str, int), hidden=True, help="Write the whole state in this process, likewise.")
def main(
    features: tuple[int, ...],
    shards: int,
    hours_of: tuple[Path, str, int] | None,
    whole_of: tuple[Path, str, int] | None,
) -> None:
    """Measure every size."""
    if hours_of or whole_of:
        print(json.dumps(do_hours(*hours_of) if hours_of else write_whole(*whole_of)))  # type: ignore[misc]
        return
    figures, seconds = Figures("scale"), {}
    for count in features:
        seconds[count] = measure(figures, count, shards)
        for head, found, first in zip(
            ("the dial's", "the same"), seconds[count], next(iter(seconds.values())), strict=True
        ):
            figures.add(f"{count:,} features, first hour, {head} head", found, "s")
            most = count == 100_000_000 and len(seconds) > 1
            figures.add(
                f"{count:,} features, first hour, {head} head, over that of the first size",
                found / first,
                "times",
                f"<= {MOST_TIMES}" if most else None,
                found / first <= MOST_TIMES if most else None,
            )
    figures.finish()


if __name__ == "__main__":
    main()
