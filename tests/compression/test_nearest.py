"""The nearest codeword is found as by brute force, in blocks or whole, with a guess or without."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from saec.compression import nearest
from saec.compression.nearest import BLOCK, assign, nearest_other
from tests.properties import examples

CENTRES_KD = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10], [-10, -10, 0]], np.float32)
GRID = arrays(np.float32, st.tuples(st.integers(1, 40), st.just(2)), elements=st.integers(-3, 3).map(float))
"""Vectors of small whole numbers: every distance is exact, and many are equal."""


@settings(max_examples=examples(60), deadline=None)
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


def test_any_part_gives_the_codes_of_the_whole():
    """Vectors half-way between two codewords, where rounding decides, get one code, alone or among any others."""
    rng = np.random.default_rng(3)
    centroids_KD = 10.0 + rng.normal(size=(255, 16)).astype(np.float32)
    pairs_N2 = rng.integers(0, 255, (BLOCK + 77, 2))
    vectors_ND = centroids_KD[pairs_N2].mean(1)
    codes_N, errors_N = assign(vectors_ND, centroids_KD)
    for part in (*(slice(row, row + 1 + row % 5) for row in range(200)), slice(40, 140), slice(BLOCK - 1, BLOCK + 77)):
        codes_M, errors_M = assign(vectors_ND[part], centroids_KD)
        assert codes_M.tolist() == codes_N[part].tolist()
        assert errors_M.tolist() == errors_N[part].tolist()


@settings(max_examples=examples(80), deadline=None)
@given(GRID, GRID, st.randoms(use_true_random=False))
def test_a_guess_changes_nothing(vectors_ND, centroids_KD, random):
    """Whatever the guess, right, wrong or missing, codes and errors are those without; many distances are equal."""
    guess_N = np.array([random.randrange(-1, len(centroids_KD)) for _ in vectors_ND])
    codes_N, errors_N = assign(vectors_ND, centroids_KD)
    for guessed_N in (guess_N, codes_N):
        again_N, errors_again_N = assign(vectors_ND, centroids_KD, guessed_N)
        assert again_N.tolist() == codes_N.tolist()
        assert errors_again_N.tolist() == errors_N.tolist()


def test_a_good_guess_spares_the_search(monkeypatch):
    """Of features in far clusters whose last code still holds, none is searched for; a wrong guess is."""
    rng = np.random.default_rng(0)
    labels_N = rng.integers(0, 5, 1000)
    vectors_ND = (CENTRES_KD[labels_N] + rng.normal(0, 0.1, (1000, 3))).astype(np.float32)
    guess_N = labels_N.copy()
    guess_N[:3] = (labels_N[:3] + 1) % 5
    searched = []
    search = nearest._search
    monkeypatch.setattr(nearest, "_search", lambda *args: searched.append(len(args[0])) or search(*args))
    assert assign(vectors_ND, CENTRES_KD, guess_N)[0].tolist() == labels_N.tolist()
    assert searched == [5, 3]  # codewords among themselves, then the wrong guesses


def test_thousands_of_codewords_are_searched_in_smaller_blocks(monkeypatch):
    """However few rows fit at once, codes are the same."""
    rng = np.random.default_rng(0)
    vectors_ND, centroids_KD = np.split(rng.normal(size=(800, 8)).astype(np.float32), [500])
    codes_N, _ = assign(vectors_ND, centroids_KD)
    monkeypatch.setattr(nearest, "_DISTANCES", 300 * 40)
    assert assign(vectors_ND, centroids_KD)[0].tolist() == codes_N.tolist()


@settings(max_examples=examples(60), deadline=None)
@given(GRID)
def test_the_nearest_other_codeword_is_never_itself(centroids_KD):
    """Each codeword's neighbour is the nearest of the others, at distance zero if it is equal; alone it has none."""
    neighbour_K, gap_K = nearest_other(centroids_KD)
    squared_KK = ((centroids_KD[:, None] - centroids_KD) ** 2).sum(2)
    np.fill_diagonal(squared_KK, np.inf)
    assert gap_K.tolist() == squared_KK.min(1).tolist()
    assert len(centroids_KD) == 1 or (neighbour_K != np.arange(len(centroids_KD))).all()
