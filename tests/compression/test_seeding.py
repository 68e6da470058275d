"""The sample stands for the whole head, and codewords are drawn from it as k-means++ draws them."""

import numpy as np
import pytest

from saec.compression.seeding import drawn, thinned

NONE_KD = np.zeros((0, 2), np.float32)


def test_few_features_are_all_taken():
    """A head no larger than the sample is the sample, with its own weights."""
    weight_N = np.array([3.0, 1.0, 2.0])
    places, weight_M = thinned(weight_N, 3, np.random.default_rng(0))
    assert places.tolist() == [0, 1, 2]
    assert weight_M.tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("most", [10, 100, 999])
def test_a_sample_has_the_size_and_the_weight_of_the_whole(most):
    """The heaviest are taken with their own weight, the others count for those left out; size and sum are kept."""
    weight_N = 1000.0 / np.random.default_rng(1).permutation(np.arange(1, 1001))
    places, weight_M = thinned(weight_N, most, np.random.default_rng(2))
    assert abs(len(places) - most) <= 1
    assert len(np.unique(places)) == len(places)
    assert weight_M.sum() == pytest.approx(weight_N.sum(), rel=2 / most)
    heaviest = int(weight_N.argmax())
    assert heaviest in places
    assert weight_M[places.tolist().index(heaviest)] == pytest.approx(max(weight_N.max(), weight_N.sum() / most))


def test_every_feature_is_taken_in_proportion_to_its_weight():
    """Over many draws a feature is in the sample as often as its weight says."""
    weight_N = np.array([1.0, 2.0, 3.0, 4.0, 30.0] * 4)
    random, taken_N = np.random.default_rng(0), np.zeros(20)
    for _ in range(2000):
        taken_N[thinned(weight_N, 8, random)[0]] += 1
    np.testing.assert_allclose(taken_N / 2000, np.array([0.1, 0.2, 0.3, 0.4, 1.0] * 4), atol=0.05)


@pytest.mark.parametrize(("draws", "within"), [(1000, 0.04), pytest.param(4000, 0.02, marks=pytest.mark.slow)])
def test_draws_are_those_of_one_by_one(draws, within):
    """Pairs of codewords come with the probabilities of k-means++, though candidates are drawn many at a time."""
    vectors_MD = np.array([[0, 0], [1, 0], [0, 2], [4, 4]], np.float32)
    weight_M = np.array([4.0, 2.0, 1.0, 1.0])
    far_MM = ((vectors_MD[:, None].astype(float) - vectors_MD) ** 2).sum(2)
    counted_MM, random = np.zeros((4, 4, 4)), np.random.default_rng(0)
    for _ in range(draws):
        found_KD = drawn(vectors_MD, weight_M, NONE_KD, 3, random)
        counted_MM[tuple((found_KD[:, None] == vectors_MD).all(2).argmax(1))] += 1
    wanted_MM = np.zeros((4, 4, 4))
    for first in range(4):
        second_M = weight_M * far_MM[first] / (weight_M @ far_MM[first])
        for second in np.flatnonzero(second_M):
            left_M = weight_M * np.minimum(far_MM[first], far_MM[second])
            wanted_MM[first, second] = weight_M[first] / 8 * second_M[second] * left_M / left_M.sum()
    np.testing.assert_allclose(counted_MM / draws, wanted_MM, atol=within)


def test_candidates_of_one_round_are_drawn_as_one_by_one():
    """With all but a few clusters covered, rounds of many candidates still find each cluster left, once."""
    random = np.random.default_rng(0)
    centres_KD = np.array([(x, y) for x in range(0, 200, 10) for y in range(0, 200, 10)], np.float32)
    vectors_MD = np.repeat(centres_KD, 50, axis=0) + random.normal(0, 0.01, (20_000, 2)).astype(np.float32)
    found_KD = drawn(vectors_MD, np.ones(20_000), centres_KD[:380], 400, random)
    assert found_KD[:380].tolist() == centres_KD[:380].tolist()
    nearest = ((found_KD[380:, None] - centres_KD[380:]) ** 2).sum(2).argmin(1)
    assert sorted(nearest.tolist()) == list(range(20))


def test_no_vector_is_drawn_twice():
    """Draws end when every distinct vector is a codeword, although equal vectors seem a little apart after rounding."""
    distinct_KD = np.random.default_rng(0).normal(size=(30, 7)).astype(np.float32) * 100
    vectors_MD, random = np.tile(distinct_KD, (40, 1)), np.random.default_rng(1)
    found_KD = drawn(vectors_MD, np.ones(1200), distinct_KD[:0], 200, random)
    assert sorted(found_KD.tolist()) == sorted(distinct_KD.tolist())
