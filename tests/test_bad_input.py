"""Damaged deliveries end to end: the hour ends as it should, the live version stays, and the next hour continues."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saec.data.columns import encoder_columns
from saec.data.features import FeatureEncoder
from saec.data.hourly_files import write_hour
from saec.serving import Model
from saec.train.original import Original
from saec.workspace import Workspace

LAST, BAD, AFTER = 4, 5, 6
"""Of the hours of a site: the last one done, the one whose delivery is damaged, and a sound one after it."""


class Delivery:
    """An hour's delivery, to be written anew."""

    def __init__(self, site, place: int = BAD) -> None:
        self.site, self.hour = site, site.hours[place]
        self.path = site.file(self.hour)
        self.table = pq.read_table(self.path, partitioning=None)

    def write(self, table: pa.Table) -> None:
        write_hour(self.site.folder / "data", self.hour, table)

    def column(self, name: str, values) -> None:
        """Replace a column."""
        if isinstance(values, list):
            values = pa.array(values, self.table.schema.field(name).type)
        self.write(self.table.set_column(self.table.column_names.index(name), name, values))

    def some(self, name: str, value, every: int) -> None:
        """Replace every so many-th value of a column."""
        values = self.table[name].to_pylist()
        values[::every] = [value] * len(values[::every])
        self.column(name, values)

    def flip(self, place: int) -> None:
        """Flip a bit of the file."""
        data = bytearray(self.path.read_bytes())
        data[place] ^= 4
        self.path.write_bytes(data)

    def promise(self, **entry) -> None:
        """A producer's manifest beside the file."""
        manifest = {"files": {self.path.name: entry}}
        self.path.with_name("_manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@dataclass(frozen=True)
class Fault:
    """A way to damage a delivery, the outcome it must end in, and words that its message must have."""

    name: str
    damage: Callable[[Delivery], object]
    outcome: str
    reason: str
    words: tuple[str, ...]


def quarantined(name: str, damage: Callable[[Delivery], object], reason: str, *words: str) -> Fault:
    return Fault(name, damage, "QUARANTINED", reason, words)


def held(name: str, damage: Callable[[Delivery], object], reason: str, *words: str) -> Fault:
    return Fault(name, damage, "HELD", reason, words)


def many(count: int, delivery: Delivery) -> pa.Table:
    """The delivery so many times over."""
    return pa.concat_tables([delivery.table] * count)


def promised_and_flipped(delivery: Delivery) -> None:
    """A bit of the footer, which has no checksum, flipped after the producer took the file's digest."""
    delivery.promise(sha256=hashlib.sha256(delivery.path.read_bytes()).hexdigest())
    delivery.flip(-60)


def bomb(delivery: Delivery) -> None:
    """A small file that unpacks to far more than the limit: one long text, over and over, without a dictionary."""
    place = delivery.table.column_names.index("site_domain")
    table = delivery.table.set_column(place, "site_domain", pa.array(["x" * 10_000] * delivery.table.num_rows))
    pq.write_table(table, delivery.path, compression="zstd", use_dictionary=False, write_page_checksum=True)
    assert delivery.path.stat().st_size < 100_000


def shifted(delivery: Delivery, every: int, hours: int) -> None:
    """Some rows' times moved by whole hours."""
    times = delivery.table["event_time"].cast(pa.int64()).to_numpy().copy()
    times[::every] += hours * 3_600_000
    delivery.column("event_time", pa.array(times).cast(pa.timestamp("ms", "UTC")))


FAULTS = [
    quarantined("36 file cut short", lambda d: d.path.write_bytes(d.path.read_bytes()[:-100]), "truncated", "part-0"),
    quarantined("36 empty file", lambda d: d.path.write_bytes(b""), "truncated", "part-0"),
    quarantined("37 bit rot in a page", lambda d: d.flip(2_000), "corrupt", "part-0"),
    quarantined("37 bit rot in the footer", lambda d: d.flip(-6), "corrupt", "part-0"),
    quarantined("37 bit rot that only the promise tells", promised_and_flipped, "corrupt", "part-0", "sha256"),
    quarantined("37 no Parquet at all", lambda d: d.path.write_bytes(b"label,user\n" * 99), "corrupt", "part-0"),
    quarantined("37 not what was promised", lambda d: d.promise(sha256="0" * 64), "corrupt", "part-0", "sha256"),
    quarantined("37 fewer rows than promised", lambda d: d.promise(rows=10**6), "corrupt", "part-0", "rows"),
    held("38 no rows", lambda d: d.write(d.table.slice(0, 0)), "empty"),
    quarantined("39 column missing", lambda d: d.write(d.table.drop_columns("device")), "schema", "device"),
    quarantined(
        "39 column renamed",
        lambda d: d.write(d.table.rename_columns({"device": "devices"})),
        "schema",
        "'device' is missing",
        "did you mean 'devices'",
    ),
    quarantined(
        "39 column too many",
        lambda d: d.write(d.table.append_column("extra", d.table["device"])),
        "schema",
        "extra",
        "ignore_extra_columns",
    ),
    quarantined(
        "40 ids as floats",
        lambda d: d.column("user_id", d.table["user_id"].cast(pa.float64())),
        "dtype",
        "user_id",
        "double",
    ),
    quarantined(
        "40 labels as text", lambda d: d.column("clicked", d.table["clicked"].cast(pa.string())), "dtype", "clicked"
    ),
    quarantined(
        "40 days for times",
        lambda d: d.column("event_time", d.table["event_time"].cast(pa.date32())),
        "dtype",
        "event_time",
        "no hour",
    ),
    quarantined("41 nulls where none may be", lambda d: d.some("user_id", None, 20), "nulls", "user_id"),
    quarantined("41 mostly nulls", lambda d: d.some("site_domain", None, 1), "nulls", "site_domain"),
    quarantined("42 NaN", lambda d: d.some("price", float("nan"), 20), "non-finite", "price"),
    quarantined("42 infinity", lambda d: d.some("price", float("inf"), 20), "non-finite", "price"),
    quarantined("43 labels of 2", lambda d: d.some("clicked", 2, 20), "labels", "clicked"),
    quarantined("50 too many rows", lambda d: d.write(many(6, d)), "too-large", "max_rows"),
    quarantined("50 decompression bomb", bomb, "too-large", "decoded bytes"),
    quarantined("51 times of other hours", lambda d: shifted(d, 20, 1), "timestamps", "event_time"),
]


def refused(site, fault) -> None:
    """The hour of a damaged delivery ends as it should and says why, and nothing of the live model changes."""
    fault.damage(Delivery(site))
    serving = site.serving()
    (bad,) = site.advance(site.hours[BAD])
    assert (bad.state, bad.reason) == (fault.outcome, fault.reason), bad.message
    for word in (str(bad.hour), *fault.words):
        assert word in bad.message
    assert (bad.checkpoint, bad.version, bad.stage) == (None, None, "ingest")
    assert site.serving() == serving


@pytest.mark.fault(36, 37, 38, 39, 40, 41, 42, 43, 50, 51)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_bad_delivery(site, fault):
    """The hour ends as it should and says why, and nothing of the live model changes."""
    refused(site, fault)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=fault.name, marks=[] if fault.reason in ("empty", "truncated") else pytest.mark.slow)
        for fault in FAULTS
    ],
)  # an hour each, which starts from the same state whatever was wrong with the one before
def test_the_hour_after_a_bad_delivery_goes_on(site, fault):
    """It is published, on what the last sound hour left."""
    refused(site, fault)
    (after,) = site.advance(site.hours[AFTER])
    assert (after.state, after.parent, after.reason) == ("PUBLISHED", site.hours[LAST], None)


def test_repaired_delivery_is_done_by_backfill(site, undisturbed):
    """A quarantined hour that is delivered again well is done by a backfill, to what it would have been at first."""
    delivery = Delivery(site)
    whole = delivery.path.read_bytes()
    delivery.path.write_bytes(whole[:-100])
    (bad,) = site.advance(site.hours[BAD])
    assert bad.state == "QUARANTINED"
    delivery.path.write_bytes(whole)
    assert site.advance(site.hours[BAD]) == [], "a scheduled run leaves it alone"
    (row,) = site.backfill(site.hours[0], site.hours[BAD], "failed", promote=True)
    assert row.version == undisturbed.rows()[BAD].version == site.live


SMALL = [
    ("nulls", "user_id", lambda d: d.some("user_id", None, 200)),
    ("non-finite", "price", lambda d: d.some("price", float("nan"), 200)),
    ("labels", "clicked", lambda d: d.some("clicked", -1, 200)),
    ("timestamps", "event_time", lambda d: shifted(d, 200, -1)),
    ("timestamps", "event_time", lambda d: shifted(d, 200, 24 * 365 * 100)),
]


@pytest.mark.fault(41, 42, 43, 51)
@pytest.mark.parametrize(("rule", "column", "damage"), SMALL)
def test_few_bad_rows_are_set_aside(site, rule, column, damage):
    """Up to 1% of bad rows are set aside, counted and kept for people to look at; the hour goes on without them."""
    delivery = Delivery(site)
    damage(delivery)
    (row,) = site.advance(site.hours[BAD])
    bad = -(-delivery.table.num_rows // 200)
    assert row.state == "PUBLISHED"
    assert row.record["quarantined"] == {rule: bad}
    assert row.record["rows"] == delivery.table.num_rows - bad
    folder = site.folder / "workspace" / "hours" / row.hour.compact
    kept = pq.read_table(folder / "quarantine.parquet", partitioning=None)
    assert kept["rule"].to_pylist() == [rule] * bad
    assert column in kept.column_names


@pytest.mark.fault(41)
def test_allowed_nulls_are_a_feature(site):
    """Nulls in a nullable field, under the limit, are a value like others: the hour is published."""
    Delivery(site).some("site_domain", None, 4)
    (row,) = site.advance(site.hours[BAD])
    assert row.state == "PUBLISHED"
    assert row.record["quarantined_rows"] == 0


@pytest.mark.fault(45)
def test_same_file_twice_is_no_news(site, undisturbed):
    """A second copy of a file under another name changes nothing: same input digest, same version."""
    delivery = Delivery(site)
    delivery.path.with_name("part-1.parquet").write_bytes(delivery.path.read_bytes())
    (row,) = site.advance(site.hours[BAD])
    expected = undisturbed.rows()[BAD]
    assert (row.input_digest, row.version) == (expected.input_digest, expected.version)


@pytest.mark.fault(45)
def test_duplicate_rows_are_dropped_and_counted(site, undisturbed):
    """Rows that repeat are learnt once: the training state is that of the delivery without them."""
    delivery = Delivery(site)
    delivery.write(pa.concat_tables([delivery.table, delivery.table.slice(100, 50)]))
    (row,) = site.advance(site.hours[BAD])
    assert row.record["duplicates"] == 50
    assert row.state == "PUBLISHED"
    assert row.checkpoint == undisturbed.rows()[BAD].checkpoint


@pytest.mark.fault(48)
def test_burst_of_new_features_is_capped(site):
    """An hour with ten times the ids completes; at most `max_new_features` of a field are remembered."""
    delivery = Delivery(site)
    limit = site.config().vocabulary.max_new_features
    times = delivery.table["event_time"].cast(pa.int64()).to_numpy()
    rows = 2 * limit
    chosen = np.sort(np.arange(rows) % len(times))
    burst = delivery.table.take(pa.array(chosen))
    burst = burst.set_column(0, "impression_id", pa.array(10**12 + np.arange(rows)))
    burst = burst.set_column(burst.column_names.index("user_id"), "user_id", pa.array(10**15 + np.arange(rows)))
    delivery.write(burst)
    bad, after = site.advance(site.hours[AFTER])
    assert bad.state == "PUBLISHED", bad.message
    assert bad.record["rows"] == rows
    assert after.state == "PUBLISHED", after.message

    def users(row) -> int:
        Workspace._resident = None
        original: Original = Workspace(site.config()).original(row.checkpoint)
        return int((original.vocabulary.fields_V == 0).sum())

    before = next(row for row in reversed(site.rows()) if row.hour < bad.hour and row.checkpoint)
    assert limit <= users(bad) - users(before) <= limit + 100
    assert users(after) - users(bad) < limit / 10


ODD = [
    "nul\0inside",
    "\u202eright to left\u202c",
    "caf\u00e9",
    "cafe\u0301",
    "",
    " ",
    "\U0001f600",
    "x" * 2**17,
    "../../etc/passwd",
    "'; DROP TABLE hours;--",
    "\ufeffbom",
    "a\nb",
]


@pytest.mark.fault(52)
def test_odd_texts_have_one_key_in_training_and_serving(site):
    """Texts are opaque bytes: none is refused, refolded or cut, and the artifact knows the very keys of training."""
    for place in (BAD, AFTER):
        delivery = Delivery(site, place)
        odd = pa.array([ODD[row % len(ODD)] for row in range(delivery.table.num_rows)])
        delivery.column("site_domain", odd)
    roomy = site.config(data={"max_bytes": 1 << 28})
    first, second = site.advance(site.hours[AFTER], config=roomy)
    assert (first.state, second.state) == ("PUBLISHED", "PUBLISHED"), (first.message, second.message)
    rows = delivery.table.set_column(delivery.table.column_names.index("site_domain"), "site_domain", odd)
    rows = rows.slice(0, len(ODD))
    times_B = rows["event_time"].cast(pa.int64()).to_numpy()
    columns = encoder_columns(rows.drop_columns(["impression_id", "clicked", "event_time"]))
    training_BS = FeatureEncoder(site.config()).encode(columns, times_B)
    artifact = Model.read(site.store.open(site.live))
    serving_BS = FeatureEncoder(artifact.schema).encode(columns, times_B)
    np.testing.assert_array_equal(serving_BS, training_BS)
    slot = site.config().slot_fields.index(site.config().field_names.index("site_domain"))
    assert len(set(serving_BS[:, slot].tolist())) == len(ODD), "NFC and NFD are two texts"
    assert (artifact.codes(serving_BS)[:, slot] > 0).all(), "seen often enough, each has a code of its own"


@pytest.mark.fault(44)
def test_a_shift_of_the_labels_holds_the_hour(site, monkeypatch):
    """Labels turned over: HELD(label-shift), nothing learnt, the live model as it was; the next hour goes on."""
    monkeypatch.setattr("saec.data.checks.FEWEST_RATES", 3)
    delivery = Delivery(site)
    delivery.column("clicked", (1 - delivery.table["clicked"].to_numpy()).tolist())
    live, digests = site.live, site.digests()
    (row,) = site.advance(site.hours[BAD])
    assert (row.state, row.reason, row.checkpoint) == ("HELD", "label-shift", None)
    assert "data.max_click_shift" in row.message
    assert (site.live, site.digests()) == (live, digests)
    (following,) = site.advance(site.hours[AFTER])
    assert (following.state, following.parent) == ("PUBLISHED", site.hours[BAD - 1])
