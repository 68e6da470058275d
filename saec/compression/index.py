"""The keyless index: a static function from feature keys to codes that does not store the keys.

A 4-wise binary fuse retrieval structure (Graf and Lemire, "Binary Fuse Filters", JEA 2022, arXiv 2201.01174). A key's
hash names one cell in each of four neighbouring segments, and the exclusive or of these cells is the key's value: its
fingerprint above its code. An unknown key reads four unrelated cells, so its fingerprint matches once in
2^fingerprint_bits; it then gets an arbitrary code, even one that no key was built with. A thousand keys take about 1.25
cells each, 50,000 about 1.12, a million about 1.07.

Decisions:
- Cells are packed without gaps: cell i is bits i*width .. (i+1)*width of a little-endian string of 32-bit words. It is
  read where it lies (memory-mapped if the caller likes), so it takes as much memory as the file has bytes. Widths of 8,
  16 and 32 bits are whole array elements and are the quickest to look up; any other width joins two neighbouring words.
- A key has four cells rather than three: this saves 4 to 5% of the bytes, and a look-up takes a quarter longer. A
  bumped ribbon would save 6% more but take twice the time in numpy (docs/LOG.md).
- `saec.compression.index_build` builds the index; `saec.compression.index_layout` says where a key lies.
- Only numpy is imported, so that serving needs no torch.

Shapes: N keys, C cells, H shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saec.compression.index_build import ByShard, built, one_by_one, parts
from saec.compression.index_layout import MAX_SEGMENT, Cells, Keys, Layout, Places, Words, mixed, places_of, shards_of
from saec.errors import ConfigError, IntegrityError, TrainingError

_CHUNK = 1 << 14  # keys looked up at once: the intermediate arrays stay in the processor's cache


@dataclass(frozen=True, eq=False)
class RetrievalIndex:
    """A static function from 64-bit keys to small codes, without the keys.

    >>> index = RetrievalIndex.build(np.array([7, 9], np.uint64), np.array([3, 200]), code_bits=8, fingerprint_bits=8)
    >>> index.lookup(np.array([9, 7, 8], np.uint64))
    array([200,   3,  -1], dtype=int32)
    """

    layouts: tuple[Layout, ...]
    """One for each shard; all have the same bits of codes and fingerprints."""
    words: Words
    """The packed cells of all shards, one shard after the other."""

    @classmethod
    def build(
        cls,
        keys_N: Keys,
        codes_N: ArrayLike,
        *,
        code_bits: int,
        fingerprint_bits: int,
        hash_seed: int = 0,
        by_shard: ByShard = one_by_one,
    ) -> Self:
        """Build the index of a set of keys, and look every key up before returning it.

        Args:
            keys_N: distinct uint64 keys, none 0 (the padding), in any order.
            codes_N: integers from 0 to 2^code_bits - 1, one a key.
            code_bits: bits of a code, 1 to 16.
            fingerprint_bits: 0 to 16; an unknown key is taken for a known one once in 2^fingerprint_bits.
            hash_seed: where the search for a seed starts; the same seed and pairs give the same bytes.
            by_shard: builds the shards of a large index; in this process when left out.

        Raises:
            ConfigError: when the bits are out of range.
            TrainingError: when keys repeat or are 0, a code does not fit, or the finished index answers wrongly.
        """
        empty = Layout(hash_seed % 2**64, 0, 0, 0, code_bits, fingerprint_bits)
        codes_N = np.asarray(codes_N)
        index = cls(*built(keys_N, codes_N, empty, by_shard))
        if any(not np.array_equal(index.lookup(keys_N[part]), codes_N[part]) for part in parts(keys_N.size)):
            raise TrainingError(
                f"index of {keys_N.size} keys does not give back the codes it was built from; "
                "the machine's memory may be faulty: run the hour again",
                reason="index",
            )
        return index

    @property
    def keys(self) -> int:
        """Keys the index was built from."""
        return sum(layout.keys for layout in self.layouts)

    @property
    def cells(self) -> int:
        """Cells of all shards."""
        return sum(layout.cells for layout in self.layouts)

    def lookup(self, keys: Keys) -> NDArray[np.int32]:
        """Codes of keys; -1 where the fingerprint shows that the key is unknown.

        Args:
            keys: uint64 keys of any shape. The padding key 0 is unknown like any other: the caller masks it.

        Returns:
            int32 codes of the same shape.
        """
        flat_N = np.ascontiguousarray(keys, np.uint64).reshape(-1)
        codes_N = np.full(flat_N.size, -1, np.int32)
        if self.keys:
            for start in range(0, flat_N.size, _CHUNK):
                chunk = slice(start, start + _CHUNK)
                hash_N, places = self._find(flat_N[chunk])
                codes_N[chunk] = self._codes(hash_N, places)
        return codes_N.reshape(np.shape(keys))

    @cached_property
    def _find(self) -> Callable[[Keys], tuple[Keys, Places]]:
        """A function that gives the hashes of keys and the places of their four cells among all cells.

        It keeps no reference to the index, so that an unused index, and the file it maps, are freed at once.
        """
        shards, alone = len(self.layouts), self.layouts[0]
        if shards == 1:
            return lambda keys_N: ((hash_N := alone.hash(keys_N)), alone.places(hash_N))
        seed_H, _, length_H, segments_H, _, _ = np.array([astuple(layout) for layout in self.layouts], np.uint64).T
        cells_H = np.array([layout.cells for layout in self.layouts])
        start_H = np.cumsum(cells_H) - cells_H

        def find(keys_N: Keys) -> tuple[Keys, Places]:
            shard_N = shards_of(keys_N, shards)
            hash_N = mixed(keys_N, seed_H[shard_N])
            first_N, *others = places_of(hash_N, segments_H[shard_N], length_H[shard_N])
            start_N = start_H[shard_N]
            second_N, third_N, fourth_N = (cells_N + start_N for cells_N in others)
            return hash_N, (first_N + start_N, second_N, third_N, fourth_N)

        return find

    def _codes(self, hash_N: Keys, places: Places) -> NDArray[np.int32]:
        layout = self.layouts[0]
        first_N, second_N, third_N, fourth_N = places
        read_N = self._read(first_N) ^ self._read(second_N) ^ self._read(third_N) ^ self._read(fourth_N)
        values_N = read_N.astype(np.uint32) & np.uint32(2**layout.width - 1)
        codes_N: NDArray[np.int32] = (values_N & np.uint32(2**layout.code_bits - 1)).astype(np.int32)
        if layout.fingerprint_bits:
            codes_N[values_N >> layout.code_bits != layout.fingerprints(hash_N)] = -1
        return codes_N

    def _read(self, places_N: Cells) -> NDArray[np.unsignedinteger[Any]]:
        """Cells at the given places; the bits above a cell's width belong to its neighbours."""
        width = self.layouts[0].width
        if width in (8, 16, 32):
            return self.words.view(f"<u{width // 8}").take(places_N)
        bits_N = places_N * width
        word_N = bits_N >> 5
        low_N = self.words.take(word_N)
        high_N = self.words.take(word_N + 1, mode="clip")  # no word follows the last cell
        joined_N: Keys = (high_N.astype(np.uint64) << np.uint64(32)) | low_N
        return joined_N >> (bits_N & 31).view(np.uint64)

    def unpacked(self) -> NDArray[np.unsignedinteger[Any]]:
        """All cells, each as one element of the narrowest type that can hold it."""
        width = self.layouts[0].width
        cells_C: NDArray[np.unsignedinteger[Any]] = self._read(np.arange(self.cells)) & (2**width - 1)
        return cells_C.astype(np.min_scalar_type(2**width - 1))

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors, in memory and on disk alike."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What to write: `layout` (uint64 [6] or [H, 6], the fields of `Layout` in order), `cells` (uint32 words)."""
        header = np.array([astuple(layout) for layout in self.layouts], np.uint64)
        return {"layout": header[0] if len(header) == 1 else header, "cells": self.words}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Make an index from its tensors, which need not be trusted; the cells are not copied.

        Raises:
            IntegrityError: when they are not the tensors of an index. A look-up can therefore never leave the arrays.
        """
        if set(tensors) != {"layout", "cells"}:
            raise _damaged(f"tensors cells and layout are wanted, found {sorted(tensors)}")
        header, words = tensors["layout"], tensors["cells"]
        many = header.ndim == 2 and header.shape[0] > 1 and header.shape[1] == 6
        if header.dtype != np.uint64 or not (header.shape == (6,) or many):
            raise _damaged(
                f"layout must be uint64 [6] or [H, 6] of two shards or more, got {header.dtype} {list(header.shape)}"
            )
        try:
            layouts = tuple(Layout(*row) for row in header.reshape(-1, 6).tolist())
        except ConfigError as error:
            raise _damaged(str(error)) from None
        _check_layouts(layouts)
        wanted = sum(layout.words for layout in layouts)
        if words.dtype != np.uint32 or words.shape != (wanted,):
            raise _damaged(f"cells must be uint32 [{wanted}], got {words.dtype} {list(words.shape)}")
        return cls(layouts, np.require(words, requirements=["C", "ALIGNED"]))


def _damaged(what: str) -> IntegrityError:
    return IntegrityError(f"keyless index is damaged: {what}; run `saec verify` and publish the version again")


def _check_layouts(layouts: tuple[Layout, ...]) -> None:
    """Refuse sizes that `build` never writes; afterwards every place a hash can name is a cell."""
    for layout in layouts:
        length, segments = layout.segment_length, layout.segments
        if layout.keys == 0 and (length, segments) != (0, 0):
            raise _damaged(f"no keys, yet {segments} segments of {length} cells")
        if layout.keys and not (
            0 < length <= MAX_SEGMENT
            and length.bit_count() == 1
            and segments > 0
            and layout.keys <= layout.cells < 2**32
        ):
            raise _damaged(f"{layout.keys} keys cannot lie in {segments} segments of {length} cells")
    bits = {(layout.code_bits, layout.fingerprint_bits) for layout in layouts}
    if len(layouts) > 1 and (len(bits) > 1 or any(not layout.keys or layout.cells % 32 for layout in layouts)):
        raise _damaged(f"its {len(layouts)} shards do not belong together")
