"""Codebooks laid end to end, and how their codewords live on from hour to hour."""

import numpy as np

from saec.compress.codebooks import Centroids, Codebooks


def points(*values):
    """Vectors of two equal numbers."""
    return np.repeat(np.array(values, np.float32).reshape(-1, 1), 2, axis=1)


def three_fields(first=(1, 5), last=(2,)):
    """Clusters of the first and the last field; the field between has none."""
    return Centroids.joined([points(*first), points(), points(*last)])


def test_fields_lie_end_to_end_each_behind_its_default():
    """Every field starts at its default codeword, then come its clusters, if it has any."""
    centroids = three_fields()
    assert [centroids.of(field)[:, 0].tolist() for field in range(3)] == [[1, 5], [], [2]]
    assert centroids.starts_F.tolist() == [0, 3, 4]
    assert centroids.codewords == 6


def test_no_clusters_yet_are_default_codewords_only():
    """Before the first clustering there is one codeword a field, and every code is 0."""
    centroids = Centroids.empty(3, 2)
    assert centroids.starts_F.tolist() == [0, 1, 2]
    assert centroids.codewords == 3
    assert centroids.codes(points(7, 8), np.array([0, 2])).tolist() == [0, 0]


def test_codes_count_from_one_within_the_field():
    """A vector gets the nearest codeword of its own field, counted from 1; 0 where the field has no clusters."""
    codes_N = three_fields().codes(points(5, 1, 5, 5), np.array([0, 0, 1, 2]))
    assert codes_N.tolist() == [2, 1, 0, 1]
    assert codes_N.dtype == np.uint8


def test_a_full_codebook_fits_the_codes_type():
    """The 255th codeword has code 255."""
    centroids = Centroids.joined([points(*range(255))])
    assert centroids.codes(points(254, 0), np.zeros(2, np.int64)).tolist() == [255, 1]


def test_codewords_start_at_their_centroids():
    """The first codewords are the original's default rows and the centroids, with no gradients behind them."""
    codebooks = Codebooks.start(points(-1, -2, -3), three_fields())
    assert codebooks.vectors_TD[:, 0].tolist() == [-1, 1, 5, -2, -3, 2]
    assert codebooks.squares_T.tolist() == [0] * 6


def retrained(before):
    """Codewords that retraining has shifted: those of the first field by 10, by 20 for its second, others by 100."""
    start = Codebooks.start(points(-1, -2, -3), before)
    shifts = points(10, 10, 20, 100, 100, 100)
    return Codebooks(start.vectors_TD + shifts, np.arange(1, 7, dtype=np.float32))


def test_kept_codes_keep_their_codewords():
    """However the centroids moved, code k keeps the codeword and the Adagrad sum that retraining gave it."""
    before = three_fields()
    codebooks = retrained(before)
    carried = codebooks.carried(before, three_fields(first=(1.5, 4.5), last=(3,)))
    assert np.array_equal(carried.vectors_TD, codebooks.vectors_TD)
    assert np.array_equal(carried.squares_T, codebooks.squares_T)


def test_an_added_codeword_is_shifted_as_its_nearest_was():
    """It starts at its centroid plus what retraining has added to the nearest older codeword, without gradients."""
    before = three_fields()
    carried = retrained(before).carried(before, three_fields(first=(1, 5, 4, 0), last=(2,)))
    assert carried.vectors_TD[:, 0].tolist() == [9, 11, 25, 4 + 20, 0 + 10, 98, 97, 102]
    assert carried.squares_T.tolist() == [1, 2, 3, 0, 0, 4, 5, 6]


def test_first_clusters_of_a_field_start_at_their_centroids():
    """A field that had only its default codeword gets its first clusters where they are."""
    before = three_fields()
    now = Centroids.joined([points(1, 5), points(8), points(2)])
    carried = retrained(before).carried(before, now)
    assert carried.vectors_TD[:, 0].tolist() == [9, 11, 25, 98, 8, 97, 102]


def test_a_shorter_codebook_drops_its_last_codewords():
    """Where fewer clusters are left, the codes that are left keep theirs."""
    before = three_fields()
    carried = retrained(before).carried(before, three_fields(first=(1,)))
    assert carried.vectors_TD[:, 0].tolist() == [9, 11, 98, 97, 102]


def test_cutting_to_a_count_drops_the_last_clusters():
    """Fields keep their first clusters, as many as given; those with fewer keep all."""
    cut = three_fields().at_most(np.array([1, 4, 4]))
    assert [cut.of(field)[:, 0].tolist() for field in range(3)] == [[1], [], [2]]
