"""The simulator's true click model: planted clusters, drift and interactions, all derived from hashes.

    logit p  =  b  +  Σ_f w_f · e_f(v_f, t)                f: user, item, site, device; mean over the row's tags
                   +  w_ui · ⟨P_k(user), Q_k(item)⟩         every pair of clusters, through 4 hidden factors
                   +  w_sd · M[k(site), k(device)]          a pairing without low rank: only a cross learns it exactly
                   -  w_price · (ln price - mean of ln price)
    e_f(v, t)  =  √(1-ν) · g_f(k_f(v), t)  +  √ν · n_f(v)
    g_f(k, t)  =  √(1-δ) · α_fk  +  √(2δ) · sin(2πt / T_fk + φ_fk)

k_f(v), the planted cluster of a feature, and n_f(v), its own normal noise, are hashes of (seed, field, v); α, P, Q, M
are standard normal, T is 2 to 14 days, φ any phase. ν = 0.1 is the features' own share of the variance, δ the share
that drifts. The intercept b is the simulator's, solved for its base rate; `ClickModel.logits` leaves it out.

Decisions: nothing is kept per feature, so a population of 20 million costs no more than one of 20; drift is a wave and
not a random walk, so that an hour's effects need no earlier hour.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from saec.data.hashing import mixed
from saec.hours import Hour

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

WEIGHTS = {"user": 0.6, "item": 0.7, "tag": 0.6, "site": 0.5, "device": 0.2}
WEIGHT_USER_ITEM, WEIGHT_SITE_DEVICE, WEIGHT_PRICE = 0.8, 0.4, 0.3
OWN_NOISE = 0.1
FACTORS = 4
MEAN_LOG_PRICE = 1.0


@dataclass(frozen=True)
class Impressions:
    """Rows before the click: B rows, T tags of all rows one after the other."""

    users_B: Ids
    items_B: Ids
    sites_B: Ids
    devices_B: Ids
    tags_T: Ids
    tag_counts_B: Ids
    """Tags of each row, at least one."""
    prices_B: NDArray[np.float32]


@dataclass(frozen=True)
class ClickModel:
    """The true logit of a click, but for the intercept, for any rows of any hour.

    >>> model = ClickModel(seed=1, clusters=8, drift=0.2)
    >>> model.clusters_of("item", np.array([1, 2, 3]))
    array([6, 3, 4])
    """

    seed: int
    clusters: int
    drift: float

    def clusters_of(self, field: str, ids_V: Ids) -> NDArray[np.int64]:
        """The planted cluster, 0 to `clusters` - 1, of each feature of a field ("user", "item", "tag", …)."""
        hashes_V = hashed(f"{self.seed}/{field}/cluster", ids_V)
        return (hashes_V % np.uint64(self.clusters)).astype(np.int64)

    def effects_of(self, field: str, ids_V: Ids, hour: Hour) -> Floats:
        """The true effect e_f(v, t) of each feature of a field in an hour, of about unit variance."""
        own_V = ndtri(uniforms(f"{self.seed}/{field}/noise", ids_V))
        shared_V = self._cluster_effects(field, hour)[self.clusters_of(field, ids_V)]
        return np.asarray(math.sqrt(1 - OWN_NOISE) * shared_V + math.sqrt(OWN_NOISE) * own_V)

    def logits(self, rows: Impressions, hour: Hour) -> Floats:
        """The true logit of a click of each of the B rows, less the intercept."""
        tags_B = _mean_by_row(self.effects_of("tag", rows.tags_T, hour), rows.tag_counts_B)
        logits_B = WEIGHTS["tag"] * tags_B
        single = {"user": rows.users_B, "item": rows.items_B, "site": rows.sites_B, "device": rows.devices_B}
        for field, ids_B in single.items():
            logits_B += WEIGHTS[field] * self.effects_of(field, ids_B, hour)
        cluster_B = {field: self.clusters_of(field, ids_B) for field, ids_B in single.items()}
        logits_B += self._user_item[cluster_B["user"], cluster_B["item"]]
        logits_B += self._site_device[cluster_B["site"], cluster_B["device"]]
        logits_B -= WEIGHT_PRICE * (np.log(rows.prices_B.astype(np.float64)) - MEAN_LOG_PRICE)
        return np.asarray(logits_B)

    def _cluster_effects(self, field: str, hour: Hour) -> Floats:
        """g_f(k, t) of every cluster of a field."""
        rng = self._rng(field)
        base_K = rng.standard_normal(self.clusters)
        period_K = rng.uniform(48.0, 336.0, self.clusters)
        phase_K = rng.uniform(0.0, 2 * math.pi, self.clusters)
        wave_K = math.sqrt(2) * np.sin(2 * math.pi * hour.index / period_K + phase_K)
        return np.asarray(math.sqrt(1 - self.drift) * base_K + math.sqrt(self.drift) * wave_K)

    @cached_property
    def _user_item(self) -> Floats:
        """Logit of each pair of a user cluster and an item cluster."""
        factors_2KR = self._rng("user&item").standard_normal((2, self.clusters, FACTORS))
        return np.asarray(WEIGHT_USER_ITEM / math.sqrt(FACTORS) * factors_2KR[0] @ factors_2KR[1].T)

    @cached_property
    def _site_device(self) -> Floats:
        """Logit of each pair of a site cluster and a device cluster."""
        return WEIGHT_SITE_DEVICE * self._rng("site&device").standard_normal((self.clusters, self.clusters))

    def _rng(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(_key(f"{self.seed}/{purpose}"))


def hashed(purpose: str, ids_V: Ids) -> NDArray[np.uint64]:
    """A 64-bit hash of each id, independent from purpose to purpose (splitmix64, keyed by the purpose)."""
    return mixed(ids_V.astype(np.uint64) + np.uint64(_key(purpose)))


def uniforms(purpose: str, ids_V: Ids) -> Floats:
    """A number strictly between 0 and 1 for each id, from its hash."""
    return ((hashed(purpose, ids_V) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _key(purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")


def _mean_by_row(values_T: Floats, counts_B: Ids) -> Floats:
    """Mean of each row's run of values; every run has at least one."""
    starts_B = np.concatenate(([0], np.cumsum(counts_B)[:-1]))
    return np.asarray(np.add.reduceat(values_T, starts_B) / counts_B)
