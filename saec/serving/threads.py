"""On how many threads numpy multiplies matrices.

Decisions: OpenBLAS, which numpy brings along, starts as many threads as there are processors, and they wait by
spinning: where other processes want the processors too, scoring takes six times the processor time (docs/LOG.md), and
the last bits of scores depend on the number. A program that scores says how many it wants; the library does not do so
on its own, since the setting is the whole process's. Without OpenBLAS, or on another system than Linux, nothing is set
here and the environment decides (OPENBLAS_NUM_THREADS and its like).
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

_LIBRARY = re.compile(r"\s(/\S*openblas[^/\s]*\.so\S*)$", re.MULTILINE)
_SETTERS = tuple(f"{prefix}openblas_set_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", ""))


def limit_threads(count: int) -> bool:
    """Let numpy's matrix products run on so many threads from now on, in this process.

    Returns:
        Whether there was a library to tell.
    """
    told = False
    for path in _loaded():
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)
            for name in _SETTERS:
                if hasattr(library, name):
                    getattr(library, name)(ctypes.c_int(count))
                    told = True
    return told


def _loaded() -> set[str]:
    """Paths of the OpenBLAS libraries that this process has loaded."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return set(_LIBRARY.findall(maps))
