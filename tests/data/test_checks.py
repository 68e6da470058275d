"""Which rows and hours are unfit, what happens to them, and why."""

import re
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saec.data.checks import check_click_rate, check_hour
from saec.data.columns import times_ms
from saec.data.partitions import Partition, read_partition
from saec.errors import HourHeld, InputError
from tests.properties import examples


def check(producer, hour, config=None, **columns):
    """Deliver the good hour with some columns replaced, and check it."""
    producer.deliver(**columns)
    config = config or producer.config()
    return check_hour(read_partition(config, hour), config)


def refused(producer, hour, reason, config=None, **columns) -> str:
    """The message with which such an hour is quarantined for the reason."""
    with pytest.raises(InputError) as caught:
        check(producer, hour, config, **columns)
    assert caught.value.reason == reason
    assert str(hour) in str(caught.value)
    return str(caught.value)


def replaced(producer, name: str, **values: object) -> pa.Array:
    """A good column with the values at some rows replaced: r3=None sets row 3 to null."""
    column = producer.table()[name]
    listed = column.to_pylist()
    for row, value in values.items():
        listed[int(row[1:])] = value
    return pa.array(listed, column.type)


def test_a_good_hour_passes_whole(producer, hour):
    """Nothing is set aside, dropped or changed."""
    checked = check(producer, hour)
    assert checked.table.to_pylist() == producer.table().to_pylist()
    assert (checked.counts, checked.duplicates, checked.quarantined.num_rows) == ({}, 0, 0)


def test_zero_rows(producer, hour):
    """An hour without rows is held as empty."""
    producer.deliver(producer.table().slice(0, 0))
    with pytest.raises(HourHeld, match="2017-10-01T03") as caught:
        check_hour(read_partition(producer.config(), hour), producer.config())
    assert caught.value.reason == "empty"


# --- the contract on columns ---------------------------------------------------------------------------------------


def test_missing_column(producer, hour):
    """A missing column quarantines the hour, by name."""
    assert "'price' is missing" in refused(producer, hour, "schema", price=None)


def test_renamed_column(producer, hour):
    """For a renamed column the message gives the likely new name."""
    message = refused(producer, hour, "schema", user=None, users=pa.array(np.arange(200)))
    assert "'user' is missing; did you mean 'users'?" in message


def test_extra_column(producer, hour):
    """An extra column quarantines the hour, unless the configuration passes over such."""
    extra = {f"extra {index}": pa.array(np.arange(200)) for index in range(9)}
    message = refused(producer, hour, "schema", **extra)
    assert "'extra 0'" in message
    assert "and 4 more" in message
    assert check(producer, hour, producer.config(ignore_extra_columns=True), **extra).table.num_rows == 200


STEP = np.arange(200)
EPOCH_MS = 1506826800000 + STEP


@pytest.mark.fault(40)
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("user", pa.array(STEP / 1)),
        ("user", pa.array([str(i) for i in STEP])),
        ("user", pa.array(STEP % 2 == 0)),
        ("user", pa.array([[i] for i in STEP])),
        ("user", pa.array(STEP, pa.timestamp("ms", "UTC"))),
        ("site", pa.array(STEP)),
        ("price", pa.array(["0.5"] * 200)),
        ("tags", pa.array(["a"] * 200)),
        ("tags", pa.array([[1]] * 200)),
        ("tags", pa.array([[["a"]]] * 200)),
        ("clicked", pa.array(["1", "0"] * 100)),
        ("time", pa.array(EPOCH_MS)),
        ("time", pa.array(["1/10/2017 3:00"] * 200)),
        ("time", pa.array(STEP.astype(np.int32), pa.date32())),
    ],
)
def test_wrong_type(producer, hour, name, values):
    """No column is cast: another type quarantines the hour, naming column, wanted and found."""
    message = refused(producer, hour, "dtype", **{name: values})
    assert re.search(rf"column '{name}' wants .*, found ", message)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("user", kind) for kind in (pa.int8(), pa.int32(), pa.uint8(), pa.uint64())),
        *(("clicked", kind) for kind in (pa.bool_(), pa.int64(), pa.uint64())),
        *(("site", kind) for kind in (pa.large_string(), pa.binary(), pa.dictionary(pa.int16(), pa.string()))),
        *(("price", kind) for kind in (pa.float32(),)),
        ("tags", pa.large_list(pa.large_string())),
        *(("time", pa.timestamp(unit, zone)) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")),
    ],
)
def test_widths_and_units_do_not_matter(producer, hour, name, kind):
    """Every width of the right type gives the same rows."""
    column = producer.table()[name].cast(kind, safe=False)
    checked = check(producer, hour, **{name: column})
    assert checked.table.num_rows == 200
    if name == "time":
        wanted = producer.table()["time"].cast(pa.int64()).to_numpy()
        wanted = wanted // 1000 * 1000 if kind.unit == "s" else wanted
        assert np.array_equal(times_ms(checked.table["time"]), wanted)


# --- row rules ------------------------------------------------------------------------------------------------------

START = 1506826800000
BAD = [
    ("nulls", "user", None),
    ("nulls", "clicked", None),
    ("nulls", "time", None),
    ("nulls", "price", None),
    *(("non-finite", "price", value) for value in (np.nan, np.inf, -np.inf)),
    ("labels", "clicked", 2),
    ("labels", "clicked", -1),
    ("timestamps", "time", START - 1),
    ("timestamps", "time", START + 3_600_000),
    ("timestamps", "time", -(2**62)),
]


@pytest.mark.parametrize(("rule", "name", "value"), BAD)
def test_few_bad_rows_are_set_aside(producer, hour, rule, name, value):
    """Up to the limit, a bad row is set aside with its rule, hour and place, and the others stay."""
    checked = check(producer, hour, **{name: replaced(producer, name, r3=value, r150=value)})
    assert checked.counts == {rule: 2}
    assert checked.table.num_rows == 198
    aside = checked.quarantined
    assert aside["rule"].to_pylist() == [rule] * 2
    assert aside["hour"].to_pylist() == [str(hour)] * 2
    assert aside["row"].to_pylist() == [3, 150]
    assert aside["site"].to_pylist() == ["site 3", "site 0"]


@pytest.mark.parametrize(("rule", "name", "value"), BAD)
def test_many_bad_rows_quarantine_the_hour(producer, hour, rule, name, value):
    """One row over the limit, the hour is quarantined under that rule, and the message names the column."""
    column = replaced(producer, name, r3=value, r150=value, r7=value)
    assert f"column '{name}'" in refused(producer, hour, rule, **{name: column})


def test_a_row_is_set_aside_once(producer, hour):
    """A row that breaks two rules counts under the first; the most broken rule is the hour's reason."""
    columns = {"clicked": replaced(producer, "clicked", r3=None, r4=7), "price": replaced(producer, "price", r3=np.nan)}
    assert check(producer, hour, **columns).counts == {"nulls": 1, "labels": 1}
    columns["clicked"] = replaced(producer, "clicked", r3=None, r4=7, r5=7)
    assert "'labels', in 2 rows" in refused(producer, hour, "labels", **columns)


def test_times_that_would_wrap_are_not_inside_the_hour(producer, hour):
    """Seconds so large that they would wrap around to the hour in milliseconds are outside it."""
    seconds = START // 1000 + STEP
    seconds[5] = (START + 2**64) // 1000
    table = producer.table(time=pa.array(seconds, pa.timestamp("s")))
    assert check_hour(Partition(hour, table, (), 0, "", ()), producer.config()).counts == {"timestamps": 1}


def test_names_of_the_account_do_not_collide(producer, hour):
    """An input column called `rule` keeps its values beside the account's."""
    config = producer.config(fields=[{"name": "rule"}])
    producer.deliver(
        pa.table(
            {"time": producer.table()["time"], "clicked": replaced(producer, "clicked", r3=9), "rule": pa.array(STEP)}
        )
    )
    aside = check_hour(read_partition(config, hour), config).quarantined
    assert (aside["rule"].to_pylist(), aside["input.rule"].to_pylist()) == (["labels"], [3])


# --- nulls in nullable columns --------------------------------------------------------------------------------------


def test_nulls_where_allowed(producer, hour):
    """Nulls of a nullable column stay, up to the limit; over it the hour is quarantined, naming the column."""
    half = pa.array([None if i % 2 else "a" for i in STEP])
    assert check(producer, hour, site=half).table["site"].null_count == 100
    more = pa.array([None if i % 2 or i < 2 else "a" for i in STEP])
    assert "'site' is null in 50.5%" in refused(producer, hour, "nulls", site=more)


@pytest.mark.parametrize("value", [None, [None], ["a", None]])
def test_nulls_in_lists(producer, hour, value):
    """A null list and a null inside a list count alike: by row where forbidden, by share where allowed."""
    fields = [{"name": "tags", "kind": "list", "type": "string"}]
    config = producer.config(fields=fields, ignore_extra_columns=True)
    assert check(producer, hour, config, tags=replaced(producer, "tags", r3=value)).counts == {"nulls": 1}
    assert check(producer, hour, tags=replaced(producer, "tags", r3=value)).counts == {}
    refused(producer, hour, "nulls", tags=pa.array([["a"], *[value] * 199], pa.list_(pa.string())))


# --- labels, duplicates, order --------------------------------------------------------------------------------------


@pytest.mark.fault(43)
@pytest.mark.parametrize("label", [0, 1])
def test_one_class(producer, hour, label):
    """An hour whose good rows all have one label is learnt as any other: at sparse click rates many are so."""
    checked = check(
        producer,
        hour,
        clicked=pa.array([*[label] * 199, 1 - label], pa.int8()),
        user=replaced(producer, "user", r199=None),
    )
    assert checked.table["clicked"].unique().to_pylist() == [label]
    assert (checked.table.num_rows, checked.counts) == (199, {"nulls": 1})


def test_all_rows_bad(producer, hour):
    """Where the limit lets all rows be set aside, the hour is held as empty."""
    with pytest.raises(HourHeld) as caught:
        check(producer, hour, producer.config(max_bad_share=1.0), clicked=pa.array([5] * 200))
    assert caught.value.reason == "empty"


def test_duplicates_are_dropped_and_no_fault(producer, hour):
    """The hour delivered twice in other bytes gives its rows once; the repeats are counted, not set aside."""
    producer.deliver(name="part-1.parquet", table=producer.table().slice(50, 100))
    checked = check(producer, hour)
    assert checked.table.to_pylist() == producer.table().to_pylist()
    assert (checked.duplicates, checked.counts) == (100, {})


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("site", None),
        ("site", "site 4"),
        ("tags", None),
        ("tags", []),
        ("tags", ["tag 0", "tag 1"]),
        ("tags", ["tag 1", "tag 0", "tag 2"]),
        ("tags", ["tag 0", "tag 1", None]),
        ("price", 1.0),
        ("user", 2),
    ],
)
def test_rows_that_differ_anywhere_are_no_duplicates(producer, hour, name, other):
    """A row that differs in one value only, were it null for empty or two values swapped, is a row of its own."""
    row = producer.table().slice(3, 1)
    changed = row.set_column(row.column_names.index(name), name, pa.array([other], row.schema.field(name).type))
    producer.deliver(pa.concat_tables([changed, changed]), name="part-1.parquet")
    checked = check(producer, hour)
    assert (checked.table.num_rows, checked.duplicates) == (201, 1)


def test_row_id_columns(producer, hour):
    """With row ids, rows of one id are one row, the first; rows without an id are bad, not alike."""
    ids = pa.array([*range(198), 7, None])
    config = producer.config(row_id_columns=["request"])
    checked = check(producer, hour, config, request=ids)
    assert (checked.duplicates, checked.counts, checked.table.num_rows) == (1, {"nulls": 1}, 198)
    assert checked.table["user"].to_pylist() == producer.table()["user"].to_pylist()[:198]
    assert "'request'" in refused(producer, hour, "dtype", config, request=pa.array([[1]] * 200))


def test_a_bad_row_does_not_displace_a_good_one(producer, hour):
    """Of two rows with one id, the good one stays although the bad one came first."""
    config = producer.config(row_id_columns=["request"])
    checked = check(
        producer, hour, config, request=pa.array([0, 0, *range(2, 200)]), clicked=replaced(producer, "clicked", r0=9)
    )
    assert (checked.duplicates, checked.counts) == (0, {"labels": 1})
    assert checked.table["request"].to_pylist() == [0, *range(2, 200)]


def test_rows_are_sorted_by_time_and_ties_stay_as_delivered(producer, hour):
    """Shuffled rows come out in the order of their time, equal times in the order of delivery."""
    order = np.random.default_rng(0).permutation(200)
    times = pa.array(START + order // 10, pa.timestamp("ms", "UTC"))
    checked = check(producer, hour, time=times, user=pa.array(STEP))
    assert checked.table["user"].to_pylist() == sorted(range(200), key=lambda row: order[row] // 10)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, None]), st.sampled_from([-1, 0, 5, None]), st.sampled_from([0.5, np.nan, None])
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_row_is_accounted_for(producer, hour, rows):
    """Good rows, duplicates and rows set aside add up to the rows delivered, and no good row breaks a rule."""
    label, tick, price = zip(*rows, strict=True)
    times = pa.array([None if t is None else START + t for t in tick], pa.timestamp("ms"))
    table = pa.table({"time": times, "clicked": pa.array(label, pa.int8()), "price": pa.array(price, pa.float64())})
    config = producer.config(fields=[{"name": "price", "kind": "numeric", "type": "float"}], max_bad_share=1.0)
    try:
        checked = check_hour(Partition(hour, table, (), 0, "", ()), config)
    except HourHeld:
        return
    kept = checked.table
    assert kept.num_rows + checked.duplicates + sum(checked.counts.values()) == len(rows)
    good = {(c, t, p) for c, t, p in rows if c in (0, 1) and t in (0, 5) and p == 0.5}
    assert kept.num_rows == len(good)


def test_large_hours_take_no_loops(producer, hour):
    """The checks are array operations: 60,000 rows with strings, lists and duplicates take under 0.6 CPU seconds."""
    table = pa.concat_tables([producer.table(rows=30_000)] * 2).unify_dictionaries()
    start = time.process_time()
    checked = check_hour(Partition(hour, table, (), 0, "", ()), producer.config())
    assert checked.duplicates == 30_000
    assert pc.all(pc.equal(checked.table["user"], table["user"].slice(0, 30_000))).as_py()
    assert time.process_time() - start < 0.6


RATES = [0.4, 0.2] * 12
"""Click rates of a day, with mean 0.3 and standard deviation 0.1."""


def test_a_shift_of_the_click_rate_holds_the_hour(hour):
    """A rate of 0.71 is more than four deviations away from 0.3; the message says from what, and what to do."""
    with pytest.raises(HourHeld, match=rf"hour {hour}: 71.00% of its 1,000 rows .* raise it") as caught:
        check_click_rate(hour, 710, 1000, RATES, limit=4.0)
    assert caught.value.reason == "label-shift"


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    ("clicks", "rows", "rates", "limit"),
    [
        (690, 1000, RATES, 4.0),
        (1000, 1000, RATES[:11], 4.0),
        (1000, 1000, RATES, 0.0),
        (11, 12, [0.5] * 24, 4.0),
    ],
)
def test_what_is_no_shift(hour, clicks, rows, rates, limit):
    """Nearer by, too few hours to compare with, no limit set, or so few rows that chance moves the rate as far."""
    check_click_rate(hour, clicks, rows, rates, limit)


@pytest.mark.fault(53)
@pytest.mark.parametrize("rate", [0.02, 0.06, 0.2])
@pytest.mark.parametrize("flipped", [0.05, 0.1, 0.2])
def test_labels_poisoned_at_random_hold_the_hour(hour, rate, flipped):
    """One label in twenty turned over moves the click rate of an hour of 20,000 rows further than any hour before."""
    rng, rows = np.random.default_rng(1), 20_000
    rates = rng.binomial(rows, rate, 24) / rows
    labels_B = rng.random(rows) < rate
    labels_B ^= rng.random(rows) < flipped
    with pytest.raises(HourHeld) as caught:
        check_click_rate(hour, int(labels_B.sum()), rows, rates.tolist(), 10.0)
    assert caught.value.reason == "label-shift"
