"""Two levels share codewords out by error, come near to flat clustering, and keep to its contract."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saec.compression import clustering
from saec.compression.clustering import assign, cluster
from saec.compression.two_level import coarse_to_fine, shared_out


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 50)), min_size=1, max_size=30), st.integers(1, 300))
def test_shares_fit(groups, codewords):
    """A coarse cluster gets at least one codeword and no more than its features, an empty one none."""
    errors_G, sizes_G = np.array([error for error, _ in groups]), np.array([size for _, size in groups])
    codewords = max(codewords, int((sizes_G > 0).sum()))
    shares_G = shared_out(errors_G, sizes_G, codewords)
    assert (shares_G <= sizes_G).all()
    assert (shares_G >= np.minimum(sizes_G, 1)).all()
    room = int(np.where(errors_G > 0, sizes_G, np.minimum(sizes_G, 1)).sum())
    assert int(shares_G.sum()) == min(codewords, room)


def planted(clusters=900, features=9000):
    """Features around many centres, in random order, with heavy-tailed weights."""
    rng = np.random.default_rng(0)
    centres_KD = rng.normal(size=(clusters, 6)) * 10
    labels_N = np.arange(features) % clusters
    vectors_ND = (centres_KD[labels_N] + rng.normal(0, 0.1, (features, 6))).astype(np.float32)
    return vectors_ND, rng.pareto(1.2, features).astype(np.float32) + 0.1


def relative_error(vectors_ND, weights_N, centroids_KD):
    spread_N = ((vectors_ND - np.average(vectors_ND, axis=0, weights=weights_N)) ** 2).sum(1)
    return float(weights_N @ assign(vectors_ND, centroids_KD)[1] / (weights_N @ spread_N))


@pytest.fixture
def two_levels(monkeypatch):
    """Two levels from a hundred codewords on."""
    monkeypatch.setattr(clustering, "FLAT", 100)


def test_the_error_is_near_that_of_flat_clustering(monkeypatch):
    """At 500 codewords, two levels come within a tenth of the error of clustering all at once."""
    vectors_ND, weights_N = planted()
    flat = relative_error(vectors_ND, weights_N, cluster(vectors_ND, weights_N, 500))
    monkeypatch.setattr(clustering, "FLAT", 100)
    centroids_KD = cluster(vectors_ND, weights_N, 500)
    assert len(centroids_KD) == 500
    assert relative_error(vectors_ND, weights_N, centroids_KD) < 1.1 * flat


def test_the_codewords_asked_for_are_made(two_levels):
    """Coarse clusters of equal vectors leave codewords over, which others take; there are no equal codewords."""
    rng = np.random.default_rng(1)
    vectors_ND = np.concatenate([np.tile(rng.normal(size=(20, 4)) * 50, (100, 1)), rng.normal(size=(2000, 4))])
    vectors_ND = vectors_ND.astype(np.float32)
    centroids_KD = cluster(vectors_ND, np.ones(4000, np.float32), 400)
    assert len(np.unique(centroids_KD, axis=0)) == 400


def test_a_warm_start_keeps_codes(two_levels):
    """An hour later, with vectors little moved, nearly all features keep their code; the same seed gives the same."""
    vectors_ND, weights_N = planted()
    centroids_KD = cluster(vectors_ND, weights_N, 500)
    assert centroids_KD.tobytes() == cluster(vectors_ND, weights_N, 500).tobytes()
    codes_N, _ = assign(vectors_ND, centroids_KD)
    moved_ND = vectors_ND + np.random.default_rng(2).normal(0, 0.01, vectors_ND.shape).astype(np.float32)
    later_KD = cluster(moved_ND, weights_N, 500, start_KD=centroids_KD, guess_N=codes_N)
    assert (assign(moved_ND, later_KD)[0] == codes_N).mean() > 0.97


def test_fewer_distinct_vectors_than_codewords(two_levels):
    """The distinct vectors are the codewords, as in flat clustering."""
    vectors_ND, weights_N = planted(features=300)
    assert cluster(vectors_ND, weights_N, 1000).tolist() == vectors_ND.tolist()


def test_each_coarse_cluster_is_clustered_on_its_own():
    """The flat clusterer is asked for about sqrt(K) clusters first, then for each one's share of the K."""
    vectors_ND, weights_N = planted()
    asked = []

    def flat(vectors_MD, weight_M, codewords):
        asked.append((len(vectors_MD), codewords))
        return cluster(vectors_MD, weight_M, codewords)

    coarse_to_fine(vectors_ND, weights_N, 400, flat)
    assert asked[0] == (9000, 20)
    assert sum(size for size, _ in asked[1:]) == 9000
    assert sum(codewords for _, codewords in asked[1:]) == 400
