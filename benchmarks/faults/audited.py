"""Runs a saec command and records everything that is unpickled in the meantime.

    python -m benchmarks.faults.audited COUNTS.json run --config configs/quickstart.yaml

Decisions: Python raises an audit event whenever a pickle looks up a class or function, which is what lets a pickle run
code, and when marshalled code is loaded; the import system's own use of that, for compiled modules, is left out.
"""

from __future__ import annotations

import atexit
import json
import sys
from pathlib import Path

EVENTS = ("pickle.find_class", "marshal.loads", "marshal.load")


def install(out: Path) -> None:
    """Listen from now on, and write what was found when the process ends."""
    found: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in EVENTS and not _importing():
            found.append(f"{event} {[str(argument)[:60] for argument in arguments]}")

    atexit.register(lambda: out.write_text(json.dumps(found), encoding="utf-8"))
    sys.addaudithook(hook)


def _importing() -> bool:
    """Whether the call comes from the import system."""
    return sys._getframe(2).f_code.co_filename.startswith("<frozen importlib")  # noqa: SLF001 - the only way to tell


if __name__ == "__main__":
    install(Path(sys.argv.pop(1)))
    if sys.argv[1:2] == ["--unpickle"]:
        import pickle

        pickle.loads(pickle.dumps(Path))  # noqa: S301 - our own, to see that it is seen
    else:
        from saec.cli.main import main

        main()
