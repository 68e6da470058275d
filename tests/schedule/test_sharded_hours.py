"""Hours of a state in shards: the same versions for any number, whole or not there, and told what is lost."""

import errno
import os

import pytest
import torch

import saec.store.checkpoints
import saec.train.original
from saec import failpoints
from saec.data.vocabulary import Vocabulary
from saec.integrity import examine
from tests.conftest import Site, clean_fork

KILLS = ("checkpoint.original-shard-saved:kill@3",)
MORE_KILLS = (
    "checkpoint.original-saved:kill",
    "train.learnt:kill",
    "checkpoint.original-shard-saved:kill",
    "checkpoint.original-shard-saved:exit@8",
    "durable.created:kill@5",
    "durable.part-written:kill@9",
    "durable.written:kill@8",
    "durable.synced:kill@9",
    "durable.replaced:kill@7",
    "durable.folder-synced:kill@10",
    "checkpoint.challenger-saved:kill",
    "hour.published:kill",
)
"""Places of the sixth hour, while it writes eight shards and their record, and after it."""


def want(site, shards):
    """What `saec reshard` does."""
    with site.pipeline() as pipeline:
        pipeline.workspace.checkpoints.want(shards, "a test")


def shards_of(site):
    """In how many shards the state of each trained hour lies."""
    with site.pipeline() as pipeline:
        return [
            pipeline.workspace.checkpoints.shards(row.checkpoint) for row in pipeline.ledger.rows() if row.checkpoint
        ]


def versions(site):
    """Ids of the versions made, in which everything that a version holds is hashed."""
    return [row.version for row in site.rows()]


def stored(site):
    """All bytes of all versions."""
    return site.digests("workspace/store/versions")


def test_dealt_out_anew_in_the_middle_of_a_run_the_same_versions_come(site, undisturbed):
    """One shard for five hours, then eight, then three: the bytes of versions of one shard."""
    for shards, hour in ((8, site.hours[5]), (3, site.hours[6])):
        want(site, shards)
        site.advance(hour)
    assert shards_of(site)[-3:] == [1, 8, 3]
    assert stored(site) == stored(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [2, 8])
def test_in_shards_from_the_first_hour_on_the_same_versions_come(fresh, undisturbed, shards):
    """A process an hour, so that each reads its shards from their files."""
    want(fresh, shards)
    for hour in fresh.hours:
        fresh.advance(hour)
    assert {*shards_of(fresh)} == {shards}
    assert stored(fresh) == stored(undisturbed)


@pytest.mark.slow
def test_over_evictions_and_whole_files_the_same_versions_come(fresh, monkeypatch, tmp_path):
    """Features are forgotten every other hour, and dropped from their shard when it is written whole."""
    monkeypatch.setattr(saec.train.original, "EVICTION_PERIOD", 2)
    monkeypatch.setattr(saec.store.checkpoints, "MOST_DELTAS", 2)
    evict, forgotten, found = Vocabulary.evict, [], []

    def counted(self, hour):
        ids, keys = evict(self, hour)
        forgotten.append(len(ids))
        return ids, keys

    monkeypatch.setattr(Vocabulary, "evict", counted)
    for shards in (1, 3):
        site = fresh.copy(tmp_path / str(shards))
        want(site, shards)
        for hour in site.hours:
            site.advance(hour, config=site.config(vocabulary={"evict_after": 1}))
        found.append(stored(site))
    assert found[0] == found[1]
    half = len(forgotten) // 2
    assert forgotten[:half] == forgotten[half:]
    assert sum(forgotten) > 20


def hour(site: Site, fault: str) -> None:
    """The sixth hour, in a process of its own."""
    torch.set_num_threads(1)
    failpoints.on_reach = failpoints.fault(fault)
    row = site.advance(site.hours[5])[-1]
    os._exit(0 if row.state == "PUBLISHED" else 1)


@pytest.mark.parametrize("fault", [*KILLS, *(pytest.param(fault, marks=pytest.mark.slow) for fault in MORE_KILLS)])
def test_killed_over_its_shards_an_hour_comes_to_the_same_bytes(fault, site, undisturbed):
    """A checkpoint of eight shards is whole or not there: the hour is done again, from the state before."""
    want(site, 8)
    process = clean_fork(hour, site, fault)
    process.join()
    assert process.exitcode != 0, "the place was not reached"
    site.advance(site.hours[6])
    assert shards_of(site)[-2:] == [8, 8]
    assert stored(site) == stored(undisturbed)
    with site.pipeline() as pipeline:
        assert [*examine(pipeline.workspace, pipeline.ledger)] == []


@pytest.mark.parametrize(
    "lost", ["a shard", *(pytest.param(lost, marks=pytest.mark.slow) for lost in ("the record", "altered"))]
)  # four hours each
def test_what_is_lost_of_a_sharded_state_is_named_with_a_way_back(site, undisturbed, lost):
    """The hour fails by the file's name, nothing is published, and the command that it names brings the state back."""
    want(site, 8)
    site.advance(site.hours[5])
    with site.pipeline() as pipeline:
        checkpoints, name = pipeline.workspace.checkpoints, pipeline.ledger.rows()[5].checkpoint
        shard = max(checkpoints._files(name), key=lambda file: checkpoints._path(file).stat().st_size)
        path = checkpoints._path(name if lost == "the record" else shard)
        (healthy,) = [[*examine(pipeline.workspace, pipeline.ledger)]]
        assert healthy == []
    live, altered = site.live, bytearray(path.read_bytes())
    path.unlink()
    if lost == "altered":
        altered[-9] ^= 1
        path.write_bytes(altered)
    (row,) = site.advance(site.hours[6])
    assert (row.state, row.reason) == ("FAILED", "integrity" if lost == "altered" else "no-checkpoint")
    assert path.name in row.message
    assert "saec backfill --from HOUR --to HOUR --only all" in row.message
    assert site.live == live
    with site.pipeline() as pipeline:
        assert [path.stem in found.problem for found in examine(pipeline.workspace, pipeline.ledger)]
    site.backfill(site.hours[5], site.hours[6], "all")
    assert versions(site) == versions(undisturbed)


@pytest.mark.slow  # two hours of eight shards; killed over its shards is held above
def test_a_full_disk_leaves_no_part_of_a_checkpoint(site, undisturbed, monkeypatch):
    """When the room ends at the fifth of eight shards the hour is FAILED(disk-full); with room it is done."""
    want(site, 8)
    written, live = [], site.live

    def full(place):
        written.append(place)
        if written.count("checkpoint.original-shard-saved") == 4 and place == "durable.part-written":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(failpoints, "on_reach", full)
    (row,) = site.advance(site.hours[5])
    monkeypatch.setattr(failpoints, "on_reach", None)
    assert (row.state, row.reason, site.live) == ("FAILED", "disk-full", live)
    assert "original-4" in row.message
    assert shards_of(site)[-1] == 1
    site.advance(site.hours[6])
    assert shards_of(site)[-2:] == [8, 8]
    assert versions(site) == versions(undisturbed)
