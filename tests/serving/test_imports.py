"""`saec.serving` needs numpy and the standard library; whoever serves installs nothing of training."""

import subprocess
import sys

import numpy as np

HEAVY = ("torch", "pydantic", "prefect", "pyarrow", "yaml", "scipy", "pandas", "sqlalchemy", "click", "obstore")
BLOCKER = """
import sys, json, importlib.abc

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "numpy", "safetensors", "saec"}:
            raise ModuleNotFoundError(f"{name} is not to be had here")

sys.meta_path.insert(0, Blocker())
"""


def python(script: str, *arguments: object) -> str:
    """What a fresh interpreter prints."""
    script = f"import sys; sys.path[:] = {sys.path!r}\n{script}"
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True
    ).stdout


def test_importing_it_loads_nothing_heavy():
    """In a fresh interpreter, none of the pipeline's libraries comes along."""
    found = python("import saec.serving\nprint(*sorted({name.partition('.')[0] for name in sys.modules}))").split()
    assert "numpy" in found
    assert not set(HEAVY) & set(found)


def test_it_scores_where_there_is_nothing_but_numpy(published, model, row):
    """With every other package out of reach, a version is opened, checked, and scores as it does here."""
    wanted_B = model.score([row, row | {"user": 10**15}])
    script = (
        BLOCKER
        + """
from saec.serving import Model
model = Model.open(sys.argv[1])
model.check()
row = json.loads(sys.argv[2])
print(json.dumps(model.score([row, row | {"user": 10**15}]).tolist()))
try:
    import torch
except ModuleNotFoundError:
    print("blocked")
"""
    )
    import json  # noqa: PLC0415 - as the script does

    scores, blocked = python(script, published.folder, json.dumps(row | {"at": row["at"].isoformat()})).splitlines()
    np.testing.assert_allclose(json.loads(scores), wanted_B, rtol=0, atol=1e-6)
    assert blocked == "blocked"
