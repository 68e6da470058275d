"""Rows of one id with both labels, clicks as separate rows, and clicks of later hours."""

import numpy as np
import pyarrow as pa
import pytest

from saec.data.checks import check_hour
from saec.data.click_window import click_window
from saec.data.hourly_files import write_hour
from saec.data.partitions import read_partition
from saec.errors import InputError


def checked(producer, hour, table, **data):
    """The hour as it is learnt from."""
    producer.deliver(table)
    config = producer.config(**{"row_id_columns": ["user", "time"]} | data)
    return check_hour(read_partition(config, hour), config, click_window(config, hour))


def with_labels(table: pa.Table, labels) -> pa.Table:
    place = table.column_names.index("clicked")
    return table.set_column(place, "clicked", pa.array(labels, table["clicked"].type))


def unjoined(producer) -> tuple[pa.Table, np.ndarray]:
    """An impression row of each id, label 0, and a row of its own for each click; and the labels that are right."""
    table = producer.table()
    labels = table["clicked"].to_numpy()
    clicks = table.filter(pa.array(labels == 1))
    return pa.concat_tables([with_labels(table, np.zeros(len(table), int)), clicks]), labels


@pytest.mark.case(3)
def test_a_click_wins_over_its_impression(producer, hour):
    """Every click of an unjoined log counts, in whatever order the rows come; both labels of an id are counted."""
    table, labels = unjoined(producer)
    rng = np.random.default_rng(1)
    for order in (np.arange(len(table)), np.arange(len(table))[::-1], rng.permutation(len(table))):
        found = checked(producer, hour, table.take(pa.array(order)))
        assert found.table["clicked"].to_pylist() == labels.tolist()
        assert (found.contradicting, found.duplicates, found.counts) == (labels.sum(), labels.sum(), {})


@pytest.mark.case(3)
def test_the_features_are_those_of_the_impression(producer, hour):
    """The earliest row of an id is learnt, with the click; where times are alike the impression; then by content."""
    table, labels = unjoined(producer)
    place, clicks = table.column_names.index("price"), int(labels.sum())
    prices = np.concatenate([np.zeros(len(labels)), np.ones(clicks)])
    table = table.set_column(place, "price", pa.array(prices, table["price"].type))
    for order in (np.arange(len(table)), np.arange(len(table))[::-1]):
        found = checked(producer, hour, table.take(pa.array(order)))
        assert found.table["price"].to_numpy().sum() == 0
    two = pa.concat_tables(
        [table.slice(0, 1), table.set_column(place, "price", pa.array(prices + 5, table["price"].type)).slice(0, 1)]
    )
    kept = {checked(producer, hour, two.take([first, 1 - first])).table["price"][0].as_py() for first in (0, 1)}
    assert len(kept) == 1, "which of two rows is kept does not depend on their order"


@pytest.mark.case(3)
def test_contradictions_are_set_aside_or_refused_by_setting(producer, hour):
    """A few are set aside, under a rule of their own; where most clicks would be lost, the hour is quarantined."""
    table, labels = unjoined(producer)
    joined = producer.table()
    odd = int(np.flatnonzero(labels == 1)[0])
    few = pa.concat_tables([joined, with_labels(joined.slice(odd, 1), [0])])
    found = checked(producer, hour, few, duplicates="set-aside")
    assert (found.counts, found.contradicting, len(found.table)) == ({"duplicates": 2}, 1, len(joined) - 1)
    assert found.quarantined["rule"].to_pylist() == ["duplicates"] * 2
    for rows, rule in ((table, "set-aside"), (few, "refuse")):
        with pytest.raises(InputError, match=r"set data\.duplicates: click-wins") as caught:
            checked(producer, hour, rows, duplicates=rule)
        assert caught.value.reason == "duplicates"


@pytest.mark.case(3)
def test_rows_of_clicks_need_no_features(producer, hour):
    """A click row with nulls for what only the impression knows is no bad row; one without an impression is."""
    table, labels = unjoined(producer)
    clicks = table.slice(len(labels))
    bare = clicks.set_column(table.column_names.index("price"), "price", pa.nulls(len(clicks), table["price"].type))
    orphan = bare.slice(0, 1).set_column(
        table.column_names.index("user"), "user", pa.array([10**6], table["user"].type)
    )
    found = checked(producer, hour, pa.concat_tables([table.slice(0, len(labels)), bare, orphan]))
    assert found.table["clicked"].to_pylist() == labels.tolist()
    assert (found.counts, found.contradicting, found.duplicates) == ({"nulls": 1}, labels.sum(), labels.sum())


def test_rows_that_agree_are_duplicates_and_no_more(producer, hour):
    """Rows sent twice are counted once, and contradict nothing."""
    table = producer.table()
    found = checked(producer, hour, pa.concat_tables([table, table.slice(0, 50)]))
    assert (found.duplicates, found.contradicting, len(found.table)) == (50, 0, len(table))
    assert found.table.to_pylist() == table.to_pylist()


@pytest.mark.case(3)
def test_clicks_of_later_hours_are_joined(producer, hour):
    """With a delay of an hour, clicks in the next hour count for their impressions, and not once more in that hour."""
    table, labels = unjoined(producer)
    impressions, clicks = table.slice(0, len(labels)), table.slice(len(labels))
    write_hour(producer.root, hour, impressions)
    later = pa.array(clicks["time"].cast(pa.int64()).to_numpy() + 3_600_000)
    kind = table["time"].type
    place = table.column_names.index("time")
    own = impressions.set_column(
        place, "time", pa.array(impressions["time"].cast(pa.int64()).to_numpy() + 3_600_000).cast(kind)
    )
    user = table.column_names.index("user")
    own = own.set_column(user, "user", pa.array(own["user"].to_numpy() + 10**6, table["user"].type))
    write_hour(producer.root, hour + 1, pa.concat_tables([own, clicks.set_column(place, "time", later.cast(kind))]))
    config = producer.config(row_id_columns=["user"], click_delay=1)

    def learnt(of):
        return check_hour(read_partition(config, of), config, click_window(config, of))

    first, second = learnt(hour), learnt(hour + 1)
    distinct = len(np.unique(impressions["user"].to_numpy()))
    assert len(first.table) == distinct
    assert first.joined == int(np.sum(first.table["clicked"].to_numpy())) > 0
    assert (second.of_earlier, int(np.sum(second.table["clicked"].to_numpy()))) == (len(clicks), 0)
    assert click_window(producer.config(), hour) is None
