"""The clustering benchmark measures what it says, on features small enough to check by hand."""

import numpy as np
import pytest

from benchmarks.clustering import SIZES, TARGETS_AT, Features, asked, compare, relative_error, targets


def test_the_head_carries_four_fifths_of_the_impressions():
    """The head is the fewest features with 80% of the frequency, all more frequent than the tail."""
    features = Features.planted(5000, 10)
    in_head_N = np.isin(np.arange(5000), features.head)
    share = features.frequency_N[in_head_N].sum() / features.frequency_N.sum()
    assert 0.8 > share > 0.79
    assert features.frequency_N[in_head_N].min() > features.frequency_N[~in_head_N].max()


def test_the_relative_error_is_one_at_the_mean_and_zero_at_the_vectors():
    """One codeword at the weighted mean explains nothing, a codeword for each vector everything."""
    vectors_ND = np.array([[0, 0], [4, 0], [0, 2]], np.float32)
    frequency_N = np.array([2, 1, 1], np.float32)
    mean_1D = np.array([[1.0, 0.5]], np.float32)
    assert relative_error(vectors_ND, frequency_N, mean_1D, np.zeros(3, np.int64)) == pytest.approx(1.0)
    assert relative_error(vectors_ND, frequency_N, vectors_ND, np.arange(3)) == 0.0


def test_peers_beyond_the_limit_are_extrapolated_and_called_so(capsys):
    """A peer whose seconds at the size before forbid it is not run; its figures and ratios say so."""
    figures, cost = compare(3000, 20, {"scikit-learn Lloyd on all": 0.1})
    value = {name: figure for name, figure, _ in figures}
    assert value["scikit-learn Lloyd on all: clustering and coding (extrapolated)"] == pytest.approx(0.1 * 3000 * 20)
    assert "scikit-learn Lloyd on all: clustering" not in value
    assert "saec cold over scikit-learn Lloyd on all (extrapolated)" in value
    assert "saec cold over faiss on all" in value
    assert cost["scikit-learn Lloyd on all"] == 0.1


def test_everybody_is_compared_on_the_same_rows():
    """Ours on all stands beside peers on all; ours on the head, as in production, beside peers on either."""
    figures, _ = compare(3000, 20, {})
    value = {name: figure for name, figure, _ in figures}
    assert (
        value["saec cold on all: relative error, all"]
        < value["saec cold: relative error, all, tail on its default codeword"]
    )
    assert value["saec cold on all: relative error, all"] <= 1.1 * value["faiss on all: relative error, all"]
    assert {"saec cold on all over faiss on all", "saec cold over faiss on the head"} <= value.keys()
    assert "saec cold on all over faiss on the head" not in value
    assert value["saec warm on all over saec cold on all"] > 0


def test_quick_is_the_smallest_size_alone():
    """Argparse gave a positional's default precedence over the flag: `--quick` ran all sizes."""
    assert asked(["--quick"])[0] == [min(SIZES)]
    assert asked([])[0] == list(SIZES)
    assert asked(["1000000", "--limit", "5"]) == ([1_000_000], 5.0)


def test_targets_are_those_of_a_million_features():
    """Times faster than faiss and scikit-learn, warm over cold, and an error no worse than either's."""
    figures = [
        ("saec cold over faiss on all", 19.0, ""),
        ("saec cold over scikit-learn Lloyd on all", 101.0, ""),
        ("saec warm over saec cold", 6.0, ""),
        ("saec cold: relative error, head", 0.02, ""),
        ("faiss on all: relative error, head", 0.03, ""),
        ("scikit-learn Lloyd on all: relative error, head", 0.04, ""),
    ]
    held = {name: holds for name, (_, holds) in targets(figures, TARGETS_AT).items()}
    assert held == {
        "saec cold over faiss on all": False,
        "saec cold over scikit-learn Lloyd on all": True,
        "saec warm over saec cold": True,
        "saec cold: relative error, head": True,
    }
    assert targets(figures, 100_000) == {}
    measured = [figure for figure in figures if "Lloyd" not in figure[0]]
    assert targets(measured, TARGETS_AT).keys() == held.keys() - {"saec cold over scikit-learn Lloyd on all"}
