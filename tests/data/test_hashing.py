"""Feature keys: published vectors, keying, odd strings, speed."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saec.data import hashing
from saec.data.hashing import field_key, hash_bytes, hash_int64, hash_words, reserved_feature
from tests.properties import examples

# Reference vectors of SipHash-2-4-64 (its authors' vectors.h): key 00..0f, message 00..n-1, output bytes.
REFERENCE_KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
REFERENCE = [
    "310e0edd47db6f72", "fd67dc93c539f874", "5a4fa9d909806c0d", "2d7efbd796666785", "b7877127e09427cf",
    "8da699cd64557618", "cee3fe586e46c9cb", "37d1018bf50002ab", "6224939a79f5f593", "b0e4a90bdf82009e",
    "f3b9dd94c5bb5d7a", "a7ad6b22462fb3f4", "fbe50e86bc8f1e75", "903d84c02756ea14", "eef27a8e90ca23f7",
    "e545be4961ca29a1",
]  # fmt: skip


def sip_reference(message: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4 on Python integers, word by word as the paper writes it."""
    mask = (1 << 64) - 1

    def rotate(x: int, b: int) -> int:
        return ((x << b) | (x >> (64 - b))) & mask

    a, b, c, d = (
        k ^ m
        for k, m in zip(
            key * 2, (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573), strict=True
        )
    )
    size = len(message)
    padded = message.ljust(size // 8 * 8 + 7, b"\0") + bytes([size & 255])
    words = [int.from_bytes(padded[i : i + 8], "little") for i in range(0, len(padded), 8)]
    for word, rounds in [*((w, 2) for w in words), (None, 4)]:
        if word is None:
            c ^= 0xFF
        else:
            d ^= word
        for _ in range(rounds):
            a = (a + b) & mask
            b = rotate(b, 13) ^ a
            a = rotate(a, 32)
            c = (c + d) & mask
            d = rotate(d, 16) ^ c
            a = (a + d) & mask
            d = rotate(d, 21) ^ a
            c = (c + b) & mask
            b = rotate(b, 17) ^ c
            c = rotate(c, 32)
        if word is not None:
            a ^= word
    return a ^ b ^ c ^ d


def test_published_vectors():
    """The first sixteen published vectors come out, all lengths hashed in one call."""
    messages = [bytes(range(size)) for size in range(len(REFERENCE))]
    wanted = [int.from_bytes(bytes.fromhex(vector), "little") for vector in REFERENCE]
    assert hash_bytes(messages, REFERENCE_KEY).tolist() == wanted


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.binary(max_size=hashing.LONG_BYTES), max_size=12), st.tuples(*[st.integers(0, 2**64 - 1)] * 2))
def test_batch_equals_one_by_one(messages, key):
    """A mixed batch gives each message the key that plain integer arithmetic gives it."""
    assert hash_bytes(messages, key).tolist() == [sip_reference(message, key) for message in messages]


def test_each_message_may_have_a_key_of_its_own():
    """Messages of several fields in one call, long ones and whole words too, as if each field was hashed alone."""
    messages = [b"a", b"b" * 300, b"c" * 300, b"", b"d" * 8]
    key_2N = np.array([[1, 3, 5, 2**64 - 1, 0], [2, 4, 6, 7, 0]], np.uint64)
    alone = [
        int(hash_bytes([message], (int(low), int(high)))[0])
        for message, (low, high) in zip(messages, key_2N.T, strict=True)
    ]
    assert hash_bytes(messages, key_2N).tolist() == alone
    numbers = np.arange(5)
    assert hash_int64(numbers, key_2N).tolist() == [
        int(hash_int64(numbers[at : at + 1], key_2N[:, at : at + 1])[0]) for at in range(5)
    ]


def test_words_are_their_bytes():
    """Words hash like their little-endian bytes, over several chunks and a ragged last one."""
    words = np.random.default_rng(0).integers(0, 2**64, (2 * hashing._CHUNK + 5, 3), np.uint64)
    keys = hash_words(words, (1, 2))
    assert np.array_equal(keys, hash_bytes([row.tobytes() for row in words], (1, 2)))


def test_integers_do_not_depend_on_width():
    """The same integer has the same key whatever width its column has; -1 and 2**64-1 share 64 bits."""
    small = np.array([-1, 0, 7], np.int8)
    assert np.array_equal(hash_int64(small, (1, 2)), hash_int64(small.astype(np.int64), (1, 2)))
    assert hash_int64(np.array([2**64 - 1], np.uint64), (1, 2)) == hash_int64(small, (1, 2))[0]


def test_zero_is_never_a_key(monkeypatch):
    """A hash of 0 becomes 1, since 0 is padding."""
    monkeypatch.setattr(hashing, "_siphash_chunk", lambda words, last, key: np.zeros(len(last), np.uint64))
    assert hash_int64(np.arange(3), (1, 2)).tolist() == [1, 1, 1]


def test_field_and_secret_change_every_key():
    """Two fields, or two secrets, share no keys and none of each other's bucket collisions."""
    values = np.arange(20_000)
    buckets = [
        hash_int64(values, field_key(secret, name)) % np.uint64(1 << 16)
        for secret, name in [("a", "user"), ("a", "item"), ("b", "user")]
    ]
    crowded = [set(values[bucket == np.bincount(bucket.astype(np.int64)).argmax()]) for bucket in buckets]
    assert all(len(group) >= 3 for group in crowded)
    for other in (1, 2):
        moved = {int(buckets[other][value]) for value in crowded[0]}
        assert len(moved) == len(crowded[0])


def test_collisions_are_those_of_chance():
    """Sequential integers spread over 2**20 buckets as random ones would."""
    keys = hash_int64(np.arange(1 << 18), field_key("saec", "user"))
    filled = len(np.unique(keys >> np.uint64(44)))
    assert filled == pytest.approx((1 << 20) * (1 - np.exp(-0.25)), rel=0.005)


@pytest.mark.fault(49)
@pytest.mark.parametrize("secret", ["", "k" * 64, "k" * 300, "é" * 64, "\ud800"])
def test_any_secret_will_do(secret):
    """Empty, long, non-ASCII and even ill-formed secrets give keys of 128 bits."""
    low, high = field_key(secret, "user")
    assert low != high
    assert max(low, high) < 2**64


def test_strings_are_opaque_bytes():
    """NFC and NFD, NUL tails, right-to-left text, lone surrogates and neighbours of 1 MB strings are all different."""
    odd = ["é", "e\u0301", "", "\0", "\0\0", "a", "a\0", "\u202eabc", "abc", "\ud800"]
    odd += ["x" * 10**6, "x" * (10**6 - 1) + "y"]
    messages = [text.encode("utf-8", "surrogatepass") for text in odd]
    keys = hash_bytes(messages, (1, 2))
    assert len(set(keys.tolist())) == len(odd)
    assert np.array_equal(keys[::-1], hash_bytes(messages[::-1], (1, 2)))


def test_long_strings_are_keyed_too():
    """A string hashed by its digest changes with the key."""
    assert hash_bytes([b"x" * 1000], (1, 2)) != hash_bytes([b"x" * 1000], (1, 3))


def test_reserved_features_stand_apart():
    """Null and empty differ from each other, between fields, and from the keys of likely values."""
    reserved = {reserved_feature("saec", name, meaning) for name in ("a", "b") for meaning in ("null", "empty")}
    values = hash_bytes([b"", b"null", b"a\0null"], field_key("saec", "a")).tolist()
    assert len(reserved) == 4
    assert not reserved & set(values)


def test_empty_batches():
    """No messages, no keys."""
    assert hash_bytes([], (1, 2)).shape == hash_words(np.empty((0, 3), np.uint64), (1, 2)).shape == (0,)


@pytest.mark.fault(49)
def test_speed_does_not_depend_on_the_values():
    """Values chosen to share low bits take no longer than others: no value makes hashing slow."""

    def best(values: np.ndarray) -> float:
        times = []
        for _ in range(5):
            start = time.thread_time()
            hash_int64(values, (1, 2))
            times.append(time.thread_time() - start)
        return min(times)

    assert best(np.arange(50_000) << 40) < 3 * best(np.random.default_rng(0).integers(0, 2**62, 50_000))
