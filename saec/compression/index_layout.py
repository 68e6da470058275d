"""Computes where the keyless index keeps a key: its hash and its four cells, from the six numbers in the files.

Shapes: N keys, C cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from saec.errors import ConfigError

Keys: TypeAlias = NDArray[np.uint64]
Cells: TypeAlias = NDArray[np.intp]
Places: TypeAlias = tuple[Cells, Cells, Cells, Cells]
Words: TypeAlias = NDArray[np.uint32]

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: steps and multipliers that leave no pattern
MIXERS = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)  # multipliers of murmur3's finaliser
SHARD_SEED = 0xD1B54A32D192ED03  # seed of the hash that chooses the shard; any constant that is no seed of a layout
MAX_SEGMENT = 1 << 18  # a hash has 18 bits for the place in a segment


def mixed(keys_N: Keys, seed: np.uint64 | Keys) -> Keys:
    """Hash keys with one seed or one a key (murmur3's finaliser, a bijection: distinct keys stay distinct)."""
    hash_N = keys_N + seed
    for multiplier in MIXERS:
        hash_N ^= hash_N >> 33
        hash_N *= np.uint64(multiplier)
    hash_N ^= hash_N >> 33
    return hash_N


def places_of(hash_N: Keys, segments: np.uint64 | Keys, length: np.uint64 | Keys) -> Places:
    """The four cells of each hash, in four segments one after the other."""
    low_bits = length - np.uint64(1)
    first_N = ((hash_N >> 32) * (segments * length)) >> 32
    second_N = (first_N + length) ^ ((hash_N >> 18) & low_bits)
    third_N = (first_N + np.uint64(2) * length) ^ (hash_N & low_bits)
    fourth_N = (first_N + np.uint64(3) * length) ^ (((hash_N * np.uint64(GOLDEN)) >> 30) & low_bits)
    return first_N.view(np.intp), second_N.view(np.intp), third_N.view(np.intp), fourth_N.view(np.intp)


def shards_of(keys_N: Keys, shards: int) -> NDArray[np.uint16]:
    """The shard of each key. The hash is not one that a layout uses, which would leave cells of the shard empty."""
    hash_N = mixed(keys_N, np.uint64(SHARD_SEED)) >> np.uint64(32)
    return ((hash_N * np.uint64(shards)) >> np.uint64(32)).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Layout:
    """The numbers needed to read the cells; in this order they are the `layout` tensor of the files."""

    seed: int
    """Seed of the hash with which all keys peeled."""
    keys: int
    """Keys the index was built from."""
    segment_length: int
    """Cells of a segment, a power of two (0 when there are no keys)."""
    segments: int
    """Number of segments in which a key's first cell may lie; three more follow."""
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
        return mixed(keys_N, np.uint64(self.seed))

    def places(self, hash_N: Keys) -> Places:
        """The four cells of each hash, in four segments one after the other."""
        return places_of(hash_N, np.uint64(self.segments), np.uint64(self.segment_length))

    def fingerprints(self, hash_N: Keys) -> Keys:
        """The fingerprint of each hash: the top bits of a product, because these depend on all bits of the hash."""
        if self.fingerprint_bits == 0:
            return np.zeros_like(hash_N)
        return (hash_N * np.uint64(GOLDEN)) >> np.uint64(64 - self.fingerprint_bits)
