"""Requests that cannot be scored: an input error that names the column and shows no value."""

import numpy as np
import pyarrow as pa
import pytest

from saec.errors import InputError
from tests.serving.conftest import arrow

WRONG = [
    ("user", "7", "dtype"),
    ("user", 7.0, "dtype"),
    ("user", True, "dtype"),
    ("user", 2**64, "dtype"),
    ("user", -(2**63) - 1, "dtype"),
    ("user", 10**5000, "dtype"),
    ("user", [7], "dtype"),
    ("user", {}, "dtype"),
    ("user", float("nan"), "dtype"),
    ("user", None, "nulls"),
    ("mobile", 1, "dtype"),
    ("mobile", "true", "dtype"),
    ("mobile", None, "nulls"),
    ("price", "1.5", "dtype"),
    ("price", True, "dtype"),
    ("price", float("nan"), "non-finite"),
    ("price", float("inf"), "non-finite"),
    ("price", 10**400, "dtype"),
    ("price", 1j, "dtype"),
    ("age", 17.5, "dtype"),
    ("site", 7, "dtype"),
    ("site", ["a"], "dtype"),
    ("site", bytearray(b"a"), "dtype"),
    ("tags", "red", "dtype"),
    ("tags", {"red": 1}, "dtype"),
    ("tags", [["red"]], "dtype"),
    ("tags", [1], "dtype"),
    ("at", "yesterday", "dtype"),
    ("at", 1_763_720_430_000, "dtype"),
    ("at", None, "nulls"),
    ("at", "", "dtype"),
]


def shown(value: object) -> str:
    return f"{type(value).__name__}-{len(str(value)) if not isinstance(value, int) else value.bit_length()}"


@pytest.mark.fault(72)
@pytest.mark.parametrize(("name", "value", "reason"), WRONG, ids=[f"{name}-{shown(value)}" for name, value, _ in WRONG])
def test_a_wrong_value_is_refused_by_column(model, row, name, value, reason):
    """As a dict, as a column, for the user or for a candidate: the column is named and the reason given."""
    own = {key: held for key, held in row.items() if key != name}
    calls = [
        lambda: model.score([row, row | {name: value}]),
        lambda: model.score({key: [held] for key, held in (row | {name: value}).items()}),
        lambda: model.score_candidates({name: value}, [own]),
        lambda: model.score_candidates(own, [{name: value}, {name: row[name]}]),
    ]
    for call in calls:
        with pytest.raises(InputError, match=f"'{name}'") as caught:
            call()
        assert caught.value.reason == reason
        assert len(str(caught.value)) < 300


@pytest.mark.fault(72)
def test_a_missing_column_is_named(model, row):
    """Where null is not allowed, a column must be there, in every row."""
    bare = {name: value for name, value in row.items() if name != "user"}
    calls = [
        lambda: model.score([bare]),
        lambda: model.score({name: [value] for name, value in bare.items()}),
        lambda: model.score([row, bare]),
        lambda: model.score_candidates(bare, [{}]),
        lambda: model.score(arrow([row]).drop_columns("user")),
    ]
    for call in calls:
        with pytest.raises(InputError, match="'user'"):
            call()


@pytest.mark.fault(72)
def test_an_unknown_column_is_named_with_the_nearest(model, row):
    """A name that no field reads is most often misspelt; a long one is cut short."""
    extra = {"usr": 1}
    calls = [
        lambda: model.score([row | extra]),
        lambda: model.score({**{k: [v] for k, v in row.items()}, "usr": [1]}),
        lambda: model.score_candidates(row | extra, [{}]),
        lambda: model.score_candidates(row, [extra]),
        lambda: model.score(arrow([row]).append_column("usr", pa.array([1]))),
    ]
    for call in calls:
        with pytest.raises(InputError, match="reads column 'usr'; did you mean 'user'") as caught:
            call()
        assert caught.value.reason == "schema"
    for name in ("x" * 10**6, 7, None, "clicked"):
        with pytest.raises(InputError, match="no field of the version reads") as caught:
            model.score([row | {name: 1}])
        assert len(str(caught.value)) < 300


@pytest.mark.fault(72)
@pytest.mark.parametrize(
    "rows",
    [
        None,
        3,
        "rows",
        b"rows",
        ["rows"],
        [None],
        [[1, 2]],
        [{}, 3],
        {"user": 3},
        {"user": [1], "item": [1, 2]},
        {},
        {"user": None},
        object(),
    ],
)
def test_what_is_no_rows_is_refused(model, rows):
    """Neither dicts nor columns nor Arrow, or columns of several lengths."""
    with pytest.raises(InputError):
        model.score(rows)


@pytest.mark.parametrize("candidates", [{"item": [1, 2]}, None, "items", 3], ids=repr)
def test_candidates_are_dicts(model, row, candidates):
    """What else is taken for rows would leave the user's columns out."""
    with pytest.raises(InputError, match="candidates must be a list of dicts"):
        model.score_candidates({name: value for name, value in row.items() if name != "item"}, candidates)


def test_candidates_as_a_table(model, row):
    """Candidates of Arrow score as dicts, beside a user of Arrow or a dict; on both sides a column is refused."""
    user = {name: value for name, value in row.items() if name != "item"}
    candidates = [{"item": item} for item in (3, 5, 18)]
    wanted = model.score_candidates(user, candidates)
    for shared in (user, pa.Table.from_pylist([user])):
        assert model.score_candidates(shared, pa.Table.from_pylist(candidates)).tolist() == pytest.approx(
            wanted.tolist(), abs=1e-12
        )
    with pytest.raises(InputError, match="'user' is given for all rows"):
        model.score_candidates(user, pa.Table.from_pylist([{"item": 3, "user": 4}]))
    with pytest.raises(InputError, match="must be one row, got 2"):
        model.score_candidates(pa.Table.from_pylist([user] * 2), pa.Table.from_pylist(candidates))


def test_a_null_among_a_dictionarys_values_is_a_null(model, row):
    """However Arrow holds it."""
    table = pa.Table.from_pylist([row, row | {"site": None}])
    hidden = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array([row["site"], None]))
    changed = table.set_column(table.column_names.index("site"), "site", hidden)
    assert model.score(changed).tolist() == model.score(table).tolist()


@pytest.mark.parametrize("column", ["abc", b"abc", {7: 8}, 7, None, np.array(7), iter([7]), object()])
def test_a_column_is_a_list_or_an_array(model, row, column):
    """A text is no column of letters, a dict no column of its keys."""
    with pytest.raises(InputError, match="'user' must be a list or an array"):
        model.score({name: [value] for name, value in row.items()} | {"user": column})


def test_a_column_is_given_once(model, row):
    """For the user or with each candidate, not both."""
    with pytest.raises(InputError, match="'user' is given for all rows and for single ones"):
        model.score_candidates(row, [{"user": 3}])


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("user", pa.array(["7"])),
        ("user", pa.array([7.0])),
        ("tags", pa.array(["red"])),
        ("tags", pa.array([[1]])),
        ("at", pa.array([0])),
        ("at", pa.array([0], pa.date32())),
        ("user", pa.array([None], pa.int64())),
        ("at", pa.array([None], pa.timestamp("ms"))),
        ("price", pa.array([float("nan")])),
        ("mobile", pa.array([1])),
    ],
)
def test_arrow_columns_are_held_to_the_contract(model, row, name, column):
    """Of another type, or null where it must not be: the column is named."""
    table = arrow([row])
    with pytest.raises(InputError, match=f"'{name}'"):
        model.score(table.set_column(table.column_names.index(name), name, column))


def test_nulls_in_lists_need_a_nullable_field(click_hours, model, row):
    """A null among a list's values is the field's null."""
    assert (
        model.encode([row | {"tags": ["red", None]}])[0, 2:4]
        == [model.encode([row])[0, 2], model.encode([row | {"tags": None}])[0, 2]]
    ).all()


def test_pandas_knows_nulls_of_its_own(model, row):
    """Its null time is one, and its columns are taken like lists."""
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InputError, match="'at'"):
        model.score([row | {"at": pandas.NaT}])
    frame = pandas.DataFrame({name: [value, value] for name, value in row.items()})
    np.testing.assert_array_equal(model.encode({name: frame[name] for name in frame}), model.encode([row, row]))


@pytest.mark.parametrize(
    "given",
    [
        "2026-11-21T10:20:30Z",
        "2026-11-21T10:20:30.999Z",
        "2026-11-21T11:20:30+01:00",
        "2026-11-21T10:20:30",
        np.datetime64("2026-11-21T10:20:30"),
    ],
)
def test_times_may_be_texts(model, row, given):
    """ISO 8601 with any offset, or none, which is UTC; only hour and day count."""
    given = given.item() if isinstance(given, np.datetime64) else given
    np.testing.assert_array_equal(model.encode([row | {"at": given}]), model.encode([row]))
    other = model.encode([row | {"at": "2026-11-22T11:20:30Z"}])
    assert (other != model.encode([row])).sum() == 4, "hour, day and the crosses of either"


def test_numbers_of_any_kind_are_the_same_feature(model, row):
    """Numpy's scalars, bytes for a text, a whole number for a float: as the plain values."""
    same = row | {
        "user": np.int32(row["user"]),
        "site": row["site"].encode(),
        "price": 2,
        "mobile": np.bool_(row["mobile"]),
        "age": np.uint8(row["age"]),
    }
    np.testing.assert_array_equal(model.encode([same]), model.encode([row | {"price": 2.0}]))
    assert model.encode([row | {"user": 2**64 - 1}]).shape == (1, 14)


def test_odd_texts_are_features_like_others(model, row):
    """Lone surrogates, NUL and long texts have keys of their own."""
    texts = ["\ud800", "\0", "", "x" * 10**5, "é", "e\u0301"]
    assert len(set(model.encode([row | {"site": text} for text in texts])[:, 5].tolist())) == len(texts)
