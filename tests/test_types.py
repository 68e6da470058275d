"""One table of types: every source through every entrance is the same feature in each, or refused in each."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saec.cli.scoring import score_file
from saec.compression.artifact import write_artifact
from saec.compression.challenger import Challenger
from saec.config import Config
from saec.data.arrow_types import found_arrow
from saec.data.features import FeatureEncoder
from saec.data.hourly_files import write_hour
from saec.data.ingest import read_rows
from saec.data.types import RULES, SOURCES, WANTED
from saec.errors import InputError
from saec.hours import Hour
from saec.server.app import Api, build_app
from saec.server.live import Live, Standing
from saec.server.options import ServerOptions
from saec.serving import Model
from saec.serving.rows import columns_of
from tests.server.conftest import Client

HOUR = Hour(0)
"""The first hour of 1970, so that small numbers are times in it."""
FIELDS = {
    "i": {"type": "int"},
    "f": {"type": "float", "kind": "numeric", "boundaries": [0.7, 1.0]},
    "b": {"type": "bool"},
    "s": {"type": "string"},
    "li": {"type": "int", "kind": "list"},
    "lb": {"type": "bool", "kind": "list"},
    "ls": {"type": "string", "kind": "list"},
}
KINDS = {"i": "int", "f": "float", "b": "bool", "s": "string", "at": "time"}
"""What the columns of the test want."""
TEXTS = ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.001Z", "1970-01-01T01:00:00.001+01:00"]
PLAIN = {
    "integer": [0, 1, 1],
    "float": [0.0, 1.0, 1.0],
    "boolean": [False, True, True],
    "text": TEXTS,
    "decimal": [Decimal(0), Decimal(1), Decimal(1)],
    "null": [None] * 3,
    "instant": [0, 1, 1],
    "date": [0, 0, 0],
}
"""Three values of each source; as times they are 0, 1 and 1 milliseconds after 1970."""
TYPES = {
    "integer": [
        pa.int8(),
        pa.int16(),
        pa.int32(),
        pa.int64(),
        pa.uint8(),
        pa.uint16(),
        pa.uint32(),
        pa.uint64(),
        pa.dictionary(pa.int8(), pa.int32()),
        pa.run_end_encoded(pa.int32(), pa.int64()),
    ],
    "float": [pa.float16(), pa.float32(), pa.float64()],
    "decimal": [pa.decimal32(5, 0), pa.decimal64(9, 0), pa.decimal128(20, 0), pa.decimal256(40, 0)],
    "boolean": [pa.bool_()],
    "text": [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.uint8(), pa.string()),
        pa.dictionary(pa.int64(), pa.large_string()),
        pa.dictionary(pa.int32(), pa.string(), ordered=True),
        pa.run_end_encoded(pa.int32(), pa.string()),
    ],
    "instant": [
        *(pa.timestamp("us", zone) for zone in ("Europe/Berlin", "+02:00", "GMT", "Etc/UTC", "UTC")),
        *(pa.timestamp(unit) for unit in ("ms", "us", "ns")),
    ],
    "date": [pa.date32(), pa.date64()],
    "null": [pa.null()],
}
LISTS = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda kind: pa.list_(kind, 1)]
IN_LISTS = {
    "integer": pa.int16(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "text": pa.large_string(),
    "decimal": pa.decimal128(9, 0),
    "null": pa.null(),
    "date": pa.date32(),
}
ODD = [
    pa.array([time(1)] * 3),
    pa.array([timedelta(1)] * 3),
    pa.array([{"a": 1}] * 3),
    pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
    pa.array([[[1]], [[1]], [[1]]]),
]


def array(values: list, kind: pa.DataType) -> pa.Array:
    """An array of a type, by way of a plain one where Arrow makes none at once."""
    if pa.types.is_dictionary(kind):
        encoded = array(values, kind.value_type).dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            encoded.indices.cast(kind.index_type), encoded.dictionary, ordered=kind.ordered
        )
    if pa.types.is_run_end_encoded(kind):
        return pa.compute.run_end_encode(pa.array(values, kind.value_type), kind.run_end_type)
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.timestamp("ms")).cast(pa.timestamp(kind.unit)).cast(pa.int64()).cast(kind)
    if pa.types.is_date(kind):
        return pa.array([0] * len(values), pa.int32()).cast(pa.date32()).cast(kind)
    return pa.array(values, kind)


QUICK = {
    pa.int8(),
    pa.uint64(),
    pa.float32(),
    pa.float64(),
    pa.decimal128(20, 0),
    pa.bool_(),
    pa.string(),
    pa.string_view(),
    pa.binary(),
    pa.dictionary(pa.uint8(), pa.string()),
    pa.timestamp("us", "Europe/Berlin"),
    pa.timestamp("ns"),
    pa.date32(),
    pa.null(),
    pa.list_(pa.int16()),
    pa.list_(pa.large_string()),
    pa.list_view(pa.int16()),
    pa.list_(pa.int16(), 1),
    pa.list_(pa.float64()),
    ODD[2].type,
}
"""One or two of each source; the others are looked at in the slow suite."""
COLUMNS = [
    pytest.param(source, column, id=f"{source}-{column.type}", marks=[] if column.type in QUICK else pytest.mark.slow)
    for source, column in [
        *((source, array(PLAIN[source], kind)) for source, kinds in TYPES.items() for kind in kinds),
        *(
            ("list", pa.array([[value] for value in PLAIN[source]], make(kind)))
            for make in LISTS
            for source, kind in IN_LISTS.items()
        ),
        *(("other" if place < 4 else "list", column) for place, column in enumerate(ODD)),
    ]
]

TAKEN = """
         i f b s at li lb ls
integer  x x . . x  .  .  .
float    . x . . x  .  .  .
decimal  x x . . x  .  .  .
boolean  . . x . .  .  .  .
text     . . . x x  .  .  .
instant  . . . . x  .  .  .
date     . . . . .  .  .  .
null     x x x x .  x  x  x
"""
"""What is taken, written down once more: a null time is refused by value, the others may be null here."""


def wanted(column: pa.Array, name: str) -> bool:
    """Whether the table above takes a column for a name."""
    heads, *lines = TAKEN.strip().splitlines()
    table = {line.split()[0]: dict(zip(heads.split(), line.split()[1:], strict=True)) for line in lines}
    found = found_arrow(column.type)
    if found.source == "other":
        return False
    if found.source == "list":
        plain = {"li": "i", "lb": "b", "ls": "s"}.get(name)
        inner = found.inner.source
        return plain is not None and inner in table and table[inner][plain] == "x"
    return table[found.source][name] == "x"


def config_of(source: Path, fields: dict, **data: object) -> Config:
    return Config.model_validate(
        {
            "data": {
                "source": str(source),
                "time_column": "at",
                "label_column": "y",
                "row_id_columns": ["row"],
                "max_bad_share": 0.0,
                "time_unit": "ms",
                **data,
            },
            "fields": [
                *({"name": name, "nullable": 1.0, "max_values": 2, **field} for name, field in fields.items()),
                {"name": "hour", "kind": "hour_of_day"},
            ],
            "model": {"width": 4, "hidden": [4], "cross_layers": 1, "cross_rank": 2},
        }
    )


def version_of(config: Config, folder: Path) -> Model:
    """A version of random numbers."""
    folder.mkdir(parents=True)
    write_artifact(folder, Challenger(config), np.arange(1, 9, dtype=np.uint64), np.ones(8, np.int16))
    return Model.read(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> SimpleNamespace:
    """A configuration, its version, and a server of it."""
    folder = tmp_path_factory.mktemp("types")
    config = config_of(folder / "data", FIELDS)
    model = version_of(config, folder / "version")
    now = Live(model, None, datetime.now(UTC), from_cache=False, openapi=b"")
    client = Client(build_app(Api(Standing(live=now), ServerOptions()), None))
    return SimpleNamespace(config=config, model=model, client=client)


GOOD = {
    "i": pa.array([1, 2, 3]),
    "f": pa.array([0.5, 0.7, 1.5]),
    "b": pa.array([True, False, True]),
    "s": pa.array(["a", "b", "c"]),
    "li": pa.array([[1], [2], [3]]),
    "lb": pa.array([[True], [False], [True]]),
    "ls": pa.array([["a"], ["b"], ["c"]]),
    "at": pa.array([0, 1, 1], pa.timestamp("ms", "UTC")),
}


def rows_with(name: str, column: pa.Array) -> pa.Table:
    return pa.table(GOOD | {name: column})


def encoded(place, rows) -> list:
    """Keys and times as serving sees some rows."""
    columns, times_B = columns_of(rows, place.model.schema)
    return [FeatureEncoder(place.model.schema).encode(columns, times_B).tolist(), times_B.tolist()]


def ingested(place, table: pa.Table, folder: Path) -> list:
    """Keys and times as an hour of them has."""
    config = place.config.model_copy(update={"data": place.config.data.model_copy(update={"source": str(folder)})})
    table = table.append_column("y", pa.array([0, 1, 1])).append_column("row", pa.array([0, 1, 2]))
    write_hour(folder, HOUR, table)
    rows = read_rows(config, HOUR)
    return [rows.keys_BS.tolist(), rows.times_B.tolist()]


def outcome(entrance) -> object:
    """What an entrance says: keys, or that it refuses, which it does in words about the column."""
    try:
        return entrance()
    except InputError as error:
        return f"refused as {error.reason}: {error}"


def as_json(column: pa.Array, name: str) -> list | None:
    """The values as JSON has them; None where it has no such values."""
    source = found_arrow(column.type).source
    if source == "date" or (source == "instant" and name != "at") or column.type in (ODD[0].type, ODD[1].type):
        return None
    values = column.to_pylist()
    if source == "list" and found_arrow(column.type).inner.source in ("decimal", "date"):
        return None
    if source == "instant":
        return TEXTS
    return [
        int(value) if isinstance(value, Decimal) else value.decode() if isinstance(value, bytes) else value
        for value in values
    ]


def asked(place, table: pa.Table, name: str, values: list) -> object:
    """What the server answers, checked against the model: that it refuses, or the keys of the same rows as dicts."""
    rows = [
        row | {"at": text}
        for row, text in zip(
            table.drop_columns("at").to_pylist() if name != "at" else table.to_pylist(), TEXTS, strict=True
        )
    ]
    for row, value in zip(rows, values, strict=True):
        row[name] = value
    answer = place.client.post("/v1/score", json={"rows": rows})
    if answer.status_code == 422:
        error = answer.json()["error"]
        return f"refused as {error['reason']}: {error['message']}"
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(answer.json()["scores"], place.model.score(rows))
    return encoded(place, rows)


def entrances(place, name: str, column: pa.Array, folder: Path) -> dict[str, object]:
    """What each entrance says of a column."""
    table = rows_with(name, column)
    said: dict[str, object] = {
        "arrow": outcome(lambda: encoded(place, table)),
        "list of dicts": outcome(lambda: encoded(place, table.to_pylist())),
    }
    if found_arrow(column.type).source == "date":
        del said["list of dicts"]  # Arrow's 64-bit dates come as datetimes
        said["list of dates"] = outcome(
            lambda: encoded(
                place, table.set_column(table.column_names.index(name), name, column.cast(pa.date32())).to_pylist()
            )
        )
    else:
        values = {each: table[each].combine_chunks().to_numpy(zero_copy_only=False) for each in table.column_names}
        said["numpy"] = outcome(lambda: encoded(place, values))
    try:
        said["ingest"] = outcome(lambda: ingested(place, table, folder / "source"))
        source = next((folder / "source").rglob("*.parquet"))
        pq.write_table(table, folder / "rows.parquet")
        said["score"] = outcome(lambda: scored(place, folder, source))
    except pa.ArrowNotImplementedError:
        pass  # Parquet has no such type
    try:
        frame = table.to_pandas(types_mapper=pd.ArrowDtype)
        said["pandas"] = outcome(lambda: encoded(place, frame))
        said["series of pandas"] = outcome(lambda: encoded(place, {each: frame[each] for each in frame}))
    except (pa.ArrowNotImplementedError, NotImplementedError):
        pass  # nor has pandas
    if (polar := as_polars(table)) is not None and not pa.types.is_date64(column.type):  # a datetime in polars
        said["polars"] = outcome(lambda: encoded(place, polar))
        said["series of polars"] = outcome(lambda: encoded(place, {each: polar[each] for each in polar.columns}))
    if (values := as_json(column, name)) is not None:
        said["http"] = asked(place, table, name, values)
    return said


def as_polars(table: pa.Table) -> pl.DataFrame | None:
    """The table in polars; None where that has no such type."""
    try:
        return pl.from_arrow(table)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None


def scored(place, folder: Path, source: Path) -> list:
    """Keys of a file that `saec score` scores, and that its scores are those of the model."""
    score_file(folder / "rows.parquet", folder / "scores.parquet", place.model, lambda _: None)
    table = pq.read_table(folder / "rows.parquet")
    found = pq.read_table(folder / "scores.parquet")["score"].to_numpy()
    np.testing.assert_array_equal(found, place.model.score(table))
    return encoded(place, table)


@pytest.mark.case(7, 9, 10, 12)
@pytest.mark.parametrize("name", [*FIELDS, "at"])
@pytest.mark.parametrize(("source", "column"), COLUMNS)
def test_every_entrance_says_the_same(place, tmp_path, source, column, name):
    """A column that the table takes has the same keys and times in all of them; another is refused in all, by name."""
    assert found_arrow(column.type).source == source
    said = entrances(place, name, column, tmp_path)
    assert {"arrow", "list of dicts"} & {*said} or "list of dates" in said
    if wanted(column, name):
        first = said["arrow"]
        assert not isinstance(first, str), first
        assert all(each == first for each in said.values()), said
    else:
        for entrance, each in said.items():
            assert isinstance(each, str), f"{entrance} takes it"
            assert f"'{name}'" in each, f"{entrance}: {each}"
            assert each.startswith(("refused as dtype", "refused as nulls")), f"{entrance}: {each}"


def test_the_table_says_no_more(place):
    """What is written down above is what `saec.data.types` says; of every source, of everything wanted."""
    assert {*RULES} == {*SOURCES}
    assert {want for rules in RULES.values() for want in rules} == {*WANTED}
    heads, *lines = TAKEN.strip().splitlines()
    for line in lines:
        source, *marks = line.split()
        for name, mark in zip(heads.split(), marks, strict=True):
            if name in KINDS and source != "null":
                assert (mark == "x") == (KINDS[name] in RULES[source]), (source, name)


# --- one width of numbers ---------------------------------------------------------------------------------------------


@pytest.mark.case(2)
@pytest.mark.parametrize("edges", [[0.7, 1.1, 3.3], []])
def test_a_number_is_on_one_side_of_a_boundary(place, tmp_path, edges):
    """Of whatever width it is, in an hour's files and in a request, a number falls in one bucket."""
    prices = [0.5, 0.7, 1.1, 2.0, 3.3, 5.0, 0.1 + 0.2, 0.70710678118, 1e300, 1e-320, -0.7]
    config = config_of(tmp_path, {"f": FIELDS["f"] | {"boundaries": edges}})
    model = version_of(config, tmp_path / "version")
    forms = {
        "double": pa.array(prices),
        "decimal": pa.array([Decimal(repr(price)) for price in prices[:6]]),
        "float": pa.array([np.float32(min(price, 3.4e38)) for price in prices], pa.float32()),
    }
    wanted = model.encode([{"f": price, "at": 0} for price in prices])
    for form, column in forms.items():
        at = pa.array([0] * len(column))
        assert model.encode(pa.table({"f": column, "at": at})).tolist() == wanted[: len(column)].tolist(), form
        table = pa.table({"f": column, "at": at, "y": at, "row": pa.array(range(len(column)))})
        write_hour(tmp_path, HOUR, table)
        assert read_rows(config, HOUR).keys_BS.tolist() == wanted[: len(column)].tolist(), form
    if edges:
        assert len(set(wanted[:6, 0].tolist())) == 4
        assert wanted[1, 0] == wanted[1, 0] != wanted[0, 0], "a boundary belongs to the bucket above it"


@pytest.mark.case(2)
def test_integers_are_compared_as_they_are(tmp_path):
    """In a field of integers nothing is rounded to 32 bits; in one of floats boundaries must differ as such."""
    fields = {"f": {"type": "int", "kind": "numeric", "boundaries": [2.0**24, 2.0**24 + 1]}}
    model = version_of(config_of(tmp_path, fields), tmp_path / "version")
    keys = model.encode([{"f": 2**24 + more, "at": 0} for more in (-1, 0, 1)])
    assert len(set(keys[:, 0].tolist())) == 3
    with pytest.raises(ValueError, match="'f' are alike as 32-bit floats"):
        config_of(tmp_path, {"f": fields["f"] | {"type": "float"}})


# --- labels, times and ids of an hour ---------------------------------------------------------------------------------


def rows_of(place, folder: Path, config: Config | None = None, **columns: pa.Array):
    """The good rows of an hour with these columns in place of the good ones."""
    config = config or place.config
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": str(folder)})})
    write_hour(folder, HOUR, pa.table(GOOD | {"y": pa.array([0, 1, 1]), "row": pa.array([0, 1, 2])} | columns))
    return read_rows(config, HOUR)


@pytest.mark.case(12)
@pytest.mark.parametrize(
    "kind",
    [
        pa.int8(),
        pa.uint64(),
        pa.bool_(),
        pa.float16(),
        pa.float32(),
        pa.float64(),
        pa.decimal128(5, 2),
        pa.dictionary(pa.int8(), pa.int32()),
    ],
)
def test_labels_are_0_and_1_however_they_are_written(place, tmp_path, kind):
    """As integers, booleans, floats or decimals."""
    labels = (
        array([Decimal(label) if pa.types.is_decimal(kind) else label for label in (0, 1, 1)], kind)
        if kind != pa.bool_()
        else pa.array([False, True, True])
    )
    assert rows_of(place, tmp_path, y=labels).labels_B.tolist() == [0, 1, 1]


@pytest.mark.case(12)
@pytest.mark.parametrize(
    ("labels", "reason", "says"),
    [
        (pa.array([0.0, 0.5, 1.0]), "labels", "'y'"),
        (pa.array([0, 2, 1]), "labels", "'y'"),
        (pa.array(["0", "1", "1"]), "dtype", "write 0 and 1 as integers, booleans or floats"),
        (pa.array([0, 1, 1], pa.timestamp("ms")), "dtype", "data.label_column"),
    ],
)
def test_other_labels_are_refused(place, tmp_path, labels, reason, says):
    """By value where the type will do, else by type, with advice that is about the label."""
    with pytest.raises(InputError, match=says) as caught:
        rows_of(place, tmp_path, y=labels)
    assert caught.value.reason == reason


@pytest.mark.case(12)
@pytest.mark.parametrize(
    ("unit", "times"),
    [
        ("s", pa.array([0, 1, 1])),
        ("ms", pa.array([0, 1000, 1000], pa.uint32())),
        ("us", pa.array([0, 10**6, 10**6])),
        ("ns", pa.array([0, 10**9, 10**9])),
        ("s", pa.array([0.0, 1.0, 1.0])),
        ("s", pa.array([0, 1, 1.0004999])),
        ("ms", pa.array([0, 1000.2, 1000.7])),
        ("s", pa.array([Decimal("0.0"), Decimal("1.0"), Decimal("1.0")])),
    ],
)
def test_times_as_numbers_have_a_unit(tmp_path, unit, times):
    """`data.time_unit` says what they count, in files and, by the version's schema, in requests."""
    config = config_of(tmp_path, {"i": FIELDS["i"]}, time_unit=unit)
    rows = rows_of(
        None,
        tmp_path / "source",
        config.model_copy(update={"data": config.data.model_copy(update={"ignore_extra_columns": True})}),
        at=times,
    )
    assert rows.times_B.tolist() == [0, 1000, 1000]
    model = version_of(config, tmp_path / "version")
    assert model.schema.time_unit == unit
    for asked_of in (pa.table({"at": times}), times.to_pylist(), times.to_numpy(zero_copy_only=False)):
        given = asked_of if isinstance(asked_of, pa.Table) else {"at": asked_of}
        assert columns_of(given, model.schema)[1].tolist() == [0, 1000, 1000]


@pytest.mark.case(12)
def test_times_without_a_unit_are_refused(tmp_path):
    """With the setting to set, and the unit that puts them into the hour."""
    config = config_of(tmp_path, {"i": FIELDS["i"]}, time_unit=None, ignore_extra_columns=True)
    start = Hour.parse("2026-11-21T10")
    write_hour(tmp_path, start, pa.table({"i": [1], "y": [1], "row": [1], "at": [start.start_ms + 7]}))
    with pytest.raises(InputError, match=r"column 'at' wants a timestamp, found int64.*data\.time_unit: ms") as caught:
        read_rows(config, start)
    assert caught.value.reason == "dtype"
    model = version_of(config, tmp_path / "version")
    assert "time_unit" not in (tmp_path / "version" / "schema.json").read_text(), "as it was before there was one"
    with pytest.raises(InputError, match=r"'at' wants a timestamp, found int.* trained without data.time_unit"):
        model.encode([{"i": 1, "at": start.start_ms}])


@pytest.mark.case(12)
def test_a_text_that_is_no_time_costs_its_row(place, tmp_path):
    """A torn line is set aside like any row with a time outside its hour; nothing but such texts is a wrong type."""
    config = place.config.model_copy(update={"data": place.config.data.model_copy(update={"max_bad_share": 0.5})})
    assert len(rows_of(place, tmp_path, config, at=pa.array([*TEXTS[:2], "1970-01-0"]))) == 2
    with pytest.raises(InputError, match=r"'at'.*ISO 8601") as caught:
        rows_of(place, tmp_path, config, at=pa.array(["10/Oct/2000:13:55:36", "", "x"]))
    assert caught.value.reason == "dtype"
    with pytest.raises(InputError, match=r"'at'.*a date has no hour"):
        rows_of(place, tmp_path, at=pa.array([0, 0, 0], pa.date32()))


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["a", "b", "b"]),
        pa.array([1, 2, 2], pa.uint64()),
        pa.array([0, 1, 1], pa.date32()),
        pa.array([Decimal("1.10"), Decimal("2.00"), Decimal("2.00")]),
        pa.array([0, 1, 1], pa.timestamp("ms")),
    ],
)
def test_row_ids_of_any_plain_type(place, tmp_path, ids):
    """Equal ids are one row, also where they are decimals or dates; structs are refused with what to do."""
    assert len(rows_of(place, tmp_path, row=ids)) == 2
    with pytest.raises(InputError, match=r"'row' wants plain values.*data.row_id_columns"):
        rows_of(place, tmp_path, row=ODD[2])


def test_a_field_cannot_read_the_time(tmp_path):
    """The clock's kinds read it by themselves."""
    with pytest.raises(ValueError, match=r"'at'.*hour_of_day"):
        config_of(tmp_path, {"at": {"type": "int"}})


# --- what people hold ---------------------------------------------------------------------------------------------


def test_pandas_missing_values_are_nulls(place):
    """NaN of a column of objects, NA of a nullable one and NaT of times are what None is, in a frame and its series."""
    frame = pd.DataFrame(
        {
            "i": pd.array([1, None], "Int64"),
            "s": pd.Series(["a", np.nan], dtype=object),
            "f": [0.7, np.nan],
            "at": pd.to_datetime([0, 1], unit="ms", utc=True),
        }
    )
    wanted = place.model.encode([{"i": 1, "s": "a", "f": 0.7, "at": 0}, {"at": 1}]).tolist()
    assert place.model.encode(frame).tolist() == wanted
    assert place.model.encode({name: frame[name] for name in frame}).tolist() == wanted
    category = frame.assign(s=frame["s"].astype("category"))
    assert place.model.encode(category).tolist() == wanted
    with pytest.raises(InputError, match=r"'s' wants string, found float.*a missing value is None, not NaN"):
        place.model.encode(frame.astype({"i": object}).to_dict("records"))


@pytest.mark.case(10)
def test_polars_categories_are_text(place):
    """Categorical, Enum, lists of them, and columns of nothing but nulls."""
    frame = pl.DataFrame({"s": ["a", None], "ls": [["a", "b"], []], "at": [0, 1]})
    wanted = place.model.encode([{"s": "a", "ls": ["a", "b"], "at": 0}, {"ls": [], "at": 1}]).tolist()
    kinds = [pl.String, pl.Categorical, pl.Enum(["a", "b"])]
    for kind in kinds:
        cast = frame.with_columns(pl.col("s").cast(kind), pl.col("ls").cast(pl.List(kind)), pl.lit(None).alias("f"))
        assert place.model.encode(cast).tolist() == wanted
        assert place.model.encode(dict(zip(cast.columns, cast, strict=True))).tolist() == wanted
    with pytest.raises(InputError, match="pyarrow makes no table of"):
        place.model.encode(frame.with_columns(pl.lit(1).cast(pl.Int128).alias("i")))


def test_nanoseconds_are_no_integers(place):
    """Numpy's own way of turning them into Python's makes numbers of them."""
    moments = np.array([0, 1], "datetime64[ms]").astype("datetime64[ns]")
    for given in (moments, list(moments)):
        assert columns_of({"at": given}, place.model.schema)[1].tolist() == [0, 1]
        with pytest.raises(InputError, match="'i'"):
            place.model.encode({"i": given, "at": [0, 1]})
