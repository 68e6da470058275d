"""CSV and JSON lines: the rows of the same hour as Parquet, and what is refused with file and line."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from saec.data.checks import check_hour
from saec.data.ingest import IngestRecord, ingest_hour
from saec.data.partitions import read_partition
from saec.errors import InputError

FIELDS = [
    {"name": "user"},
    {"name": "site", "type": "string", "nullable": True},
    {"name": "price", "kind": "numeric", "type": "float"},
]
HEADER = "time,clicked,user,site,price\n"
ROW = "2017-10-01T03:00:00Z,1,5,a,0.5\n"


def text_config(producer, fields=None, **data):
    return producer.config(FIELDS if fields is None else fields, **data)


def deliver(producer, text: str | bytes, name: str = "part-0.csv") -> None:
    producer.folder.mkdir(parents=True, exist_ok=True)
    (producer.folder / name).write_bytes(text.encode() if isinstance(text, str) else text)


def read(producer, hour, **data) -> list[dict]:
    return read_partition(text_config(producer, **data), hour).table.to_pylist()


def refused(producer, hour, *, reason: str, **data) -> str:
    with pytest.raises(InputError) as caught:
        read_partition(text_config(producer, **data), hour)
    assert caught.value.reason == reason, caught.value
    assert "part-0" in str(caught.value)
    return str(caught.value)


def json_lines(table: pa.Table) -> bytes:
    return b"".join(json.dumps(row, default=str).encode() + b"\n" for row in table.to_pylist())


def written(table: pa.Table, name: str) -> bytes:
    """The table as text of the name's format and compression."""
    if ".csv" in name or ".tsv" in name:
        sink = pa.BufferOutputStream()
        pa_csv.write_csv(table, sink, pa_csv.WriteOptions(delimiter="\t" if ".tsv" in name else ","))
        data = sink.getvalue().to_pybytes()
    else:
        data = json_lines(table)
    if name.endswith(".gz"):
        return gzip.compress(data)
    return pa.compress(data, codec="zstd", asbytes=True) if name.endswith(".zst") else data


@pytest.mark.case(6)
@pytest.mark.parametrize(
    "name",
    [
        "part-0.csv",
        "part-0.tsv",
        "part-0.csv.gz",
        "part-0.tsv.zst",
        "part-0.jsonl",
        "part-0.ndjson.gz",
        "part-0.json.zst",
    ],
)
def test_text_becomes_the_same_rows_as_parquet(producer, hour, tmp_path, name):
    """The hour's keys, labels and times are those of the same rows in Parquet, to the byte."""
    table = producer.table(rows=90, tags=None)
    pq_path = producer.deliver(table)
    of_parquet = ingest_hour(text_config(producer), hour, tmp_path / "parquet")
    pq_path.unlink()
    deliver(producer, written(table, name), name)
    of_text = ingest_hour(text_config(producer), hour, tmp_path / "text")
    assert of_text.rows_sha256 == of_parquet.rows_sha256
    assert (of_text.rows, of_text.files[0].rows, of_text.files[0].name) == (90, 90, name)


def test_lists_in_json_lines(producer, hour, tmp_path):
    """Lists are read from JSON lines, and refused in CSV with what to do."""
    table = producer.table(rows=30)
    path = producer.deliver(table)
    of_parquet = ingest_hour(producer.config(), hour, tmp_path / "parquet")
    path.unlink()
    deliver(producer, written(table, "part-0.jsonl"), "part-0.jsonl")
    assert ingest_hour(producer.config(), hour, tmp_path / "text").rows_sha256 == of_parquet.rows_sha256
    (producer.folder / "part-0.jsonl").unlink()
    deliver(producer, "time,clicked,user,site,price,tags\n" + ROW.replace("\n", ",a\n"))
    with pytest.raises(InputError, match="JSON lines or Parquet"):
        read_partition(producer.config(), hour)


def test_quotes_blanks_and_marks(producer, hour):
    """Quoted separators, doubled quotes, line breaks in quotes, blank lines and a byte order mark are read."""
    deliver(producer, "\ufeff" + HEADER + '2017-10-01 03:00:00,1,5,"a,""b""\nc",0.5\n\n' + ROW)
    assert [row["site"] for row in read(producer, hour)] == ['a,"b"\nc', "a"]


def test_empty_text(producer, hour):
    """It is null in numbers and in nullable fields, quoted or not, and itself in fields that are not nullable."""
    deliver(producer, HEADER + '2017-10-01T03:00:00Z,1,,"",0.5\n')
    [row] = read(producer, hour)
    assert (row["user"], row["site"]) == (None, None)
    fields = [{"name": "user"}, {"name": "site", "type": "string"}, FIELDS[2]]
    assert read_partition(text_config(producer, fields), hour).table["site"].to_pylist() == [""]


@pytest.mark.parametrize(("text", "label"), [("true", True), ("0", 0), ("1.0", 1.0)])
def test_labels_as_they_are_written(producer, hour, text, label):
    """Truth values, integers and whole floats are all taken."""
    deliver(producer, HEADER + ROW.replace(",1,", f",{text},"))
    assert [row["clicked"] for row in read(producer, hour)] == [label]
    (producer.folder / "part-0.csv").unlink()
    line = f'{{"time": "2017-10-01T03:00:00Z", "clicked": {text}, "user": 5, "price": 1}}\n'
    deliver(producer, line, "part-0.jsonl")
    assert [row["clicked"] for row in read(producer, hour)] == [label]


def test_integers_written_as_floats(producer, hour):
    """What pandas makes of integers beside nulls is read as integers; what is none, or may be rounded, is refused."""
    deliver(producer, HEADER + ROW + ROW.replace(",5,", ",7.0,") + ROW.replace(",5,", ",,"))
    table = read_partition(text_config(producer), hour).table
    assert table["user"].type == pa.int64()
    assert table["user"].to_pylist() == [5, 7, None]
    for odd in ("7.5", "9007199254740993.0"):
        deliver(producer, HEADER + ROW + ROW.replace(",5,", f",{odd},"))
        assert "user" in refused(producer, hour, reason="malformed")
    (producer.folder / "part-0.csv").unlink()
    row = '{"time": "2017-10-01T03:00:00Z", "clicked": 1, "user": %s, "price": 1}\n'
    deliver(producer, row % "5" + row % "7.0", "part-0.jsonl")
    assert [found["user"] for found in read(producer, hour)] == [5, 7]
    deliver(producer, row % "5" + row % "7.5", "part-0.jsonl")
    assert "'user'" in refused(producer, hour, reason="malformed")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEADER + ROW + ROW.replace(",5,", ",x,"), ["line 3", "'user'", "'x'"]),
        (HEADER + "\n" + ROW + ROW.replace(",0.5", ""), ["line 4", "4 values where 5 are wanted"]),
        (HEADER + ROW.replace(",5,", ",7.0,") + ROW.replace(",0.5", ""), ["line 3", "4 values where 5 are wanted"]),
        (HEADER + ROW.replace(",a,", ',"a,'), ["a quote is opened"]),
        (HEADER + '2017-10-01T03:00:00Z,1,5,"a\nb",0.5\n' + ROW.replace("0.5", "0,5"), ["line 4", "6 values"]),
        ((HEADER + ROW).encode().replace(b",a,", b",\xff,"), ["line 2", "'site'", "UTF8"]),
    ],
)
def test_malformed_csv(producer, hour, text, says):
    """The message names the file, the line on which it is, the column and the value."""
    deliver(producer, text)
    message = refused(producer, hour, reason="malformed")
    assert [word for word in says if word not in message] == [], message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"user": 1}\n\n{"user": "x"}\n', ["line 3", "user"]),
        ('{"user": 1}\n{"user": 1\n', ["line 2"]),
        ('[{"user": 1}]', ["one object a line"]),
        ("user\n", ["line 1"]),
        ('{"user": 1, "user": 2}\n', ["twice"]),
    ],
)
def test_malformed_json_lines(producer, hour, text, says):
    """The same for JSON lines."""
    deliver(producer, text, "part-0.jsonl")
    message = refused(producer, hour, reason="malformed")
    assert [word for word in says if word not in message] == [], message


def test_a_header_that_is_missing(producer, hour):
    """It is not taken for names; named in the settings, its columns are read."""
    deliver(producer, ROW)
    assert "data.header" in refused(producer, hour, reason="schema")
    assert read(producer, hour, header=["time", "clicked", "user", "site", "price"])[0]["user"] == 5
    deliver(producer, "")
    refused(producer, hour, reason="truncated")


def test_another_separator(producer, hour):
    """It is told by the names of the columns, or by as many values as the settings name columns."""
    names = HEADER.strip().split(",")
    for sign in ",;\t|\x01":
        deliver(producer, (HEADER + ROW).replace(",", sign))
        assert read(producer, hour)[0]["site"] == "a"
        deliver(producer, ROW.replace(",", sign))
        assert read(producer, hour, header=names)[0]["site"] == "a"
    deliver(producer, (HEADER + ROW).replace(",", "~"))
    assert "names none of the columns wanted" in refused(producer, hour, reason="schema")


def test_columns_that_no_setting_names(producer, hour):
    """They are told of, as of Parquet, whichever line they are on; missing ones are left to the contract."""
    deliver(producer, HEADER.replace("\n", ",more\n") + ROW.replace("\n", ",1\n"))
    assert read_partition(text_config(producer), hour).extra_columns == ("more",)
    (producer.folder / "part-0.csv").unlink()
    row = {"time": "2017-10-01T03:00:00Z", "clicked": 1, "user": 5, "price": 1.5}
    deliver(producer, f"{json.dumps(row)}\n{json.dumps(row | {'more': 1})}\n", "part-0.jsonl")
    assert read_partition(text_config(producer), hour).extra_columns == ("more",)
    assert read_partition(text_config(producer, ignore_extra_columns=True), hour).extra_columns == ()
    del row["user"]
    deliver(producer, f"{json.dumps(row | {'User': 1})}\n", "part-0.jsonl")
    with pytest.raises(InputError, match="'user' is missing; did you mean 'User'"):
        check_hour(read_partition(text_config(producer), hour), text_config(producer))


def test_a_column_twice_in_the_header(producer, hour):
    """A column that is there twice is no column to choose from."""
    deliver(producer, HEADER.replace("\n", ",user\n") + ROW.replace("\n", ",1\n"))
    assert "'user'" in refused(producer, hour, reason="schema")


@pytest.mark.fault(50)
def test_limits(producer, hour):
    """Too many lines, and text that unpacks to more than the bytes allowed, are refused before they fill the memory."""
    deliver(producer, HEADER + ROW * 5)
    assert "max_rows" in refused(producer, hour, reason="too-large", max_rows=3)
    (producer.folder / "part-0.csv").unlink()
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(bomb) < 60_000
    deliver(producer, bomb, "part-0.csv.gz")
    assert "data.max_rows" in refused(producer, hour, reason="too-large", max_bytes=1_000_000)
    (producer.folder / "part-0.csv.gz").unlink()
    for number in range(3):
        deliver(producer, gzip.compress((HEADER + ROW * 20_000).encode()), f"part-0{number}.csv.gz")
    assert "part-02" in refused(producer, hour, reason="too-large", max_bytes=1_500_000)


@pytest.mark.parametrize("codec", ["gz", "zst"])
def test_damaged_compression(producer, hour, codec):
    """A file cut short is truncated, one with other bytes corrupt."""
    name = f"part-0.csv.{codec}"
    whole = written(producer.table(rows=50, tags=None), name)
    deliver(producer, whole[:-9], name)
    refused(producer, hour, reason="truncated")
    deliver(producer, b"abcdefghijkl", name)
    refused(producer, hour, reason="corrupt")


def test_json_lines_of_a_quiet_hour(producer, hour):
    """A file without a line is an hour without rows, not a fault."""
    deliver(producer, "", "part-0.jsonl")
    assert read_partition(text_config(producer), hour).table.num_rows == 0


def test_files_without_an_ending(producer, hour):
    """They are read when the format is set."""
    deliver(producer, HEADER + ROW, "000000_0")
    assert len(read(producer, hour, format="csv")) == 1


def test_row_ids_as_text_and_as_numbers(producer, hour):
    """A row id that is no field is read as it is written."""
    deliver(producer, HEADER.replace("\n", ",id\n") + ROW.replace("\n", ",0007\n"))
    assert read(producer, hour, row_id_columns=["id"])[0]["id"] == "0007"
    (producer.folder / "part-0.csv").unlink()
    row = {"time": "2017-10-01T03:00:00Z", "clicked": 1, "user": 5, "price": 1.5, "id": 7}
    deliver(producer, f"{json.dumps(row)}\n", "part-0.jsonl")
    assert read(producer, hour, row_id_columns=["id"])[0]["id"] == 7


def test_many_rows_in_pieces(producer, hour, monkeypatch):
    """Text of several blocks, the last one ragged, is read as one."""
    monkeypatch.setattr("saec.data.text_files._PIECE", 1000)
    table = producer.table(rows=333, tags=None)
    deliver(producer, written(table, "part-0.csv.gz"), "part-0.csv.gz")
    found = read_partition(text_config(producer), hour).table
    assert found["user"].to_pylist() == (np.arange(333) % 7).tolist()
    assert found["site"].to_pylist() == table["site"].to_pylist()


LINES = [f"2017-10-01T03:00:{row % 60:02d}Z,{row % 2},{row},a,0.5\n" for row in range(300)]
BROKEN = "2017-10-01T03:00:00Z,1,5\n"


def as_json(lines: list[str]) -> str:
    """The same rows as JSON lines; a broken line stays broken."""
    names = HEADER.strip().split(",")
    kinds = (str, int, int, str, float)
    split = [line.strip().split(",") for line in lines]
    return "".join(
        json.dumps({name: kind(value) for name, kind, value in zip(names, kinds, values, strict=True)}) + "\n"
        if len(values) == len(names)
        else "{\n"
        for values in split
    )


@pytest.mark.parametrize("name", ["part-0.csv", "part-0.jsonl"])
def test_few_broken_lines_are_left_out_and_counted(producer, hour, tmp_path, name, caplog):
    """The account of the hour counts them as set aside and names the first; every other row is learnt."""
    lines = [*LINES[:200], BROKEN, *LINES[200:]]
    deliver(producer, HEADER + "".join(lines) if name.endswith("csv") else as_json(lines), name)
    record = ingest_hour(text_config(producer), hour, tmp_path / "hour")
    assert (record.rows_read, record.rows, record.quarantined) == (301, 300, {"malformed": 1})
    number = 202 if name.endswith("csv") else 201
    assert record.broken_lines[0].startswith(f"{name}: line {number} ")
    assert IngestRecord.load(tmp_path / "hour") == record
    assert f"line {number}" in caplog.text
    assert read_partition(text_config(producer), hour).files[0].rows == 301


def test_broken_lines_count_with_the_bad_rows(producer, hour):
    """Each kind alone is within `data.max_bad_share`, both together are not."""
    null = LINES[0].replace("Z,0,0,", "Z,,0,")
    deliver(producer, HEADER + "".join(LINES) + BROKEN * 2)
    assert check_hour(read_partition(text_config(producer), hour), text_config(producer)).counts == {"malformed": 2}
    deliver(producer, HEADER + "".join(LINES) + BROKEN * 2 + null * 2)
    with pytest.raises(InputError, match=r"1\.32% of 304 rows are bad"):
        check_hour(read_partition(text_config(producer), hour), text_config(producer))
    deliver(producer, HEADER + "".join(LINES) + BROKEN * 4)
    assert "line 302" in refused(producer, hour, reason="malformed")
    deliver(producer, HEADER + "".join(LINES) + BROKEN)
    assert "line 302" in refused(producer, hour, reason="malformed", max_bad_share=0)


def test_no_line_is_left_out_of_a_file_with_values_over_several(producer, hour):
    """Nobody can tell such a line from the half of a sound row."""
    deliver(producer, HEADER + "".join(LINES) + '2017-10-01T03:00:00Z,1,5,"a\nb",0.5\n' + BROKEN)
    assert "line 304" in refused(producer, hour, reason="malformed")


def test_a_value_that_cannot_be_read_after_a_broken_line_is_named_by_its_line(producer, hour):
    """Leaving a line out does not move the numbers of those after it."""
    deliver(producer, HEADER + BROKEN + "".join(LINES) + ROW.replace(",5,", ",x,"))
    message = refused(producer, hour, reason="malformed")
    assert "line 303" in message
    assert "'user'" in message
