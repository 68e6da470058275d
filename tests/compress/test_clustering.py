"""Clustering finds planted clusters, weighs by frequency, and refuses what it cannot cluster."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.cluster import KMeans

from saec.compress.clustering import assign, cluster
from saec.compress.nearest import BLOCK
from saec.errors import TrainingError

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


def test_two_warm_iterations_are_as_good_as_a_cold_start():
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


def test_a_codeword_without_features_moves_to_those_served_worst():
    """A codeword far from everything takes a cluster from one that has two, which keeps the heavier; no other moves."""
    vectors_ND, weights_N, labels_N = planted()
    start_KD = np.vstack([CENTRES_KD[:4], [[1e4, 1e4, 1e4]]]).astype(np.float32)
    for heavier, order in ((0, [0, 1, 2, 3, 4]), (4, [4, 1, 2, 3, 0])):
        weighted_N = np.where(labels_N == heavier, 100.0, weights_N).astype(np.float32)
        centroids_KD = cluster(vectors_ND, weighted_N, 5, start_KD=start_KD)
        np.testing.assert_allclose(centroids_KD, CENTRES_KD[order], atol=0.3)
        assert centroids_KD.tobytes() == cluster(vectors_ND, weighted_N, 5, start_KD=start_KD).tobytes()


def test_more_codewords_than_vectors_are_not_made():
    """Each distinct vector is then its own codeword, in order of appearance, without error."""
    vectors_ND = np.array([[3, 3], [1, 1], [3, 3], [2, 2]], np.float32)
    assert cluster(vectors_ND, ones(vectors_ND), 255).tolist() == [[3, 3], [1, 1], [2, 2]]


def test_equal_vectors_are_one_codeword():
    """A field whose vectors are all equal has one codeword, that vector."""
    vectors_ND = np.full((5000, 4), 0.25, np.float32)
    assert cluster(vectors_ND, ones(vectors_ND), 3).tolist() == [[0.25] * 4]


@settings(max_examples=80, deadline=None)
@given(GRID, st.integers(1, 12), st.none() | GRID)
def test_distinct_vectors_that_fit_are_kept_whole(vectors_ND, codewords, start_KD):
    """Never more codewords than wanted; and when the distinct vectors are no more, every vector is a codeword."""
    centroids_KD = cluster(vectors_ND, ones(vectors_ND), codewords, start_KD=start_KD)
    _, errors_N = assign(vectors_ND, centroids_KD)
    assert 1 <= len(centroids_KD) <= codewords
    assert np.isfinite(centroids_KD).all()
    if len(np.unique(vectors_ND, axis=0)) <= codewords:
        assert errors_N.max() == 0.0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e30, -1e16])
def test_what_diverged_is_refused_by_the_name_of_its_field(wrong):
    """One number that is not finite, or too large to square, fails the field with its name and what to do."""
    vectors_ND, weights_N, _ = planted()
    vectors_ND[7, 1] = wrong
    with pytest.raises(TrainingError, match=r"field 'user&site' .*table_learning_rate") as caught:
        cluster(vectors_ND, weights_N, 3, field="user&site")
    assert caught.value.reason == "non-finite"


@settings(max_examples=60, deadline=None)
@given(GRID, GRID)
def test_assignment_equals_brute_force_and_ties_go_to_the_lowest(vectors_ND, centroids_KD):
    """The code is the first of the nearest codewords, the error its squared distance."""
    squared_NK = ((vectors_ND[:, None] - centroids_KD) ** 2).sum(2)
    codes_N, errors_N = assign(vectors_ND, centroids_KD)
    assert codes_N.tolist() == squared_NK.argmin(1).tolist()
    assert errors_N.tolist() == squared_NK.min(1).tolist()


@pytest.mark.parametrize("codewords", [10, 255])
def test_equal_codewords_share_the_lowest_code(codewords):
    """Of codewords that are equal, only the first is ever given, wherever they stand in the matrix product."""
    rng = np.random.default_rng(0)
    centroids_KD = rng.normal(size=(codewords, 17)).astype(np.float32)
    centroids_KD[[codewords // 2, codewords - 1]] = centroids_KD[1]
    vectors_ND = centroids_KD[1] + rng.normal(0, 0.01, (3000, 17)).astype(np.float32)
    assert (assign(vectors_ND, centroids_KD)[0] == 1).all()


def test_blocks_join_without_a_seam():
    """Three blocks and a ragged one give what single vectors give."""
    rng = np.random.default_rng(1)
    vectors_ND = CENTRES_KD[rng.integers(0, 5, 3 * BLOCK + 5)] + rng.normal(0, 0.1, (3 * BLOCK + 5, 3))
    vectors_ND = vectors_ND.astype(np.float32)
    squared_NK = ((vectors_ND[:, None].astype(np.float64) - CENTRES_KD) ** 2).sum(2)
    codes_N, errors_N = assign(vectors_ND, CENTRES_KD)
    assert (codes_N == squared_NK.argmin(1)).all()
    np.testing.assert_allclose(errors_N, squared_NK.min(1), atol=1e-3)
