"""Damaged Parquet files: each is refused, or read as the very same rows; none ends the process.

    python -m benchmarks.faults.figure_08_parquet FOLDER SEED FIRST LAST    # the child: an outcome a line

Decisions: the file is what `saec simulate` writes, with page checksums. Mutations are read one after another in a child
process; the one in whose reading it dies is the next to those it has answered for, and a new child goes on after it.
"The same rows" is said of what would be learnt: labels, times and feature keys, byte for byte. Some mutations know the
format: pages dropped, doubled or exchanged with their headers and checksums whole, the footer of another hour, a footer
that names two columns the other way round. The last is a sound file of other rows, which only the producer's manifest
can tell: those mutations are read beside one, and must be refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from benchmarks.faults.mutations import BLIND, Draw, Mutation, mutated
from benchmarks.record import ROOT, Figures
from saec.config import Config
from saec.data.hourly_files import hour_file
from saec.data.ingest import read_rows
from saec.data.partitions import MANIFEST
from saec.data.rows import EncodedRows
from saec.data.simulate import Simulation, simulate_hours
from saec.errors import InputError
from saec.hours import Hour

HOUR = Hour.parse("2026-03-01T12")
MEMORY, SECONDS = 4 << 30, 30
"""What a child may use, and how long it may take over one file."""
SETTINGS = {
    "data": {
        "time_column": "event_time",
        "label_column": "clicked",
        "row_id_columns": ["impression_id"],
        "max_rows": 5_000,
        "max_bytes": 4 << 20,
    },
    "fields": [
        {"name": "user_id"},
        {"name": "item_id"},
        {"name": "item_tags", "kind": "list", "max_values": 4},
        {"name": "site_domain", "type": "string", "nullable": True},
        {"name": "device"},
        {"name": "price", "kind": "numeric", "type": "float"},
    ],
}
_ZSTD = b"\x28\xb5\x2f\xfd"


def pages(data: bytearray) -> list[slice]:
    """The pages of the file: from the start of one compressed block to that of the next, with the next one's header."""
    starts = [match.start() for match in re.finditer(re.escape(_ZSTD), data)]
    return [slice(one, other) for one, other in pairwise(starts)]


def drop_page(data: bytearray, draw: Draw) -> None:
    """A page taken out whole."""
    found = pages(data)
    del data[found[int(draw.integers(len(found)))]]


def double_page(data: bytearray, draw: Draw) -> None:
    """A page written twice."""
    found = pages(data)
    page = found[int(draw.integers(len(found)))]
    data[page.stop : page.stop] = data[page]


def exchange_pages(data: bytearray, draw: Draw) -> None:
    """Two pages, each whole, in the place of one another."""
    one, other = sorted(draw.choice(len(pages(data)), 2, replace=False))
    first, second = pages(data)[one], pages(data)[other]
    data[first.start : second.stop] = data[second] + data[first.stop : second.start] + data[first]


def footer(data: bytes | bytearray) -> slice:
    """Where the footer is."""
    length = int.from_bytes(data[-8:-4], "little")
    return slice(len(data) - 8 - length, len(data) - 8)


def flip_in_footer(data: bytearray, draw: Draw) -> None:
    """One bit of the footer, which has no checksum."""
    part = footer(data)
    data[int(draw.integers(part.start, part.stop))] ^= 1 << int(draw.integers(8))


def rename_columns(data: bytearray, draw: Draw) -> None:
    """Two columns named the other way round, everywhere: a sound file of other rows."""
    swapped = {b"user_id": b"item_id", b"item_id": b"user_id"} if draw.random() < 0.9 else {b"clicked": b"devices"}
    data[:] = re.sub(b"|".join(swapped), lambda match: swapped[match[0]], bytes(data))


AWARE: tuple[Mutation, ...] = (*BLIND, flip_in_footer, flip_in_footer, drop_page, double_page, exchange_pages)
PROMISED: tuple[Mutation, ...] = (flip_in_footer, rename_columns, exchange_pages)


class Delivery:
    """An hour's file in a folder, to be spoiled and read."""

    def __init__(self, folder: Path) -> None:
        self.config = Config.model_validate(
            SETTINGS | {"data": {**SETTINGS["data"], "source": str(folder / "data")}, "workspace": folder}
        )
        self.path = hour_file(folder / "data", HOUR)
        self.sound = (folder / "sound.parquet").read_bytes()
        self.other = (folder / "other.parquet").read_bytes()

    @staticmethod
    def simulate(folder: Path) -> None:
        """The sound file, and that of another hour."""
        made = simulate_hours(Simulation(seed=3, rows_per_hour=100, users=50, items=30), HOUR, 2, folder / "data")
        for hour, name in zip(made, ("sound", "other"), strict=True):
            hour.path.replace(folder / f"{name}.parquet")

    def mutation(self, seed: int, number: int) -> tuple[str, bytes, bool]:
        """A mutation by its number: its kind, the bytes, and whether the producer's manifest lies beside them."""
        if number % 20 == 0:
            return "other_footer", self._other_footer(), False
        promised = number % 20 == 1
        return *mutated(self.sound, PROMISED if promised else AWARE, seed, number), promised

    def _other_footer(self) -> bytes:
        """The pages of this hour under the footer of another."""
        return self.sound[: footer(self.sound).start] + self.other[footer(self.other).start :]

    def outcome(self, data: bytes, *, promised: bool) -> str:
        """What becomes of the hour with this file."""
        self.path.write_bytes(data)
        manifest = self.path.with_name(MANIFEST)
        manifest.unlink(missing_ok=True)
        if promised:
            entry = {"sha256": hashlib.sha256(self.sound).hexdigest()}
            manifest.write_text(json.dumps({"files": {self.path.name: entry}}), encoding="utf-8")
        try:
            rows = read_rows(self.config, HOUR)
        except InputError as error:
            return f"QUARANTINED({error.reason})"
        except Exception as error:  # noqa: BLE001 - any other way out is what is looked for
            return f"unclean: {type(error).__name__}"
        return "the same rows" if _learnt(rows) == self.learnt else "SILENT"

    @cached_property
    def learnt(self) -> tuple[bytes, ...]:
        """What is learnt from the sound file."""
        self.path.write_bytes(self.sound)
        return _learnt(read_rows(self.config, HOUR))


def _learnt(rows: EncodedRows) -> tuple[bytes, ...]:
    """All that training sees of rows."""
    return (rows.labels_B.tobytes(), rows.times_B.tobytes(), rows.keys_BS.tobytes())


def child(folder: Path, seed: int, first: int, last: int) -> None:
    """Read mutations one after another, and say what became of each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    delivery = Delivery(folder)
    assert delivery.learnt
    for number in range(first, last):
        kind, data, promised = delivery.mutation(seed, number)
        signal.alarm(SECONDS)
        print(f"{kind}: {delivery.outcome(data, promised=promised)}", flush=True)


def outcomes(folder: Path, seed: int, mutations: int) -> Iterator[str]:
    """What became of each mutation; of one that ended its reader, how."""
    done = 0
    while done < mutations:
        arguments = [str(folder), str(seed), str(done), str(mutations)]
        ended = subprocess.run(
            [sys.executable, "-m", __spec__.name, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
        )
        lines = ended.stdout.splitlines()
        yield from lines
        done += len(lines)
        if done < mutations:
            yield f"mutation {done}: SIGNAL {-ended.returncode}"
            done += 1


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Count the outcomes."""
    mutations = 300 if short else 10_000
    with tempfile.TemporaryDirectory() as folder:
        Delivery.simulate(Path(folder))
        found = list(outcomes(Path(folder), seed, mutations))
    refused = sum("QUARANTINED" in outcome for outcome in found)
    same = sum(outcome.endswith("the same rows") for outcome in found)
    for outcome, count in Counter(outcome for outcome in found if "QUARANTINED" not in outcome).most_common():
        print(f"  {count} {outcome}")
    for name, sign in (
        ("read as other rows", "SILENT"),
        ("ended the reader", "SIGNAL"),
        ("ended in another error", "unclean"),
    ):
        bad = sum(sign in outcome for outcome in found)
        figures.add(f"8. Parquet mutations that {name}, of {mutations:,}", bad, "mutations", "= 0", holds=bad == 0)
    figures.add(
        "8. Parquet mutations refused",
        refused,
        "mutations",
        "the others are the same rows",
        holds=refused + same == mutations and refused > same,
    )


if __name__ == "__main__":
    child(Path(sys.argv[1]), *map(int, sys.argv[2:]))
