"""docs/reliability.md lists every fault with the tests that hold it, docs/inputs.md every case of issue 12 likewise."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FAULTS = range(1, 75)
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \|$", re.MULTILINE)

CASE = re.compile(r"^\| (\d+) \| .+ \| (.+?) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def told() -> dict[int, str]:
    """The last cell of each fault's row."""
    rows = ROW.findall((ROOT / "docs" / "reliability.md").read_text(encoding="utf-8"))
    assert [int(number) for number, _, _ in rows] == [*FAULTS]
    return {int(number): held for number, _, held in rows}


def marked(source: str, mark: str = "fault") -> dict[int, set[str]]:
    """The tests of a file by the numbers that `pytest.mark.fault(...)` says they hold, on the test or a parameter."""
    tests = defaultdict(set)
    for node in ast.walk(ast.parse(source)) if f"pytest.mark.{mark}" in source else ():
        if not isinstance(node, ast.FunctionDef):
            continue
        for call in (call for decorator in node.decorator_list for call in ast.walk(decorator)):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == f"pytest.mark.{mark}":
                for argument in call.args:
                    tests[ast.literal_eval(argument)].add(node.name)
    return tests


def test_the_table_and_the_tests_agree(told):
    """Each row names exactly the tests that are marked with its number; one without any gives a reason."""
    tests = defaultdict(set)
    for path in ROOT.glob("tests/**/*.py"):
        for number, names in marked(path.read_text(encoding="utf-8")).items():
            tests[number] |= names
    named = {number: set(re.findall(r"`(test_\w+)`", held)) for number, held in told.items()}
    assert {number: names for number, names in named.items() if names != tests[number]} == {}
    assert not set(tests) - set(FAULTS)


def test_the_cases_and_the_tests_agree():
    """Each row of docs/inputs.md names exactly the tests that are marked with its number, and none is empty."""
    rows = CASE.findall((ROOT / "docs" / "inputs.md").read_text(encoding="utf-8"))
    tests = defaultdict(set)
    for path in ROOT.glob("tests/**/*.py"):
        for number, names in marked(path.read_text(encoding="utf-8"), "case").items():
            tests[number] |= names
    assert [int(number) for number, _ in rows] == [*range(1, 23)]
    assert {int(number): set(re.findall(r"`(test_\w+)`", held)) for number, held in rows} == tests


def test_marks_are_found():
    """Marks on a test and on a parameter count; so the test above cannot pass by not looking."""
    source = """
@pytest.mark.fault(3, 4)
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.fault(5))])
def test_it(x): ...
"""
    assert marked(source) == {3: {"test_it"}, 4: {"test_it"}, 5: {"test_it"}}
