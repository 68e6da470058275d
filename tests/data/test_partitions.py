"""Reading an hour's files: what is found, what is refused, and why."""

import hashlib
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saec.config import DataConfig
from saec.data import partitions
from saec.data.partitions import available_hours, open_source, read_partition
from saec.errors import ConfigError, HourAbsent, InputError
from saec.hours import Hour


def available(source, first=None, last=None, **data) -> dict[Hour, str]:
    """The hours of a folder or URL."""
    data = DataConfig(source=str(source), time_column="time", label_column="clicked", **data)
    return available_hours(data, first, last)


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
    path.write_bytes(data[:int(len(data) * share)])
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
@pytest.mark.parametrize(("limit", "wanted"), [({"max_rows": 199}, "max_rows"), ({"max_bytes": 500}, "max_bytes"),
                                               ({"max_bytes": 12_000}, "decoded bytes")])
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


def test_parts_must_agree(producer, hour):
    """Part files with other columns, or another type of one, are refused by column and file."""
    producer.deliver()
    producer.deliver(name="part-1.parquet", user=pa.array(np.arange(200), pa.int32()))
    message = refused(producer.config(), hour, reason="dtype")
    assert "'user'" in message
    assert "part-1.parquet" in message
    producer.deliver(name="part-1.parquet", user=None)
    assert "'user'" in refused(producer.config(), hour, reason="schema")


def write_manifest(producer, **files: dict) -> None:
    text = json.dumps({"files": {f"{name}.parquet": promise for name, promise in files.items()}})
    (producer.folder / "_manifest.json").write_text(text)


def test_manifest_that_holds(producer, hour):
    """A producer's manifest that agrees lets the hour pass."""
    path = producer.deliver(name="p.parquet")
    write_manifest(producer, p={"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": 200})
    assert read_partition(producer.config(), hour).table.num_rows == 200


@pytest.mark.parametrize(("files", "says"), [
    ({"p": {"sha256": "0" * 64, "rows": 200}}, "sha256"), ({"p": {"rows": 201}}, "rows"),
    ({"p": {}, "q": {}}, "q.parquet is promised"), ({}, "not in the manifest")])
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
    for folder in ("date=2017-10-02/hour=00", "date=2017-10-01/hour=23", "date=2017-02-30/hour=01",
                   "date=2017-10-01/hour=24", "date=2017-10-01/hour=003", "date=2017-10-01"):
        (producer.root / folder).mkdir(parents=True, exist_ok=True)
        (producer.root / folder / "x.parquet").touch()
    (producer.root / "date=2017-10-03/hour=00").mkdir(parents=True)
    wanted = [Hour.parse("2017-10-01T23"), Hour.parse("2017-10-02T00")]
    assert list(available(producer.root)) == list(available(producer.root.as_uri())) == wanted
    assert available(producer.root / "nowhere") == {}
    for first, last, found in ((wanted[0], wanted[0], wanted[:1]), (wanted[0] + 1, None, wanted[1:]),
                               (None, None, wanted), (wanted[1] + 1, None, []), (None, wanted[0] - 1, [])):
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
@pytest.mark.parametrize(("layout", "name"), [
    ("dt=%Y-%m-%d/hr=%H", "dt=2017-10-01/hr=3/part-0.parquet"),
    ("date=%Y%m%d/hour=%H", "date=20171001/hour=03/x.PARQ"),
    ("year=%Y/month=%m/day=%d/hour=%H", "year=2017/month=10/day=1/hour=3/x.pq"),
    ("%Y%m%d/%H", "20171001/03/x.parquet"),
    ("clicks-%Y-%m-%dT%H*", "clicks-2017-10-01T03.parquet"),
    ("%Y/%m/%d/country=*/%H.parquet", "2017/10/01/country=DE/03.parquet"),
])
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
    for files, good in (({"2017-10-01-03.parquet": {"rows": 200}, "2017-10-01-04.parquet": {"rows": 1}}, True),
                        ({"2017-10-01-03.parquet": {"rows": 1}}, False), ({"2017-10-01-04.parquet": {}}, False),
                        ({"2017-10-01-03.parquet": {}, "2017-10-01-03b.parquet": {}}, False)):
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
