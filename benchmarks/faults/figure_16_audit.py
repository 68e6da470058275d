"""The dependency audit: every locked package is looked up, none skipped, none with a known vulnerability.

Decisions: `uv audit`, since uv is locked already, on a script that depends on every pin of the lock. An audit that says
"no vulnerabilities" without having asked is the fault to be found, so the count of packages it looked up must be that
of the lock (pip-audit, behind an index that tells nothing of vulnerabilities, skips every package and says "none").
Where the service cannot be reached the figure is "not audited" and does not hold. AUDIT_SERVICE_URL names a mirror.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.faults.lock import locked
from benchmarks.record import Figures

PREVIEW = ("--preview-features", "audit-command,json-output")


def script(pins: list[str]) -> str:
    """An empty script that depends on these."""
    lines = "".join(f"#   {json.dumps(pin)},\n" for pin in pins)
    return f'# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n{lines}# ]\n# ///\n'


def audit(pins: list[str]) -> tuple[int, int, str]:
    """How many packages were looked up, how many vulnerabilities found, and what went wrong."""
    service = os.environ.get("AUDIT_SERVICE_URL")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "locked.py"
        path.write_text(script(pins), encoding="utf-8")
        command = [sys.executable, "-m", "uv", "audit", *PREVIEW, "--script", str(path), "--output-format", "json"]
        ended = subprocess.run(
            [*command, *(["--service-url", service] if service else [])],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    try:
        summary = json.loads(ended.stdout)["summary"]
    except (ValueError, KeyError):
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        return 0, 0, re.sub(r"\S*://\S*", "…", said[-1].strip())
    return summary["audited_packages"], summary["vulnerabilities"] + summary["adverse_statuses"], ""


def figure(seed: int, short: bool, figures: Figures) -> None:
    """Ask about every locked package."""
    packages = locked()
    audited, vulnerable, problem = audit([str(pin) for pin, _ in packages.values()])
    figures.add(
        "16. locked packages audited",
        audited or f"not audited: {problem}",
        "packages",
        f"= {len(packages)}, those locked",
        holds=audited == len(packages),
    )
    figures.add(
        "16. known vulnerabilities in them",
        vulnerable if audited else "not known",
        "vulnerabilities",
        "= 0",
        holds=audited == len(packages) and vulnerable == 0,
    )
