"""docs/tutorial.md runs from beginning to end, line by line."""

import os
import re
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_tutorial_works(root, tmp_path):
    """A new user types every line, from a CSV to an answer over HTTP."""
    (tmp_path / "saec").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m saec.cli.main "$@"\n')
    (tmp_path / "saec").chmod(0o755)
    page = (root / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    python = f"'{sys.executable}' - <<'END'\n"
    script = ["set -e", *(text if language == "bash" else f"{python}{text}END" for language, text in blocks)]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(root)}
    walk = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert walk.returncode == 0, walk.stdout + walk.stderr
    shown = re.search(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown
    assert shown[1] in walk.stdout
    assert "8 of 12 hours looked at: no problems" in walk.stdout
    assert re.search(r'"scores": ?\[0\.\d+', walk.stdout)
