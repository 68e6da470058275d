"""An hour from the producers' files to encoded rows: every row accounted for, every byte repeatable."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saec.data.columns import encoder_columns
from saec.data.features import FeatureEncoder
from saec.data.ingest import IngestRecord, ingest_hour
from saec.data.partitions import available_hours
from saec.errors import HourAbsent, IntegrityError, SaecError
from saec.hours import Hour
from saec.settings_file import load_config


def files_of(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ingested"


def with_faults(producer) -> pa.Table:
    """The good hour shuffled, with one row twice and one bad label."""
    table = producer.table().take(pa.array(np.random.default_rng(0).permutation(200)))
    bad = table.slice(0, 1).set_column(1, "clicked", pa.array([5], pa.int8()))
    return pa.concat_tables([table, table.slice(7, 1), bad]).combine_chunks()


def test_a_good_hour(producer, hour, folder):
    """The rows are the delivered ones in the order of time, with their labels, times and keys."""
    producer.deliver()
    record = ingest_hour(producer.config(), hour, folder)
    rows = record.load_rows(folder)
    table = producer.table()
    times = table["time"].cast(pa.int64()).to_numpy()
    keys = FeatureEncoder(producer.config()).encode(encoder_columns(table), times)
    assert rows.labels_B.tolist() == table["clicked"].to_pylist()
    assert rows.times_B.tolist() == times.tolist()
    assert np.array_equal(rows.keys_BS, keys)
    assert sorted(files_of(folder)) == ["identities.safetensors", "ingest.json", "rows.safetensors"]


def test_the_record_accounts_for_every_row(producer, hour, folder):
    """Read rows are good ones, duplicates and rows set aside; clicks, times and cut values are counted."""
    producer.deliver(with_faults(producer))
    record = ingest_hour(producer.config(), hour, folder)
    assert (record.rows_read, record.rows, record.duplicates, record.quarantined) == (202, 200, 1, {"labels": 1})
    assert (record.clicks, record.first_ms, record.hour) == (67, hour.start_ms, str(hour))
    assert record.last_ms == hour.start_ms + 199 * 3_600_000 // 200
    assert record.truncated_values == 40  # every fifth list has four values, one over
    aside = pq.read_table(folder / "quarantine.parquet", page_checksum_verification=True)
    assert aside.select(["rule", "row"]).to_pylist() == [{"rule": "labels", "row": 201}]
    assert aside["tags"].to_pylist() == with_faults(producer)["tags"].to_pylist()[:1]


def test_same_delivery_same_bytes(producer, hour, tmp_path):
    """Two ingests write the same files; a repeat of the file beside it changes no row and no digest."""
    path = producer.deliver(with_faults(producer))
    first = ingest_hour(producer.config(), hour, tmp_path / "a")
    ingest_hour(producer.config(), hour, tmp_path / "b")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    path.with_name("part-1.parquet").write_bytes(path.read_bytes())
    again = ingest_hour(producer.config(), hour, tmp_path / "b")
    assert (again.input_sha256, again.rows_sha256) == (first.input_sha256, first.rows_sha256)
    assert (first.duplicate_files, again.duplicate_files) == (0, 1)


def test_other_delivery_other_digest(producer, hour, tmp_path):
    """A changed value changes the digests of input and rows."""
    producer.deliver()
    first = ingest_hour(producer.config(), hour, tmp_path / "a")
    producer.deliver(user=pa.array(np.arange(200)))
    second = ingest_hour(producer.config(), hour, tmp_path / "b")
    assert first.input_sha256 != second.input_sha256
    assert first.rows_sha256 != second.rows_sha256


def test_the_record_survives_its_file(producer, hour, folder):
    """The record read back equals the one returned; what is none is an integrity error that names the file."""
    producer.deliver()
    record = ingest_hour(producer.config(), hour, folder)
    assert IngestRecord.load(folder) == record
    path = folder / "ingest.json"
    for text in ("", "[]", "{}", json.dumps({**json.loads(path.read_text()), "more": 1})):
        path.write_text(text)
        with pytest.raises(IntegrityError, match=r"ingest\.json"):
            IngestRecord.load(folder)


def test_a_failed_ingest_leaves_no_record(producer, hour, folder):
    """When a later delivery is refused, the record of the earlier one is gone, and its quarantine with a good one."""
    path = producer.deliver(with_faults(producer))
    ingest_hour(producer.config(), hour, folder)
    path.write_bytes(b"PAR1")
    with pytest.raises(SaecError):
        ingest_hour(producer.config(), hour, folder)
    with pytest.raises(IntegrityError):
        IngestRecord.load(folder)
    producer.deliver()
    ingest_hour(producer.config(), hour, folder)
    assert sorted(files_of(folder)) == ["identities.safetensors", "ingest.json", "rows.safetensors"]


def test_quarantine_keeps_only_its_own_strings(producer, hour, folder):
    """Strings of good rows do not end up in the quarantine's dictionary."""
    producer.deliver(
        with_faults(producer).set_column(
            3, "site", pa.array([*["private " * 1_000 + str(i) for i in range(201)], "public"])
        )
    )
    ingest_hour(producer.config(), hour, folder)
    aside = pq.read_table(folder / "quarantine.parquet", read_dictionary=["site"])
    assert aside["site"].combine_chunks().dictionary.to_pylist() == ["public"]


def test_absent_hour(producer, hour, folder):
    """An absent hour says so and leaves no record."""
    with pytest.raises(HourAbsent):
        ingest_hour(producer.config(), hour, folder)
    assert files_of(folder) == {}


@pytest.mark.fault(37)
@pytest.mark.parametrize("flips", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_flipped_bits_are_never_silent(producer, hour, folder, flips):
    """Each of many random single-bit flips of a checksummed file is refused, or changes no encoded row."""
    path, config = producer.deliver(), producer.config(max_bad_share=0.0)
    data, whole = path.read_bytes(), ingest_hour(config, hour, folder).rows_sha256
    refusals = 0
    for bit in np.random.default_rng(0).choice(8 * len(data), flips, replace=False):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        try:
            found = ingest_hour(config, hour, folder).rows_sha256
        except SaecError:
            refusals += 1
        else:
            assert found == whole, f"bit {bit} of {8 * len(data)} changed rows in silence"
    assert refusals > flips * 2 / 3


@pytest.mark.data
def test_an_hour_of_the_public_log(root, shared_data, tmp_path):
    """A real hour passes whole: every row is kept, and users and articles are as many as in the file."""
    source = str(shared_data / "globo")
    config = load_config(root / "configs" / "globo.yaml")
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": source})})
    hour = Hour.parse("2017-10-01T13")
    record = ingest_hour(config, hour, tmp_path)
    table = pq.read_table(f"{source}/date=2017-10-01/hour=13/part-0.parquet", partitioning=None)
    rows = record.load_rows(tmp_path)
    assert (record.rows, record.duplicates, record.quarantined) == (3120, 0, {})
    for slot, name in enumerate(("user_id", "article_id")):
        assert len(np.unique(rows.keys_BS[:, slot])) == len(table[name].unique())
    assert len(available_hours(config.data)) == 233
