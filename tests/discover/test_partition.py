"""Hourly files hold every row once, in its hour, in whatever order it came, however little memory there is."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from saec.config import DataConfig
from saec.data.partitions import available_hours
from saec.discover import partition as module
from saec.discover.log_files import find_log
from saec.discover.partition import Plan, partition
from saec.discover.times import TimeColumn
from saec.errors import ConfigError, InputError
from saec.hours import Hour
from tests.discover.logs import START, clicks, write_csv, write_jsonl

PLAN = Plan(
    types={
        "event_time": pa.string(),
        "request": pa.string(),
        "user_id": pa.int64(),
        "site": pa.string(),
        "clicked": pa.int64(),
    },
    names={"user_id": "user"},
    dropped=frozenset({"event_time"}),
    time=TimeColumn("event_time", "text", hourly=False),
    time_name="event_time",
    label="clicked",
)


def written(folder):
    """All rows of hourly files, by hour."""
    return {
        hour: pa.concat_tables(
            pq.read_table(path, partitioning=None) for path in sorted((folder / module_folder(hour)).iterdir())
        )
        for hour in available_hours(DataConfig(source=str(folder), time_column="t", label_column="l"))
    }


def module_folder(hour):
    """The folder of an hour."""
    return f"date={hour.start:%Y-%m-%d}/hour={hour.start:%H}"


def test_every_row_is_in_its_hour_once(log_csv, rows, tmp_path):
    """Rows in no order; counts are told as they are."""
    done = partition(find_log(str(log_csv)), PLAN, tmp_path / "out")
    hours = written(tmp_path / "out")
    assert list(hours) == list(done.hours) == [Hour.of(START) + offset for offset in range(4)]
    for hour, table in hours.items():
        wanted = sorted(row["request"] for row in rows if row["event_time"][:13] == str(hour))
        assert sorted(table["request"].to_pylist()) == wanted
        assert {moment.hour for moment in table["event_time"].to_pylist()} == {hour.start.hour}
        assert done.hours[hour].rows == len(wanted)
        assert done.hours[hour].clicks == pc.sum(table["clicked"]).as_py()
        assert done.hours[hour].nulls == {"site": table["site"].null_count}
    assert table.column_names == ["event_time", "request", "user", "site", "clicked"]
    assert done.rows == len(rows)


def test_little_memory_and_few_open_files_change_nothing(log_csv, tmp_path, monkeypatch):
    """Hours that must be closed and opened again go on in further part files."""
    whole = partition(find_log(str(log_csv)), PLAN, tmp_path / "whole")
    monkeypatch.setattr(module, "_OPEN", 2)
    monkeypatch.setattr("saec.discover.log_files.BLOCK_BYTES", 8_000)
    little = partition(find_log(str(log_csv)), PLAN, tmp_path / "little", most_bytes=4_000)
    assert little.hours == whole.hours
    assert len(list((tmp_path / "little").rglob("part-1.parquet"))) == 4
    one, other = written(tmp_path / "whole"), written(tmp_path / "little")
    assert {hour: sorted(table["request"].to_pylist()) for hour, table in one.items()} == {
        hour: sorted(table["request"].to_pylist()) for hour, table in other.items()
    }


@pytest.mark.parametrize("factor", [2, 6])
def test_memory_does_not_grow_with_the_log(tmp_path, monkeypatch, factor):
    """What Arrow holds at its height is pieces read ahead and rows that wait: no more for three times the rows."""
    path = write_csv(tmp_path / "log.csv", clicks(rows=5_000) * factor)
    monkeypatch.setattr("saec.discover.log_files.BLOCK_BYTES", 16_000)
    before, height = pa.total_allocated_bytes(), []
    partition(
        find_log(str(path)),
        PLAN,
        tmp_path / "out",
        most_bytes=200_000,
        on_rows=lambda _: height.append(pa.total_allocated_bytes() - before),
    )
    assert len(height) > 10 * factor
    assert max(height) < 1_100_000


def test_a_later_value_widens_the_type(tmp_path, rows):
    """Whole numbers become text when one is none, and the pass begins again; nothing is lost."""
    odd = [*rows[:-1], rows[-1] | {"user_id": "guest"}]
    done = partition(find_log(str(write_csv(tmp_path / "a.csv", odd))), PLAN, tmp_path / "out")
    assert done.plan.types["user_id"] == pa.string()
    assert done.rows == len(rows)
    users = pa.concat_tables(written(tmp_path / "out").values())["user"].to_pylist()
    assert users.count("guest") == 1
    done = partition(find_log(str(write_jsonl(tmp_path / "a.jsonl", odd))), PLAN, tmp_path / "json")
    assert (done.rows, done.plan.types["user_id"]) == (len(rows), pa.string())


def test_an_hour_that_is_all_a_row_says_is_spread(tmp_path):
    """Rows of an hour happen one after the other, in their order, over pieces and part files."""
    path = tmp_path / "avazu.csv"
    path.write_text("hour,click,id\n" + "".join(f"141021{row // 60:02},{row % 2},{row}\n" for row in range(120)))
    plan = Plan(
        {"hour": pa.int64(), "click": pa.int64(), "id": pa.int64()},
        {},
        frozenset({"hour"}),
        TimeColumn("hour", "digits", hourly=True),
        "event_time",
        "click",
    )
    partition(find_log(str(path)), plan, tmp_path / "out")
    first, second = written(tmp_path / "out").values()
    assert second["id"].to_pylist() == list(range(60, 120))
    assert [moment.minute for moment in second["event_time"].to_pylist()] == list(range(60))
    assert b"spread evenly" in first.schema.metadata[b"saec.times"]


def test_rows_without_a_time_are_spread_over_hours_that_are_named(tmp_path):
    """As Criteo's."""
    path = tmp_path / "criteo.csv"
    path.write_text("label,x\n" + "".join(f"{row % 2},{row}\n" for row in range(90)))
    plan = Plan(
        {"label": pa.int64(), "x": pa.int64()}, {}, frozenset(), None, "event_time", "label", span=(Hour.of(START), 3)
    )
    done = partition(find_log(str(path)), plan, tmp_path / "out")
    assert [count.rows for count in done.hours.values()] == [30, 30, 30]


def test_labels_in_words_become_0_and_1(tmp_path, rows):
    """Whatever a log calls a click."""
    worded = [row | {"clicked": "Yes" if row["clicked"] else "no"} for row in rows]
    plan = replace(PLAN, types=PLAN.types | {"clicked": pa.string()}, clicked=frozenset({"yes"}))
    done = partition(find_log(str(write_csv(tmp_path / "a.csv", worded))), plan, tmp_path / "out")
    assert sum(count.clicks for count in done.hours.values()) == sum(row["clicked"] for row in rows)


def test_rows_without_a_time_are_left_out_and_too_many_refused(tmp_path, rows):
    """A few may be broken; many mean that the column is none of times."""
    few = [row | ({"event_time": None} if place == 7 else {}) for place, row in enumerate(rows)]
    assert partition(find_log(str(write_csv(tmp_path / "a.csv", few))), PLAN, tmp_path / "out").without_time == 1
    many = [row | ({"event_time": None} if place % 7 == 0 else {}) for place, row in enumerate(rows)]
    with pytest.raises(InputError, match=r"429 of 3,000 rows .* --time"):
        partition(find_log(str(write_csv(tmp_path / "b.csv", many))), PLAN, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_hourly_files_that_are_there_stay(log_csv, tmp_path):
    """Until they are to be replaced by name."""
    partition(find_log(str(log_csv)), PLAN, tmp_path / "out")
    with pytest.raises(ConfigError, match="not empty"):
        partition(find_log(str(log_csv)), PLAN, tmp_path / "out")
    assert partition(find_log(str(log_csv)), PLAN, tmp_path / "out", replace_files=True).rows
