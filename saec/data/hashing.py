"""Computes feature keys: SipHash-2-4 over whole arrays, keyed per field.

A feature is (field, value); its key is 64 bits of a keyed hash. Without the hash key nobody can choose values that
collide, and a new hash key moves every collision elsewhere. SipHash is the published algorithm (Aumasson and Bernstein,
2012, with its reference vectors in the tests), written as array operations: numpy and the standard library are all that
serving needs to find the same keys.

Decisions: strings are opaque bytes, never normalised; key 0 is padding, so a hash of 0 becomes 1; strings longer
than `LONG_BYTES` are first shortened to their keyed BLAKE2b digest, since the array form is slow on few, long messages.

Shapes: N messages, W words of 64 bits a message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saec.data.distinct import distinct

Keys = NDArray[np.uint64]
SipKey = tuple[int, int]
HashKey = SipKey | Keys
"""The key of all messages, or [2, N]: one for each."""

LONG_BYTES = 256
"""Strings above this length are hashed by their digest."""

_CHUNK = 8192  # messages at a time: the six working arrays then stay in the processor's cache
_BLAKE2_KEY_BYTES = 64
_START_EVEN = np.array([[0x736F6D6570736575], [0x6C7967656E657261]], np.uint64)
_START_ODD = np.array([[0x646F72616E646F6D], [0x7465646279746573]], np.uint64)
_FIRST_TURN = np.array([[13], [16]], np.uint64), np.array([[51], [48]], np.uint64)
_SECOND_TURN = np.array([[17], [21]], np.uint64), np.array([[47], [43]], np.uint64)
_HALF_TURN = np.uint64(32), np.uint64(32)
_SPLITMIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))


def mixed(hash_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Splitmix64's finaliser (Steele, Lea and Flood 2014): each bit of the result depends on all bits."""
    for shift, multiplier in _SPLITMIX:
        hash_N = (hash_N ^ (hash_N >> shift)) * multiplier
    return hash_N ^ (hash_N >> np.uint64(31))


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


def hash_int64(values_N: NDArray[np.integer], key: HashKey) -> Keys:
    """Keys of integers, each an 8-byte message.

    Args:
        values_N: integers; uint64 is taken by its 64 bits, other widths are widened to int64.
        key: the field's key; for messages of several fields, one a message.

    Returns:
        uint64 [N], never 0.
    """
    wide_N = values_N.astype(np.uint64 if values_N.dtype == np.uint64 else np.int64)
    return hash_words(wide_N.view(np.uint64)[:, None], key)


def hash_words(words_NW: Keys, key: HashKey) -> Keys:
    """SipHash of N messages of W little-endian words each.

    Args:
        words_NW: uint64 [N, W].
        key: the field's key; for messages of several fields, one a message.

    Returns:
        uint64 [N], never 0.

    >>> hash_words(np.array([[1, 2]], np.uint64), (3, 4)).shape
    (1,)
    """
    count, width = words_NW.shape
    last_N = np.broadcast_to(np.uint64(((8 * width) & 0xFF) << 56), count)
    return _siphash(words_NW, last_N, key)


def hash_bytes(messages: Sequence[bytes], key: HashKey) -> Keys:
    """Keys of byte strings: SipHash, of the keyed digest where a string is longer than `LONG_BYTES`.

    Args:
        messages: N byte strings; text is its UTF-8 bytes, whatever they are.
        key: the field's key; for messages of several fields, one a message.

    Returns:
        uint64 [N], never 0.
    """
    key_2N = _spread(key, len(messages))
    messages = [
        message if len(message) <= LONG_BYTES else shortened(message, key_2N[:, number])
        for number, message in enumerate(messages)
    ]
    lengths_N = np.fromiter(map(len, messages), np.int64, len(messages))
    words_N = lengths_N // 8
    keys_N = np.empty(len(messages), np.uint64)
    for width in distinct(words_N):
        rows = np.flatnonzero(words_N == width)
        size = 8 * (int(width) + 1)
        padded = b"".join(messages[row].ljust(size, b"\0") for row in rows)
        blocks = np.frombuffer(padded, "<u8").reshape(len(rows), -1)
        last = blocks[:, -1] | ((lengths_N[rows].astype(np.uint64) & np.uint64(0xFF)) << np.uint64(56))
        keys_N[rows] = _siphash(blocks[:, :-1], last, key_2N[:, rows])
    return keys_N


def _blake2(hash_key: str, text: str, *, purpose: bytes, size: int) -> bytes:
    """Keyed digest; a secret too long for BLAKE2b's key is replaced by its digest, as HMAC does."""
    secret = hash_key.encode("utf-8", "surrogatepass")
    if len(secret) > _BLAKE2_KEY_BYTES:
        secret = hashlib.blake2b(secret).digest()
    return hashlib.blake2b(text.encode(), digest_size=size, key=secret, person=purpose).digest()


def shortened(message: bytes, key_2: Keys) -> bytes:
    """Keyed 32-byte digest of a long message."""
    return hashlib.blake2b(message, digest_size=32, key=key_2.astype("<u8").tobytes(), person=b"saec long").digest()


def _spread(key: HashKey, count: int) -> Keys:
    """A key for each of so many messages."""
    return np.broadcast_to(np.asarray(key, np.uint64).reshape(2, -1), (2, count))


def _siphash(words_NW: Keys, last_N: Keys, key: HashKey) -> Keys:
    """SipHash-2-4 from whole words and the final word, which holds the spare bytes and the length."""
    keys_N = np.empty(len(last_N), np.uint64)
    key_2N = _spread(key, len(last_N))
    for start in range(0, len(last_N), _CHUNK):
        part = slice(start, start + _CHUNK)
        keys_N[part] = _siphash_chunk(words_NW[part], last_N[part], key_2N[:, part])
    return np.maximum(keys_N, np.uint64(1))


def _siphash_chunk(words_NW: Keys, last_N: Keys, key_2N: Keys) -> Keys:
    """SipHash-2-4 of one chunk of messages; the algorithm's v0, v2 are the rows of one array, v1, v3 of another."""
    even_2N, odd_2N = key_2N[:1] ^ _START_EVEN, key_2N[1:] ^ _START_ODD
    spare_2N = np.empty_like(even_2N)
    for word_N in (*words_NW.T, last_N):
        odd_2N[1] ^= word_N
        _rounds(2, even_2N, odd_2N, spare_2N)
        even_2N[0] ^= word_N
    even_2N[1] ^= np.uint64(0xFF)
    _rounds(4, even_2N, odd_2N, spare_2N)
    even_2N ^= odd_2N
    return np.asarray(even_2N[0] ^ even_2N[1])


def _rounds(count: int, even_2N: Keys, odd_2N: Keys, spare_2N: Keys) -> None:
    """SipRounds in place; array addition wraps modulo 2**64 as the algorithm wants.

    The two halves of a round do the same to two pairs of words, so each operation takes both at once: few long
    operations instead of many short ones, which is what counts for the handful of messages of a request.
    """
    v0_N, v2_N, spare_N = even_2N[0], even_2N[1], spare_2N[0]
    even_crossed_2N, odd_crossed_2N = even_2N[::-1], odd_2N[::-1]
    for _ in range(count):
        even_2N += odd_2N
        _rotate(odd_2N, *_FIRST_TURN, spare_2N)
        odd_2N ^= even_2N
        _rotate(v0_N, *_HALF_TURN, spare_N)
        even_2N += odd_crossed_2N
        _rotate(odd_2N, *_SECOND_TURN, spare_2N)
        odd_2N ^= even_crossed_2N
        _rotate(v2_N, *_HALF_TURN, spare_N)


def _rotate(words: Keys, left: Keys | np.uint64, right: Keys | np.uint64, spare: Keys) -> None:
    """Rotate words to the left, in place."""
    np.left_shift(words, left, out=spare)
    np.right_shift(words, right, out=words)
    np.bitwise_or(words, spare, out=words)
