"""The simulator: repeatable hours, a truth worth learning, planted clusters, heavy tails and new features."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, log_loss, roc_auc_score

from saec.data.hourly_files import hour_file
from saec.data.planted import hashed
from saec.data.simulate import BIRTH_STRIDE, Simulation, simulate_hour, simulate_hours
from saec.errors import ConfigError
from saec.hours import Hour

NOON = Hour.parse("2026-01-01T12")


def features(rows: pa.Table, column: str) -> np.ndarray:
    return rows[column].to_numpy()


def test_an_hour_is_the_same_bytes_alone_or_among_others_in_any_order(tmp_path):
    """Hours 0 to 2 in one go equal the same hours made one by one, backwards, over an older file."""
    simulation = Simulation(rows_per_hour=500)
    simulate_hours(simulation, NOON, 3, tmp_path / "a" / "data")
    simulate_hours(replace(simulation, seed=2), NOON, 1, tmp_path / "b" / "data")
    for offset in (2, 1, 0):
        simulate_hours(simulation, NOON + offset, 1, tmp_path / "b" / "data")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.parquet"))
    assert len(files) == 6
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_another_seed_is_another_world():
    """Rows and truth both change with the seed."""
    _, first_B = simulate_hour(Simulation(), NOON)
    _, second_B = simulate_hour(Simulation(seed=2), NOON)
    assert not np.isin(first_B, second_B).any()


def test_files_are_laid_out_typed_and_sorted(tmp_path):
    """Hive folders in UTC, the columns promised, page checksums, time ascending within the hour."""
    [done] = simulate_hours(Simulation(rows_per_hour=800), Hour.parse("2026-01-01T03"), 1, tmp_path / "data")
    assert done.path == tmp_path / "data" / "date=2026-01-01" / "hour=03" / "part-0.parquet"
    rows = pq.ParquetFile(done.path, page_checksum_verification=True).read()
    assert {name: str(kind) for name, kind in zip(rows.column_names, rows.schema.types, strict=True)} == {
        "impression_id": "int64",
        "event_time": "timestamp[ms, tz=UTC]",
        "user_id": "int64",
        "item_id": "int64",
        "item_tags": "list<element: int32>",
        "site_domain": "string",
        "device": "int32",
        "price": "float",
        "clicked": "int8",
    }
    times_B = rows["event_time"].cast(pa.int64()).to_numpy()
    assert (np.diff(times_B) >= 0).all()
    assert done.hour.start_ms <= times_B[0] <= times_B[-1] < (done.hour + 1).start_ms
    assert (done.rows, done.clicks) == (rows.num_rows, features(rows, "clicked").sum())


def test_pages_carry_checksums(tmp_path):
    """A flipped bit in a data page is noticed by a reader that verifies."""
    [done] = simulate_hours(Simulation(rows_per_hour=800), NOON, 1, tmp_path / "data")
    spoilt = bytearray(done.path.read_bytes())
    spoilt[2000] ^= 1
    done.path.write_bytes(spoilt)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(done.path, page_checksum_verification=True).read()


def test_the_truth_lies_beside_the_data_and_not_in_it(tmp_path):
    """`truth` has the same impressions as the data, with their probabilities; the data has no such column."""
    [done] = simulate_hours(Simulation(rows_per_hour=800), NOON, 1, tmp_path / "data")
    rows, truth = pq.read_table(done.path), pq.read_table(hour_file(tmp_path / "truth", NOON))
    assert truth["impression_id"].equals(rows["impression_id"])
    assert done.logloss_truth == pytest.approx(log_loss(features(rows, "clicked"), features(truth, "probability")))
    assert "probability" not in rows.column_names
    with pytest.raises(ConfigError, match="truth is written beside"):
        simulate_hours(Simulation(), NOON, 1, tmp_path / "truth")


def test_the_truth_predicts_the_clicks():
    """Far better than a constant or than itself in another order, and calibrated from low to high."""
    rows, probability_B = simulate_hour(Simulation(), NOON)
    clicked_B = features(rows, "clicked")
    shuffled_B = np.random.default_rng(0).permutation(probability_B)
    assert roc_auc_score(clicked_B, probability_B) > 0.75
    constant = log_loss(clicked_B, np.full(len(clicked_B), clicked_B.mean()))
    assert log_loss(clicked_B, probability_B) < constant - 0.05 < log_loss(clicked_B, shuffled_B)
    for tenth in np.array_split(np.argsort(probability_B), 10):
        assert clicked_B[tenth].mean() == pytest.approx(probability_B[tenth].mean(), abs=0.03)


@pytest.mark.parametrize("base_rate", [0.02, 0.2, 0.5])
def test_clicks_happen_at_the_base_rate(base_rate):
    """Whatever the seed, which fixes where the clusters fall."""
    rates = [simulate_hour(Simulation(seed=seed, base_rate=base_rate), NOON)[1].mean() for seed in range(3)]
    assert rates == pytest.approx([base_rate] * 3, rel=0.1)


def test_planted_clusters_can_be_found_again():
    """k-means on items' mean true logit with each cluster of users finds the items' planted clusters."""
    simulation = Simulation(rows_per_hour=60_000, items=100, clusters=6, new_share=0.0, drift=0.0)
    rows, probability_B = simulate_hour(simulation, NOON)
    users_B, items_B = features(rows, "user_id"), features(rows, "item_id")
    groups_B = simulation.truth.clusters_of("user", users_B)
    logits_B = np.log(probability_B / (1 - probability_B))
    sums_VK, counts_VK = np.zeros((100, 6)), np.zeros((100, 6))
    np.add.at(sums_VK, (items_B, groups_B), logits_B)
    np.add.at(counts_VK, (items_B, groups_B), 1)
    means_VK = sums_VK / counts_VK
    # What an item's own tags and price add is the same for all users: it goes with the item's mean.
    found_V = KMeans(6, n_init=10, random_state=0).fit_predict(means_VK - means_VK.mean(axis=1, keepdims=True))
    planted_V = simulation.truth.clusters_of("item", np.arange(100))
    assert adjusted_rand_score(planted_V, found_V) > 0.8


def test_a_features_effect_is_its_clusters_and_a_little_of_its_own():
    """Of the variance of effects, nine tenths lie between planted clusters and a tenth within them."""
    truth, ids_V = Simulation(drift=0.0).truth, np.arange(20_000)
    effects_V, clusters_V = truth.effects_of("user", ids_V, NOON), truth.clusters_of("user", ids_V)
    within = np.mean([effects_V[clusters_V == cluster].var() for cluster in range(32)])
    assert within == pytest.approx(0.1, rel=0.1)
    assert effects_V.var() > 5 * within


def test_effects_drift_slowly():
    """Effects of neighbouring hours nearly agree, of a week apart less; without drift they do not move."""
    ids_V = np.arange(1000)
    moving, still = Simulation(drift=0.5).truth, Simulation(drift=0.0).truth

    def agreement(hours: int) -> float:
        pair = [moving.effects_of("item", ids_V, NOON + offset) for offset in (0, hours)]
        return float(np.corrcoef(pair)[0, 1])

    assert agreement(1) > 0.98 > 0.9 > agreement(72)
    assert np.array_equal(still.effects_of("item", ids_V, NOON), still.effects_of("item", ids_V, NOON + 72))


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_every_hour_brings_features_never_seen_before(column):
    """About `new_share` of the rows show features born in the hour, in no earlier one; later hours show some again."""
    simulation = Simulation(new_share=0.1)
    hours = [features(simulate_hour(simulation, NOON + offset)[0], column) for offset in range(3)]
    is_born_B = hours[1] // BIRTH_STRIDE == (NOON + 1).index
    assert is_born_B.mean() == pytest.approx(0.1, abs=0.02)
    assert not np.isin(hours[1][is_born_B], hours[0]).any()
    assert np.isin(hours[2], hours[1][is_born_B]).any()
    assert all((ids_B // BIRTH_STRIDE <= (NOON + offset).index).all() for offset, ids_B in enumerate(hours))


@pytest.mark.parametrize("column", ["user_id", "item_id", "site_domain"])
def test_frequencies_are_heavy_tailed(column):
    """The most frequent hundredth of the features makes more than a fifth of the rows."""
    rows, _ = simulate_hour(Simulation(tail=1.1), NOON)
    counts_V = np.sort(np.unique(features(rows, column), return_counts=True)[1])[::-1]
    assert counts_V[: max(1, len(counts_V) // 100)].sum() > 0.2 * rows.num_rows


def test_volume_swings_over_the_day():
    """Three times as many rows at 15 UTC as at 03, the mean as asked for."""
    rows = [simulate_hour(Simulation(rows_per_hour=2000), NOON + offset)[0].num_rows for offset in range(24)]
    assert np.mean(rows) == pytest.approx(2000, rel=0.03)
    assert rows[3] / rows[15] == pytest.approx(3.0, rel=0.15)  # NOON + 3 is 15 UTC


def test_an_items_tags_are_its_own():
    """One to four tags, the same whenever the item is shown."""
    rows, _ = simulate_hour(Simulation(), NOON)
    tags_of: dict[int, tuple[int, ...]] = {}
    for item, tags in zip(rows["item_id"].to_pylist(), rows["item_tags"].to_pylist(), strict=True):
        assert tags_of.setdefault(item, tuple(tags)) == tuple(tags)
    assert {len(tags) for tags in tags_of.values()} == {1, 2, 3, 4}


def test_millions_of_features_cost_no_more_than_thousands():
    """Nothing is made per feature: an hour over 400 million users draws from all of them."""
    rows, _ = simulate_hour(Simulation(rows_per_hour=1000, users=400_000_000, items=20_000_000, new_share=0.0), NOON)
    assert features(rows, "user_id").max() > 200_000_000
    assert len(np.unique(features(rows, "user_id"))) > 0.9 * rows.num_rows


def test_hashes_of_different_purposes_are_unrelated():
    """Cluster and noise of a feature come from hashes that share nothing."""
    ids_V = np.arange(4000)
    bits_V = [hashed(purpose, ids_V) >> np.uint64(63) for purpose in ("a", "b")]
    assert np.mean(bits_V[0] == bits_V[1]) == pytest.approx(0.5, abs=0.04)


def test_dials_out_of_range_are_refused():
    """The message names the dial, its range and what was given."""
    with pytest.raises(ConfigError, match=r"simulation new_share must be 0 to 1/3, got 0\.5"):
        Simulation(new_share=0.5)
    with pytest.raises(ConfigError, match="hours must be 1 or more, got 0"):
        simulate_hours(Simulation(), NOON, 0, None)


def test_each_hour_is_told(tmp_path):
    """The callback gets every record, in order, as it is returned."""
    told = []
    assert simulate_hours(Simulation(rows_per_hour=50), NOON, 3, tmp_path / "data", told.append) == told
    assert [record.hour for record in told] == [NOON, NOON + 1, NOON + 2]
