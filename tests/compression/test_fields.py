"""Clusters of all fields: moved along or drawn anew, the same on any number of threads, with figures by hand."""

import numpy as np
import pytest

from saec.compression import field as field_module
from saec.compression.codebooks import Centroids
from saec.compression.field import REBUILD
from saec.compression.fields import cluster_fields
from saec.compression.places import CLUSTERS, DEFAULT

NEVER = np.full(3, np.inf)


def points(*values):
    """Vectors of four equal numbers."""
    return np.repeat(np.array(values, np.float32).reshape(-1, 1), 4, axis=1)


def clustered(config, told, codewords, before=None, drawn=NEVER, old_codes=None):
    """The clusters of features given as (field, value, frequency)."""
    fields, values, weights = zip(*told, strict=True) if told else ((), (), ())
    before = Centroids.empty(3, 4) if before is None else before
    old_codes = np.full(len(fields), DEFAULT) if old_codes is None else old_codes
    return cluster_fields(
        config,
        points(*values),
        np.array(fields, np.int64),
        np.array(weights, np.float32),
        before,
        np.array(drawn, np.float64),
        codewords,
        np.array(old_codes, np.int16),
    )


def blobs(count, seed=0):
    """Features of three fields around eight centres each, with heavy-tailed frequencies."""
    rng = np.random.default_rng(seed)
    fields_H = rng.integers(0, 3, count)
    vectors_HD = (rng.normal(size=(3, 8, 4))[fields_H, rng.integers(0, 8, count)] * 5).astype(np.float32)
    return vectors_HD + rng.normal(0, 0.1, (count, 4)).astype(np.float32), fields_H, rng.pareto(1, count) + 1


def of_blobs(config, blobs, before, drawn=NEVER, old_codes=None, codewords=7):
    vectors_HD, fields_H, weights_H = blobs
    old_codes = np.full(len(fields_H), DEFAULT, np.int16) if old_codes is None else old_codes
    return cluster_fields(
        config, vectors_HD, fields_H, weights_H.astype(np.float32), before, drawn, codewords, old_codes
    )


def test_figures_by_hand(click_hours):
    """Field 0: 0 and 2 share a cluster, 10 has one; field 1: two clusters without error; field 2: one feature."""
    told = [(0, 0, 1), (1, 5, 1), (0, 2, 1), (0, 10, 3), (1, 5, 1), (1, 7, 6), (2, 9, 4)]
    found = clustered(click_hours.config(), told, 2)
    figures = {name: values_F.tolist() for name, values_F in found.figures_F.items()}
    # The weighted mean of field 0 is 32 / 5 = 6.4; each vector has four numbers, which cancel out.
    spread = 6.4**2 + 4.4**2 + 3 * 3.6**2
    assert figures == {
        "head": [3, 3, 1],
        "clusters": [2, 2, 1],
        "used": [2, 2, 1],
        "largest_share": pytest.approx([3 / 5, 6 / 8, 1.0]),
        "error": pytest.approx([2 / spread, 0.0, 0.0]),
        "drift": [0, 0, 0],
        "rebuilt": [True, True, True],
    }
    assert sorted(found.centroids.of(0)[:, 0].tolist()) == [1, 10]
    assert found.drawn_errors_F.tolist() == found.figures_F["error"].tolist()
    codes = found.codes_H.tolist()
    assert found.codes_H.dtype == np.int16
    assert codes[0] == codes[2] != codes[3]
    assert {codes[0], codes[3]} == {codes[1], codes[5]} == {CLUSTERS, CLUSTERS + 1}
    assert codes[6] == CLUSTERS


def test_clusters_move_along(click_hours):
    """Features that moved a little keep their clusters' numbers; drift is the way over the spread of the clusters."""
    before = Centroids.joined([points(10, 1), points(), points()])
    told = [(0, 0, 1), (0, 2, 1), (0, 12, 3)]
    found = clustered(click_hours.config(), told, 2, before, drawn=[0.1, np.inf, np.inf])
    assert found.centroids.of(0)[:, 0].tolist() == [12, 1]
    assert found.codes_H.tolist() == [3, 3, 2]
    # One of two centroids moved by 2; both lie 5.5 from their mean.
    assert found.figures_F["drift"].tolist() == pytest.approx([np.sqrt((4 / 2) / 5.5**2), 0, 0])
    assert found.figures_F["rebuilt"].tolist() == [False] * 3
    assert found.drawn_errors_F.tolist() == [0.1, np.inf, np.inf]


@pytest.mark.parametrize(("moved", "anew", "wanted"), [((0, 10), (1, 10), (1, 10)), ((1, 10), (0, 9), (1, 10))])
def test_aged_clusters_are_drawn_anew_and_the_better_kept(click_hours, monkeypatch, moved, anew, wanted):
    """Beyond twice the error of their drawing, clusters are drawn from nothing; either way their age starts again."""
    starts = []

    def cluster(vectors_HD, weights_H, codewords, *, start_KD, **options):
        starts.append(start_KD is not None)
        return points(*(moved if start_KD is not None else anew))

    monkeypatch.setitem(field_module.CLUSTERERS, "saec", cluster)
    before = Centroids.joined([points(5, 6), points(), points()])
    told = [(0, 0, 1), (0, 2, 1), (0, 10, 1)]
    errors = {(1, 10): 2 / 56, (0, 10): 4 / 56, (0, 9): 5 / 56}
    limit = errors[moved] / REBUILD
    for drawn, rebuilt in ((1.01 * limit, False), (0.99 * limit, True)):
        starts.clear()
        found = clustered(click_hours.config(), told, 2, before, drawn=[drawn, np.inf, np.inf])
        assert starts == [True, False][: 1 + rebuilt]
        assert found.figures_F["rebuilt"].tolist() == [rebuilt, False, False]
        kept = wanted if rebuilt else moved
        assert found.centroids.of(0)[:, 0].tolist() == list(kept)
        assert found.figures_F["error"][0] == pytest.approx(errors[kept])
        assert found.drawn_errors_F[0] == pytest.approx(errors[kept] if rebuilt else drawn)


def by(click_hours, clusterer, threads=1):
    """Settings by which this engine clusters, on so many threads."""
    config = click_hours.config()
    compression = config.compression.model_copy(update={"clusterer": clusterer})
    return config.model_copy(update={"threads": threads, "compression": compression})


@pytest.mark.parametrize("clusterer", field_module.CLUSTERERS)
def test_the_same_on_one_thread_and_on_two(click_hours, clusterer):
    """To the bit."""
    one, two = by(click_hours, clusterer, 1), by(click_hours, clusterer, 2)
    before = of_blobs(one, blobs(900), Centroids.empty(3, 4))
    for start, drawn in ((Centroids.empty(3, 4), NEVER), (before.centroids, before.drawn_errors_F)):
        found, again = (of_blobs(config, blobs(900, seed=1), start, drawn) for config in (one, two))
        assert found.codes_H.tobytes() == again.codes_H.tobytes()
        assert found.centroids.vectors_CD.tobytes() == again.centroids.vectors_CD.tobytes()
        assert all(again.figures_F[name].tobytes() == array.tobytes() for name, array in found.figures_F.items())


@pytest.mark.parametrize("codewords", [1, 2, 3, 7, 15])
def test_scikit_learn_stands_behind_the_same_interface(click_hours, codewords):
    """Cold and warm, its clusters are other ones and ours are no worse; too few vectors are each their own."""
    ours, theirs = by(click_hours, "saec"), by(click_hours, "scikit-learn")
    cold, yardstick = (
        of_blobs(config, blobs(900), Centroids.empty(3, 4), codewords=codewords) for config in (ours, theirs)
    )
    assert yardstick.centroids.counts_F.tolist() == cold.centroids.counts_F.tolist() == [codewords] * 3
    assert cold.figures_F["error"].mean() <= 1.05 * yardstick.figures_F["error"].mean()
    if codewords > 2:
        assert yardstick.centroids.vectors_CD.tobytes() != cold.centroids.vectors_CD.tobytes()
    warm = of_blobs(theirs, blobs(900), yardstick.centroids, yardstick.drawn_errors_F, codewords=codewords)
    assert np.abs(warm.figures_F["drift"]).max() < 0.1
    few = clustered(theirs, [(0, 0, 1), (0, 2, 1), (1, 4, 1)], codewords=3)
    assert few.centroids.counts_F.tolist() == [2, 1, 0]


@pytest.mark.parametrize("codewords", [3, 7, 15])
def test_old_codes_change_nothing(click_hours, codewords):
    """Right, wrong or none, they only save time; also where there are fewer or more clusters than before."""
    config = click_hours.config()
    before = of_blobs(config, blobs(900), Centroids.empty(3, 4))
    right = before.centroids.codes(*blobs(900)[:2])
    wrong = np.random.default_rng(0).integers(0, 9, 900).astype(np.int16)
    found, *others = (
        of_blobs(config, blobs(900), before.centroids, before.drawn_errors_F, old, codewords)
        for old in (None, right, wrong)
    )
    for other in others:
        assert np.array_equal(other.codes_H, found.codes_H)
        assert np.array_equal(other.centroids.vectors_CD, found.centroids.vectors_CD)


def test_fields_have_clusters_of_their_own(click_hours):
    """Each field comes to the same clusters, alone or beside others."""
    config = click_hours.config()
    vectors_HD, fields_H, weights_H = blobs(900)
    found = of_blobs(config, (vectors_HD, fields_H, weights_H), Centroids.empty(3, 4))
    for field in range(3):
        mine = fields_H == field
        alone = of_blobs(config, (vectors_HD[mine], fields_H[mine], weights_H[mine]), Centroids.empty(3, 4))
        assert np.array_equal(alone.centroids.of(field), found.centroids.of(field))
        assert np.array_equal(alone.codes_H, found.codes_H[mine])


def test_a_field_without_a_head_has_no_clusters(click_hours):
    """Its clusters are gone, its figures are 0, and what is remembered of their drawing stays."""
    before = Centroids.joined([points(1, 2), points(3), points()])
    found = clustered(click_hours.config(), [(1, 3, 1)], 2, before, drawn=[0.5, 0.25, np.inf])
    assert found.centroids.counts_F.tolist() == [0, 1, 0]
    assert found.drawn_errors_F[[0, 2]].tolist() == [0.5, np.inf]
    for name, values_F in found.figures_F.items():
        assert values_F[[0, 2]].tolist() == [0, 0], name


def test_no_head_at_all(click_hours):
    """Not one feature: no clusters, no codes, no complaint."""
    found = clustered(click_hours.config(), [], 2)
    assert (found.centroids.counts_F.tolist(), len(found.codes_H)) == ([0, 0, 0], 0)
    assert found.centroids.vectors_CD.shape == (0, 4)


def test_features_all_alike(click_hours):
    """One cluster without error, though drawn errors of 0 would call any error old."""
    before = Centroids.joined([points(4), points(), points()])
    found = clustered(click_hours.config(), [(0, 4, 1)] * 5, 3, before, drawn=[0.0, np.inf, np.inf])
    assert found.codes_H.tolist() == [2] * 5
    assert (found.figures_F["error"][0], found.figures_F["drift"][0]) == (0.0, 0.0)


@pytest.mark.parametrize("frequency", [0.0, 1e-44, 1e30])
def test_figures_are_finite_for_any_frequency(click_hours, frequency):
    """Frequencies that have faded to nothing, or are huge, leave numbers in the record."""
    found = clustered(click_hours.config(), [(0, value, frequency) for value in (0, 2, 10)], 2)
    assert all(np.isfinite(values_F).all() for values_F in found.figures_F.values())
    assert 0.0 < found.figures_F["largest_share"][0] <= 1.0
