"""Late data: detected, measured, and handled as `data.late` says."""

import os

import numpy as np
import pyarrow.parquet as pq
import pytest

from saec.data.ingest import IngestRecord
from saec.errors import InputError
from saec.workspace import Workspace

LAST, NEXT = 4, 5
"""Of the hours of a site: the last one done, and the one to be done next."""


@pytest.fixture(scope="module")
def delivered_short(simulated, tmp_path_factory):
    """Four hours done, of which the third was delivered short of its last 100 rows; not to be changed."""
    site = simulated.copy(tmp_path_factory.mktemp("short") / "site")
    hour = site.hours[2]
    whole = site.file(hour).read_bytes()
    site.redeliver(hour, every=0, rows=slice(0, -100))
    site.advance(site.hours[3])
    site.short, site.whole = hour, whole
    return site


@pytest.fixture
def short(delivered_short, tmp_path):
    """The same, to be changed."""
    site = delivered_short.copy(tmp_path / "short")
    site.short, site.whole = delivered_short.short, delivered_short.whole
    return site


def complete(site) -> int:
    """Deliver the rest; how many rows that is."""
    before = pq.read_metadata(site.file(site.short)).num_rows
    site.file(site.short).write_bytes(site.whole)
    return pq.read_metadata(site.file(site.short)).num_rows - before


def stale(site) -> list[str | None]:
    return [row.stale_because for row in site.rows()]


@pytest.mark.fault(46)
def test_late_rows_are_marked_and_measured(short):
    """By default the hour and those after it become stale, with how much came; they stand, and the live version too."""
    late, live = complete(short), short.live
    (row,) = short.advance(short.hours[LAST])
    assert row.hour == short.hours[LAST]
    marks = stale(short)
    assert [bool(mark) for mark in marks] == [False, False, True, True, False]
    assert marks[2].startswith(f"data came late: {late} rows came late; of the ")
    assert "0 are gone and 0 have another label" in marks[2]
    assert short.live == row.version != live
    before = short.rows()
    assert short.advance(short.hours[LAST]) == []
    assert short.rows() == before, "it is measured once"
    assert [row.hour for row in short.backfill(short.hours[0], short.hours[LAST], "stale")] == short.hours[2:5]
    assert stale(short) == [None] * 5


def test_corrected_labels_are_told_from_late_rows(site):
    """The same rows with other labels are a change of what was learnt, whatever the policy."""
    rows = site.rows()[3].record["rows"]
    site.redeliver(site.hours[3])
    for policy in ("fold", "ignore"):
        site.advance(site.hours[LAST], config=site.config(data={"late": policy}))
        mark = stale(site)[3]
        assert mark.startswith("data came late: 0 rows came late")
        assert f"{-(-rows // 10)} have another label" in mark


def test_files_written_anew_with_the_same_rows_are_no_change(site):
    """Another time stamp, another order of part files: no hour is stale, and it is not looked at again."""
    path = site.file(site.hours[2])
    os.utime(path, (1, 1))
    table = pq.read_table(site.file(site.hours[3]), partitioning=None)
    pq.write_table(table.slice(500), path.parent.parent / "hour=15" / "part-0.parquet")
    pq.write_table(table.slice(0, 500), path.parent.parent / "hour=15" / "part-1.parquet")
    delivered = [row.delivery for row in site.rows()]
    site.advance(site.hours[LAST])
    assert stale(site) == [None] * 5
    assert sum(new.delivery != old for new, old in zip(site.rows(), delivered, strict=True)) == 2


def test_late_rows_are_folded_into_the_next_hour(short):
    """With "fold" every row is learnt once: those that came late with the next hour, before its own."""
    late = complete(short)
    config = short.config(data={"late": "fold"})
    (row,) = short.advance(short.hours[LAST], config=config)
    assert row.record["late"] == {str(short.short): late}
    folder = Workspace(config).folder(row.hour)
    record = IngestRecord.load(folder)
    assert record.rows == row.record["rows"] == record.late[str(short.short)] + _learnt(short, row.hour)
    assert stale(short) == [None] * 5
    assert f"learnt with hour {row.hour}" in short.rows()[2].message
    (after,) = short.advance(short.hours[NEXT], config=config)
    assert after.record["late"] == {}, "not a second time"


def _learnt(site, hour) -> int:
    """Rows of an hour's own delivery that were learnt with it."""
    return len(Workspace(site.config()).identities(hour, [hour]))


def test_folded_hour_that_fails_is_folded_again(short):
    """Where the next hour trains nothing, the rows wait for the one after it."""
    late = complete(short)
    config = short.config(data={"late": "fold"})
    short.file(short.hours[LAST]).write_bytes(b"PAR1")
    short.advance(short.hours[LAST], config=config)
    (row,) = short.advance(short.hours[NEXT], config=config)
    assert row.record["late"] == {str(short.short): late}


@pytest.mark.slow  # three hours; rows that are folded in are held above
def test_hour_that_came_after_its_deadline_is_folded(site):
    """A whole hour that was stepped over is learnt with the next one, and is no longer missing."""
    absent, aside = site.hours[NEXT], site.folder / "aside.parquet"
    site.file(absent).rename(aside)
    config = site.config(data={"late": "fold", "absent_after": 0})
    rows = site.advance(site.hours[NEXT] + 1, config=config)
    assert [row.reason for row in rows][:1] == ["no-data"] or rows == []
    site.advance(site.hours[NEXT + 1], config=config)
    aside.rename(site.file(absent))
    assert site.rows()[NEXT].reason == "no-data"
    next_hour = site.hours[-1] + 1
    source = site.file(site.hours[0])
    table = pq.read_table(source, partitioning=None)
    moved = np.timedelta64((next_hour.index - site.hours[0].index), "h")
    place = table.column_names.index("event_time")
    import pyarrow as pa  # noqa: PLC0415

    times = table["event_time"].to_numpy() + moved
    column = pa.array(times).cast(table.schema.field("event_time").type)
    target = site.file(next_hour)
    target.parent.mkdir(parents=True)
    pq.write_table(table.set_column(place, "event_time", column), target)
    (row,) = site.advance(next_hour, config=config)
    assert row.record["late"].keys() == {str(absent)}
    assert site.rows()[NEXT].reason == "folded"
    assert site.backfill(site.hours[0], next_hour, "missing") == []


@pytest.mark.slow  # many hours
def test_replay_swaps_the_chain_in(short, simulated, tmp_path):
    """With "replay" the next run does the hour and those after it again: the bytes of a pipeline that had it all."""
    complete(short)
    whole = simulated.copy(tmp_path / "whole")
    whole.advance(whole.hours[LAST])
    rows = short.advance(short.hours[LAST], config=short.config(data={"late": "replay"}))
    assert [row.hour for row in rows] == [short.hours[LAST], *short.hours[2:5]]
    assert [row.learnt for row in short.rows()] == [row.learnt for row in whole.rows()]
    assert stale(short) == [None] * 5
    assert short.live == short.rows()[-1].version == whole.live


def test_frozen_hours_are_not_watched(short):
    """Beyond what retention keeps nothing is looked at."""
    complete(short)
    short.advance(short.hours[LAST], config=short.config().model_copy(update={"retention": 0}))
    assert stale(short) == [None] * 5


def test_unfit_delivery_takes_nothing_back(site, caplog):
    """Files that cannot be read leave the hour as it was learnt, and are logged once."""
    site.file(site.hours[3]).write_bytes(b"PAR1")
    for _ in range(2):
        site.advance(site.hours[LAST])
    assert stale(site) == [None] * 5
    assert caplog.text.count("is unfit") == 1


@pytest.mark.slow  # five hours from nothing; what is late is held above
def test_quarantined_hour_that_is_delivered_again_is_stale(simulated, tmp_path):
    """Once its files are mended, an hour that was QUARANTINED is marked, and a backfill of failed hours takes it."""
    site = simulated.copy(tmp_path / "site")
    whole = site.file(site.hours[2]).read_bytes()
    site.file(site.hours[2]).write_bytes(b"PAR1")
    site.advance(site.hours[3])
    site.file(site.hours[2]).write_bytes(whole)
    site.advance(site.hours[LAST])
    marks = stale(site)
    assert [bool(mark) for mark in marks] == [False, False, True, True, False]
    assert "rows came late" in marks[2]


@pytest.mark.fault(47)
def test_other_files_are_refused_unless_they_are_to_replace(site):
    """`saec run --hour` of a done hour with other files: QUARANTINED(conflict), what stands stays."""
    from saec.cli.hours import _unchanged  # noqa: PLC0415

    site.redeliver(site.hours[3])
    with site.pipeline() as pipeline, pytest.raises(InputError, match="--replace") as caught:
        _unchanged(pipeline, site.hours[3])
    assert caught.value.reason == "conflict"
