"""`saec tidy`, and what commands do with a workspace that is empty or cannot be written."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Shell

NOBODY = 65_534


@contextmanager
def read_only(site) -> Iterator[Shell]:
    """The site where nobody may write, typed at by somebody who is not root."""
    folder = Path(tempfile.mkdtemp(prefix="saec-read-only-"))  # pytest's own folders are closed to other users
    try:
        shell = Shell(site.copy(folder / "site"))
        folder.chmod(0o755)
        for path in folder.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        try:
            yield shell
        finally:
            if root:
                os.seteuid(0)
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.case(21)
def test_a_workspace_that_cannot_be_written(shell):
    """What only looks works; what writes says which folder and what to do, with an exit code, and no raw errno."""
    shell("run")
    with read_only(shell.site) as looking:
        answer = looking.json("status")
        assert answer["live"]["version"] == looking.site.live
        assert [hour["outcome"] for hour in answer["last_hours"]][-2:] == ["PUBLISHED"] * 2
        assert looking("metrics").stdout
        assert looking.json("verify")["whole"]
        range_ = ("--from", looking.site.hours[0], "--to", looking.site.hours[-1])
        for words in (("run",), ("backfill", *range_), ("tidy",)):
            error = looking.json(*words, code=1)["error"]
            assert (error["kind"], error["reason"]) == ("StoreError", "permission")
            assert f"the workspace {looking.site.folder / 'workspace'} cannot be written" in error["message"]
            assert "Errno" not in error["message"]


@pytest.mark.case(21)
@pytest.mark.parametrize("words", ["status", "metrics", "report", "versions", "verify"])
def test_looking_makes_nothing(empty_shell, words):
    """Before the first run there is no workspace, and none after looking."""
    (empty_shell.site.folder / "data").mkdir()
    before = sorted(empty_shell.site.folder.rglob("*"))
    empty_shell(words)
    assert sorted(empty_shell.site.folder.rglob("*")) == before


@pytest.mark.case(21)
@pytest.mark.slow  # three hours; the next test holds what is removed
def test_the_disk_alarms_command_frees_disk(shell):
    """It removes old versions and training state; what is live serves, and the next hour goes on."""
    shell("run")
    shell.configure(alarms={"disk_free_gb": 1e9})
    [alarm] = shell.json("status")["alarms"]
    live, kept = shell.site.live, len(shell.site.store.versions())
    answer = shell.json(*alarm["command"].split())
    assert answer["freed_bytes"] > 0
    assert len(shell.site.store.versions()) == 2 < kept
    assert shell.site.live == live
    assert shell.site.store.verify(live) == []
    assert shell.json("verify", code=None)["others"] is not None
    shell("run", "--hour", shell.site.hours[-1], "--replace")


def test_tidy_keeps_what_retention_does(shell):
    """By itself it removes no more than the next hour would, and says how to remove more."""
    said = shell("tidy").stdout
    assert "retention keeps everything that is there; to free more: saec tidy --keep 2" in said
    assert len(shell.site.store.versions()) == 3
    shell.configure(retention=2)
    assert shell.json("tidy")["freed_bytes"] > 0
    assert len(shell.site.store.versions()) == 2
