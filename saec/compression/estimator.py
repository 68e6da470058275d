"""The clusterer as a scikit-learn estimator, a replacement for `sklearn.cluster.KMeans`.

Decisions:
- Clusters of all fields are end to end in `cluster_centers_`, and a label is an index into it, so that
  `cluster_centers_[labels_]` are the clustered vectors, as with KMeans. `field_starts_` says where a field's clusters
  begin.
- Fields are a keyword argument, like weights, because the second positional argument is `y`, which clusterers ignore;
  so pipelines and searches work. Without fields, all vectors belong to one field.
- Samples with weight 0 are ignored by `fit`; they still get a label.

Shapes: N samples, F fields, C clusters of all fields, D features of a sample.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from saec.compression.clustering import LARGEST, assign, cluster

_ONE = np.zeros(1, np.int64)
"""The field of vectors without one."""


class FieldKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Weighted k-means within each field, fast on heavy tails.

    Args:
        n_clusters: maximum number of clusters of a field; a field with fewer distinct vectors has one for each.
        random_state: a number, a numpy `RandomState` or None; a number gives the same clusters every time.

    After `fit`:

    - `cluster_centers_`: [C, D] float32, field after field.
    - `labels_`: [N], indices into `cluster_centers_`.
    - `fields_`: [F], the distinct fields, ascending.
    - `field_starts_`: [F + 1], where the clusters of each field begin; the last is C.
    - `inertia_`: weighted sum of squared distances to the centres.

    Examples:
        >>> vectors = np.array([[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [0.0, 0.0], [9.0, 9.0]])
        >>> fields = np.array(["user", "user", "user", "item", "item"])
        >>> model = FieldKMeans(n_clusters=2, random_state=0).fit(vectors, fields=fields, sample_weight=[3, 1, 1, 1, 1])
        >>> model.fields_.tolist(), model.field_starts_.tolist()
        (['item', 'user'], [0, 2, 4])
        >>> model.predict([[0.2, 0.1]], fields=["user"])[0] == model.labels_[0]
        np.True_
        >>> model.cluster_centers_[model.labels_].round(3)
        array([[0.025, 0.   ],
               [0.025, 0.   ],
               [5.   , 5.   ],
               [0.   , 0.   ],
               [9.   , 9.   ]], dtype=float32)
    """

    def __init__(self, n_clusters: int = 255, *, random_state: Any = None) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: object = None,  # noqa: ARG002 - all estimators have it
        *,
        fields: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Cluster vectors, each within its field.

        Args:
            X: [N, D] numbers.
            y: ignored.
            fields: [N], the field of each vector: names or numbers. All are of one when left out.
            sample_weight: [N], how often each is used, 0 or more; alike when left out.

        Raises:
            ValueError: when shapes do not fit, or numbers are not finite.
        """
        vectors_ND = self._vectors(X, reset=True)
        if not (isinstance(self.n_clusters, int | np.integer) and self.n_clusters >= 1):
            raise ValueError(f"n_clusters must be a number from 1, got {self.n_clusters!r}")
        weights_N = _check_sample_weight(sample_weight, vectors_ND, dtype=np.float64, ensure_non_negative=True)
        given_N = self._given(fields, len(vectors_ND))
        self.fields_, fields_N = np.unique(given_N, return_inverse=True)
        self._named = fields is not None
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        scaled_N = (weights_N / weights_N.max()).astype(np.float32)
        by_field = []
        for field in range(len(self.fields_)):
            of_field = np.flatnonzero(fields_N == field)
            weighing = of_field[weights_N[of_field] > 0]
            chosen = weighing if len(weighing) else of_field
            by_field.append(
                cluster(
                    vectors_ND[chosen],
                    scaled_N[chosen],
                    int(self.n_clusters),
                    seed=seed + field,
                    field=str(self.fields_[field]),
                )
            )
        self.cluster_centers_ = np.concatenate(by_field)
        self.field_starts_ = np.cumsum([0, *map(len, by_field)])
        self._n_features_out = len(self.cluster_centers_)
        self.labels_, errors_N = self._assigned(vectors_ND, fields_N)
        self.inertia_ = float(weights_N @ errors_N)
        return self

    def fit_predict(self, X: ArrayLike, y: object = None, **given: Any) -> NDArray[np.int64]:
        """`fit`, and the labels; arguments as of `fit`."""
        return self.fit(X, y, **given).labels_

    def predict(self, X: ArrayLike, fields: ArrayLike | None = None) -> NDArray[np.int64]:
        """The nearest cluster of its field to each vector, as an index into `cluster_centers_`.

        Args:
            X: [N, D] numbers.
            fields: [N], as in `fit`.

        Raises:
            ValueError: for a field that `fit` has not seen.
        """
        return self._assigned(*self._known(X, fields))[0]

    def transform(self, X: ArrayLike, fields: ArrayLike | None = None) -> NDArray[np.float32]:
        """Distances to all clusters (N, C), infinite to those of other fields; arguments as of `predict`."""
        vectors_ND, fields_N = self._known(X, fields)
        distances_NC = np.full((len(vectors_ND), len(self.cluster_centers_)), np.inf, np.float32)
        for field in np.unique(fields_N):
            own, of_field = self._own(field), np.flatnonzero(fields_N == field)
            for place in range(own.start, own.stop):
                away_MD = vectors_ND[of_field] - self.cluster_centers_[place]
                distances_NC[of_field, place] = np.sqrt(np.einsum("md,md->m", away_MD, away_MD))
        return distances_NC

    def score(
        self,
        X: ArrayLike,
        y: object = None,  # noqa: ARG002 - likewise
        *,
        fields: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Minus the weighted sum of squared distances to the nearest centres; arguments as of `fit`."""
        vectors_ND, fields_N = self._known(X, fields)
        weights_N = _check_sample_weight(sample_weight, vectors_ND, dtype=np.float64)
        return -float(weights_N @ self._assigned(vectors_ND, fields_N)[1])

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn is told: distances come as float32, whatever the samples were."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _vectors(self, X: ArrayLike, *, reset: bool) -> NDArray[np.float32]:
        vectors_ND: NDArray[np.float32] = validate_data(self, X, dtype=np.float32, order="C", reset=reset)
        if np.abs(vectors_ND).max() > LARGEST:
            raise ValueError(f"X has numbers beyond {LARGEST:g}, whose squares are too large for float32; scale it")
        return vectors_ND

    def _given(self, fields: ArrayLike | None, count: int) -> NDArray[Any]:
        """The field of each sample."""
        given_N = np.broadcast_to(_ONE, count) if fields is None else np.asarray(fields)
        if given_N.shape != (count,):
            raise ValueError(f"fields must be [{count}], one a sample, got {list(given_N.shape)}")
        return given_N

    def _known(self, X: ArrayLike, fields: ArrayLike | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Vectors, and places of their fields in `fields_`."""
        check_is_fitted(self)
        vectors_ND = self._vectors(X, reset=False)
        if fields is None and self._named and len(self.fields_) > 1:
            raise ValueError(f"fields are wanted, as fit was given them: {self.fields_.tolist()[:10]}")
        if fields is None or not self._named:
            return vectors_ND, np.zeros(len(vectors_ND), np.int64)
        given_N = self._given(fields, len(vectors_ND))
        places_N = np.searchsorted(self.fields_, given_N).clip(max=len(self.fields_) - 1)
        if (unknown_N := self.fields_[places_N] != given_N).any():
            raise ValueError(f"field {given_N[unknown_N][0]!r} was not there in fit: {self.fields_.tolist()[:10]}")
        return vectors_ND, places_N

    def _own(self, field: int) -> slice:
        """Places of a field's clusters."""
        return slice(int(self.field_starts_[field]), int(self.field_starts_[field + 1]))

    def _assigned(
        self, vectors_ND: NDArray[np.float32], fields_N: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Labels, and squared distances to their centres."""
        labels_N, errors_N = np.empty(len(vectors_ND), np.int64), np.empty(len(vectors_ND), np.float32)
        for field in np.unique(fields_N):
            of_field, own = np.flatnonzero(fields_N == field), self._own(field)
            codes_M, errors_N[of_field] = assign(vectors_ND[of_field], self.cluster_centers_[own])
            labels_N[of_field] = codes_M + own.start
        return labels_N, errors_N
