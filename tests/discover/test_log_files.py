"""Files of a log are recognised by their content, and read completely."""

import gzip
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saec.data.lines import LeftOut
from saec.discover.log_files import find_log
from saec.errors import InputError
from tests.discover.logs import write_csv, write_jsonl


def read(log):
    """All rows of a log."""
    return pa.concat_tables([piece for file in log.files for piece in log.pieces(file)]).to_pylist()


@pytest.mark.parametrize(
    ("name", "write", "kind", "delimiter"),
    [
        ("a.csv", write_csv, "csv", ","),
        ("a.txt", lambda path, rows: write_csv(path, rows, "\t"), "csv", "\t"),
        ("a.csv.gz", write_csv, "csv", ","),
        ("a.data", write_jsonl, "jsonl", ","),
        ("a", lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path), "parquet", ","),
    ],
)
def test_a_file_is_known_by_its_content(tmp_path, rows, name, write, kind, delimiter):
    """Names and endings do not matter; every row is there, with every column."""
    write(tmp_path / name, rows)
    log = find_log(str(tmp_path / name))
    assert (log.kind, log.delimiter) == (kind, delimiter)
    found = read(log)
    assert [row["request"] for row in found] == [row["request"] for row in rows]
    assert found[0].keys() == rows[0].keys()


def test_zstandard_text_is_unpacked(tmp_path, rows):
    """Compression is known by its first bytes."""
    plain = write_jsonl(tmp_path / "plain", rows).read_bytes()
    (tmp_path / "plain").unlink()
    with pa.CompressedOutputStream(str(tmp_path / "odd.name"), "zstd") as stream:
        stream.write(plain)
    assert len(read(find_log(str(tmp_path)))) == len(rows)


def test_text_without_names_gets_names(tmp_path):
    """Forty columns are Criteo's; any others are numbered."""
    (tmp_path / "criteo").write_text("\n".join("\t".join(["0", "1"] + [""] * 11 + ["68fd1e64"] * 27) for _ in range(3)))
    assert find_log(str(tmp_path / "criteo")).header[:3] == ("label", "I1", "I2")
    (tmp_path / "other").write_text("1,2\n3,4\n")
    log = find_log(str(tmp_path / "other"))
    assert read(log) == [{"column_1": "1", "column_2": "2"}, {"column_1": "3", "column_2": "4"}]


def test_records_become_columns_and_mixed_values_text(tmp_path):
    """Lines of JSON need not agree."""
    (tmp_path / "a.jsonl").write_text('{"a": {"b": 1}, "c": 1}\n{"c": "x"}\n')
    assert read(find_log(str(tmp_path))) == [{"a.b": 1, "c": "1"}, {"a.b": None, "c": "x"}]


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (b"PK\x03\x04....", "archive", "unpack"),
        (b"[{}]", "malformed", "JSON lines"),
        (b"a\x00b", "malformed", "neither"),
        (b"one\ntwo\n", "malformed", "single column"),
        (b"", "empty", "no file of rows"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, content, reason, said):
    """The message says what to do about it."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=said) as refused:
        find_log(str(tmp_path / "file"))
    assert refused.value.reason == reason


def test_what_is_not_there_is_said(tmp_path):
    """No file, no folder."""
    with pytest.raises(InputError, match="there is nothing at"):
        find_log(str(tmp_path / "nothing"))


def test_the_ending_of_most_bytes_is_the_logs(tmp_path, rows):
    """A README beside the files is passed over, and counted."""
    (tmp_path / "README.txt").write_text("about,this\nlog,ours\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 100))
    write_csv(tmp_path / "c.csv", rows)
    log = find_log(str(tmp_path))
    assert (log.kind, log.others) == ("csv", 2)
    assert len(read(log)) == len(rows)


BROKEN = [
    (b"a,b,c", "has 3 values, wanted 2"),
    (b"a", "has 1 value, wanted 2"),
    (b'a,"b', "opens a quote and does not close it"),
    (b"a,\xff", "is no UTF-8"),
]


@pytest.mark.parametrize(("broken", "said"), BROKEN)
def test_a_broken_line_is_named_or_left_out(tmp_path, broken, said):
    """Refused with file, line and the way on; where it is left out, it is counted, and every other row is there."""
    (tmp_path / "a.csv").write_bytes(b"a,b\n" + b"x,y\n" * 59 + b'\n"x,z",y\r\n' + broken + b"\n" + b"x,y\n" * 20)
    log = find_log(str(tmp_path))
    with pytest.raises(InputError, match=rf"a\.csv: line 63 {said}.*--skip-broken"):
        read(log)
    log = replace(log, left_out=LeftOut())
    assert [row["a"] for row in read(log)] == ["x"] * 59 + ["x,z"] + ["x"] * 20
    assert (log.left_out.count, said in log.left_out.first) == (1, True)


@pytest.mark.parametrize("block", [16, 1 << 20])
@pytest.mark.parametrize(("broken", "said"), [('{"a": ', "is no JSON:"), ("[1]", "is no JSON object")])
def test_a_broken_line_of_json_is_named_or_left_out(tmp_path, monkeypatch, block, broken, said):
    """The line's number is that of the file, whatever block it is read with."""
    monkeypatch.setattr("saec.discover.log_files.BLOCK_BYTES", block)
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' * 9 + broken + "\n" + '{"a": 2}')
    log = find_log(str(tmp_path))
    with pytest.raises(InputError, match=rf"a\.jsonl: line 10 {said}"):
        read(log)
    log = replace(log, left_out=LeftOut())
    assert [row["a"] for row in read(log)] == [1] * 9 + [2]
    assert log.left_out.count == 1


def test_a_file_that_was_cut_short_is_refused(tmp_path, rows):
    """Whether broken lines are left out or not: nobody knows how many rows are missing."""
    path = write_csv(tmp_path / "a.csv.gz", rows)
    path.write_bytes(path.read_bytes()[:-5_000])
    log = find_log(str(path))
    for each in (log, replace(log, left_out=LeftOut())):
        with pytest.raises(InputError, match=r"a\.csv\.gz ends early"):
            read(each)


def test_a_quote_within_a_value_is_no_fault(tmp_path):
    """Inches are written so."""
    (tmp_path / "a.csv").write_text('a,b\nx,y\npipe of 5" width,y\n')
    assert read(find_log(str(tmp_path)))[1]["a"] == 'pipe of 5" width'
