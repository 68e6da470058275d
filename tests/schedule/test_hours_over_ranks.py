"""Hours over ranks: the metrics of one process; killed somewhere, nothing by halves, and then the same bytes.

The ranks are forks of a process that has only imported torch, so that an hour costs what it costs;
tests/cli/test_ranks.py has the command, with processes of its own.
"""

import os
from pathlib import Path

import pytest
import torch
from torch.distributed import FileStore

from saec import failpoints
from saec.train import ranks
from saec.train.original import Original
from tests.conftest import Site, clean_fork

QUICK = ("ranks.followed:kill@2",)
SLOW = (
    "version.committed:kill",
    "ranks.waiting:kill",
    "ranks.waiting:kill@3",
    "ranks.waiting:exit@4",
    "ranks.followed:kill",
    "ranks.led:kill",
    "ranks.led:kill@5",
    "hour.begun:kill",
    "ingest.written:kill",
    "train.learnt:kill",
    "checkpoint.original-saved:kill",
    "checkpoint.challenger-saved:kill",
    "step.train:kill",
    "step.cluster:kill",
    "retrain.learnt:kill",
    "retrain.version-written:kill",
    "gate.judged:kill",
    "publish.file-staged:kill",
    "version.file-written:kill",
    "version.manifest-staged:kill",
    "release.decided:kill",
    "release.written:kill",
    "hour.published:kill",
    "hour.done:kill",
    "durable.part-written:kill@5",
    "ledger.to-be-committed:kill@3",
)
"""Places of the hour; those of the other rank are `ranks.waiting` and `ranks.followed`."""


def rank(site: Site, number: int, store: Path, fault: str | None, size: int) -> None:
    """What one of the ranks does."""
    torch.set_num_threads(1)
    ranks._WORD_SECONDS = 0.2 if fault else ranks._WORD_SECONDS
    of_other = bool(fault) and fault.startswith(("ranks.waiting", "ranks.followed"))
    if fault and of_other == bool(number):
        failpoints.on_reach = failpoints.fault(fault)
    joined = ranks.Ranks(FileStore(str(store), size), number, size, timeout=60)
    if number:
        joined.follow(Original(site.config()).learner)
        return
    with ranks.led(joined):
        row = site.advance(site.hours[5])[-1]
    os._exit(0 if row.state == "PUBLISHED" else 1)


def hour(site: Site, store: Path, fault: str | None = None, size: int = 2) -> int:
    """The sixth hour; the exit code of the first rank, negative where it was killed."""
    first, *others = [clean_fork(rank, site, number, store, fault, size) for number in range(size)]
    first.join()
    for process in others:
        process.kill()  # as torchrun would
        process.join()
    return first.exitcode


@pytest.fixture(scope="module")
def by_two(done, tmp_path_factory):
    """The sixth hour done by two ranks, undisturbed."""
    site = done.copy(tmp_path_factory.mktemp("by-two") / "site")
    assert hour(site, site.folder / "store") == 0
    return site


@pytest.mark.slow  # four processes
def test_four_ranks_come_to_the_metrics_of_one_process(site, undisturbed):
    """The same rows and features; metrics as close as rounding leaves them."""
    assert hour(site, site.folder / "store", size=4) == 0
    found, alone = site.rows()[5].record, undisturbed.rows()[5].record
    for figure in ("rows", "clicks", "features", "rows_gate"):
        assert found[figure] == alone[figure]
    for metric in ("auc_original", "logloss_original", "auc_compressed", "logloss_compressed"):
        assert found[metric] == pytest.approx(alone[metric], abs=0.005)


def test_two_ranks_over_shards_come_to_the_bytes_of_two_ranks(site, by_two):
    """In how many shards the state of rank 0 lies is nothing to them."""
    with site.pipeline() as pipeline:
        pipeline.workspace.checkpoints.want(8, "a test")
    assert hour(site, site.folder / "store") == 0
    with site.pipeline() as pipeline:
        assert pipeline.workspace.checkpoints.shards(site.rows()[5].checkpoint) == 8
    version = by_two.rows()[5].version
    assert site.rows()[5].version == version
    assert site.digests(of=version) == by_two.digests(of=version)


@pytest.mark.parametrize("fault", [*QUICK, *(pytest.param(fault, marks=pytest.mark.slow) for fault in SLOW)])
def test_wherever_a_rank_is_killed_the_hour_comes_to_the_same_bytes(fault, site, by_two):
    """What is live is as it was, or the version of an undisturbed run; the next run makes it that."""
    before, was_live, version = site.digests(), site.live, by_two.rows()[5].version
    assert hour(site, site.folder / "first", fault) != 0, "the place was not reached"
    live = site.live
    assert live in (was_live, version)
    wanted = by_two if live == version else None
    whole = wanted.digests(of=live) if wanted else {name: sha for name, sha in before.items() if live in name}
    assert site.digests(of=live) == whole
    assert hour(site, site.folder / "second") == 0 or site.rows()[5].state == "PUBLISHED"
    assert site.rows()[5].version == site.live == version
    assert site.digests(of=version) == by_two.digests(of=version)
