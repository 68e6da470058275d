"""Feature keys: SipHash-2-4 over whole arrays, keyed per field.

A feature is (field, value); its key is 64 bits of a keyed hash, so nobody who lacks the key can aim values at one
bucket, and a change of key moves every collision elsewhere. SipHash is the published algorithm (Aumasson and
Bernstein, 2012, with its reference vectors in the tests), written as array operations: numpy and the standard
library are all that serving needs to find the same keys.

Decisions: strings are opaque bytes, never normalised; key 0 is padding, so a hash of 0 becomes 1; strings longer
than `LONG_BYTES` are first shortened to their keyed BLAKE2b digest, since the array form is slow on few, long messages.

Shapes: N messages, W words of 64 bits a message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
SipKey = tuple[int, int]

LONG_BYTES = 256
"""Strings above this length are hashed by their digest."""

_CHUNK = 8192  # messages at a time: the five working arrays then stay in the processor's cache
_BLAKE2_KEY_BYTES = 64


def field_key(hash_key: str, field_name: str) -> SipKey:
    """The 128-bit SipHash key of a field.

    Args:
        hash_key: the pipeline's secret, `data.hash_key`.
        field_name: name of the field or cross.

    Returns:
        Low and high half of the key.

    >>> field_key("saec", "user_id") == field_key("saec", "article_id")
    False
    """
    digest = _blake2(hash_key, field_name, purpose=b"saec field", size=16)
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def reserved_feature(hash_key: str, field_name: str, meaning: str) -> int:
    """Key of a feature that stands for no value ("null", "empty"), derived apart from every value of the field."""
    digest = _blake2(hash_key, f"{field_name}\0{meaning}", purpose=b"saec reserved", size=8)
    return int.from_bytes(digest, "little") or 1


def hash_int64(values_N: NDArray[np.integer], key: SipKey) -> Keys:
    """Keys of integers, each an 8-byte message.

    Args:
        values_N: integers; uint64 is taken by its 64 bits, other widths are widened to int64.
        key: the field's key.

    Returns:
        uint64 [N], never 0.
    """
    wide_N = values_N.astype(np.uint64 if values_N.dtype == np.uint64 else np.int64)
    return hash_words(wide_N.view(np.uint64)[:, None], key)


def hash_words(words_NW: Keys, key: SipKey) -> Keys:
    """SipHash of N messages of W little-endian words each.

    Args:
        words_NW: uint64 [N, W].
        key: the field's key.

    Returns:
        uint64 [N], never 0.

    >>> hash_words(np.array([[1, 2]], np.uint64), (3, 4)).shape
    (1,)
    """
    count, width = words_NW.shape
    last_N = np.broadcast_to(np.uint64(((8 * width) & 0xFF) << 56), count)
    return _siphash(words_NW, last_N, key)


def hash_bytes(messages: Sequence[bytes], key: SipKey) -> Keys:
    """Keys of byte strings: SipHash, of the keyed digest where a string is longer than `LONG_BYTES`.

    Args:
        messages: N byte strings; text is its UTF-8 bytes, whatever they are.
        key: the field's key.

    Returns:
        uint64 [N], never 0.
    """
    messages = [message if len(message) <= LONG_BYTES else _shortened(message, key) for message in messages]
    lengths_N = np.fromiter(map(len, messages), np.int64, len(messages))
    words_N = lengths_N // 8
    keys_N = np.empty(len(messages), np.uint64)
    for width in np.unique(words_N):
        rows = np.flatnonzero(words_N == width)
        size = 8 * (int(width) + 1)
        padded = b"".join(messages[row].ljust(size, b"\0") for row in rows)
        blocks = np.frombuffer(padded, "<u8").reshape(len(rows), -1)
        last = blocks[:, -1] | ((lengths_N[rows].astype(np.uint64) & np.uint64(0xFF)) << np.uint64(56))
        keys_N[rows] = _siphash(blocks[:, :-1], last, key)
    return keys_N


def _blake2(hash_key: str, text: str, *, purpose: bytes, size: int) -> bytes:
    """Keyed digest; a secret too long for BLAKE2b's key is replaced by its digest, as HMAC does."""
    secret = hash_key.encode("utf-8", "surrogatepass")
    if len(secret) > _BLAKE2_KEY_BYTES:
        secret = hashlib.blake2b(secret).digest()
    return hashlib.blake2b(text.encode(), digest_size=size, key=secret, person=purpose).digest()


def _shortened(message: bytes, key: SipKey) -> bytes:
    """Keyed 32-byte digest of a long message."""
    secret = key[0].to_bytes(8, "little") + key[1].to_bytes(8, "little")
    return hashlib.blake2b(message, digest_size=32, key=secret, person=b"saec long").digest()


def _siphash(words_NW: Keys, last_N: Keys, key: SipKey) -> Keys:
    """SipHash-2-4 from whole words and the final word, which holds the spare bytes and the length."""
    keys_N = np.empty(len(last_N), np.uint64)
    for start in range(0, len(last_N), _CHUNK):
        part = slice(start, start + _CHUNK)
        keys_N[part] = _siphash_chunk(words_NW[part], last_N[part], key)
    return np.maximum(keys_N, np.uint64(1))


def _siphash_chunk(words_NW: Keys, last_N: Keys, key: SipKey) -> Keys:
    """SipHash-2-4 of one chunk of messages."""
    low, high = key
    start = (low ^ 0x736F6D6570736575, high ^ 0x646F72616E646F6D, low ^ 0x6C7967656E657261, high ^ 0x7465646279746573)
    state = [np.full(len(last_N), value, np.uint64) for value in start]
    spare = np.empty(len(last_N), np.uint64)
    for word_N in (*words_NW.T, last_N):
        state[3] ^= word_N
        _rounds(2, state, spare)
        state[0] ^= word_N
    state[2] ^= np.uint64(0xFF)
    _rounds(4, state, spare)
    return np.asarray(state[0] ^ state[1] ^ state[2] ^ state[3])


def _rounds(count: int, state: list[Keys], spare: Keys) -> None:
    """SipRounds in place; array addition wraps modulo 2**64 as the algorithm wants."""
    a, b, c, d = state
    for _ in range(count):
        a += b
        _rotate(b, 13, spare)
        b ^= a
        _rotate(a, 32, spare)
        c += d
        _rotate(d, 16, spare)
        d ^= c
        a += d
        _rotate(d, 21, spare)
        d ^= a
        c += b
        _rotate(b, 17, spare)
        b ^= c
        _rotate(c, 32, spare)


def _rotate(word: Keys, bits: int, spare: Keys) -> None:
    """Rotate each word left, in place."""
    np.left_shift(word, np.uint64(bits), out=spare)
    np.right_shift(word, np.uint64(64 - bits), out=word)
    word |= spare
