"""Clusters and indexes over ranks: the bytes of one process, however fields are given out; and when a rank is lost."""

import signal
from functools import partial

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from saec.compression import index_build
from saec.compression.blocks import BLOCK
from saec.compression.codebooks import Centroids
from saec.compression.fields import cluster_fields
from saec.compression.index import RetrievalIndex
from saec.compression.index_together import built_together
from saec.compression.places import CLUSTERS
from saec.compression.together import Given
from saec.errors import TrainingError
from saec.hour_over_ranks import duties_of
from saec.train import ranks
from tests.conftest import clean_fork
from tests.over_ranks import follow, joined, led

pytestmark = pytest.mark.usefixtures("short_words")

WIDTH, CODEWORDS = 4, 7
SMALL, LARGE = (900, 700, 500), (500, BLOCK + 20_000, 0)
"""Sizes of three fields: all whole; one that is cut, beside one without a head."""


def heads(sizes, hour=0):
    """Vectors, fields and frequencies of features around nine centres a field, a little further on each hour."""
    draw = np.random.default_rng(1)
    fields_H = draw.permutation(np.repeat(np.arange(3), sizes))
    centres = 5 * draw.standard_normal((3, 9, WIDTH), np.float32)
    vectors_HD = centres[fields_H, draw.integers(0, 9, len(fields_H))]
    vectors_HD += 0.3 * draw.standard_normal(vectors_HD.shape, np.float32)
    vectors_HD += 0.1 * hour * np.random.default_rng(2).standard_normal(vectors_HD.shape, np.float32)
    return vectors_HD, fields_H, draw.pareto(1, len(fields_H)).astype(np.float32)


def two_hours(config, sizes):
    """Every number of clusters drawn from nothing, moved along, and aged so that they are drawn anew."""
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")  # as every step of an hour does
    arrays = []
    first = cluster_fields(
        config,
        *heads(sizes),
        Centroids.empty(3, WIDTH),
        np.full(3, np.inf),
        CODEWORDS,
        np.zeros(sum(sizes), np.int16),
    )
    old_codes = np.where(np.arange(sum(sizes)) % 5, first.codes_H, CLUSTERS - 1).astype(np.int16)
    for drawn_errors_F in (first.drawn_errors_F, np.full(3, 1e-9)):
        found = cluster_fields(config, *heads(sizes, 1), first.centroids, drawn_errors_F, CODEWORDS, old_codes)
        assert found.figures_F["rebuilt"][0] == (drawn_errors_F[0] == 1e-9)
        for clusters in (first, found):
            named = {"codes": clusters.codes_H, "centroids": clusters.centroids.vectors_CD}
            arrays.append({**named, "drawn": clusters.drawn_errors_F, **clusters.figures_F})
    return [{name: array.tobytes() for name, array in named.items()} for named in arrays]


def leader(config, store, fault):
    """What rank 0 does that is a process of its own."""
    with ranks.led(joined(store, 0, 2, fault)):
        two_hours(config, SMALL)


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_come_to_the_bytes_of_one_process(click_hours, tmp_path, size):
    """Codes, centroids and figures, of whole fields and of one whose blocks lie with different ranks."""
    config = click_hours.config()
    with led(partial(duties_of, config), size, tmp_path):
        together = [two_hours(config, sizes) for sizes in (SMALL, LARGE)]
    assert ranks.current is None
    assert together == [two_hours(config, sizes) for sizes in (SMALL, LARGE)]


@pytest.mark.parametrize("sizes", [SMALL, LARGE])
def test_a_rank_that_is_killed_in_clustering_is_named(click_hours, tmp_path, sizes):
    """The hour ends as rank-lost, and so does whatever is asked of the ranks afterwards."""
    config = click_hours.config()
    with led(partial(duties_of, config), 2, tmp_path, "ranks.clustering:kill"):
        for _ in range(2):
            with pytest.raises(TrainingError, match="rank 1 of 2 is lost") as lost:
                two_hours(config, sizes)
            assert lost.value.reason == "rank-lost"


def test_the_others_end_when_rank_0_is_killed(click_hours, tmp_path):
    """By themselves, while they have clusters to give."""
    config, store = click_hours.config(), tmp_path / "rendezvous"
    first = clean_fork(leader, config, store, "ranks.clusters-led:kill")
    other = clean_fork(follow, partial(duties_of, config), store, 1, 2)
    for process in (first, other):
        process.join(30)
    assert (first.exitcode, other.exitcode) == (-signal.SIGKILL, 0)


@pytest.mark.parametrize("field", [0, 1])
def test_wrong_vectors_are_the_hours_fault(click_hours, tmp_path, field):
    """Reason non-finite and the field's name, whichever rank would have clustered them."""
    config = click_hours.config()
    vectors_HD, fields_H, weights_H = heads(SMALL)
    vectors_HD[np.flatnonzero(fields_H == field)[0], 1] = np.nan
    nothing = Centroids.empty(3, WIDTH), np.full(3, np.inf), CODEWORDS, np.zeros(len(fields_H), np.int16)
    with (
        led(partial(duties_of, config), 2, tmp_path),
        pytest.raises(TrainingError, match=config.field_names[field]) as wrong,
    ):
        cluster_fields(config, vectors_HD, fields_H, weights_H, *nothing)
    assert wrong.value.reason == "non-finite"


@pytest.mark.parametrize(
    ("sizes", "size", "cut", "loads"),
    [
        ([], 2, [], [0, 0]),
        ([0, 0], 3, [], [0, 0, 0]),
        ([40, 30, 20, 10], 2, [], [50, 50]),
        ([BLOCK, 1], 2, [], [BLOCK, 1]),
        ([BLOCK + 1, 1], 2, [0], [1, 0]),
        ([10 * BLOCK, 9 * BLOCK, 1], 4, [0, 1], [1, 0, 0, 0]),
        ([2 * BLOCK] * 5, 2, [], [6 * BLOCK, 4 * BLOCK]),
    ],
)
def test_fields_are_given_out_by_their_size(sizes, size, cut, loads):
    """What is larger than a share and a block is cut; the rest is balanced, and nothing is forgotten."""
    given = Given.out(sizes, size)
    assert given.cut == cut
    assert [sum(sizes[field] for field in whole) for whole in given.whole] == loads
    assert sorted(sum(given.whole, given.cut)) == list(range(len(sizes)))


def index_of(keys, **options):
    """An index of so many keys."""
    draw = np.random.default_rng(3)
    keys_N = draw.integers(1, 2**64, keys, np.uint64)
    codes_N = draw.integers(0, 200, keys).astype(np.int16)
    index = RetrievalIndex.build(keys_N, codes_N, code_bits=8, fingerprint_bits=8, hash_seed=2**64 - 9, **options)
    return {name: array.tobytes() for name, array in index.tensors().items()}


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_ranks_build_the_bytes_of_one_process(click_hours, tmp_path, monkeypatch, shards):
    """Of an index in so many shards, which three ranks build in turn."""
    monkeypatch.setattr(index_build, "_SHARD_KEYS", 500)
    with led(partial(duties_of, click_hours.config()), 3, tmp_path) as leading:
        together = index_of(500 * shards, by_shard=built_together)
        assert (leading.waited > 0) == (shards > 1)
    assert together == index_of(500 * shards, by_shard=built_together) == index_of(500 * shards)
    assert len(np.frombuffer(together["layout"], np.uint64)) == 6 * shards


def test_a_rank_that_is_killed_building_an_index_is_named(click_hours, tmp_path, monkeypatch):
    """As rank-lost."""
    monkeypatch.setattr(index_build, "_SHARD_KEYS", 500)
    with led(partial(duties_of, click_hours.config()), 2, tmp_path, "ranks.indexing:kill"):
        with pytest.raises(TrainingError, match="rank 1 of 2 is lost") as lost:
            index_of(1000, by_shard=built_together)
        assert lost.value.reason == "rank-lost"
