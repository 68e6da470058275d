"""Reading an hour's files: what is found, what is refused, and why."""

import hashlib
import json
import os
from datetime import UTC

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saec.config import DataConfig
from saec.data import partitions
from saec.data.ingest import good_rows
from saec.data.partitions import available_hours, open_source, read_partition
from saec.errors import ConfigError, HourAbsent, InputError
from saec.hours import Hour


def available(source, first=None, last=None, **data) -> dict[Hour, str]:
    """The hours of a folder or URL."""
    data = DataConfig(source=str(source), time_column="time", label_column="clicked", **data)
    return available_hours(data, first, last)


STEP = np.arange(200)
TEXTS = [f"site {i % 5}" for i in STEP]
LARGE = STEP.astype(np.uint64) + np.uint64(2**63)
TIMES = 1506826800000 + STEP * 1000


def refused(config, hour, *, reason: str) -> str:
    """The message with which an hour is refused for the reason."""
    with pytest.raises(InputError) as caught:
        read_partition(config, hour)
    assert caught.value.reason == reason
    assert str(hour) in str(caught.value)
    return str(caught.value)


def test_rows_come_back_as_delivered(producer, hour):
    """All wanted columns come back with their values; the digest is that of the file's bytes."""
    path = producer.deliver()
    partition = read_partition(producer.config(), hour)
    assert partition.table.to_pylist() == producer.table().to_pylist()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert [(file.name, file.sha256, file.rows) for file in partition.files] == [(path.name, sha256, 200)]
    assert partition.sha256 == hashlib.sha256(sha256.encode()).hexdigest()


def test_parts_are_read_in_name_order(producer, hour):
    """Three part files, one row group each or ragged, are one table in the order of their names."""
    table = producer.table(rows=25)
    for name, start in (("b.parquet", 10), ("c.parquet", 20), ("a.parquet", 0)):
        producer.deliver(table.slice(start, 10), name)
    partition = read_partition(producer.config(), hour)
    assert partition.table.to_pylist() == table.to_pylist()
    assert [file.name for file in partition.files] == ["a.parquet", "b.parquet", "c.parquet"]


def test_the_same_file_twice_is_read_once(producer, hour):
    """A byte-for-byte repeat changes neither the rows nor the digest, and is counted."""
    path = producer.deliver()
    once = read_partition(producer.config(), hour)
    path.with_name("part-1.parquet").write_bytes(path.read_bytes())
    twice = read_partition(producer.config(), hour)
    assert (twice.sha256, twice.duplicate_files, twice.files) == (once.sha256, 1, once.files)
    assert twice.table.equals(once.table)


def test_absent_hour(producer, hour):
    """An hour without a folder, or with a writer's own files only, is absent; the message says where it should be."""
    with pytest.raises(HourAbsent, match=r"2017-10-01T03.*date=2017-10-01/hour=03") as caught:
        read_partition(producer.config(), hour)
    assert caught.value.reason == "no-data"
    producer.deliver(name="_temporary.parquet")
    producer.deliver(name=".part-0.parquet")
    (producer.folder / "_SUCCESS").touch()
    with pytest.raises(HourAbsent):
        read_partition(producer.config(), hour)
    assert available(producer.root) == {}


@pytest.mark.fault(36)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_truncated_file(producer, hour, share):
    """A file cut short anywhere is refused as truncated, by name."""
    path = producer.deliver()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "part-0.parquet" in refused(producer.config(), hour, reason="truncated")


def test_corrupt_file(producer, hour):
    """Bytes that are no Parquet, a damaged footer, and a damaged page are corrupt, by name."""
    path = producer.deliver()
    data = path.read_bytes()
    page, footer = bytearray(data), bytearray(data)
    price = pq.read_metadata(path).row_group(0).column(4)
    page[price.dictionary_page_offset + price.total_compressed_size - 1] ^= 1
    footer[-8:-4] = (2**31 - 1).to_bytes(4, "little")
    for damaged in (b"label,user\n0,1\n" * 9, bytes(page), bytes(footer)):
        path.write_bytes(damaged)
        assert "part-0.parquet" in refused(producer.config(), hour, reason="corrupt")


def test_footer_that_promises_other_rows(producer, hour, monkeypatch):
    """Pages that hold fewer rows than the footer says are corrupt."""
    producer.deliver()
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self, columns: producer.table(rows=3).select(columns))
    assert "200 rows" in refused(producer.config(), hour, reason="corrupt")


@pytest.mark.fault(50)
@pytest.mark.parametrize(
    ("limit", "wanted"),
    [({"max_rows": 199}, "max_rows"), ({"max_bytes": 500}, "limit of 500"), ({"max_bytes": 12_000}, "decoded bytes")],
)
def test_limits_hold_before_a_page_is_read(producer, hour, monkeypatch, limit, wanted):
    """Too many rows or bytes are refused by the footer, without decoding."""
    producer.deliver()
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("a page was decoded"))
    assert wanted in refused(producer.config(**limit), hour, reason="too-large")


def test_bomb_of_repeated_rows(producer, hour):
    """A tiny file of ten million equal numbers is refused by its decoded size."""
    rows = 10_000_000
    path = producer.deliver(pa.table({"user": pa.array(np.zeros(rows, np.int64))}))
    assert path.stat().st_size < 50_000
    refused(producer.config(max_bytes=10_000_000), hour, reason="too-large")


@pytest.mark.fault(50)
def test_bomb_of_one_huge_string(producer, hour):
    """A megabyte repeated in 20,000 rows is held once in memory, not 20 GB."""
    site = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * 1_000_000]))
    producer.deliver(producer.table(rows=20_000, site=site))
    assert read_partition(producer.config(), hour).table.nbytes < 10_000_000


def test_code_beyond_its_dictionary(producer, hour, monkeypatch):
    """A code that no value of the dictionary belongs to is corrupt, in plain columns and in lists."""
    producer.deliver()
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 2] * 100), pa.array(["a", "b"]), safe=False)
    lists = pa.ListArray.from_arrays(pa.array(np.arange(201), pa.int32()), codes)
    for column in ({"site": codes}, {"tags": lists}):
        table = producer.table(**column)
        monkeypatch.setattr(pq.ParquetFile, "read", lambda self, columns, table=table: table.select(columns))
        assert "code 2" in refused(producer.config(), hour, reason="corrupt")


def test_too_many_columns(producer, hour, monkeypatch):
    """A file with more columns than the limit is refused."""
    monkeypatch.setattr(partitions, "MAX_COLUMNS", 5)
    producer.deliver()
    assert "columns" in refused(producer.config(), hour, reason="too-large")


def test_only_wanted_columns_are_read(producer, hour):
    """Further columns are named, not read; a dotted neighbour is not taken for the column's child."""
    more = {"price.old": pa.array(np.zeros(200)), "zip": pa.array(np.zeros(200))}
    producer.deliver(**more)
    partition = read_partition(producer.config(), hour)
    assert partition.extra_columns == ("price.old", "zip")
    assert partition.table.column_names == ["time", "clicked", "user", "site", "price", "tags"]


def test_missing_column_is_left_to_the_contract(producer, hour):
    """A partition that lacks a wanted column is still read, so that the contract can name the nearest one."""
    producer.deliver(user=None)
    assert "user" not in read_partition(producer.config(), hour).table.column_names


def test_column_twice(producer, hour):
    """A column that is there twice is no column to choose from."""
    table = producer.table()
    producer.deliver(table.append_column("user", table["user"]))
    assert "'user'" in refused(producer.config(), hour, reason="schema")


WIDENED = {
    "int32 and int64": ("user", pa.array(STEP, pa.int32()), pa.array(STEP)),
    "int8 and uint64": ("user", pa.array(STEP % 99, pa.int8()), pa.array(STEP, pa.uint64())),
    "uint64 and uint8": ("user", pa.array(LARGE), pa.array(STEP % 99, pa.uint8())),
    "decimal and int": ("user", pa.array(STEP).cast(pa.decimal128(19, 0)), pa.array(STEP)),
    "float and double": ("price", pa.array(STEP / 4, pa.float32()), pa.array(STEP / 4)),
    "int and double": ("price", pa.array(STEP), pa.array(STEP / 4)),
    "string and large_string": ("site", pa.array(TEXTS), pa.array(TEXTS, pa.large_string())),
    "string and binary": ("site", pa.array(TEXTS), pa.array(TEXTS, pa.binary())),
    "dictionary and string": ("site", pa.array(TEXTS).dictionary_encode(), pa.array(TEXTS)),
    "null and string": ("site", pa.nulls(200), pa.array(TEXTS)),
    "null and lists": ("tags", pa.nulls(200), pa.array([[text] for text in TEXTS])),
    "lists of nulls and lists": ("tags", pa.array([[]] * 200, pa.list_(pa.null())), pa.array([[t] for t in TEXTS])),
    "lists and large lists": (
        "tags",
        pa.array([[t] for t in TEXTS]),
        pa.array([[t] for t in TEXTS], pa.large_list(pa.large_string())),
    ),
    "ms and us": (
        "time",
        pa.array(TIMES, pa.timestamp("ms", "UTC")),
        pa.array(TIMES * 1000, pa.timestamp("us", "Europe/Berlin")),
    ),
    "s and ns": ("time", pa.array(TIMES // 1000, pa.timestamp("s")), pa.array(TIMES * 10**6, pa.timestamp("ns"))),
    "bool and int": ("clicked", pa.array(STEP % 2 == 0), pa.array(STEP % 2, pa.int8())),
    "double and bool": ("clicked", pa.array(STEP % 2 / 1), pa.array(STEP % 2 == 0)),
}


@pytest.mark.case(9)
@pytest.mark.parametrize("case", WIDENED)
@pytest.mark.parametrize("swapped", [False, True])
def test_parts_are_widened(producer, hour, case, swapped):
    """Files of one hour may differ in types that one holds: either file first, all values are there."""
    name, *columns = WIDENED[case]
    columns = columns[::-1] if swapped else columns
    for part, column in enumerate(columns):
        producer.deliver(name=f"part-{part}.parquet", **{name: column})
    found = read_partition(producer.config(), hour).table[name]
    assert found.to_pylist() == [plain(value, found.type) for column in columns for value in column.to_pylist()]


def plain(value, kind: pa.DataType):
    """A value as it comes back from a column of a type."""
    if isinstance(value, str) and pa.types.is_dictionary(kind) and pa.types.is_binary(kind.value_type):
        return value.encode()
    return value.replace(tzinfo=UTC) if hasattr(value, "tzinfo") and value.tzinfo is None else value


@pytest.mark.case(9)
@pytest.mark.parametrize(
    ("name", "one", "other", "says"),
    [
        ("user", pa.array(STEP), pa.array(TEXTS), "write it as integers, or give field 'user' type: string"),
        ("user", pa.array(STEP), pa.array(STEP / 1), "give field 'user' kind: numeric, type: float"),
        ("user", pa.array(STEP - 9), pa.array(LARGE), "no integer of 64 bits holds both"),
        ("site", pa.array(TEXTS), pa.array(STEP), "give field 'site' type: int"),
        ("tags", pa.array([["a"]] * 200), pa.array(["a"] * 200), "give field 'tags' kind: categorical, type: string"),
    ],
)
def test_parts_that_no_type_holds(producer, hour, name, one, other, says):
    """Values that are lost in any one type are refused by hour, file and column, with the way on."""
    producer.deliver(**{name: one})
    producer.deliver(name="part-1.parquet", **{name: other})
    message = refused(producer.config(), hour, reason="dtype")
    assert f"'{name}'" in message
    assert "part-1.parquet" in message
    assert says in message


@pytest.mark.case(9)
@pytest.mark.parametrize("empty", [pa.array([], pa.string()), pa.array([], pa.null()), None])
def test_a_file_without_rows_says_nothing(producer, hour, empty):
    """Whatever types it has, and whichever columns."""
    for name in ("a-first.parquet", "z-last.parquet"):
        none = producer.table(rows=0)
        none = none.drop_columns("user") if empty is None else none.set_column(2, "user", empty)
        producer.deliver(none, name)
    producer.deliver()
    assert read_partition(producer.config(), hour).table.to_pylist() == producer.table().to_pylist()


@pytest.mark.case(7)
def test_parts_that_differ_in_not_null(producer, hour):
    """A column declared NOT NULL in one file, or so in its lists, is the same column."""
    table = producer.table()
    strict = pa.schema([pa.field(field.name, field.type, nullable=False) for field in table.schema])
    strict = strict.set(5, pa.field("tags", pa.list_(pa.field("element", pa.string(), nullable=False))))
    producer.deliver(table.slice(0, 100))
    producer.deliver(
        pa.table(
            [
                column.combine_chunks().cast(kind)
                for column, kind in zip(table.slice(100).columns, strict.types, strict=True)
            ],
            strict,
        ),
        "part-1.parquet",
    )
    config = producer.config()
    assert read_partition(config, hour).table.to_pylist() == table.to_pylist()
    assert len(good_rows(config, read_partition(config, hour))) == 200


def test_parts_must_have_the_same_columns(producer, hour):
    """A column that one file lacks is named, with the files."""
    producer.deliver()
    producer.deliver(name="part-1.parquet", user=None)
    assert "'user'" in refused(producer.config(), hour, reason="schema")


def test_a_file_of_quite_other_columns_is_no_empty_one(producer, hour):
    """Rows of which nothing is wanted are rows all the same: the file is named."""
    producer.deliver()
    producer.deliver(pa.table({"else": STEP}), "part-1.parquet")
    assert "part-1.parquet" in refused(producer.config(), hour, reason="schema")


ENCODINGS = {
    "site": ("DICTIONARY", "PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"),
    "tags": ("DICTIONARY", "PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"),
    "user": ("PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"),
    "price": ("PLAIN", "BYTE_STREAM_SPLIT"),
    "clicked": ("PLAIN", "DELTA_BINARY_PACKED"),
    "time": ("PLAIN", "DELTA_BINARY_PACKED"),
}


@pytest.mark.case(8)
@pytest.mark.parametrize("pages", ["1.0", "2.0"])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("name", "encoding"), [(name, each) for name, all_of in ENCODINGS.items() for each in all_of])
def test_sound_parquet_is_read(producer, hour, name, encoding, groups, pages):
    """Every encoding that pyarrow writes, in one row group or several, strings in dictionaries all the same."""
    path = producer.deliver()
    leaf = "tags.list.element" if name == "tags" else name
    how = {} if encoding == "DICTIONARY" else {"use_dictionary": False, "column_encoding": {leaf: encoding}}
    pq.write_table(
        producer.table(),
        path,
        row_group_size=-(-200 // groups),
        data_page_version=pages,
        write_page_checksum=True,
        **how,
    )
    table = read_partition(producer.config(), hour).table
    assert table.to_pylist() == producer.table().to_pylist()
    assert pa.types.is_dictionary(table["site"].type)
    assert pa.types.is_dictionary(table["tags"].type.value_type)


@pytest.mark.case(8)
@pytest.mark.slow  # 200 MB of strings
def test_a_small_file_of_long_strings_stays_small(producer, hour):
    """Strings that repeat their beginnings, in an encoding that makes little of them, are unpacked some at a time."""
    rows = 20_000
    path = producer.deliver()
    pq.write_table(
        producer.table(rows=rows, site=pa.array(["x" * 10_000] * rows)),
        path,
        use_dictionary=False,
        column_encoding={"site": "DELTA_BYTE_ARRAY"},
    )
    before = pa.default_memory_pool().max_memory()
    table = read_partition(producer.config(), hour).table
    assert table.nbytes < 10_000_000
    assert pa.default_memory_pool().max_memory() - before < 100_000_000, "in all it would be 200 MB"


@pytest.mark.case(8)
@pytest.mark.parametrize("error", [pa.ArrowNotImplementedError("no such thing"), OSError("Not yet implemented: odd")])
def test_a_limit_of_the_reader_is_no_damage(producer, hour, monkeypatch, error):
    """What pyarrow cannot do is called that, and it is not asked for another delivery of the same."""
    producer.deliver()

    def fail(*_, **__):
        raise error

    for method in ("read", "read_row_group", "iter_batches"):
        monkeypatch.setattr(pq.ParquetFile, method, fail)
    message = refused(producer.config(), hour, reason="unsupported")
    assert "need not be damaged" in message
    assert "delivered again" not in message


@pytest.mark.case(8)
def test_a_limit_of_one_way_of_reading(producer, hour, monkeypatch):
    """What cannot be read with strings as dictionaries is read without."""
    producer.deliver()
    opened = pq.ParquetFile

    def picky(*args, read_dictionary, **how):
        file = opened(*args, read_dictionary=read_dictionary, **how)
        if read_dictionary:
            file.read = file.read_row_group = lambda *_, **__: (_ for _ in ()).throw(OSError("Not yet implemented: x"))
        return file

    monkeypatch.setattr(pq, "ParquetFile", picky)
    assert read_partition(producer.config(), hour).table.to_pylist() == producer.table().to_pylist()


@pytest.mark.case(8)
def test_encrypted_parquet(producer, hour):
    """Is said to be that."""
    path = producer.deliver()
    path.write_bytes(b"PARE" + path.read_bytes()[4:-4] + b"PARE")
    assert "encrypted" in refused(producer.config(), hour, reason="unsupported")


def write_manifest(producer, **files: dict) -> None:
    text = json.dumps({"files": {f"{name}.parquet": promise for name, promise in files.items()}})
    (producer.folder / "_manifest.json").write_text(text)


def test_manifest_that_holds(producer, hour):
    """A producer's manifest that agrees lets the hour pass."""
    path = producer.deliver(name="p.parquet")
    write_manifest(producer, p={"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": 200})
    assert read_partition(producer.config(), hour).table.num_rows == 200


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"p": {"sha256": "0" * 64, "rows": 200}}, "sha256"),
        ({"p": {"rows": 201}}, "rows"),
        ({"p": {}, "q": {}}, "q.parquet is promised"),
        ({}, "not in the manifest"),
    ],
)
def test_manifest_that_does_not_hold(producer, hour, files, says):
    """Another digest, another row count, a file too few and a file too many are corrupt."""
    producer.deliver(name="p.parquet")
    write_manifest(producer, **files)
    assert says in refused(producer.config(), hour, reason="corrupt")


@pytest.mark.parametrize("text", ["", "[]", '{"files": []}', '{"files": {"p.parquet": 3}}', "[" * 100_000, "\udcff"])
def test_manifest_that_is_none(producer, hour, text):
    """A manifest that is not of the form is corrupt, and the message shows the form."""
    producer.deliver(name="p.parquet")
    (producer.folder / "_manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert '{"files": {NAME' in refused(producer.config(), hour, reason="corrupt")


def test_oddities_in_place_of_files(producer, hour):
    """A link, a folder or a pipe named like a part file, and a file named like the hour, are named and refused."""
    path = producer.deliver()
    path.rename(producer.root / "elsewhere")
    for make in (lambda: path.symlink_to(producer.root / "elsewhere"), path.mkdir, lambda: os.mkfifo(path)):
        make()
        assert "part-0.parquet" in refused(producer.config(), hour, reason="layout")
        path.rmdir() if path.is_dir() else path.unlink()
    producer.folder.rmdir()
    producer.folder.touch()
    assert "hour=03" in refused(producer.config(), hour, reason="layout")


def test_available_hours(producer):
    """Hours with a part file are listed oldest first, by folder or URL; look-alikes are not."""
    for folder in (
        "date=2017-10-02/hour=00",
        "date=2017-10-01/hour=23",
        "date=2017-02-30/hour=01",
        "date=2017-10-01/hour=24",
        "date=2017-10-01/hour=003",
        "date=2017-10-01",
    ):
        (producer.root / folder).mkdir(parents=True, exist_ok=True)
        (producer.root / folder / "x.parquet").touch()
    (producer.root / "date=2017-10-03/hour=00").mkdir(parents=True)
    wanted = [Hour.parse("2017-10-01T23"), Hour.parse("2017-10-02T00")]
    assert list(available(producer.root)) == list(available(producer.root.as_uri())) == wanted
    assert available(producer.root / "nowhere") == {}
    for first, last, found in (
        (wanted[0], wanted[0], wanted[:1]),
        (wanted[0] + 1, None, wanted[1:]),
        (None, None, wanted),
        (wanted[1] + 1, None, []),
        (None, wanted[0] - 1, []),
    ):
        assert list(available(producer.root, first, last)) == found


def test_a_delivery_leaves_another_mark(producer, hour):
    """A further file, and one that was replaced by another of the same size, change the hour's mark and no other's."""
    path, source = producer.deliver(), str(producer.root)
    before = available(source)
    assert available(source) == before
    os.utime(path, ns=(1, 1))
    touched = available(source)
    (path.parent / "part-1.parquet").touch()
    marks = [found[hour] for found in (before, touched, available(source))]
    assert len(set(marks)) == 3


def test_source_by_url(producer, hour):
    """A file URL reads as the folder does."""
    producer.deliver()
    by_url = read_partition(producer.config(source=producer.root.as_uri()), hour)
    assert by_url.table.equals(read_partition(producer.config(), hour).table)


@pytest.mark.fault(73)
def test_bad_url_keeps_its_password():
    """A URL that cannot be opened is refused without repeating it."""
    with pytest.raises(ConfigError, match="scheme 'ftp'") as caught:
        open_source("ftp://me:secret@host/data")
    assert "secret" not in str(caught.value)


def test_failing_disk_is_not_the_inputs_fault(producer, hour, monkeypatch):
    """An I/O error while fetching goes through as an OSError, so that the hour is FAILED and not QUARANTINED."""
    producer.deliver()

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(partitions, "DeliveredFile", fail)
    with pytest.raises(OSError, match="Input/output"):
        read_partition(producer.config(), hour)


@pytest.mark.case(6)
@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("dt=%Y-%m-%d/hr=%H", "dt=2017-10-01/hr=3/part-0.parquet"),
        ("date=%Y%m%d/hour=%H", "date=20171001/hour=03/x.PARQ"),
        ("year=%Y/month=%m/day=%d/hour=%H", "year=2017/month=10/day=1/hour=3/x.pq"),
        ("%Y%m%d/%H", "20171001/03/x.parquet"),
        ("clicks-%Y-%m-%dT%H*", "clicks-2017-10-01T03.parquet"),
        ("%Y/%m/%d/country=*/%H.parquet", "2017/10/01/country=DE/03.parquet"),
    ],
)
def test_hours_of_other_layouts(producer, hour, layout, name):
    """An hour is found and read wherever the pattern says, and only within the range asked about."""
    table = producer.table()
    (producer.root / name).parent.mkdir(parents=True)
    pq.write_table(table, producer.root / name)
    assert list(available(producer.root, layout=layout)) == [hour]
    assert list(available(producer.root, hour, hour, layout=layout)) == [hour]
    assert available(producer.root, hour + 1, layout=layout) == available(producer.root, None, hour - 1, layout=layout)
    assert available(producer.root, hour + 1, layout=layout) == {}
    partition = read_partition(producer.config(layout=layout), hour)
    assert partition.table.to_pylist() == table.to_pylist()
    with pytest.raises(HourAbsent, match="2017-10-01T04"):
        read_partition(producer.config(layout=layout), hour + 1)


@pytest.mark.case(6)
def test_an_hour_with_and_without_its_zero(producer, hour):
    """Files under both ways to write an hour are all of it."""
    table = producer.table(rows=20)
    producer.deliver(table.slice(0, 10), "a.parquet")
    other = producer.folder.with_name("hour=3")
    other.mkdir()
    pq.write_table(table.slice(10), other / "b.parquet")
    assert read_partition(producer.config(), hour).table.to_pylist() == table.to_pylist()


def test_only_days_of_the_range_are_listed(producer, monkeypatch):
    """Asking for an hour lists the source and that day, not the other days."""
    for day in range(1, 10):
        (producer.root / f"2017/10/{day:02}/03").mkdir(parents=True)
        (producer.root / f"2017/10/{day:02}/03/x.parquet").touch()
    listed = []
    plain = partitions.listed
    monkeypatch.setattr(partitions, "listed", lambda *a, **k: listed.append(a[1]) or plain(*a, **k))
    asked = Hour.parse("2017-10-05T03")
    assert list(available(producer.root, asked, asked, layout="%Y/%m/%d/%H")) == [asked]
    assert [path.removeprefix(str(producer.root)) for path in listed] == ["", "/2017", "/2017/10", "/2017/10/05"]


def test_manifest_beside_files_of_many_hours(producer, hour):
    """Of flat files' manifest, what is promised of other hours is those hours' affair."""
    producer.root.mkdir()
    for number in (3, 4):
        pq.write_table(producer.table(), producer.root / f"2017-10-01-{number:02}.parquet")
    layout = {"layout": "%Y-%m-%d-%H*"}
    for files, good in (
        ({"2017-10-01-03.parquet": {"rows": 200}, "2017-10-01-04.parquet": {"rows": 1}}, True),
        ({"2017-10-01-03.parquet": {"rows": 1}}, False),
        ({"2017-10-01-04.parquet": {}}, False),
        ({"2017-10-01-03.parquet": {}, "2017-10-01-03b.parquet": {}}, False),
    ):
        (producer.root / "_manifest.json").write_text(json.dumps({"files": files}))
        if good:
            assert read_partition(producer.config(**layout), hour).table.num_rows == 200
        else:
            refused(producer.config(**layout), hour, reason="corrupt")


def test_two_formats_in_one_hour(producer, hour):
    """A CSV beside the Parquet may hold the same rows: refused by name, unless the format is set."""
    producer.deliver()
    (producer.folder / "part-0.csv").write_text("a,b\n1,2\n")
    assert "part-0.csv" in refused(producer.config(), hour, reason="layout")
    assert read_partition(producer.config(format="parquet"), hour).table.num_rows == 200
