"""Delta Lake and Iceberg tables as sources: the hours they hold, their rows, their versions."""

import builtins
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from saec.config import Config
from saec.data.ingest import ingest_hour
from saec.data.partitions import available_hours, read_partition
from saec.data.source_problem import source_problem
from saec.errors import ConfigError, HourAbsent, InputError
from saec.hours import Hour

FIRST = Hour.parse("2026-01-01T22")
FIELDS = [{"name": "user"}, {"name": "site", "type": "string", "nullable": True}]


def clicks(hour: Hour, rows: int = 60, hours: int = 1) -> pa.Table:
    """Clicks spread evenly over hours."""
    step = np.arange(rows)
    times = [hour.start + timedelta(seconds=int(3600 * hours * k / rows)) for k in step]
    return pa.table(
        {
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            "clicked": pa.array((step % 3 == 0).astype("i4")),
            "user": pa.array(step % 7, pa.int64()),
            "site": pa.array([f"site {k % 5}" for k in step]),
            "date": pa.array([f"{time:%Y-%m-%d}" for time in times]),
            "hour": pa.array([time.hour for time in times], pa.int32()),
        }
    )


class Delta:
    """A Delta table that grows."""

    def __init__(self, folder) -> None:
        self.deltalake = pytest.importorskip("deltalake")
        self.source = str(folder / "table")

    def append(self, rows: pa.Table) -> int:
        """Append rows; returns the version with them."""
        self.deltalake.write_deltalake(self.source, rows, mode="append", partition_by=["date", "hour"])
        return self.deltalake.DeltaTable(self.source).version()


class Iceberg:
    """An Iceberg table that grows, read by its folder."""

    def __init__(self, folder) -> None:
        sql = pytest.importorskip("pyiceberg.catalog.sql")
        self.catalog = sql.SqlCatalog("x", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
        self.catalog.create_namespace("shop")
        self.source, self.table = str(folder / "shop" / "clicks"), None

    def append(self, rows: pa.Table) -> int:
        """Append rows; returns the snapshot with them."""
        self.table = self.table or self.catalog.create_table("shop.clicks", schema=rows.schema)
        self.table.append(rows)
        return self.table.current_snapshot().snapshot_id


@pytest.fixture(params=[Delta, Iceberg], ids=["delta", "iceberg"])
def lake(request, tmp_path):
    """A table without rows."""
    return request.param(tmp_path)


def settings(lake, **data) -> Config:
    given = {"source": lake.source, "time_column": "time", "label_column": "clicked", "ignore_extra_columns": True}
    return Config.model_validate({"data": given | data, "fields": FIELDS})


def test_hours_of_a_table(lake):
    """Hours with rows are found over midnight, within the range asked about, also where one file spans several."""
    lake.append(clicks(FIRST))
    lake.append(clicks(FIRST + 2, hours=2))
    data = settings(lake).data
    wanted = [FIRST, FIRST + 2, FIRST + 3]
    assert list(available_hours(data)) == wanted
    assert list(available_hours(data, FIRST + 1, FIRST + 2)) == wanted[1:2]
    assert source_problem(data) is None


def test_rows_of_an_hour(lake, tmp_path):
    """They are all that the table's files hold of it, in one order, however they lie there."""
    lake.append(clicks(FIRST, rows=90, hours=3))
    lake.append(clicks(FIRST + 1, rows=10))
    partition = read_partition(settings(lake), FIRST + 1)
    both = pa.concat_tables([clicks(FIRST, rows=90, hours=3).slice(30, 30), clicks(FIRST + 1, rows=10)])
    names = ["time", "clicked", "user", "site"]
    wanted = both.select(names).sort_by([(name, "ascending") for name in names]).to_pylist()
    assert partition.table.to_pylist() == wanted
    assert partition.extra_columns == ("date", "hour")
    record = ingest_hour(settings(lake), FIRST + 1, tmp_path / "hour")
    assert (record.rows, record.clicks) == (40, sum(row["clicked"] for row in wanted))
    with pytest.raises(HourAbsent):
        read_partition(settings(lake), FIRST + 7)


def test_a_version_is_recorded_and_can_be_read_again(lake, tmp_path):
    """Rows that came late change the hour's mark and no other's; the version of before still gives what was learnt."""
    before = lake.append(pa.concat_tables([clicks(FIRST), clicks(FIRST + 1)]))
    marks = available_hours(settings(lake).data)
    first = ingest_hour(settings(lake), FIRST, tmp_path / "first")
    late = clicks(FIRST, rows=7)
    after = lake.append(late)
    found = available_hours(settings(lake).data)
    assert found[FIRST] != marks[FIRST]
    if isinstance(lake, Delta):  # partitioned by the hour, so each file is of one
        assert found[FIRST + 1] == marks[FIRST + 1]
    again = ingest_hour(settings(lake, source=f"{lake.source}@{before}"), FIRST, tmp_path / "again")
    newest = ingest_hour(settings(lake), FIRST, tmp_path / "newest")
    assert (first.table_version, again.table_version, newest.table_version) == (before, before, after)
    assert again.rows_sha256 == first.rows_sha256
    assert again.input_sha256 == first.input_sha256 != newest.input_sha256
    assert newest.rows_read == first.rows_read + 7


def test_limits_of_a_table(lake):
    """Rows and bytes are counted while they are read."""
    lake.append(clicks(FIRST))
    for limit in ({"max_rows": 50}, {"max_bytes": 500}):
        with pytest.raises(InputError, match="too large") as caught:
            read_partition(settings(lake, **limit), FIRST)
        assert caught.value.reason == "too-large"


def test_tables_that_cannot_be_read(lake, tmp_path):
    """A version or a column that is not there, and no table, are problems in words."""
    lake.append(clicks(FIRST))
    assert "123" in source_problem(settings(lake, source=f"{lake.source}@123").data)
    assert "'when'" in source_problem(settings(lake, time_column="when").data)
    assert "wanted a timestamp" in source_problem(settings(lake, time_column="date").data)
    kind = type(lake).__name__.lower()
    nowhere = settings(lake, source=f"{kind}+{tmp_path}/nowhere").data
    assert "cannot" in source_problem(nowhere) or "can be read" in source_problem(nowhere)
    with pytest.raises(ConfigError):
        available_hours(nowhere)


def test_a_library_that_is_not_installed(lake, monkeypatch):
    """The message says what to install."""
    lake.append(clicks(FIRST))
    plain = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] in ("deltalake", "pyiceberg"):
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr("saec.data.tables.import_module", without)
    assert f"pip install 'saec[{type(lake).__name__.lower()}]'" in source_problem(settings(lake).data)


def test_times_in_milliseconds_at_the_border(tmp_path):
    """A time in the last millisecond of an hour is of that hour, though statistics are rounded."""
    lake = Delta(tmp_path)
    moments = [datetime(2026, 1, 1, 22, 59, 59, 999_900, UTC), datetime(2026, 1, 1, 23, 0, 0, 0, UTC)]
    rows = clicks(FIRST, rows=2).set_column(0, "time", pa.array(moments, pa.timestamp("us", "UTC")))
    lake.append(rows)
    assert read_partition(settings(lake), FIRST).table["time"].to_pylist() == moments[:1]
    assert read_partition(settings(lake), FIRST + 1).table["time"].to_pylist() == moments[1:]


def test_a_table_that_is_compacted(tmp_path):
    """Rewritten files change the mark and neither rows nor bytes."""
    lake = Delta(tmp_path)
    for part in range(4):
        lake.append(clicks(FIRST, rows=40).slice(10 * part, 10))
    marks = available_hours(settings(lake).data)
    scattered = ingest_hour(settings(lake), FIRST, tmp_path / "scattered")
    lake.deltalake.DeltaTable(lake.source).optimize.compact()
    assert available_hours(settings(lake).data) != marks
    compacted = ingest_hour(settings(lake), FIRST, tmp_path / "compacted")
    assert (len(scattered.files), len(compacted.files)) == (4, 1)
    assert compacted.rows_sha256 == scattered.rows_sha256


def test_times_that_are_numbers(lake):
    """With data.time_unit, integers are times; without, the way on is named."""
    rows = clicks(FIRST)
    lake.append(rows.set_column(0, "time", rows["time"].cast(pa.timestamp("ms")).cast(pa.int64())))
    assert list(available_hours(settings(lake, time_unit="ms").data)) == [FIRST]
    assert read_partition(settings(lake, time_unit="ms"), FIRST).table.num_rows == 60
    assert "data.time_unit" in source_problem(settings(lake).data)


def test_deleted_rows(lake):
    """Rows that were deleted from the table are not read."""
    lake.append(clicks(FIRST))
    if isinstance(lake, Delta):
        lake.deltalake.DeltaTable(lake.source).delete("user = 3")
    else:
        lake.table.delete("user == 3")
    found = read_partition(settings(lake), FIRST).table["user"].to_pylist()
    assert found
    assert 3 not in found
