"""The key matrix: every kind of field, nulls, lists, crosses, and that batching and representation do not matter."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saec.config import Config
from saec.data.columns import encoder_columns
from saec.data.features import Column, FeatureEncoder, buckets, opaque_bytes
from saec.data.hashing import field_key, hash_bytes, hash_int64, hash_words, reserved_feature
from saec.errors import InputError
from tests.properties import examples

HOUR_MS = 3_600_000


def config_of(*fields: dict, crosses: list[list[str]] | None = None, key: str = "saec") -> Config:
    return Config.model_validate(
        {
            "data": {"source": "x", "time_column": "t", "label_column": "y", "hash_key": key},
            "fields": list(fields),
            "crosses": crosses or [],
        }
    )


def encode(config: Config, times=None, **columns: pa.Array) -> np.ndarray:
    """Keys of some Arrow columns."""
    count = len(next(iter(columns.values()))) if columns else len(times)
    times = np.zeros(count, np.int64) if times is None else np.asarray(times)
    return FeatureEncoder(config).encode(encoder_columns(pa.table(columns)), times)


def test_integers_hash_by_value():
    """Each integer has the key that SipHash under the field's key gives it; null is the reserved feature."""
    keys = encode(config_of({"name": "u"}), u=pa.array([5, None, 5, -1]))
    wanted = hash_int64(np.array([5, -1]), field_key("saec", "u"))
    assert keys[:, 0].tolist() == [wanted[0], reserved_feature("saec", "u", "null"), wanted[0], wanted[1]]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.uint8(), pa.uint32(), pa.uint64()])
def test_width_of_integers_does_not_matter(kind):
    """A feature keeps its key when its column changes width, with a cap as well."""
    values = pa.array([0, 7, 100])
    for field in ({"name": "u"}, {"name": "u", "cap": 50}, {"name": "u", "cap": 10**6}):
        assert np.array_equal(encode(config_of(field), u=values), encode(config_of(field), u=values.cast(kind)))


def test_many_values_are_hashed_field_by_field(monkeypatch):
    """Whether the values of all fields go through one call or one each, which is a matter of memory: the same keys."""
    config = config_of(
        {"name": "u"},
        {"name": "s", "type": "string"},
        {"name": "r", "type": "string"},
        {"name": "v"},
        crosses=[["u", "s"], ["u", "v"], ["u", "s", "v"]],
    )
    columns = {
        "u": pa.array([1, 2, None]),
        "s": pa.array(["a", "b", "a"]),
        "r": pa.array(["a", "", "c"]),
        "v": pa.array([1, 1, 3]),
    }
    together = encode(config, **columns)
    monkeypatch.setattr("saec.data.features._TOGETHER", 0)
    assert np.array_equal(encode(config, **columns), together)
    assert len(np.unique(together)) == 3 + 2 + 3 + 2 + 3 + 3 + 3


def test_a_single_row_stands_for_all():
    """Columns of one row beside columns of many: each field has as many rows as what it reads."""
    encoder = FeatureEncoder(
        config_of({"name": "u"}, {"name": "i"}, {"name": "h", "kind": "hour_of_day"}, crosses=[["u", "i"], ["u", "h"]])
    )
    keys = encoder.encode_fields({"u": Column(np.array([7])), "i": Column(np.array([1, 2, 3]))}, np.array([HOUR_MS]))
    assert [len(keys_BL) for keys_BL in keys] == [1, 3, 1, 3, 1]
    whole = encoder.encode({"u": Column(np.array([7] * 3)), "i": Column(np.array([1, 2, 3]))}, np.full(3, HOUR_MS))
    assert np.array_equal(np.concatenate([np.broadcast_to(keys_BL, (3, 1)) for keys_BL in keys], axis=1), whole)


def test_cap():
    """Integers above the cap are one feature, the cap's; 2**64-1 is above it too."""
    keys = encode(config_of({"name": "u", "cap": 50}), u=pa.array([49, 50, 51, 2**64 - 1], pa.uint64()))[:, 0]
    assert len(set(keys[1:])) == 1
    assert keys[0] != keys[1]


def test_booleans():
    """False and true are two features, null a third."""
    keys = encode(config_of({"name": "u", "type": "bool"}), u=pa.array([True, False, None, True]))[:, 0]
    assert keys[0] == keys[3]
    assert len(set(keys)) == 3


ODD = ["", "\0", "a\0", "a", "é", "e\u0301", "\u202eabc", "\ud800", "x" * 1_000_000]


def test_odd_strings_are_opaque():
    """NUL, lone surrogates, right-to-left marks, NFC and NFD, and 1 MB strings: each its own feature, by its bytes."""
    raw = [opaque_bytes(text) for text in ODD]
    keys = encode(config_of({"name": "s", "type": "string"}), s=pa.array(raw, pa.binary()).view(pa.string()))[:, 0]
    assert len(set(keys)) == len(ODD)
    assert np.array_equal(keys, hash_bytes(raw, field_key("saec", "s")))


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(st.characters()), st.text("\0\ud800é\u0301")), min_size=1, max_size=20))
def test_training_and_serving_agree(texts):
    """Arrow columns, dictionary-encoded ones and plain numpy columns of serving give the same keys for any text."""
    raw = [None if text is None else opaque_bytes(text) for text in texts]
    config = config_of({"name": "s", "type": "string", "nullable": True})
    array = pa.array(raw, pa.binary())
    served = Column([value or b"" for value in raw], np.array([-1 if v is None else i for i, v in enumerate(raw)]))
    wanted = FeatureEncoder(config).encode({"s": served}, np.zeros(len(raw), np.int64))
    assert np.array_equal(encode(config, s=array), wanted)
    assert np.array_equal(encode(config, s=array.dictionary_encode()), wanted)


def test_log_buckets():
    """Buckets grow by the square root of two, keep the sign, and zero is its own, to the ends of the doubles."""
    root = np.sqrt(2)
    for base in (1.0, 2.0**-40, 2.0**500):
        edges = base * np.array([1, root * 0.999, root * 1.001, 1.999, 2, 2 * root * 0.999, 2 * root * 1.001])
        assert (buckets(edges, []) - buckets(edges[:1], [])).tolist() == [0, 0, 1, 1, 2, 2, 3]
    ends = np.array([0.0, -0.0, 5e-324, -5e-324, 1.7e308, -1.7e308, 1.0, -1.0])
    found = buckets(ends, [])
    assert found[0] == found[1] == 0
    assert np.array_equal(found[2::2], -found[3::2])
    assert len(set(found)) == 7


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2), st.booleans())
def test_buckets_keep_order(numbers, bounded):
    """Sorted by size, the numbers' buckets run outward from zero; with boundaries they never descend."""
    ordered = np.sort(np.array(numbers))
    if bounded:
        assert np.all(np.diff(buckets(ordered, [-1.0, 0.0, 10.0])) >= 0)
    else:
        assert np.all(np.diff(buckets(ordered[ordered >= 0], [])) >= 0)
        assert np.array_equal(buckets(-ordered, []), -buckets(ordered, []))


def test_boundaries():
    """A boundary belongs to the bucket above it."""
    assert buckets(np.array([-9, 0, 0.5, 1, 2, 9]), [0, 1, 2]).tolist() == [0, 1, 1, 2, 3, 3]


def test_numeric_fields_hash_their_bucket():
    """Integers and floats of one bucket are one feature; null is none of them; NaN is refused by name."""
    field = {"name": "p", "kind": "numeric", "boundaries": [10.0]}
    keys = encode(config_of({**field, "type": "float"}), p=pa.array([1.0, 9.0, 10.0, None]))[:, 0]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert np.array_equal(keys, encode(config_of({**field, "type": "int"}), p=pa.array([1, 9, 10, None]))[:, 0])
    with pytest.raises(InputError, match=r"'p'.*NaN") as caught:
        encode(config_of({**field, "type": "float"}), p=pa.array([1.0, np.nan]))
    assert caught.value.reason == "non-finite"


def test_lists():
    """A list fills its slots from the left; null and empty lists, and nulls in lists, are reserved features."""
    config = config_of({"name": "tags", "kind": "list", "type": "string", "max_values": 3}, {"name": "u"})
    tags = pa.array([["a", "b"], [], None, ["a", None, "c", "d", "e"], ["b"]])
    keys = encode(config, tags=tags, u=pa.array([1] * 5))
    a, b, c = hash_bytes([b"a", b"b", b"c"], field_key("saec", "tags")).tolist()
    null, empty = (reserved_feature("saec", "tags", meaning) for meaning in ("null", "empty"))
    assert config.slot_fields == (0, 0, 0, 1)
    assert keys[:, :3].tolist() == [[a, b, 0], [empty, 0, 0], [null, 0, 0], [a, null, c], [b, 0, 0]]
    assert (keys[:, 3] != 0).all()


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int64()), pa.large_list(pa.int32()), pa.list_(pa.dictionary(pa.int32(), pa.int64()))]
)
def test_lists_in_any_form(kind):
    """Large lists, other widths, dictionaries and slices of a table encode alike."""
    lists = [[1, 2, 3], None, [], [2], [9, 9]]
    config = config_of({"name": "tags", "kind": "list", "max_values": 2})
    whole = encode(config, tags=pa.array(lists, pa.list_(pa.int64())))
    if pa.types.is_dictionary(kind.value_type):
        codes = pa.array([0, 1, 2, 1, 3, 3], pa.int32())
        values = pa.DictionaryArray.from_arrays(codes, pa.array([1, 2, 3, 9]))
        other = pa.ListArray.from_arrays(pa.array([0, None, 3, 3, 4, 6], pa.int32()), values)
    else:
        other = pa.array(lists, kind)
    assert np.array_equal(encode(config, tags=other), whole)
    assert np.array_equal(encode(config, tags=other.slice(2)), whole[2:])


def test_truncated_values_are_counted():
    """Values beyond `max_values` are counted over all list fields."""
    config = config_of({"name": "a", "kind": "list", "max_values": 2}, {"name": "b", "kind": "list", "max_values": 1})
    table = pa.table({"a": [[1, 2, 3, 4], None, [], [1]], "b": [[1, 2], [1], None, []]})
    assert FeatureEncoder(config).truncated(encoder_columns(table)) == 2 + 1


def test_a_plain_column_is_no_list():
    """A list field over a column without lists is refused by name."""
    with pytest.raises(InputError, match="'tags'"):
        encode(config_of({"name": "tags", "kind": "list"}), tags=pa.array([1, 2]))


def test_clock_fields():
    """Hour and weekday are UTC's; 1970-01-01 was a Thursday, and time before it counts on backwards."""
    config = config_of({"name": "h", "kind": "hour_of_day"}, {"name": "d", "kind": "day_of_week"})
    keys = encode(config, times=[0, 23 * HOUR_MS + HOUR_MS - 1, 24 * HOUR_MS, -1])
    hours, days = (
        hash_int64(np.array(values), field_key("saec", name))
        for name, values in (("h", [0, 23, 0, 23]), ("d", [3, 3, 4, 2]))
    )
    assert keys.tolist() == np.stack([hours, days], 1).tolist()


def test_crosses():
    """A cross hashes its parts' keys in order under its own key, nulls included; other parts, other features."""
    config = config_of({"name": "a"}, {"name": "b"}, crosses=[["a", "b"], ["b", "a"]])
    keys = encode(config, a=pa.array([1, 1, None, 2]), b=pa.array([1, 2, 1, 1]))
    assert np.array_equal(keys[:, 2], hash_words(keys[:, :2], field_key("saec", "a&b")))
    assert len(set(keys[:, 2:].ravel().tolist())) == 8


def test_batched_equals_whole():
    """Three batches and a ragged last one give the keys of the whole."""
    config = config_of(
        {"name": "u"},
        {"name": "tags", "kind": "list", "type": "string", "max_values": 2},
        {"name": "h", "kind": "hour_of_day"},
        crosses=[["u", "h"]],
    )
    table = pa.table({"u": [i % 5 for i in range(23)], "tags": [[f"{k}" for k in range(i % 4)] for i in range(23)]})
    times, encoder = np.arange(23) * HOUR_MS, FeatureEncoder(config)
    whole = encoder.encode(encoder_columns(table), times)
    batches = [encoder.encode(encoder_columns(table.slice(at, 7)), times[at : at + 7]) for at in range(0, 23, 7)]
    assert np.array_equal(np.concatenate(batches), whole)
    assert whole.shape == (23, len(config.slot_fields))
    assert whole.dtype == np.uint64


def test_the_secret_changes_every_feature():
    """Under another `hash_key` no feature keeps its key, reserved ones included."""
    fields = ({"name": "u"}, {"name": "tags", "kind": "list", "max_values": 2})
    one, two = (
        encode(config_of(*fields, key=key), u=pa.array([1, None, 3]), tags=pa.array([[1], [], None]))
        for key in ("a", "b")
    )
    assert not set(one[one > 0].tolist()) & set(two[two > 0].tolist())


def test_no_rows():
    """No rows, no keys, all slots."""
    config = config_of({"name": "u"}, {"name": "tags", "kind": "list", "max_values": 2}, crosses=[["u", "u"]])
    assert encode(config, u=pa.array([], pa.int64()), tags=pa.array([], pa.list_(pa.int64()))).shape == (0, 4)
