"""Full disks: detected before an hour, or encountered anywhere within it."""

import contextlib
import os
import shutil
import subprocess
from typing import NamedTuple

import pytest

from saec import space, steps
from saec.train.original import Original

NEXT = 5


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def never(*_):
    raise AssertionError("training began")


def free(monkeypatch, found: int) -> None:
    """Let the disk have so many bytes left."""
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: Usage(1 << 40, 0, found))


def needed(site) -> int:
    """Bytes that the next hour wants to be free."""
    version = site.folder / "workspace" / "store" / "versions" / site.live
    sizes = [path.stat().st_size for path in version.iterdir() if path.name != "manifest.json"]
    largest = max(path.stat().st_size for path in (site.folder / "workspace" / "checkpoints").iterdir())
    return 3 * sum(sizes) + largest


@pytest.mark.fault(22)
def test_an_hour_without_room_is_refused_before_training(site, monkeypatch):
    """One byte less than three versions and a checkpoint: FAILED(disk-full), and nothing of serving has changed."""
    serving = site.serving()
    free(monkeypatch, needed(site) - 1)
    monkeypatch.setattr(Original, "learn", never)
    (row,) = site.advance(site.hours[NEXT])
    assert (row.state, row.reason) == ("FAILED", "disk-full")
    assert f"{needed(site) - 1:,} bytes are free" in row.message
    assert f"saec run --hour {row.hour}" in row.message
    assert site.serving() == serving


@pytest.mark.fault(22)
def test_just_enough_room_is_enough(site, monkeypatch):
    """The hour goes on as always."""
    free(monkeypatch, needed(site))
    (row,) = site.advance(site.hours[NEXT])
    assert row.state == "PUBLISHED"


def test_the_first_hour_has_no_version_to_go_by(fresh, monkeypatch):
    """Without a version and a checkpoint there is nothing to ask for."""
    free(monkeypatch, 0)
    (row,) = fresh.advance(fresh.hours[0])
    assert row.state == "HELD"


@contextlib.contextmanager
def small_disk(folder, **options):
    """A file system in memory with so many bytes or inodes."""
    folder.mkdir(exist_ok=True)
    given = ",".join(f"{name}={value}" for name, value in options.items())
    command = ["mount", "-t", "tmpfs", "-o", given, "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, left: int) -> None:
    """Leave so many bytes free."""
    with (folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(folder).free - left))


@pytest.fixture
def on_small_disk(done, tmp_path, monkeypatch):
    """Does the next hour of a pipeline whose workspace is on a small disk; the ledger is not, to tell what happened."""
    monkeypatch.setattr(steps, "require_space", lambda *_: None)

    @contextlib.contextmanager
    def prepared(left: int | None = None, **options):
        with small_disk(tmp_path / "disk", **options) as folder:
            site = done.copy(folder / "site")
            shutil.copy(folder / "site" / "workspace" / "ledger.db", tmp_path / "ledger.db")
            settings = site.config().model_dump(mode="json") | {"ledger": f"sqlite:///{tmp_path / 'ledger.db'}"}
            config = type(site.config()).model_validate(settings)
            if left is not None:
                fill(folder, left)
            serving = site.serving()
            (row,) = site.advance(site.hours[NEXT], config=config)
            yield site, row, serving

    return prepared


@pytest.mark.slow
@pytest.mark.fault(20, 21)
@pytest.mark.parametrize("left", [0, 80_000, 200_000, *range(400_000, 800_000, 50_000), 4_000_000])
def test_a_disk_that_fills_up_during_an_hour(on_small_disk, left):
    """Wherever it is full: FAILED(disk-full), live bytes unchanged, nothing left behind; with more room, PUBLISHED."""
    with on_small_disk(left, size="64m") as (site, row, serving):
        if row.state != "PUBLISHED":
            assert (row.state, row.reason) == ("FAILED", "disk-full")
            assert str(site.folder) in row.message
            assert site.serving() == serving
            assert left < 4_000_000
        assert list((site.folder / "workspace" / "store").glob(".staging/*")) == []
        assert not [path for path in site.folder.rglob("*.tmp") if path.is_file()]
        assert site.store.verify(site.live) == []


@pytest.mark.slow
@pytest.mark.fault(23)
def test_a_disk_without_inodes(on_small_disk, done):
    """The same where no file can be made."""
    files = sum(1 for _ in done.folder.rglob("*"))
    with on_small_disk(size="64m", nr_inodes=files + 6) as (site, row, serving):
        assert (row.state, row.reason) == ("FAILED", "disk-full")
        assert site.serving() == serving
