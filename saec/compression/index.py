"""The keyless index: a static function from feature keys to codes that does not store the keys.

A 4-wise binary fuse retrieval structure (Graf and Lemire, "Binary Fuse Filters", JEA 2022, arXiv 2201.01174). A key's
hash names one cell in each of four neighbouring segments, and the exclusive or of these cells is the key's value: its
fingerprint above its code. An unknown key reads four unrelated cells, so its fingerprint matches once in
2^fingerprint_bits; it then gets any code at all, also one that no key was built with. A thousand keys take about 1.25
cells each, 50,000 about 1.12, a million about 1.07.

Decisions:
- Cells are packed without gaps: cell i is bits i*width .. (i+1)*width of a little-endian string of 32-bit words. It is
  read as it lies (memory mapped if the caller likes), so memory costs what the file does. Widths of 8, 16 and 32 bits
  are whole array elements and look up quickest; any other width joins two neighbouring words.
- Large sets are built in shards of about a million keys, told apart by another hash of the key: the arrays of one shard
  stay in the processor's cache, so that fifty million keys take fifty times as long as one, and little more memory
  than the keys. Up to one and a half million keys are one shard, without any trace of shards in the files.
- Four cells rather than three: 4 to 5% fewer bytes for a look-up that takes a quarter longer. A bumped ribbon would
  save 6% more, at twice the time in numpy (docs/LOG.md).
- Size before speed in the build: it starts with fewer cells than usually suffice and adds segments until all keys peel.
- Only numpy is imported, so that serving needs no torch.

Shapes: N keys, C cells, H shards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saec.compression import peeling
from saec.compression.peeling import Peeled
from saec.errors import ConfigError, IntegrityError, TrainingError

Keys: TypeAlias = NDArray[np.uint64]
Cells: TypeAlias = NDArray[np.intp]
Places: TypeAlias = tuple[Cells, Cells, Cells, Cells]
Words: TypeAlias = NDArray[np.uint32]

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: steps and multipliers that leave no pattern
MIXERS = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)  # multipliers of murmur3's finaliser
_MAX_SEGMENT = 1 << 18  # a hash has 18 bits for the place in a segment
_MAX_KEYS = 1 << 30
_SHARD_KEYS = 1 << 20
SHARD_SEED = 0xD1B54A32D192ED03  # of the hash that tells shards apart; any constant that is no seed of a layout
_CHUNK = 1 << 14  # keys looked up at once: the intermediate arrays stay in the processor's cache
_ATTEMPTS = 2000


def _mixed(keys_N: Keys, seed: np.uint64 | Keys) -> Keys:
    """Hash of keys with one seed or one a key (murmur3's finaliser, a bijection: distinct keys stay distinct)."""
    hash_N = keys_N + seed
    for multiplier in MIXERS:
        hash_N ^= hash_N >> 33
        hash_N *= np.uint64(multiplier)
    hash_N ^= hash_N >> 33
    return hash_N


def _places(hash_N: Keys, segments: np.uint64 | Keys, length: np.uint64 | Keys) -> Places:
    """The four cells of each hash, in four segments one after the other."""
    low_bits = length - np.uint64(1)
    first_N = ((hash_N >> 32) * (segments * length)) >> 32
    second_N = (first_N + length) ^ ((hash_N >> 18) & low_bits)
    third_N = (first_N + np.uint64(2) * length) ^ (hash_N & low_bits)
    fourth_N = (first_N + np.uint64(3) * length) ^ (((hash_N * np.uint64(GOLDEN)) >> 30) & low_bits)
    return first_N.view(np.intp), second_N.view(np.intp), third_N.view(np.intp), fourth_N.view(np.intp)


@dataclass(frozen=True, slots=True)
class Layout:
    """What is needed to read the cells: in this order, the `layout` tensor of the files."""

    seed: int
    """Seed of the hash with which all keys peeled."""
    keys: int
    """Keys the index was built from."""
    segment_length: int
    """Cells of a segment, a power of two (0 when there are no keys)."""
    segments: int
    """Segments in which a key's first cell may lie; there are three more."""
    code_bits: int
    """Bits of a code, 1 to 16."""
    fingerprint_bits: int
    """Bits that tell a known key from an unknown one, 0 to 16."""

    def __post_init__(self) -> None:
        if not (1 <= self.code_bits <= 16 and 0 <= self.fingerprint_bits <= 16):
            raise ConfigError(
                f"a keyless index takes 1 to 16 code bits and 0 to 16 fingerprint bits, "
                f"got {self.code_bits} and {self.fingerprint_bits}"
            )

    @property
    def width(self) -> int:
        """Bits of a cell."""
        return self.code_bits + self.fingerprint_bits

    @property
    def cells(self) -> int:
        """Cells of all segments."""
        return (self.segments + 3) * self.segment_length

    @property
    def words(self) -> int:
        """32-bit words that hold the packed cells."""
        return -(-self.cells * self.width // 32)

    def hash(self, keys_N: Keys) -> Keys:
        """Mix keys with the seed."""
        return _mixed(keys_N, np.uint64(self.seed))

    def places(self, hash_N: Keys) -> Places:
        """The four cells of each hash, in four segments one after the other."""
        return _places(hash_N, np.uint64(self.segments), np.uint64(self.segment_length))

    def fingerprints(self, hash_N: Keys) -> Keys:
        """The fingerprint of each hash: top bits of a product, which depend on all bits of the hash."""
        if self.fingerprint_bits == 0:
            return np.zeros_like(hash_N)
        return (hash_N * np.uint64(GOLDEN)) >> np.uint64(64 - self.fingerprint_bits)


@dataclass(frozen=True, eq=False)
class RetrievalIndex:
    """A static function from 64-bit keys to small codes, without the keys.

    >>> index = RetrievalIndex.build(np.array([7, 9], np.uint64), np.array([3, 200]), code_bits=8, fingerprint_bits=8)
    >>> index.lookup(np.array([9, 7, 8], np.uint64))
    array([200,   3,  -1], dtype=int32)
    """

    layouts: tuple[Layout, ...]
    """One of each shard; the bits of codes and fingerprints are the same in all."""
    words: Words
    """The packed cells of all shards, one shard after the other."""

    @classmethod
    def build(
        cls, keys_N: Keys, codes_N: ArrayLike, *, code_bits: int, fingerprint_bits: int, hash_seed: int = 0
    ) -> Self:
        """Build the index of a set of keys, and look every key up before returning it.

        Args:
            keys_N: distinct uint64 keys, none 0 (the padding), in any order.
            codes_N: integers from 0 to 2^code_bits - 1, one a key.
            code_bits: bits of a code, 1 to 16.
            fingerprint_bits: 0 to 16; an unknown key is taken for a known one once in 2^fingerprint_bits.
            hash_seed: where the search for a seed starts; the same seed and pairs give the same bytes.

        Raises:
            ConfigError: when the bits are out of range.
            TrainingError: when keys repeat or are 0, a code does not fit, or the finished index answers wrongly.
        """
        empty = Layout(hash_seed % 2**64, 0, 0, 0, code_bits, fingerprint_bits)
        codes_N = np.asarray(codes_N)
        _check_pairs(keys_N, codes_N, code_bits)
        shards = [_shard(keys_M, codes_M, empty) for keys_M, codes_M in _sharded(keys_N, codes_N)]
        index = cls(tuple(layout for layout, _ in shards), np.concatenate([words for _, words in shards]))
        if any(not np.array_equal(index.lookup(keys_N[part]), codes_N[part]) for part in _parts(keys_N.size)):
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
        """What gives the hashes of keys and the places of their four cells among all cells.

        It does not hold the index, so that one that nobody uses any more goes at once, and the file it maps with it.
        """
        shards, alone = len(self.layouts), self.layouts[0]
        if shards == 1:
            return lambda keys_N: ((hash_N := alone.hash(keys_N)), alone.places(hash_N))
        seed_H, _, length_H, segments_H, _, _ = np.array([astuple(layout) for layout in self.layouts], np.uint64).T
        cells_H = np.array([layout.cells for layout in self.layouts])
        start_H = np.cumsum(cells_H) - cells_H

        def find(keys_N: Keys) -> tuple[Keys, Places]:
            shard_N = _shards_of(keys_N, shards)
            hash_N = _mixed(keys_N, seed_H[shard_N])
            first_N, *others = _places(hash_N, segments_H[shard_N], length_H[shard_N])
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
        """Cells at the given places; bits above the cell's width are those of its neighbours."""
        width = self.layouts[0].width
        if width in (8, 16, 32):
            return self.words.view(f"<u{width // 8}").take(places_N)
        bits_N = places_N * width
        word_N = bits_N >> 5
        low_N = self.words.take(word_N)
        high_N = self.words.take(word_N + 1, mode="clip")  # past the last word only if the low one has it all
        joined_N: Keys = (high_N.astype(np.uint64) << np.uint64(32)) | low_N
        return joined_N >> (bits_N & 31).view(np.uint64)

    def unpacked(self) -> NDArray[np.unsignedinteger[Any]]:
        """All cells, one an element of the narrowest type that holds them."""
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
        """Take an index from its tensors, which may come from anywhere; the cells are not copied.

        Raises:
            IntegrityError: when they are not the tensors of an index, so that no look-up can leave the arrays.
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
            0 < length <= _MAX_SEGMENT
            and length.bit_count() == 1
            and segments > 0
            and layout.keys <= layout.cells < 2**32
        ):
            raise _damaged(f"{layout.keys} keys cannot lie in {segments} segments of {length} cells")
    bits = {(layout.code_bits, layout.fingerprint_bits) for layout in layouts}
    if len(layouts) > 1 and (len(bits) > 1 or any(not layout.keys or layout.cells % 32 for layout in layouts)):
        raise _damaged(f"its {len(layouts)} shards do not belong together")


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


def _parts(count: int) -> Iterator[slice]:
    """What to do at once where not all keys should be."""
    return (slice(start, start + _SHARD_KEYS) for start in range(0, count, _SHARD_KEYS))


def _shards_of(keys_N: Keys, shards: int) -> NDArray[np.uint16]:
    """The shard of each key, by a hash of its own: one that a layout uses would leave cells of the shard empty."""
    hash_N = _mixed(keys_N, np.uint64(SHARD_SEED)) >> np.uint64(32)
    return ((hash_N * np.uint64(shards)) >> np.uint64(32)).astype(np.uint16)


def _sharded(keys_N: Keys, codes_N: NDArray[Any]) -> Iterator[tuple[Keys, NDArray[Any]]]:
    """Keys and codes of each shard."""
    count = max(1, (keys_N.size + _SHARD_KEYS // 2) // _SHARD_KEYS)
    if count == 1:
        yield keys_N, codes_N
        return
    shard_N = np.concatenate([_shards_of(keys_N[part], count) for part in _parts(keys_N.size)])
    order_N = np.argsort(shard_N, kind="stable")  # 16 bits: a radix sort
    for numbers_M in np.split(order_N, np.cumsum(np.bincount(shard_N, minlength=count))[:-1]):
        yield keys_N[numbers_M], codes_N[numbers_M]


def _shard(keys_N: Keys, codes_N: NDArray[Any], empty: Layout) -> tuple[Layout, Words]:
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
    """Seed and size of an attempt: a size is tried with several seeds where attempts are cheap, then it grows.

    Segment length and first size are fits to the smallest indexes that peel with fair probability, measured from 10 to
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
    """Try seeds and sizes in order until all keys peel; the layout and how they peeled."""
    for attempt in range(_ATTEMPTS):
        layout = _layout_of_attempt(attempt, keys_N.size, empty)
        peeled = peeling.peel(layout.hash(keys_N), layout)
        if peeled is not None:
            return layout, peeled
    raise TrainingError(
        f"no index of {keys_N.size} keys found in {_ATTEMPTS} attempts; use another hash_seed", reason="index"
    )


def _pack(cells_C: NDArray[np.uint32], layout: Layout) -> Words:
    """Cells without gaps: 32 cells fill as many words as a cell has bits, the same way in every such block."""
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
