"""The clusterer where scikit-learn's KMeans goes: its checks, pipelines, searches, clones; clusters within fields."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from saec.compression.estimator import FieldKMeans

EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "starts are drawn from the samples, so leaving one out or repeating it draws others; KMeans of scikit-learn is "
        "excepted for the same reason"
    )
}
"""Checks of scikit-learn that do not apply, with the reason."""


def blobs(groups=4, rows=200, seed=0):
    """Samples in groups that are far apart, and the group of each."""
    random = np.random.default_rng(seed)
    group = np.arange(rows) % groups
    return 10 * np.eye(groups, 5)[group] + 0.1 * random.normal(size=(rows, 5)), group


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks_pass():
    """All of `check_estimator`, the exceptions by name; one that begins to pass is no exception any more."""
    done = check_estimator(FieldKMeans(), expected_failed_checks=EXPECTED, on_skip=None)
    statuses = {check["check_name"]: check["status"] for check in done}
    assert {name for name, status in statuses.items() if status not in {"passed", "skipped"}} == set(EXPECTED)
    assert len(statuses) > 40


def test_planted_groups_are_found():
    """One cluster a group, and its centre is the group's mean."""
    samples, group = blobs()
    model = FieldKMeans(4, random_state=0).fit(samples)
    assert len({(label, of) for label, of in zip(model.labels_, group, strict=True)}) == 4
    assert np.allclose(model.cluster_centers_[model.labels_[0]], samples[group == 0].mean(0), atol=1e-5)
    assert np.array_equal(model.predict(samples), model.labels_)


def test_as_near_as_kmeans():
    """The sum of squared distances is that of scikit-learn's own, within 5%, on data without groups."""
    samples = np.random.default_rng(1).normal(size=(2000, 4))
    ours, theirs = FieldKMeans(30, random_state=0).fit(samples), KMeans(30, n_init=1, random_state=0).fit(samples)
    assert ours.inertia_ < 1.05 * theirs.inertia_
    assert ours.score(samples) == pytest.approx(-ours.inertia_)


def test_a_field_clusters_as_it_would_alone():
    """What other fields hold changes nothing but where a field's clusters lie and its seed."""
    samples, _ = blobs()
    fields = np.repeat(["b", "a"], 100)
    model = FieldKMeans(4, random_state=0).fit(samples, fields=fields)
    assert model.fields_.tolist() == ["a", "b"]
    assert model.field_starts_.tolist() == [0, 4, 8]
    assert set(model.labels_[fields == "a"]) == {0, 1, 2, 3}
    for field, start in (("a", 0), ("b", 4)):
        alone = FieldKMeans(4, random_state=0).fit(samples[fields == field])
        own = model.cluster_centers_[start : start + 4]
        assert np.allclose(np.sort(own, axis=0), np.sort(alone.cluster_centers_, axis=0), atol=1e-5)


def test_distances_are_to_clusters_of_the_own_field():
    """The nearest is the label; clusters of another field are infinitely far."""
    samples, _ = blobs()
    fields = np.arange(200) % 2
    model = FieldKMeans(3, random_state=0).fit(samples, fields=fields)
    distances = model.transform(samples, fields)
    assert np.array_equal(distances.argmin(1), model.predict(samples, fields))
    assert np.isinf(distances[fields == 0, 3:]).all()
    assert np.isinf(distances[fields == 1, :3]).all()
    assert model.get_feature_names_out()[:2].tolist() == ["fieldkmeans0", "fieldkmeans1"]


def test_weights_count():
    """A heavy sample draws its cluster's centre; one without weight has no say, but a label."""
    model = FieldKMeans(1).fit([[0.0], [3.0], [100.0]], sample_weight=[2, 1, 0])
    assert model.cluster_centers_.tolist() == [[1.0]]
    assert model.labels_.tolist() == [0, 0, 0]
    assert model.inertia_ == 2 * 1 + 4


def test_it_clones_and_its_users_may_pickle_it():
    """Parameters go along; a pickled model predicts as before."""
    samples, _ = blobs()
    model = FieldKMeans(5, random_state=3).fit(samples)
    assert clone(model).get_params() == {"n_clusters": 5, "random_state": 3}
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(samples), model.labels_)


def test_it_goes_into_pipelines_and_searches():
    """Where KMeans makes features, and where the number of clusters is searched for."""
    samples, group = blobs()
    features = make_pipeline(StandardScaler(), FieldKMeans(4, random_state=0), LogisticRegression())
    assert features.fit(samples, group).score(samples, group) == 1.0
    found = GridSearchCV(FieldKMeans(random_state=0), {"n_clusters": [1, 4]}, cv=3).fit(samples)
    assert found.best_params_ == {"n_clusters": 4}


def test_fields_are_routed_through_pipelines_and_searches():
    """With scikit-learn's metadata routing, fields and weights reach fit and score."""
    samples, _ = blobs()
    fields = np.repeat(["user", "item"], 100)
    with sklearn.config_context(enable_metadata_routing=True):
        model = FieldKMeans(random_state=0).set_fit_request(fields=True, sample_weight=True)
        model.set_score_request(fields=True, sample_weight=False)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipe = make_pipeline(scaler, model.set_predict_request(fields=True))
        labels = pipe.fit(samples, fields=fields, sample_weight=np.ones(200)).predict(samples, fields=fields)
        assert not set(labels[:100]) & set(labels[100:])
        found = GridSearchCV(model, {"n_clusters": [1, 4]}, cv=3).fit(samples, fields=fields)
    assert found.best_estimator_.field_starts_.tolist() == [0, 4, 8]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fields": ["a", "b"]}, "fields must be"),
        ({"sample_weight": [0, 0, 0]}, "non-zero"),
        ({"sample_weight": [1, -1, 0]}, "[Nn]egative"),
    ],
)
def test_what_does_not_fit_is_refused(given, said):
    """As scikit-learn does, with a ValueError."""
    with pytest.raises(ValueError, match=said):
        FieldKMeans(2).fit([[0.0], [1.0], [2.0]], **given)


def test_unknown_and_missing_fields_are_refused():
    """What was not there in fit has no clusters."""
    model = FieldKMeans(2).fit([[0.0], [1.0]], fields=["a", "b"])
    with pytest.raises(ValueError, match=r"field '?.*c.* was not there in fit"):
        model.predict([[0.0]], fields=["c"])
    with pytest.raises(ValueError, match="fields are wanted"):
        model.predict([[0.0]])
    with pytest.raises(ValueError, match="n_clusters"):
        FieldKMeans(0).fit([[0.0]])
    with pytest.raises(ValueError, match="beyond 1e"):
        FieldKMeans(1).fit([[1e20]])
