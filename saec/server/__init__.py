"""The model server: the live version over HTTP, followed from release to release.

Decisions: matrix products take one thread unless the environment says otherwise, and it must be said before numpy is
loaded. Those of a request are too small to share out: with a thread a core, on two busy cores, a hundred candidates
took 25 ms where one thread takes 1.4. More cores are used by more processes.
"""

import os

for _library in ("OPENBLAS", "MKL", "OMP"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
