"""Reads the locked dependencies, for the audit and for the bill of materials (CycloneDX) of `make sbom`.

    python -m benchmarks.faults.lock > sbom.json

Decisions: one entry a package and version, of every system, since the lock is for all of them; a component's hashes are
those of each of its files that may be installed. A package is named by its purl, never by where it was fetched from.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.record import ROOT
from saec import __version__

FILES = ("lock.txt", "torch-registry.txt")
"""The lock of every package; torch's CPU build is the same version with another hash."""


def locked(folder: Path = ROOT / "requirements") -> dict[str, tuple[Requirement, list[str]]]:
    """Each locked package with its pin, markers included, and the sha256 of its files."""
    entries = {}
    for name in FILES:
        text = re.sub(r"^\s*#.*\n", "", (folder / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        for line in filter(None, text.replace("\\\n", " ").splitlines()):
            pin = Requirement(line.partition("--hash")[0])
            entries[canonicalize_name(pin.name)] = (pin, re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return dict(sorted(entries.items()))


def bill_of_materials() -> dict[str, Any]:
    """The lock as a CycloneDX document."""
    components = []
    for name, (pin, hashes) in locked().items():
        version = str(pin.specifier).removeprefix("==")
        purl = f"pkg:pypi/{name}@{version}"
        components.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
                "hashes": [{"alg": "SHA-256", "content": content} for content in hashes],
            }
        )
    about = {"component": {"type": "application", "bom-ref": "saec", "name": "saec", "version": __version__}}
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": about, "components": components}


if __name__ == "__main__":
    print(json.dumps(bill_of_materials(), indent=1))
