"""Faults put into the code on purpose, and the list of those that no test needs to notice."""

import ast

import pytest

from benchmarks import mutation
from benchmarks.mutation import ROOMS, ROOT, faults, known, sample

SOURCE = '''
"""A module."""
LIMIT = 3

def clipped(value: int = 1) -> int:
    """At most the limit."""
    reached("a fail point")
    note(value)
    if not value or value > LIMIT:
        return LIMIT - 1
    return value if value else 0
'''


def test_each_fault_is_one_change():
    """Comparisons, joins, signs, numbers, choices and calls; neither docstrings, types nor fail points."""
    found = [f"{fault.was} -> {fault.now}" for fault, _ in faults("m.py", SOURCE)]
    assert found == [
        "LIMIT = 3 -> LIMIT = 4",
        "1 -> 2",
        "note(value) -> pass",
        "not value or value > LIMIT -> not value and value > LIMIT",
        "not value -> value",
        "value > LIMIT -> value >= LIMIT",
        "LIMIT - 1 -> LIMIT + 1",
        "LIMIT - 1 -> LIMIT - 2",
        "value if value else 0 -> value",
        "value if value else 0 -> 0",
        "value if value else 0 -> value if value else 1",
    ]
    sources = [ast.unparse(ast.parse(make())) for _, make in faults("m.py", SOURCE)]
    assert len(set(sources)) == len(sources), "each is another module"
    assert ast.unparse(ast.parse(SOURCE)) not in sources, "and none is the module as it was"


@pytest.mark.parametrize(
    "room", [pytest.param(room, marks=pytest.mark.slow) if room in ("gate", "vocabulary") else room for room in ROOMS]
)  # the two largest
def test_a_sample_is_drawn_from_its_seed(room):
    """Modules and tests are there; the same seed draws the same faults, another seed others."""
    modules, tests = ROOMS[room]
    assert list(ROOT.glob(modules))
    assert (ROOT / tests).exists()
    first, again, other = ([fault for fault, _ in sample(room, 5, seed)] for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 5


def test_every_survivor_that_is_listed_can_still_be_made():
    """It names a fault of the code as it is, and a reason."""
    made = {
        fault
        for module in {fault.module for fault in known()}
        for fault, _ in faults(module, (ROOT / module).read_text(encoding="utf-8"))
    }
    assert not [str(fault) for fault in known() if fault not in made]
    assert all(len(reason.split()) > 5 for reason in known().values())


@pytest.mark.slow  # a fork that runs the tests of a module
def test_a_fault_is_noticed_by_the_tests_of_its_module(tmp_path):
    """In a copy of the project, which is left as it was."""
    (tmp_path / "saec").mkdir()
    (tmp_path / "saec" / "__init__.py").touch()
    module = tmp_path / "saec" / "m.py"
    module.write_text("def double(value):\n    return value + value\n", encoding="utf-8")
    (tmp_path / "test_m.py").write_text(
        "from saec.m import double\n\ndef test_it():\n    assert double(2) == 4\n    assert double(0) == 0\n",
        encoding="utf-8",
    )
    [(fault, make)] = faults("saec/m.py", module.read_text(encoding="utf-8"))
    assert not mutation.survives(tmp_path, fault, make(), "test_m.py")
    assert mutation.survives(tmp_path, fault, "def double(value):\n    return 2 * value\n", "test_m.py")
    assert "value + value" in module.read_text(encoding="utf-8")
