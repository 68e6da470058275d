"""Builds the keyless index: finds a seed and a size with which all keys peel, then packs the cells.

Decisions:
- Size comes before speed: the search starts with fewer cells than usually suffice and adds segments until all keys
  peel.
- Large sets are built in shards of about a million keys; another hash of the key chooses the shard. The arrays of one
  shard stay in the processor's cache, so fifty million keys take fifty times as long as one million, and little more
  memory than the keys. Up to one and a half million keys make one shard, and the files then show no trace of shards.

Shapes: N keys, M keys of a shard, C cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from saec.compression import peeling
from saec.compression.index_layout import GOLDEN, Keys, Layout, Words, shards_of
from saec.compression.peeling import Peeled
from saec.errors import TrainingError

_MAX_KEYS = 1 << 30
_SHARD_KEYS = 1 << 20
_ATTEMPTS = 2000


Pairs: TypeAlias = tuple[Keys, NDArray[Any]]
"""Keys and codes of a shard."""
Shard: TypeAlias = tuple[Layout, Words]
ByShard: TypeAlias = Callable[[Iterator[Pairs], Layout], Iterable[Shard]]
"""Builds all shards, in their order."""


def one_by_one(pairs: Iterator[Pairs], empty: Layout) -> Iterator[Shard]:
    """Build the shards in this process, each from its keys and codes."""
    return (shard(keys_M, codes_M, empty) for keys_M, codes_M in pairs)


def built(
    keys_N: Keys, codes_N: NDArray[Any], empty: Layout, by_shard: ByShard = one_by_one
) -> tuple[tuple[Layout, ...], Words]:
    """Layouts and packed cells of all shards.

    Args:
        keys_N: distinct uint64 keys, none 0, in any order.
        codes_N: integers that fit the layout's code bits, one a key.
        empty: bits, and the seed that the search starts with.
        by_shard: builds the shards; in this process when left out.

    Raises:
        TrainingError: when keys repeat or are 0, or a code does not fit.
    """
    _check_pairs(keys_N, codes_N, empty.code_bits)
    shards = list(by_shard(_sharded(keys_N, codes_N), empty))
    return tuple(layout for layout, _ in shards), np.concatenate([words for _, words in shards])


def parts(count: int) -> Iterator[slice]:
    """The slices of keys to work on in turn, because all at once would leave the processor's cache."""
    return (slice(start, start + _SHARD_KEYS) for start in range(0, count, _SHARD_KEYS))


def _check_pairs(keys_N: Keys, codes_N: NDArray[Any], code_bits: int) -> None:
    """Refuse keys and codes that no index can hold."""
    if keys_N.dtype != np.uint64 or keys_N.ndim != 1 or keys_N.size > _MAX_KEYS:
        raise TrainingError(
            f"keys of an index must be uint64 [N], N at most {_MAX_KEYS}, got {keys_N.dtype} {list(keys_N.shape)}",
            reason="index",
        )
    if codes_N.shape != keys_N.shape or (codes_N.size and codes_N.dtype.kind not in "ui"):
        raise TrainingError(
            f"codes of an index must be integers, one a key [{keys_N.size}], got {codes_N.dtype} {list(codes_N.shape)}",
            reason="index",
        )
    if codes_N.size and not 0 <= int(codes_N.min()) <= int(codes_N.max()) < 2**code_bits:
        raise TrainingError(
            f"codes of an index must lie in 0 to {2**code_bits - 1} ({code_bits} bits), "
            f"got {codes_N.min()} to {codes_N.max()}",
            reason="index",
        )
    if not keys_N.all():
        raise TrainingError("key 0 marks padding and cannot be indexed; drop it first", reason="index")


def _sharded(keys_N: Keys, codes_N: NDArray[Any]) -> Iterator[Pairs]:
    """Keys and codes of each shard."""
    count = max(1, (keys_N.size + _SHARD_KEYS // 2) // _SHARD_KEYS)
    if count == 1:
        yield keys_N, codes_N
        return
    shard_N = np.concatenate([shards_of(keys_N[part], count) for part in parts(keys_N.size)])
    order_N = np.argsort(shard_N, kind="stable")  # 16 bits: a radix sort
    for numbers_M in np.split(order_N, np.cumsum(np.bincount(shard_N, minlength=count))[:-1]):
        yield keys_N[numbers_M], codes_N[numbers_M]


def shard(keys_N: Keys, codes_N: NDArray[Any], empty: Layout) -> Shard:
    """Layout and packed cells of one shard."""
    if keys_N.size == 0:
        return empty, np.zeros(0, np.uint32)
    sorted_N = np.sort(keys_N)
    repeats = int((sorted_N[1:] == sorted_N[:-1]).sum())
    if repeats:
        raise TrainingError(
            f"keys of an index must be distinct, {repeats} of {keys_N.size} repeat another; drop repeated keys first",
            reason="index",
        )
    layout, peeled = _search(keys_N, empty)
    hash_N = layout.hash(keys_N)
    values_N = codes_N.astype(np.uint32) | (layout.fingerprints(hash_N) << np.uint64(empty.code_bits)).astype(np.uint32)
    return layout, _pack(peeling.filled(peeled, hash_N, values_N, layout), layout)


def _layout_of_attempt(attempt: int, keys: int, empty: Layout) -> Layout:
    """Seed and size of an attempt. A size is tried with several seeds if attempts are cheap; then it grows.

    Segment length and first size are fitted to the smallest indexes that peel with fair probability, measured on 10 to
    ten million keys.
    """
    length = 1 << min(int(math.log2(max(1.0, 0.3 * keys**0.7))), 18)
    first = max(1, math.ceil(keys * (1.025 + 1.15 * keys**-0.25) / length) - 3)
    seeds_a_size = min(16, 1 + 200_000 // keys)
    segments = first + (attempt // seeds_a_size) * (1 + first // 256)
    return Layout(
        (empty.seed + attempt * GOLDEN) % 2**64, keys, length, segments, empty.code_bits, empty.fingerprint_bits
    )


def _search(keys_N: Keys, empty: Layout) -> tuple[Layout, Peeled]:
    """Try seeds and sizes in order until all keys peel; return the layout and the order of peeling."""
    for attempt in range(_ATTEMPTS):
        layout = _layout_of_attempt(attempt, keys_N.size, empty)
        peeled = peeling.peel(layout.hash(keys_N), layout)
        if peeled is not None:
            return layout, peeled
    raise TrainingError(
        f"no index of {keys_N.size} keys found in {_ATTEMPTS} attempts; use another hash_seed", reason="index"
    )


def _pack(cells_C: NDArray[np.uint32], layout: Layout) -> Words:
    """Pack cells without gaps: 32 cells fill as many words as a cell has bits, in the same way in every block of 32."""
    width = layout.width
    blocks = np.zeros((-(-cells_C.size // 32), 32), np.uint64)
    blocks.reshape(-1)[: cells_C.size] = cells_C
    packed = np.zeros((len(blocks), width + 1), np.uint64)
    for number in range(32):
        word, shift = divmod(number * width, 32)
        shifted = blocks[:, number] << shift
        packed[:, word] |= shifted & 0xFFFFFFFF
        packed[:, word + 1] |= shifted >> 32
    return packed[:, :width].astype(np.uint32).reshape(-1)[: layout.words]
