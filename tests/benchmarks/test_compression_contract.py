"""Contract of every peer in the compression benchmark: it learns, repeats, has its size, serves what it stores."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from benchmarks.compression import runs, settings, stored
from benchmarks.compression.settings import AXES, Job
from benchmarks.compression.stretch import HourRows, Stretch
from saec.config import Config
from saec.data.rows import EncodedRows
from saec.gate.metrics import auc, base_rate_entropy, logloss
from saec.hours import Hour

RATIO = 30
FIRST = Hour.parse("2026-03-01T00")
CONFIG = Config.model_validate(
    {
        "data": {"source": "", "time_column": "event_time", "label_column": "clicked"},
        "fields": [{"name": "user"}, {"name": "item"}, {"name": "tags", "kind": "list", "max_values": 2}],
        "model": {"width": 8, "hidden": [8], "cross_layers": 1, "cross_rank": 4},
        "training": {"dense_learning_rate": 0.01, "batch_rows": 128, "table_learning_rate": 0.4},
    }
)
SMALLER = {"code": "2x4"}
"""Codebooks of 256 codewords would be all that the size has room for."""


@dataclass(frozen=True)
class Planted(Stretch):
    """Hours in which each item has a chance of its own to be clicked; users and tags say nothing."""

    def __iter__(self):
        """The hours."""
        return iter(hours())


@cache
def hours():
    chance = np.random.default_rng(0).random(400) ** 2
    made = []
    for offset in range(8):
        random = np.random.default_rng([1, offset])
        item_B = (400 * random.random(900) ** 2).astype(np.uint64)
        user_B = (4000 * random.random(900) ** 2).astype(np.uint64)
        tags_BS = 1 + random.integers(0, 50, (900, 2)).astype(np.uint64)
        tags_BS[::3, 1] = 0
        keys_BS = np.c_[user_B + 10_000, item_B + 100_000, tags_BS]
        keys_BS[keys_BS > 0] *= np.uint64(0x9E3779B97F4A7C15)
        labels_B = (random.random(900) < chance[item_B.astype(int)]).astype(np.uint8)
        made.append(HourRows(FIRST + offset, EncodedRows(labels_B, np.arange(900), keys_BS), 630, offset == 7))
    return made


STRETCH = Planted(CONFIG, FIRST + 7, 8, 1, None)


JOB = Job("robe", RATIO, 1, tuple((axis, values[0]) for axis, values in AXES["robe"].items()))
served = runs._served


def spoilt(hours, but_not):
    """What is served, with the scores of all turned round but of those by one network."""
    for one in hours:
        kept = one.name == JOB.name + but_not
        yield one if kept else one._replace(scores_B=1 - one.scores_B)


def passed(method, seed=1):
    """A peer that has learnt all hours but the last, and the last as it serves it."""
    choice = {axis: values[0] for axis, values in AXES[method].items()}
    choice |= {axis: value for axis, value in SMALLER.items() if axis in choice}
    peer = settings.contestant(Job(method, RATIO, seed, tuple(choice.items())), STRETCH)
    *earlier, last = STRETCH
    for given in earlier:
        peer.learn(given)
    return peer, next(iter(peer.serve(last)))


LONG = ("mpe", "trained-pq", "cce")
"""Peers that take a second or more to learn these hours."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in AXES if name != "saec"],
)
def learnt(request):
    """Each peer, what it served, and its name."""
    return *passed(request.param), request.param


def test_learns_what_is_planted_and_has_its_size(learnt):
    """Better than the constant in both metrics, within 5% of the bytes aimed at, and served scores are chances."""
    _, served, method = learnt
    labels_B = hours()[-1].rows.labels_B
    near = 0.1 if method in ("filtered", "cafe") else 0.05  # these plan with what an index will take, on few features
    assert served.bytes == pytest.approx(STRETCH.census.original_bytes / RATIO, rel=near)
    assert auc(labels_B, served.scores_B) > 0.6
    assert logloss(labels_B, served.scores_B) < base_rate_entropy(labels_B)
    assert 0 < served.scores_B.min() < served.scores_B.max() < 1


def test_same_seed_same_scores(learnt):
    """Two passes agree to the last bit; serving changes nothing, and the hour can be learnt after it."""
    peer, served, method = learnt
    _, again = passed(method)
    assert (again.scores_B == served.scores_B).all()
    assert (next(iter(peer.serve(hours()[-1]))).scores_B == served.scores_B).all()


def test_serves_what_it_stores(learnt, monkeypatch):
    """Values stored more coarsely are served so: the scores change."""
    peer, served, _ = learnt
    monkeypatch.setattr(stored, "as_int8", lambda vectors_ND: np.round(4 * vectors_ND) / 4)
    monkeypatch.setattr(stored, "as_float16", lambda values: 1.5 * np.asarray(values))
    monkeypatch.setattr(stored, "as_levels", lambda scaled, bits: 2 * np.floor(scaled / 2) + 1)
    coarser = next(iter(peer.serve(hours()[-1])))
    assert np.abs(coarser.scores_B - served.scores_B).max() > 1e-4


def test_scored_by_its_average_or_its_last_step(monkeypatch):
    """A peer keeps the better of the two on the rows it is judged on, and is served by the average before and after."""
    found = {}
    for better in ("", runs.LAST):
        monkeypatch.setattr(
            runs, "_served", lambda peer, given, better=better: spoilt(served(peer, given), but_not=better)
        )
        (record,) = runs.run(JOB, STRETCH, None)
        found[better] = record
    assert [record["last_step"] for record in found.values()] == [False, True]
    assert found[""]["auc"] != found[runs.LAST]["auc"]


def test_the_average_is_back_after_the_last_step_has_scored():
    """Served twice, by two networks, and learnt on with the same average."""
    peer, _ = passed("robe")
    averaged = peer.learner.averaged
    by_average, by_last = runs._served(peer, list(STRETCH)[-1])
    assert by_last.name == by_average.name + runs.LAST
    assert (by_last.scores_B != by_average.scores_B).any()
    assert peer.learner.averaged is averaged


def test_saec_takes_part_as_peers_do():
    """By its own name and size, beside an original of its own, and repeatable."""
    (_, served), (_, again) = passed("saec"), passed("saec")
    assert served.name == f"saec@{RATIO}"
    assert 0 < served.bytes < STRETCH.census.original_bytes
    assert auc(hours()[-1].rows.labels_B, served.scores_B) > 0.6
    assert (again.scores_B == served.scores_B).all()
