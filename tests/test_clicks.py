"""Logs whose clicks are rare, or come as rows of their own, through the whole pipeline."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from saec.data.hourly_files import write_hour
from saec.data.ingest import IngestRecord
from saec.ledger import report_record
from saec.report.hour import hour_markdown
from saec.schedule.planner import over_now

LAST, NEXT = 4, 5
"""Of the hours of a site: the last one done, and the one to be done next."""


def labelled(table: pa.Table, labels) -> pa.Table:
    """The rows with other labels."""
    place = table.column_names.index("clicked")
    return table.set_column(place, "clicked", pa.array(labels, table["clicked"].type))


def unjoin(site, hour) -> int:
    """Deliver an hour again with a row of its own for each click; how many there are."""
    table = pq.read_table(site.file(hour), partitioning=None)
    labels = table["clicked"].to_numpy()
    clicks = table.filter(pa.array(labels == 1))
    write_hour(site.folder / "data", hour, pa.concat_tables([clicks, labelled(table, np.zeros(len(table), int))]))
    return len(clicks)


@pytest.mark.case(3)
def test_an_unjoined_hour_is_learnt_as_the_joined_one(site, undisturbed):
    """Clicks and figures are those of the joined log; that ids had both labels is in record, file and page."""
    clicks = unjoin(site, site.hours[NEXT])
    (row,) = site.advance(site.hours[NEXT])
    wanted = undisturbed.rows()[NEXT]
    assert (row.record["clicks"], row.record["rows"], row.record["contradicting"]) == (
        clicks,
        wanted.record["rows"],
        clicks,
    )
    assert row.record["auc_served"] == wanted.record["auc_served"]
    assert row.record["auc_compressed"] == wanted.record["auc_compressed"]
    record = IngestRecord.load(site.folder / "workspace" / "hours" / row.hour.compact)
    assert (record.contradicting, record.duplicates) == (clicks, clicks)
    assert record.rows_read == record.rows + record.duplicates
    assert "ids with rows of both labels" in hour_markdown(report_record(row))
    assert "ids with rows of both labels" not in hour_markdown(report_record(wanted))


@pytest.mark.case(3)
def test_contradictions_quarantine_the_hour_where_they_are_refused(site):
    """By setting; nothing is learnt, and the live version stays."""
    unjoin(site, site.hours[NEXT])
    serving = site.serving()
    (row,) = site.advance(site.hours[NEXT], config=site.config(data={"duplicates": "refuse"}))
    assert (row.state, row.reason, row.checkpoint) == ("QUARANTINED", "duplicates", None)
    assert site.serving() == serving


@pytest.mark.case(4)
def test_hours_without_a_click_are_learnt(site):
    """Through every step, the gate included, as evidence of log loss alone; promised clicks fall."""
    for hour in site.hours[NEXT:]:
        table = pq.read_table(site.file(hour), partitioning=None)
        write_hour(site.folder / "data", hour, labelled(table, np.zeros(len(table), int)))
    first, second = site.advance(site.hours[-1], config=site.config(data={"max_click_shift": 0.0}))
    assert None not in (first.checkpoint, second.checkpoint)
    assert first.record["clicks"] == second.record["clicks"] == 0
    assert first.reason != "one-class" != second.reason
    assert second.record["logloss_version_served"] < first.record["logloss_version_served"]


@pytest.mark.case(4)
@pytest.mark.slow  # four hours from nothing; hours without a click are in the test above too
def test_a_pipeline_may_begin_without_a_click(fresh):
    """The first hours of a small site have none: they are learnt, and held until there is something to judge."""
    for hour in fresh.hours[:3]:
        table = pq.read_table(fresh.file(hour), partitioning=None)
        write_hour(fresh.folder / "data", hour, labelled(table, np.zeros(len(table), int)))
    rows = fresh.advance(fresh.hours[3])
    assert [row.state for row in rows[:3]] == ["HELD"] * 3
    assert all(row.checkpoint for row in rows)


@pytest.mark.case(3)
def test_clicks_that_come_an_hour_later_count_once(site):
    """With data.click_delay an hour waits for the clicks of the next, which leaves them out itself."""
    config = site.config(data={"click_delay": 1})
    first, second = site.hours[NEXT:]
    table = pq.read_table(site.file(first), partitioning=None)
    labels = table["clicked"].to_numpy()
    clicks = table.filter(pa.array(labels == 1))
    place = clicks.column_names.index("event_time")
    moved = clicks["event_time"].cast(pa.int64()).to_numpy() + 3_600_000
    clicks = clicks.set_column(place, "event_time", pa.array(moved).cast(clicks["event_time"].type))
    write_hour(site.folder / "data", first, labelled(table, np.zeros(len(table), int)))
    own = pq.read_table(site.file(second), partitioning=None)
    write_hour(site.folder / "data", second, pa.concat_tables([own, clicks]))
    here, there = site.advance(second, config=config)
    assert (here.record["clicks"], here.record["clicks_joined"]) == (labels.sum(), labels.sum())
    assert (there.record["clicks"], there.record["clicks_of_earlier"]) == (own["clicked"].to_numpy().sum(), len(clicks))
    record = IngestRecord.load(site.folder / "workspace" / "hours" / here.hour.compact)
    assert list(record.clicks_from) == [str(site.hours[LAST]), str(second)]
    assert site.advance(second, config=config) == [], "the labels that were joined are no change of what was learnt"
    assert not any(row.stale_because for row in site.rows())


def test_the_delay_of_clicks_needs_ids_and_moves_the_clock(site):
    """It is refused without row ids, and an hour is due so much later."""
    with pytest.raises(ValidationError, match="click_delay joins clicks by row_id_columns"):
        site.config(data={"click_delay": 1, "row_id_columns": []})
    assert over_now(site.config()) - 3 == over_now(site.config(data={"click_delay": 3}))
