"""Of any number of writers at once, one wins, and all see the same winner."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from saec.errors import ReleaseConflict
from saec.hours import Hour
from saec.store.model_store import open_store

HOUR = Hour.parse("2017-10-01T03")


def race(writers, barrier, attempt):
    """The results of all writers, each a thread that waits at the barrier before each turn."""
    results = []
    threads = [
        threading.Thread(target=lambda writer=writer: results.extend(attempt(writer, barrier)))
        for writer in range(writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.fault(10)
@pytest.mark.parametrize("turns", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_one_of_eight_publishers_wins_each_turn(store, commit, turns):
    """8 threads publish 8 versions of an hour, all deciding on the same release: one release a turn, its winner's."""
    versions = [[commit(store, hour=HOUR + turn, writer=writer) for writer in range(8)] for turn in range(turns)]

    def attempt(writer, barrier):
        for turn in range(turns):
            barrier.wait()
            try:
                yield store.publish(versions[turn][writer], actor=f"{writer}", reason="race", fence=1, expected=turn)
            except ReleaseConflict:
                continue

    won = race(8, threading.Barrier(8), attempt)
    assert sorted(won, key=lambda release: release.sequence) == store.releases()
    assert len(won) == turns


def publish_once(root, version, barrier, won):
    """What each process of the next test does."""
    store = open_store(root)
    barrier.wait()
    try:
        store.publish(version, actor=version, reason="race", fence=1, expected=0)
    except ReleaseConflict:
        return
    won.put(version)


def test_one_of_four_processes_wins(local_store, commit):
    """The same between processes."""
    context = multiprocessing.get_context("fork")
    versions = [commit(local_store, writer=writer) for writer in range(4)]
    barrier, won = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=publish_once, args=(local_store.objects.root, version, barrier, won))
        for version in versions
    ]
    for process in processes:
        process.start()
    winner = won.get(timeout=20)
    for process in processes:
        process.join()
    assert won.empty()
    assert [release.version for release in local_store.releases()] == [winner]


@pytest.mark.fault(10)
def test_eight_commits_of_the_same_content_make_one_whole_version(store, commit):
    """Two runs of one hour at once end with one version, whole, and the same id for both."""

    def attempt(_, barrier):
        barrier.wait()
        yield commit(store)

    ids = race(8, threading.Barrier(8), attempt)
    assert len(ids) == 8
    assert store.versions() == sorted(set(ids))
    assert len(set(ids)) == 1
    assert store.verify(ids[0]) == []
