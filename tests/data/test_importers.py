"""Imports of Avazu and Criteo files: times, types, nulls, errors, and how the output folder appears."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from saec.data import source_files
from saec.data.hourly_files import hour_file
from saec.data.importers import AVAZU_COLUMNS, CRITEO_COLUMNS, import_avazu, import_criteo
from saec.errors import ConfigError, InputError
from saec.hours import Hour

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "samples"
START = Hour.parse("2014-10-21T00")


def avazu_row(number: int, hour: int) -> dict[str, object]:
    values = {
        name: 1 if pa.types.is_integer(kind) else "1fbe01fe"
        for name, kind in zip(AVAZU_COLUMNS.names, AVAZU_COLUMNS.types, strict=True)
    }
    return values | {"id": str(10**19 + number), "hour": hour, "C20": -1, "device_ip": f"{number:08x}"}


def write_avazu(path: Path, hours: list[int]) -> Path:
    rows = pa.Table.from_pylist([avazu_row(n, hour) for n, hour in enumerate(hours)], schema=AVAZU_COLUMNS)
    if path.suffix == ".parquet":
        pq.write_table(rows, path)
    else:
        pa_csv.write_csv(rows, path, pa_csv.WriteOptions(quoting_style="none"))
    return path


def criteo_line(number: int) -> str:
    numeric = [str(number), "", *["3"] * 11]
    return "\t".join([str(number % 2), *numeric, "68fd1e64", "", *["b1252a9d"] * 24])


def write_criteo(path: Path, rows: int) -> Path:
    text = "\n".join(criteo_line(n) for n in range(rows)) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def everything(root: Path) -> pa.Table:
    return ds.dataset(root, exclude_invalid_files=False).to_table().sort_by("event_time")


def offsets_ms(root: Path) -> list[int]:
    return [time - START.start_ms for time in everything(root)["event_time"].cast(pa.int64()).to_pylist()]


@pytest.mark.parametrize("name", ["train.csv", "train.gz", "train.parquet"])
def test_avazu_rows_are_spread_evenly_within_their_hour(tmp_path, name):
    """Four rows of an hour happen at 0, 15, 30 and 45 minutes; one of the next at its start; whatever the format."""
    src = write_avazu(tmp_path / "train.csv", [14102100] * 4 + [14102101])
    if name == "train.gz":
        src = tmp_path / name
        src.write_bytes(gzip.compress((tmp_path / "train.csv").read_bytes()))
    elif name == "train.parquet":
        src = write_avazu(tmp_path / name, [14102100] * 4 + [14102101])
    done = import_avazu(src, tmp_path / "out")
    assert (done.rows, done.hours, done.first, done.last) == (5, 2, START, START + 1)
    assert offsets_ms(tmp_path / "out") == [0, 900_000, 1_800_000, 2_700_000, 3_600_000]


def test_avazu_keeps_ids_and_hexadecimal_as_text(tmp_path):
    """An id beyond 64-bit integers' positive half and a hash of digits come back as written; `hour` is gone."""
    import_avazu(write_avazu(tmp_path / "a.csv", [14102100] * 3), tmp_path / "out")
    rows = pq.read_table(hour_file(tmp_path / "out", START))
    assert rows["id"].to_pylist() == ["10000000000000000000", "10000000000000000001", "10000000000000000002"]
    assert rows["device_ip"].to_pylist() == ["00000000", "00000001", "00000002"]
    assert rows.schema.field("C20").type == pa.int32()
    assert "hour" not in rows.column_names


def test_criteo_rows_are_spread_over_the_hours_asked_for(tmp_path):
    """Eight rows over two hours are a quarter of an hour apart, and the files say that this was made up."""
    done = import_criteo(write_criteo(tmp_path / "train.txt", 8), tmp_path / "out", START, 2)
    assert (done.rows, done.hours, done.last) == (8, 2, START + 1)
    assert offsets_ms(tmp_path / "out") == [900_000 * n for n in range(8)]
    metadata = pq.read_schema(hour_file(tmp_path / "out", START)).metadata
    assert metadata[b"saec.times"] == (
        b"file order, spread evenly over 2 hours from 2014-10-21T00; the source has no timestamps"
    )


def test_criteo_nulls_are_kept(tmp_path):
    """Empty numbers and empty strings are nulls, not zeros and not empty strings."""
    import_criteo(write_criteo(tmp_path / "day_0.gz", 3), tmp_path / "out", START, 1)
    rows = everything(tmp_path / "out")
    assert rows["I2"].null_count == rows["C2"].null_count == 3
    assert rows["I1"].to_pylist() == [0, 1, 2]
    assert rows.schema.field("I1").type == pa.int64()


def test_pieces_and_hours_need_not_end_together(tmp_path, monkeypatch):
    """Many small pieces, a ragged last one and hours that cut through pieces give the rows of one big piece."""
    src = write_criteo(tmp_path / "train.txt", 400)
    import_criteo(src, tmp_path / "whole", START, 3)
    monkeypatch.setattr(source_files, "_BLOCK_BYTES", 4096)
    told = []
    import_criteo(src, tmp_path / "pieces", START, 3, on_progress=lambda what, rows: told.append((what, rows)))
    assert everything(tmp_path / "pieces").equals(everything(tmp_path / "whole"))
    assert len(told) > 6
    assert [rows for what, rows in told if what == "written"][-1] == 400
    assert sorted(told) == told


def test_a_missing_column_is_named(tmp_path):
    """Without `click` (the contest's test file) the import says which column it missed, and writes nothing."""
    rows = pa_csv.read_csv(write_avazu(tmp_path / "a.csv", [14102100] * 3)).drop_columns(["click"])
    pa_csv.write_csv(rows, tmp_path / "test.csv", pa_csv.WriteOptions(quoting_style="none"))
    with pytest.raises(InputError, match=r"test\.csv has no column click") as caught:
        import_avazu(tmp_path / "test.csv", tmp_path / "out")
    assert caught.value.reason == "schema"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("hour", [14102124, 14139900, 2014102100, 1])
def test_an_hour_that_does_not_exist_is_refused_with_its_line(tmp_path, hour):
    """The hour, the line (the header is line 1) and the form wanted are in the message."""
    src = write_avazu(tmp_path / "a.csv", [14102100, 14102100, hour])
    with pytest.raises(InputError, match=rf"line 4 of .*a\.csv has hour {hour}, wanted YYMMDDHH") as caught:
        import_avazu(src, tmp_path / "out")
    assert caught.value.reason == "bad-hour"


def test_hours_that_go_back_are_refused(tmp_path):
    """A shuffled file is not taken for a log."""
    src = write_avazu(tmp_path / "a.parquet", [14102101, 14102101, 14102100])
    with pytest.raises(InputError, match=r"row 3 of .* goes back from hour 2014-10-21T01 to 2014-10-21T00"):
        import_avazu(src, tmp_path / "out")


def test_a_line_of_the_wrong_width_is_refused_with_its_number(tmp_path):
    """A Criteo line with a value missing is named by its number, and nothing is left behind."""
    src = write_criteo(tmp_path / "train.txt", 5)
    src.write_text(src.read_text() + "1\t2\t3\n" + criteo_line(6) + "\n")
    with pytest.raises(InputError, match=r"line 6 of .*train\.txt has 3 values, wanted 40"):
        import_criteo(src, tmp_path / "out", START, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["train.txt"]


def test_a_value_of_the_wrong_type_is_refused_with_its_line(tmp_path):
    """Found only in the second pass, it still leaves neither output nor temporary files."""
    src = write_criteo(tmp_path / "train.txt", 5)
    src.write_text(src.read_text() + criteo_line(6).replace("\t3\t", "\tthree\t", 1) + "\n")
    with pytest.raises(InputError, match=r"Row #6: .* invalid value 'three'"):
        import_criteo(src, tmp_path / "out", START, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["train.txt"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("train.txt", b"", "empty"),
        ("absent.txt", None, "absent"),
        ("dac.tar.gz", b"x", "archive"),
        ("train.parquet", b"PAR1 and no more", "malformed"),
        ("train.gz", b"not gzip", "malformed"),
    ],
)
def test_files_that_are_no_log_are_refused(tmp_path, name, content, reason):
    """Each kind of unusable file has its own reason."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        import_criteo(tmp_path / name, tmp_path / "out", START, 1)
    assert caught.value.reason == reason


def test_a_header_without_rows_is_empty(tmp_path):
    """No rows: refused, not an empty folder."""
    with pytest.raises(InputError, match="holds no rows"):
        import_avazu(write_avazu(tmp_path / "a.csv", []), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_replaced_only_when_asked(tmp_path):
    """Hours of an earlier import stay untouched without `replace` and are all gone with it."""
    out = tmp_path / "out"
    import_criteo(write_criteo(tmp_path / "a.txt", 6), out, START, 2)
    with pytest.raises(ConfigError, match="is not empty"):
        import_criteo(tmp_path / "a.txt", out, START + 10, 1)
    assert everything(out).num_rows == 6
    import_criteo(write_criteo(tmp_path / "b.txt", 4), out, START + 10, 1, replace=True)
    assert everything(out).num_rows == 4
    assert not hour_file(out, START).exists()


def test_a_folder_of_other_things_is_never_replaced(tmp_path):
    """`replace` removes hourly files and nothing else, even where the folder holds some."""
    out = tmp_path / "out"
    import_criteo(write_criteo(tmp_path / "a.txt", 6), out, START, 2)
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="thesis"):
        import_criteo(tmp_path / "a.txt", out, START, 2, replace=True)
    assert (out / "thesis.tex").exists()


def test_an_interrupted_import_leaves_nothing_in_the_way(tmp_path):
    """What a killed import wrote so far is removed by the next one and never read."""
    (tmp_path / ".out.partial" / "date=2014-10-20").mkdir(parents=True)
    import_criteo(write_criteo(tmp_path / "a.txt", 6), tmp_path / "out", START, 1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["date=2014-10-21"]
    assert not (tmp_path / ".out.partial").exists()


@pytest.mark.data
def test_the_avazu_sample_is_imported_whole(tmp_path):
    """All 9,999 rows of the contest's first hour, clicks and addresses as in the source."""
    src = SAMPLES / "avazu_first10k.parquet"
    if not src.exists():
        pytest.skip(f"needs {src}")
    done = import_avazu(src, tmp_path / "out")
    assert (done.rows, done.hours, done.first) == (9999, 1, START)
    assert everything(tmp_path / "out")["device_ip"].to_pylist() == pq.read_table(src)["device_ip"].to_pylist()


@pytest.mark.data
def test_the_criteo_sample_is_imported_whole(tmp_path):
    """All 10,000 rows in file order, with the source's nulls."""
    src = SAMPLES / "criteo_kaggle_10k_no_timestamp.parquet"
    if not src.exists():
        pytest.skip(f"needs {src}")
    assert import_criteo(src, tmp_path / "out", START, 24).hours == 24
    rows, source = everything(tmp_path / "out"), pq.read_table(src)
    assert [rows[name].null_count for name in CRITEO_COLUMNS.names] == [
        source[name].null_count for name in CRITEO_COLUMNS.names
    ]
    assert rows["C3"].to_pylist() == source["C3"].to_pylist()
