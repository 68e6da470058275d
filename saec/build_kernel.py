"""Builds the compiled scoring kernel, one C file, with any C compiler; scoring also works without it.

    python -m saec.build_kernel                # reports what is missing and exits with 1
    python -m saec.build_kernel --if-possible  # never fails: without a compiler, numpy does the scoring

Decisions: only the standard library is used, so that an image can build it with nothing installed. The library is
written beside its source and named after system and processor. It contains the source's digest, so that a library built
from another source is rejected. The kernel chooses its instruction set when it is loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "serving" / "kernel.c"
FLAGS = ("-std=c11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared", "-fvisibility=hidden")
COMPILERS = ("cc", "gcc", "clang")
_LONGEST_SECONDS = 300


def library_path() -> Path:
    """Path of the compiled kernel for this system and processor."""
    return SOURCE.with_name(f"_kernel-{sys.platform}-{platform.machine().lower()}.so")


def stamp() -> str:
    """Digest of the kernel's source."""
    return hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]


def build(target: Path | None = None, more: tuple[str, ...] = ()) -> Path:
    """Compile the kernel.

    Args:
        target: the file to make; `library_path()` when left out.
        more: further flags.

    Raises:
        OSError: saying why there is none.
    """
    target = target or library_path()
    compiler = shlex.split(os.environ.get("CC", "")) or [name for name in COMPILERS if shutil.which(name)][:1]
    if not compiler:
        raise FileNotFoundError(f"no C compiler was found ({', '.join(COMPILERS)}); install one, or name it in CC")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".kernel-") as folder:
        made = Path(folder) / target.name
        command = [*compiler, *FLAGS, *more, f'-DSTAMP="{stamp()}"', "-o", str(made), str(SOURCE), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST_SECONDS)  # noqa: S603 - our file, the user's compiler
        if done.returncode:
            raise OSError(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")
        made.replace(target)
    return target


def main() -> int:
    """Build it and say so."""
    parser = argparse.ArgumentParser(prog="python -m saec.build_kernel", description="Build the compiled kernel.")
    parser.add_argument("--if-possible", action="store_true", help="exit with 0 also where it cannot be built")
    options = parser.parse_args()
    try:
        said, status = f"saec: built {build()}", 0
    except (OSError, subprocess.SubprocessError) as error:
        said, status = f"saec: scoring will run in numpy, as the compiled kernel cannot be built: {error}", 1
    sys.stderr.write(f"{said}\n")
    return 0 if options.if_possible else status


if __name__ == "__main__":
    sys.exit(main())
