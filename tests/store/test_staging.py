"""Staging folders: gone after use, swept after a kill, never swept under a live owner."""

from __future__ import annotations

import subprocess
import sys

import pytest

from saec.store.staging import remove_orphan_folders, staging_folder


def test_a_staging_folder_is_fresh_and_gone_after_use(tmp_path):
    """Two folders at once are different, and both vanish with what is in them."""
    with staging_folder(tmp_path) as one, staging_folder(tmp_path) as other:
        assert one != other
        (one / "sub").mkdir()
        (one / "sub" / "file").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_live_folder_is_not_an_orphan(tmp_path):
    """A sweep leaves a folder whose owner is alive."""
    with staging_folder(tmp_path) as folder:
        assert remove_orphan_folders(tmp_path) == 0
        assert folder.is_dir()


@pytest.mark.fault(3)
def test_the_folder_of_a_killed_process_is_removed(tmp_path):
    """SIGKILL runs no clean-up, yet the kernel frees the lock and the next sweep finds the orphan."""
    script = (
        "import os, signal, sys; from pathlib import Path; from saec.store.staging import staging_folder\n"
        "with staging_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_bytes(b'x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert remove_orphan_folders(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
