"""Hours over ranks: the metrics of one process; killed somewhere, nothing by halves, and then the same bytes.

The ranks are forks of a process that has only imported torch, so that an hour costs what it costs;
tests/cli/test_ranks.py has the command, with processes of its own.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch.distributed import FileStore, TCPStore

from saec import failpoints
from saec.hour_over_ranks import duties_of
from saec.train import ranks
from tests.conftest import Site, clean_fork, clean_forks

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess
    from multiprocessing.sharedctypes import Synchronized

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
    "ranks.clustering:kill",
    "ranks.clustering:kill@3",
    "ranks.clusters-led:kill",
    "ranks.clusters-led:kill@2",
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
"""Places of the hour."""
OF_OTHER = ("ranks.waiting", "ranks.followed", "ranks.clustering")
"""Those of the other rank."""


def rank(site: Site, number: int, store: Path, fault: str | None, size: int) -> None:
    """What one of the ranks does."""
    torch.set_num_threads(1)
    ranks._WORD_SECONDS = 0.2 if fault else ranks._WORD_SECONDS
    of_other = bool(fault) and fault.startswith(OF_OTHER)
    if fault and of_other == bool(number):
        failpoints.on_reach = failpoints.fault(fault)
    joined = ranks.Ranks(FileStore(str(store), size), number, size, timeout=60)
    if number:
        joined.follow(duties_of(site.config()))
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


@pytest.mark.slow  # two hours of two processes; the next test holds the bytes of two ranks
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


def rendezvous(port: Synchronized[int]) -> None:
    """What ranks of several machines find each other through, in a process of its own."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port.value = store.port
    signal.pause()


def disturbed(site: Site, number: int, store: Path, server: int | None, port: int, place: str) -> None:
    """A rank of an hour in which the rendezvous dies, or the disk is full, when rank 0 comes to a place."""
    torch.set_num_threads(1)
    ranks._WORD_SECONDS = 0.2
    came = []

    def reach(name: str) -> None:
        came.append(name)
        if server is not None and came.count(place) == 1 == (name == place):
            os.kill(server, signal.SIGKILL)
        if server is None and place in came and name == "durable.part-written":
            raise OSError(errno.ENOSPC, "No space left on device")

    if number == 0:
        failpoints.on_reach = reach
    found = FileStore(str(store), 2) if port == 0 else TCPStore("127.0.0.1", port, wait_for_workers=False)
    joined = ranks.Ranks(found, number, 2, timeout=60)
    if number:
        joined.follow(duties_of(site.config()))
        return
    failpoints.on_reach = reach
    with ranks.led(joined):
        row = site.advance(site.hours[5])[-1]
    os._exit({"disk-full": 11, "rank-lost": 12}.get(row.reason, 1))


def fails_and_is_taken_up(site: Site, by_two: Site, server: ForkServerProcess | None, port: int, place: str) -> int:
    """Do the hour over a disturbance, then again; returns how the first ended."""
    live, before = site.live, site.digests()
    pid = server.pid if server else None
    first, other = [clean_fork(disturbed, site, rank, site.folder / "s", pid, port, place) for rank in range(2)]
    first.join(90)
    other.join(30)
    if first.exitcode is None:
        first.kill()
        other.kill()
    assert other.exitcode is not None, "the other rank should end by itself"
    assert (site.live, site.digests()) == (live, before), "something is half published"
    assert hour(site, site.folder / "second") == 0
    version = by_two.rows()[5].version
    assert site.rows()[5].version == site.live == version
    assert site.digests(of=version) == by_two.digests(of=version)
    return first.exitcode


@pytest.mark.slow  # two hours of two processes; a rank that is killed is the same
def test_a_full_disk_fails_the_hour_of_two_ranks_alone(site, by_two):
    """No room for the checkpoint once both have trained: FAILED(disk-full), and with room the same bytes."""
    assert fails_and_is_taken_up(site, by_two, None, 0, "train.learnt") == 11


@pytest.mark.slow  # two hours of two processes; a rank that is killed is the same
@pytest.mark.parametrize("place", ["ingest.written", "ranks.led"], ids=["before a pass", "in a pass"])
def test_a_lost_rendezvous_fails_the_hour_in_words(site, by_two, place):
    """The process through which they found each other dies: FAILED(rank-lost), and the next run takes the hour up."""
    port = clean_forks().Value("i", 0)
    server = clean_fork(rendezvous, port)
    while not port.value:
        time.sleep(0.01)
    assert fails_and_is_taken_up(site, by_two, server, port.value, place) == 12
