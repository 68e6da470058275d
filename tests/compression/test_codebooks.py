"""Codebooks laid end to end, and how their codewords carry over from hour to hour."""

import numpy as np

from saec.compression.codebooks import Centroids, Codebooks, Succession
from saec.compression.places import places


def points(*values):
    """Vectors of two equal numbers."""
    return np.repeat(np.array(values, np.float32).reshape(-1, 1), 2, axis=1)


def three_fields(first=(1, 5), last=(2,)):
    """Clusters of the first and the last field; the field between has none."""
    return Centroids.joined([points(*first), points(), points(*last)])


def test_fields_lie_end_to_end_each_behind_its_default():
    """Every field starts at its default codeword and that of newcomers, then come its clusters, if it has any."""
    centroids = three_fields()
    assert [centroids.of(field)[:, 0].tolist() for field in range(3)] == [[1, 5], [], [2]]
    assert centroids.starts_F.tolist() == [0, 4, 6]
    assert centroids.codewords == 9
    assert centroids.laid_out()[:, 0].tolist() == [0, 0, 1, 5, 0, 0, 0, 0, 2]


def test_no_clusters_yet_are_two_codewords_a_field():
    """Before the first clustering there are the default and the newcomers' codeword, and every code is the default."""
    centroids = Centroids.empty(3, 2)
    assert centroids.starts_F.tolist() == [0, 2, 4]
    assert centroids.codewords == 6
    assert centroids.laid_out().tolist() == [[0, 0]] * 6
    assert centroids.codes(points(7, 8), np.array([0, 2])).tolist() == [0, 0]


def test_codes_count_from_two_within_the_field():
    """A vector gets the nearest cluster of its own field, counted from 2; 0 where the field has no clusters."""
    codes_N = three_fields().codes(points(5, 1, 5, 5), np.array([0, 0, 1, 2]))
    assert codes_N.tolist() == [3, 2, 0, 2]
    assert codes_N.dtype == np.int16


def test_more_clusters_than_a_byte_counts_fit_the_codes_type():
    """The 4,095th cluster, the last that can be asked for, has code 4,096."""
    centroids = Centroids.joined([points(*range(4095))])
    assert centroids.codes(points(4094, 0), np.zeros(2, np.int64)).tolist() == [4096, 2]


def test_places_count_over_all_fields():
    """A code's place is its field's start plus itself; padding has none."""
    codes_BS = np.array([[3, 0, 2, -1], [1, 1, 1, 2]], np.int16)
    assert places(codes_BS, np.array([2, 0, 1]), (0, 1, 2, 2)).tolist() == [[3, 4, 8, -1], [1, 5, 7, 8]]


def test_codewords_start_at_their_centroids():
    """Those of the tail and of newcomers start at the original's default rows, with no gradients behind any."""
    codebooks = Codebooks.start(points(-1, -2, -3), three_fields())
    assert codebooks.vectors_TD[:, 0].tolist() == [-1, -1, 1, 5, -2, -2, -3, -3, 2]
    assert codebooks.squares_T.tolist() == [0] * 9


def retrained(before):
    """Codewords that retraining has shifted.

    Clusters of the first field by 10 and 20, the last one's by 100, default codewords by 10, 100 and 100, those of
    newcomers by 1, 2 and 3.
    """
    start = Codebooks.start(points(-1, -2, -3), before)
    shifts = points(10, 1, 10, 20, 100, 2, 100, 3, 100)
    return Codebooks(start.vectors_TD + shifts, np.arange(1, 10, dtype=np.float32))


def succession(before, now, features):
    """The succession over features given as (field, old code, new code, frequency, vector now)."""
    fields, old, new, frequency, vectors = zip(*features, strict=True)
    return Succession.of(
        before,
        now,
        np.array(old, np.int16),
        np.array(new, np.int16),
        np.array(fields),
        np.array(frequency, np.float32),
        points(*vectors),
    )


def test_codewords_stay_as_retrained_where_no_feature_changes_its_code():
    """However vectors and centroids moved, the same features keep the codeword and sum that retraining gave them."""
    before, now = three_fields(), three_fields(first=(1.5, 4.5), last=(3,))
    same = succession(before, now, [(0, 2, 2, 2, 1.4), (0, 2, 2, 6, 1.8), (0, 3, 3, 1, 4.5), (2, 2, 2, 1, 3)])
    followed = retrained(before).succeeded(same, now)
    assert np.allclose(followed.vectors_TD, retrained(before).vectors_TD)
    assert np.allclose(followed.squares_T, retrained(before).squares_T)


def test_codewords_follow_features_that_change_their_codes():
    """When two clusters swap their numbers, their codewords swap places."""
    before, now = three_fields(), three_fields(first=(5, 1))
    swapped = succession(before, now, [(0, 2, 3, 3, 1), (0, 3, 2, 3, 5), (2, 2, 2, 1, 2)])
    followed = retrained(before).succeeded(swapped, now)
    assert followed.vectors_TD[:, 0].tolist() == [9, 0, 25, 11, 98, 0, 97, 0, 102]
    assert followed.squares_T.tolist() == [1, 2, 4, 3, 5, 6, 7, 8, 9]


def test_a_codeword_is_the_weighted_mean_of_its_features():
    """Two clusters that become one: mean vector plus mean of what was learnt (10 and 20), weighted 3 to 1."""
    before, now = three_fields(), three_fields(first=(2,))
    merged = succession(before, now, [(0, 2, 2, 3, 1), (0, 3, 2, 1, 5), (2, 2, 2, 1, 2)])
    followed = retrained(before).succeeded(merged, now)
    assert followed.vectors_TD[:, 0].tolist() == [9, 0, 2 + 12.5, 98, 0, 97, 0, 102]
    assert followed.squares_T.tolist() == [1, 2, 3.25, 5, 6, 7, 8, 9]


def test_a_split_cluster_passes_on_what_it_learnt():
    """One cluster that becomes two: each at its own features' mean, shifted as the old codeword was from theirs."""
    before, now = three_fields(), three_fields(first=(0, 2, 5))
    split = succession(before, now, [(0, 2, 2, 1, 0), (0, 2, 3, 1, 2), (0, 3, 4, 1, 5), (2, 2, 2, 1, 2)])
    followed = retrained(before).succeeded(split, now)
    assert followed.vectors_TD[:, 0].tolist() == [9, 0, 0 + 10, 2 + 10, 25, 98, 0, 97, 0, 102]


def test_first_clusters_of_a_field_start_at_their_features():
    """What was on the default codeword brings its own vector and none of what the default codeword learnt."""
    before, now = three_fields(), Centroids.joined([points(1, 5), points(8), points(2)])
    first = succession(before, now, [(0, 2, 2, 1, 1), (0, 3, 3, 1, 5), (1, 0, 2, 1, 8), (2, 2, 2, 1, 2)])
    followed = retrained(before).succeeded(first, now)
    assert followed.vectors_TD[:, 0].tolist() == [9, 0, 11, 25, 98, 0, 8, 97, 0, 102]


def test_newcomers_that_got_a_row_bring_only_their_vector():
    """What the newcomers' codeword learnt is of all newcomers: it stays there, whoever leaves it for a cluster."""
    before, now = three_fields(), three_fields(first=(1, 5, 9))
    grown = succession(before, now, [(0, 2, 2, 1, 1), (0, 3, 3, 1, 5), (0, 1, 4, 1, 9), (2, 2, 2, 1, 2)])
    followed = retrained(before).succeeded(grown, now)
    assert followed.vectors_TD[:, 0].tolist() == [9, 0, 11, 25, 9, 98, 0, 97, 0, 102]


def test_a_codeword_without_features_is_its_centroid():
    """Nothing uses it, so nothing is passed on to it."""
    before, now = three_fields(), three_fields(first=(1, 5, 7))
    unused = succession(before, now, [(0, 2, 2, 1, 1), (0, 3, 3, 1, 5), (2, 2, 2, 1, 2)])
    followed = retrained(before).succeeded(unused, now)
    assert followed.vectors_TD[4, 0] == 7
    assert followed.squares_T[4] == 0
