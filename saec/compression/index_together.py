"""Builds the shards of a large index over ranks.

Decisions: shards are dealt in turn, rank 0 included. The others get theirs before anybody builds, and give back packed
cells: 12 bytes a key one way, about 2.2 the other. An index of one shard, which is one of up to one and a half million
keys, stays with rank 0. The bytes are those of one process.

Shapes: N keys of a shard.
"""

from __future__ import annotations

from dataclasses import astuple, fields
from typing import TYPE_CHECKING

import numpy as np
import torch

from saec.compression.index_build import one_by_one, shard
from saec.compression.index_layout import Layout
from saec.failpoints import reached
from saec.train import ranks as of_ranks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from saec.compression.index_build import Pairs, Shard
    from saec.train.ranks import Ranks

INDEX = "index"
"""What rank 0 asks the others for."""
_LAYOUT = len(fields(Layout))
"""Numbers of a layout."""


def built_together(pairs: Iterator[Pairs], empty: Layout) -> Iterable[Shard]:
    """Build shards, over the ranks that this process leads if there are any."""
    ranks = of_ranks.current
    if ranks is None:
        return one_by_one(pairs, empty)
    all_pairs = list(pairs)
    if len(all_pairs) == 1:
        return one_by_one(iter(all_pairs), empty)
    with ranks.together(INDEX):
        for rank in range(1, ranks.size):
            theirs = all_pairs[rank :: ranks.size]
            ranks.send(torch.tensor([len(theirs)]), rank)
            for keys_N, codes_N in theirs:
                _send_layout(ranks, empty, rank, len(keys_N))
                ranks.send(torch.from_numpy(keys_N.view(np.int64)), rank)
                ranks.send(torch.from_numpy(codes_N.astype(np.int32)), rank)
        own = [shard(keys_N, codes_N, empty) for keys_N, codes_N in all_pairs[:: ranks.size]]
        found = dict(zip(range(0, len(all_pairs), ranks.size), own, strict=True))
        for rank in range(1, ranks.size):
            for number in range(rank, len(all_pairs), ranks.size):
                layout, words = _receive_layout(ranks, rank)
                cells = ranks.receive(torch.zeros(words, dtype=torch.int32), rank)
                found[number] = layout, cells.numpy().view(np.uint32)
    return [found[number] for number in range(len(all_pairs))]


def indexing(ranks: Ranks) -> None:
    """What the others do when rank 0 builds an index."""
    theirs = []
    for _ in range(int(ranks.receive(torch.zeros(1, dtype=torch.int64), 0))):
        empty, count = _receive_layout(ranks, 0)
        keys = ranks.receive(torch.zeros(count, dtype=torch.int64), 0)
        codes = ranks.receive(torch.zeros(count, dtype=torch.int32), 0)
        theirs.append((keys.numpy().view(np.uint64), codes.numpy(), empty))
    found = [shard(*pairs) for pairs in theirs]
    reached("ranks.indexing")
    for layout, words in found:
        _send_layout(ranks, layout, 0, len(words))
        ranks.send(torch.from_numpy(words.view(np.int32)), 0)


def _send_layout(ranks: Ranks, layout: Layout, rank: int, count: int) -> None:
    """Give a rank a layout, and how many keys or words come next."""
    numbers = np.array([*astuple(layout), count], np.uint64)
    ranks.send(torch.from_numpy(numbers.view(np.int64)), rank)


def _receive_layout(ranks: Ranks, rank: int) -> tuple[Layout, int]:
    """What `_send_layout` sends."""
    numbers = ranks.receive(torch.zeros(_LAYOUT + 1, dtype=torch.int64), rank).numpy().view(np.uint64).tolist()
    return Layout(*numbers[:_LAYOUT]), numbers[_LAYOUT]
