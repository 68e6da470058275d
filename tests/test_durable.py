"""Writes that are whole or absent, and on the disk when they return."""

from __future__ import annotations

import errno
import hashlib
import os
import threading

import pytest

from saec.durable import (
    create_exclusively,
    make_folder,
    remove_temporaries,
    sha256_file,
    storage_errors,
    write_file,
)
from saec.errors import StoreError


def test_write_replaces_and_reads_back(tmp_path):
    """A file written twice holds the second content, with the mode asked for and no temporary file beside it."""
    previous = os.umask(0o077)
    try:
        write_file(tmp_path / "a", b"old")
        write_file(tmp_path / "a", b"new")
    finally:
        os.umask(previous)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.fault(70)
def test_a_reader_keeps_the_file_it_opened(tmp_path):
    """Replacing a file never changes the bytes under a reader that has it open."""
    write_file(tmp_path / "a", b"old")
    with (tmp_path / "a").open("rb") as reader:
        write_file(tmp_path / "a", b"new")
        assert reader.read() == b"old"


def test_create_refuses_an_existing_file(tmp_path):
    """The second creation fails and leaves the first content."""
    create_exclusively(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        create_exclusively(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_create_has_one_winner_of_eight_threads(tmp_path):
    """In each of 50 races exactly one of 8 threads creates the file, and its content is that thread's."""
    barrier, winners = threading.Barrier(8), []

    def race(writer):
        for turn in range(50):
            barrier.wait()
            try:
                create_exclusively(tmp_path / f"{turn}", f"{writer}".encode())
            except FileExistsError:
                continue
            winners.append((turn, f"{writer}"))

    threads = [threading.Thread(target=race, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(winners) == sorted((turn, (tmp_path / f"{turn}").read_text()) for turn in range(50))


@pytest.mark.fault(7)
@pytest.mark.parametrize("write", [write_file, create_exclusively])
def test_data_is_synced_before_its_name_and_the_name_after(tmp_path, monkeypatch, write):
    """The file's fsync, then the final name, then fsync of the folder: any other order can lose data."""
    steps = []
    for name in ("fsync", "replace", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, _real=real, _name=name: (steps.append(_name), _real(*args))[1])
    write(tmp_path / "a", b"data")
    assert steps in (["fsync", "replace", "fsync"], ["fsync", "link", "fsync"])


@pytest.mark.fault(25)
@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("write", [write_file, create_exclusively])
def test_failed_fsync_leaves_no_doubtful_file(tmp_path, monkeypatch, write, call):
    """When an fsync fails the error comes out, the temporary file is gone, and nothing exclusive was created."""
    calls = []

    def failing(descriptor):
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="I/O error"):
        write(tmp_path / "a", b"data")
    left = [path.name for path in tmp_path.iterdir()]
    assert left == (["a"] if write is write_file and call == 2 else [])


def test_folders_are_readable_by_other_users(tmp_path):
    """Created folders have mode 0755 whatever the umask, so that a server under another user can read."""
    previous = os.umask(0o077)
    try:
        make_folder(tmp_path / "a" / "b")
    finally:
        os.umask(previous)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")} == {0o755}


def test_sha256_of_a_file(tmp_path):
    """The digest is that of the bytes."""
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.fault(24, 25)
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EROFS, "permission"),
        (errno.EIO, "io"),
        (errno.EXDEV, "other-file-system"),
        (errno.ENOENT, "store"),
    ],
)
def test_operating_system_errors_get_a_reason(code, reason):
    """An OSError becomes a StoreError that names the reason, the action and the path."""
    message = r"cannot write codes: .* at /x/codes"
    with pytest.raises(StoreError, match=message) as caught, storage_errors("write codes"):
        raise OSError(code, os.strerror(code), "/x/codes")
    assert caught.value.reason == reason


@pytest.mark.fault(3)
def test_what_killed_writers_left_is_removed(tmp_path):
    """Their temporary files go, whole ones stay; a folder that is not there has none."""
    write_file(tmp_path / "kept", b"x")
    for name in (".kept.0a.tmp", ".other.1b.tmp"):
        (tmp_path / name).write_bytes(b"half")
    assert remove_temporaries(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert remove_temporaries(tmp_path / "nothing") == 0
