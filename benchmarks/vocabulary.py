"""Measures key look-ups per second on one core, against alternatives, and the vocabulary's cost per hour.

A million keys, one in ten of them unknown, are looked up in random order in maps of 100,000 to ten million keys. Every
map turns a numpy array of 64-bit keys into a numpy array of ids, -1 for an unknown key, and all must agree. They run in
turn within each of several rounds; figures are medians over the rounds, ratios medians of the ratios within a round.
Building is not timed; pandas builds its hash table before the first round.

An hour has 100,000 rows of 16 fields with Zipf-distributed features; its figures are medians over all but the first.

    python -m benchmarks.vocabulary [KEYS ...]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.record import Figures
from saec.config import VocabularyConfig
from saec.data.hour_features import HourFeatures
from saec.data.keymap import KeyMap
from saec.data.vocabulary import Vocabulary
from saec.hours import Hour

KEYS = (100_000, 1_250_000, 10_000_000)
ASKED, UNKNOWN_SHARE, ROUNDS = 1_000_000, 0.1, 5
ROWS, FIELDS, FEATURES, HOURS = 100_000, 16, 100_000, 6
Keys = NDArray[np.uint64]
Ids = NDArray[np.int64]


def maps(keys_V: Keys) -> dict[str, Callable[[Keys], Ids]]:
    """Every kind of map, built."""
    keymap, index = KeyMap(keys_V), pd.Index(keys_V)
    order_V = np.argsort(keys_V)
    sorted_V = keys_V[order_V]
    id_of = {key: number for number, key in enumerate(keys_V.tolist())}

    def by_pandas(keys_N: Keys) -> Ids:
        return index.get_indexer(pd.Index(keys_N))

    def by_searchsorted(keys_N: Keys) -> Ids:
        found_N = np.minimum(np.searchsorted(sorted_V, keys_N), len(sorted_V) - 1)
        return np.where(sorted_V[found_N] == keys_N, order_V[found_N], -1)

    def by_dict(keys_N: Keys) -> Ids:
        return np.fromiter((id_of.get(key, -1) for key in keys_N.tolist()), np.int64, len(keys_N))

    return {
        "KeyMap.find": keymap.find,
        "pandas Index.get_indexer": by_pandas,
        "numpy searchsorted": by_searchsorted,
        "dict": by_dict,
    }


def time_maps(figures: Figures, count: int) -> None:
    """Add the speeds of all maps of so many keys."""
    random = np.random.default_rng(count)
    keys_V = np.unique(random.integers(1, 2**64, count, np.uint64))
    random.shuffle(keys_V)
    asked_N = random.choice(keys_V, ASKED)
    asked_N[random.random(ASKED) < UNKNOWN_SHARE] += np.uint64(1)
    runs = maps(keys_V)
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    expected_N = next(iter(runs.values()))(asked_N)
    for number in range(ROUNDS + 1):
        for name, find in runs.items():
            start = time.perf_counter()
            ids_N = find(asked_N)
            seconds = time.perf_counter() - start
            assert np.array_equal(ids_N, expected_N), f"{name} answers otherwise"
            if number > 0:
                speeds[name].append(ASKED / seconds / 1e6)
    for name, found in speeds.items():
        speed = statistics.median(found)
        target = (">= 5", speed >= 5) if name == "KeyMap.find" else (None, None)
        figures.add(f"{count:,} keys, {name}", speed, "million keys/s", *target)
    for name in list(runs)[1:]:
        times = statistics.median(a / b for a, b in zip(speeds["KeyMap.find"], speeds[name], strict=True))
        figures.add(f"{count:,} keys, KeyMap.find over {name}", times, "ratio")


def time_hour(figures: Figures) -> None:
    """Add the seconds of each step that an hour takes through the vocabulary."""
    random = np.random.default_rng(1)
    vocabulary = Vocabulary(VocabularyConfig(), FIELDS)
    key_of = random.integers(1, 2**64, (FIELDS, FEATURES), np.uint64)
    cumulative = np.cumsum(np.arange(1, FEATURES + 1) ** -1.1)
    seconds: dict[str, list[float]] = {"HourFeatures.of": [], "admit": [], "observe": []}
    for number in range(HOURS):
        ranks_BS = np.searchsorted(cumulative, random.random((ROWS, FIELDS)) * cumulative[-1])
        keys_BS = key_of[np.arange(FIELDS), ranks_BS]
        times = [time.perf_counter()]
        features = HourFeatures.of(keys_BS, np.arange(FIELDS))
        times.append(time.perf_counter())
        vocabulary.admit(features)
        times.append(time.perf_counter())
        vocabulary.observe(Hour(number), features)
        times.append(time.perf_counter())
        for step, start, end in zip(seconds, times, times[1:], strict=False):
            seconds[step].append(end - start)
    for step, found in seconds.items():
        figures.add(f"hour of {ROWS:,} rows x {FIELDS} fields, {step}", statistics.median(found[1:]), "s")
    figures.add("the same, distinct features of the last hour", len(features.keys_U), "features")
    figures.add("the same, features known after it", len(vocabulary), "features")


def main() -> None:
    """Measure every size, then the hour."""
    figures = Figures("vocabulary")
    for count in [int(text) for text in sys.argv[1:]] or KEYS:
        time_maps(figures, count)
    time_hour(figures)
    figures.finish()


if __name__ == "__main__":
    main()
