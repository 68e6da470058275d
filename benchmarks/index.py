"""Measures the keyless index: seconds to build, nanoseconds per look-up, bytes per key, false accepts.

`python -m benchmarks.index [KEYS ...]`, by default 10,000 to ten million keys; 8-bit codes with 8-bit fingerprints, and
with 5-bit ones to show packed widths. Times are the best of three, on one core; keys are looked up in random order.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.record import Figures
from saec.compression.index import RetrievalIndex

KEYS = (10_000, 100_000, 1_000_000, 10_000_000)
UNKNOWN = 1_000_000


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Best wall time of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(figures: Figures, keys: int, fingerprint_bits: int) -> None:
    """Add the four figures of one size and width."""
    draw = np.random.default_rng(keys)
    keys_N = draw.integers(1, 2**64, keys, np.uint64)
    codes_N = draw.integers(0, 256, keys).astype(np.uint8)

    def build() -> RetrievalIndex:
        return RetrievalIndex.build(keys_N, codes_N, code_bits=8, fingerprint_bits=fingerprint_bits)

    index, asked_N = build(), draw.permutation(keys_N)
    name = f"{keys:,} keys, {8 + fingerprint_bits}-bit cells"
    build_s = seconds(build, repeats=1 if keys > 1_000_000 else 3)
    figures.add(f"{name}: build", build_s, "s", *_target(build_s, 2.0, only_if=keys == 1_000_000))
    lookup_ns = seconds(lambda: index.lookup(asked_N)) / keys * 1e9
    figures.add(f"{name}: look-up", lookup_ns, "ns/key", *_target(lookup_ns, 100.0, only_if=keys >= 1_000_000))
    figures.add(f"{name}: size", index.nbytes / keys, "bytes/key")
    overhead = index.nbytes * 8 / keys / (8 + fingerprint_bits)
    figures.add(f"{name}: cells", overhead, "cells/key", *_target(overhead, 1.12, only_if=keys >= 100_000))
    accepted = float((index.lookup(draw.integers(1, 2**64, UNKNOWN, np.uint64)) >= 0).mean())
    wanted = 2.0**-fingerprint_bits
    near = abs(accepted - wanted) < 5 * (wanted / UNKNOWN) ** 0.5
    figures.add(f"{name}: unknown keys accepted", accepted, "share", f"{wanted:.5f} within sampling", near)


def _target(value: float, limit: float, *, only_if: bool) -> tuple[str | None, bool | None]:
    """The target's text and whether it holds, where the figure has a target."""
    return (f"<= {limit:g}", value <= limit) if only_if else (None, None)


def main() -> None:
    """Measure every size at two widths."""
    figures = Figures("index")
    for keys in [int(text) for text in sys.argv[1:]] or KEYS:
        for fingerprint_bits in (8, 5):
            measure(figures, keys, fingerprint_bits)
    figures.finish()


if __name__ == "__main__":
    main()
