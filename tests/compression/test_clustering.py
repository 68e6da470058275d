"""Clustering finds planted clusters, weighs by frequency, and refuses what it cannot cluster."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.cluster import KMeans

from saec.compression.blocks import Blocks, Step
from saec.compression.clustering import LARGEST, _swapped, assign, cluster
from saec.errors import TrainingError
from tests.properties import examples

CENTRES_KD = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10], [-10, -10, 0]], np.float32)
GRID = arrays(np.float32, st.tuples(st.integers(1, 40), st.just(2)), elements=st.integers(-3, 3).map(float))
"""Vectors of small whole numbers: every distance is exact, and many are equal."""


def planted(rows=60, seed=0):
    """Vectors around five far centres and the number of the centre of each; the heavy-tailed weights are whole."""
    rng = np.random.default_rng(seed)
    labels_N = np.arange(rows) % len(CENTRES_KD)
    vectors_ND = CENTRES_KD[labels_N] + rng.normal(0, 0.1, (rows, 3)).astype(np.float32)
    weights_N = np.minimum(rng.zipf(1.5, rows), 50).astype(np.float32)
    return vectors_ND, weights_N, labels_N


def ones(vectors_ND):
    return np.ones(len(vectors_ND), np.float32)


def error_of(vectors_ND, weights_N, centroids_KD):
    """Frequency-weighted sum of squared distances to the nearest centroid."""
    squared_NK = ((vectors_ND[:, None].astype(np.float64) - centroids_KD) ** 2).sum(2)
    return float((squared_NK.min(1) * weights_N).sum())


@pytest.mark.parametrize("seed", range(5))
def test_planted_clusters_are_found(seed):
    """Each far cluster gets one codeword, the weighted mean of its vectors, and its vectors get that code."""
    vectors_ND, weights_N, labels_N = planted()
    centroids_KD = cluster(vectors_ND, weights_N, 5, seed=seed)
    codes_N, _ = assign(vectors_ND, centroids_KD)
    assert len({*zip(codes_N.tolist(), labels_N.tolist(), strict=True)}) == 5
    for label in range(5):
        of_it = labels_N == label
        mean = np.average(vectors_ND[of_it], axis=0, weights=weights_N[of_it])
        np.testing.assert_allclose(centroids_KD[codes_N[of_it][0]], mean, atol=1e-4)


def test_a_weight_of_n_is_a_row_n_times():
    """From the same start, weighting a vector by n gives the centroids of repeating it n times."""
    vectors_ND, weights_N, _ = planted()
    repeated = np.repeat(vectors_ND, weights_N.astype(int), axis=0)
    start_KD = vectors_ND[:4]
    weighted = cluster(vectors_ND, weights_N, 4, start_KD=start_KD)
    np.testing.assert_allclose(weighted, cluster(repeated, ones(repeated), 4, start_KD=start_KD), atol=1e-4)
    assert np.abs(weighted - cluster(vectors_ND, ones(vectors_ND), 4, start_KD=start_KD)).max() > 1e-3


def test_a_warm_start_keeps_the_order_of_the_codewords():
    """Codeword k stays the codeword of its cluster, whatever order the clusters were in."""
    vectors_ND, weights_N, _ = planted()
    order = [3, 0, 4, 1, 2]
    centroids_KD = cluster(vectors_ND, weights_N, 5, start_KD=CENTRES_KD[order] + 1.0)
    np.testing.assert_allclose(centroids_KD, CENTRES_KD[order], atol=0.2)


def test_a_short_warm_start_is_filled_up():
    """Where more codewords are wanted than there were, the old ones stay in front and new ones take the rest."""
    vectors_ND, weights_N, _ = planted()
    centroids_KD = cluster(vectors_ND, weights_N, 5, start_KD=CENTRES_KD[[2, 1]])
    np.testing.assert_allclose(centroids_KD[:2], CENTRES_KD[[2, 1]], atol=0.2)
    assert error_of(vectors_ND, weights_N, centroids_KD) < 0.1 * weights_N.sum()


def test_one_warm_iteration_is_as_good_as_a_cold_start():
    """Last hour's centroids of slightly moved vectors give, over five seeds, the error of clustering anew."""
    rng = np.random.default_rng(4)
    vectors_ND, weights_N = rng.normal(size=(500, 4)).astype(np.float32), ones(range(500))
    moved_ND = vectors_ND + rng.normal(0, 0.02, vectors_ND.shape).astype(np.float32)
    cold, warm = 0.0, 0.0
    for seed in range(5):
        cold += error_of(moved_ND, weights_N, cluster(moved_ND, weights_N, 16, seed=seed))
        start_KD = cluster(vectors_ND, weights_N, 16, seed=seed)
        warm += error_of(moved_ND, weights_N, cluster(moved_ND, weights_N, 16, start_KD=start_KD))
    assert warm < 1.01 * cold


def test_a_seed_repeats():
    """The same seed gives the same bytes."""
    vectors_ND, weights_N, _ = planted(400)
    assert cluster(vectors_ND, weights_N, 9, seed=1).tobytes() == cluster(vectors_ND, weights_N, 9, seed=1).tobytes()
    assert cluster(vectors_ND, weights_N, 9, seed=1).tobytes() != cluster(vectors_ND, weights_N, 9, seed=2).tobytes()


def test_the_weighted_error_is_that_of_scikit_learn():
    """On vectors without clusters and heavy-tailed weights, the error is within 4% of KMeans with sample weights."""
    rng = np.random.default_rng(2)
    vectors_ND = rng.normal(size=(2000, 8)).astype(np.float32)
    weights_N = np.minimum(rng.zipf(1.3, 2000), 10_000).astype(np.float32)
    theirs = KMeans(24, n_init=1, random_state=0).fit(vectors_ND, sample_weight=weights_N).cluster_centers_
    ours = [error_of(vectors_ND, weights_N, cluster(vectors_ND, weights_N, 24, seed=seed)) for seed in range(3)]
    assert np.median(ours) < 1.04 * error_of(vectors_ND, weights_N, theirs)


@pytest.mark.fault(59)
def test_a_codeword_without_features_moves_to_those_served_worst():
    """A codeword far from everything takes a cluster from one that has two, which keeps the heavier; no other moves."""
    vectors_ND, weights_N, labels_N = planted()
    start_KD = np.vstack([CENTRES_KD[:4], [[1e4, 1e4, 1e4]]]).astype(np.float32)
    for heavier, order in ((0, [0, 1, 2, 3, 4]), (4, [4, 1, 2, 3, 0])):
        weighted_N = np.where(labels_N == heavier, 100.0, weights_N).astype(np.float32)
        centroids_KD = cluster(vectors_ND, weighted_N, 5, start_KD=start_KD)
        np.testing.assert_allclose(centroids_KD, CENTRES_KD[order], atol=0.3)
        assert centroids_KD.tobytes() == cluster(vectors_ND, weighted_N, 5, start_KD=start_KD).tobytes()


@pytest.mark.fault(59)
@pytest.mark.parametrize("idle", [1, 2, 3, 8, 14])
def test_no_codeword_is_left_without_features(idle):
    """However many codewords of a warm start lie far from everything, all have features afterwards, always the same."""
    vectors_ND = np.random.default_rng(idle).normal(size=(500, 4)).astype(np.float32)
    start_KD = np.random.default_rng(99).normal(size=(16, 4)).astype(np.float32)
    start_KD[16 - idle :] += 1e4
    centroids_KD = cluster(vectors_ND, np.ones(500, np.float32), 16, start_KD=start_KD)
    assert len(np.unique(assign(vectors_ND, centroids_KD)[0])) == 16
    assert centroids_KD.tobytes() == cluster(vectors_ND, np.ones(500, np.float32), 16, start_KD=start_KD).tobytes()


def test_the_heavier_half_of_a_split_keeps_its_code():
    """Where the worst served feature is in the heavier half, the lighter half still goes to the codeword set free."""
    vectors_ND = np.array([[0.0, 0.0], *[[4.0, 0.1 * row] for row in range(9)], [50.0, 50.0]], np.float32)
    weights_N = np.array([10.0, *[1.0] * 9, 1.0], np.float32)
    start_KD = np.array([[2.0, 0.0], [50.0, 50.0], [1e4, 1e4]], np.float32)
    centroids_KD = cluster(vectors_ND, weights_N, 3, start_KD=start_KD)
    np.testing.assert_allclose(centroids_KD, [[0.0, 0.0], [50.0, 50.0], [4.0, 0.4]], atol=1e-3)


@pytest.mark.fault(55)
def test_more_codewords_than_vectors_are_not_made():
    """Each distinct vector is then its own codeword, in order of appearance, without error."""
    vectors_ND = np.array([[3, 3], [1, 1], [3, 3], [2, 2]], np.float32)
    assert cluster(vectors_ND, ones(vectors_ND), 255).tolist() == [[3, 3], [1, 1], [2, 2]]


@pytest.mark.fault(56)
def test_equal_vectors_are_one_codeword():
    """A field whose vectors are all equal has one codeword, that vector."""
    vectors_ND = np.full((5000, 4), 0.25, np.float32)
    assert cluster(vectors_ND, ones(vectors_ND), 3).tolist() == [[0.25] * 4]


@pytest.mark.fault(56)
@settings(max_examples=examples(80), deadline=None)
@given(GRID, st.integers(1, 12), st.none() | GRID)
def test_distinct_vectors_that_fit_are_kept_whole(vectors_ND, codewords, start_KD):
    """Never more codewords than wanted; and when the distinct vectors are no more, every vector is a codeword."""
    centroids_KD = cluster(vectors_ND, ones(vectors_ND), codewords, start_KD=start_KD)
    _, errors_N = assign(vectors_ND, centroids_KD)
    assert 1 <= len(centroids_KD) <= codewords
    assert np.isfinite(centroids_KD).all()
    if len(np.unique(vectors_ND, axis=0)) <= codewords:
        assert errors_N.max() == 0.0


@pytest.mark.fault(57, 58)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e30, -1e16])
def test_what_diverged_is_refused_by_the_name_of_its_field(wrong):
    """One number that is not finite, or too large to square, fails the field with its name and what to do."""
    vectors_ND, weights_N, _ = planted()
    vectors_ND[7, 1] = wrong
    with pytest.raises(TrainingError, match=r"field 'user&site' .*table_learning_rate") as caught:
        cluster(vectors_ND, weights_N, 3, field="user&site")
    assert caught.value.reason == "non-finite"


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_impossible_frequencies_are_refused(wrong):
    """A frequency that is not finite, or below zero, fails the field with its name."""
    vectors_ND, weights_N, _ = planted()
    weights_N[7] = wrong
    with pytest.raises(TrainingError, match=r"field 'site' .*frequencies") as caught:
        cluster(vectors_ND, weights_N, 3, field="site")
    assert caught.value.reason == "non-finite"


def test_no_features_have_no_codewords():
    """A field without features has no codewords, or keeps those it had; one feature has one."""
    nothing_ND, nothing_N = np.zeros((0, 3), np.float32), np.zeros(0, np.float32)
    assert cluster(nothing_ND, nothing_N, 7).shape == (0, 3)
    assert cluster(nothing_ND, nothing_N, 7, start_KD=CENTRES_KD).tolist() == CENTRES_KD.tolist()
    assert cluster(CENTRES_KD[1:2], np.ones(1, np.float32), 7).tolist() == CENTRES_KD[1:2].tolist()


def test_one_codeword_is_the_weighted_mean():
    """With one codeword allowed, it is the mean of all features, each by its frequency."""
    vectors_ND, weights_N, _ = planted()
    mean_D = np.average(vectors_ND, axis=0, weights=weights_N)
    np.testing.assert_allclose(cluster(vectors_ND, weights_N, 1), mean_D[None], atol=1e-4)


def test_one_enormous_weight_takes_one_codeword():
    """A feature 10^25 times as frequent as all others is a codeword itself; the others still find their clusters."""
    vectors_ND, weights_N, _ = planted()
    weights_N[8] = 1e25
    centroids_KD = cluster(vectors_ND, weights_N, 6)
    assert np.isfinite(centroids_KD).all()
    assert (centroids_KD == vectors_ND[8]).all(1).any()
    assert error_of(vectors_ND, ones(vectors_ND), centroids_KD) < 0.1 * len(vectors_ND)


def test_features_without_any_weight_are_clustered_alike():
    """Where no feature was ever counted, all count the same."""
    vectors_ND, _, _ = planted()
    found_KD = cluster(vectors_ND, np.zeros(len(vectors_ND), np.float32), 5)
    assert found_KD.tobytes() == cluster(vectors_ND, ones(vectors_ND), 5).tobytes()


def test_the_largest_vectors_allowed_do_not_overflow():
    """Vectors just below the limit are clustered without a warning, infinity or NaN."""
    vectors_ND, weights_N, _ = planted()
    centroids_KD = cluster(vectors_ND * np.float32(0.9 * LARGEST / 11), weights_N, 4)
    assert np.isfinite(centroids_KD).all()


def test_duplicates_far_outnumbering_codewords_leave_none_unused():
    """Of 20,000 features with 40 distinct vectors, 37 of them rare, 30 codewords are all different and all used."""
    rng = np.random.default_rng(0)
    distinct_KD = rng.normal(size=(40, 5)).astype(np.float32) + 3.0
    labels_N = np.concatenate([np.arange(40), rng.integers(0, 3, 20_000)])
    weights_N = np.where(labels_N < 3, 1000.0, 1.0).astype(np.float32)
    centroids_KD = cluster(distinct_KD[labels_N], weights_N, 30)
    codes_N, _ = assign(distinct_KD[labels_N], centroids_KD)
    assert len(np.unique(codes_N)) == len(centroids_KD) == 30
    assert len(np.unique(centroids_KD, axis=0)) == 30


def test_vectors_far_from_the_origin_are_told_apart():
    """Clusters a hundredth apart at a distance of ten from the origin are found."""
    vectors_ND, weights_N, labels_N = planted()
    centroids_KD = cluster(vectors_ND * np.float32(1e-3) + np.float32(10.0), weights_N, 5)
    codes_N, _ = assign(vectors_ND * np.float32(1e-3) + np.float32(10.0), centroids_KD)
    assert len({*zip(codes_N.tolist(), labels_N.tolist(), strict=True)}) == 5


@pytest.mark.parametrize("codewords", [6, 60])
def test_last_hours_codes_change_nothing(codewords):
    """A warm start finds the same centroids with last hour's codes as without, also where some are missing or wrong."""
    vectors_ND, weights_N, _ = planted(900)
    start_KD = cluster(vectors_ND, weights_N, codewords)
    guess_N, _ = assign(vectors_ND, start_KD)
    guess_N[::7], guess_N[::11] = -1, 0
    later_ND = vectors_ND + np.random.default_rng(1).normal(0, 0.01, vectors_ND.shape).astype(np.float32)
    alone = cluster(later_ND, weights_N, codewords, start_KD=start_KD)
    assert cluster(later_ND, weights_N, codewords, start_KD=start_KD, guess_N=guess_N).tobytes() == alone.tobytes()
    fewer = cluster(later_ND, weights_N, codewords - 1, start_KD=start_KD, guess_N=guess_N)
    assert fewer.tobytes() == cluster(later_ND, weights_N, codewords - 1, start_KD=start_KD).tobytes()


def test_threads_change_nothing():
    """One thread and two find the same bytes."""
    rng = np.random.default_rng(5)
    vectors_ND, weights_N = rng.normal(size=(20_000, 16)).astype(np.float32), rng.pareto(1.0, 20_000).astype(np.float32)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(cluster(vectors_ND, weights_N, 100).tobytes())
    torch.set_num_threads(before)
    assert found[0] == found[1]


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 1000), st.integers(3, 40))
def test_swaps_save_what_they_say(seed, codewords):
    """After swaps the error is lower by at least what is said, once every feature has its nearest codeword."""
    rng = np.random.default_rng(seed)
    vectors_ND, weight_N = rng.normal(size=(300, 3)).astype(np.float32), rng.pareto(1.0, 300) + 0.01
    start_KD = vectors_ND[rng.integers(0, 300, codewords)]
    features = Blocks(vectors_ND, weight_N)
    nearest = features.total(Step.NEAREST, start_KD)
    means_KD = nearest.means(start_KD)
    worst = features.total(Step.WORST, means_KD)
    leaving = features.total(Step.LEAVING, worst.vectors_KD.astype(np.float32))
    swapped_KD, saved, _ = _swapped(means_KD, nearest.weight_K, leaving)
    assert saved >= 0.0
    assert error_of(vectors_ND, weight_N, swapped_KD) <= worst.error * (1 + 1e-5) - saved
