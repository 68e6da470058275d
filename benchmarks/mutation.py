"""Measures whether the tests notice when the code is wrong, by planting small faults: `python -m benchmarks.mutation`.

Decisions: the faults are a sample, drawn from a seed, in the modules on which the served model depends (`ROOMS`). Each
runs against the tests that mirror its module, so that a run takes minutes and not days. A fault is one change of the
syntax tree: a comparison shifted by one or reversed, `and` for `or`, a condition or a call left out, another sign, a
number changed by one. Mutation tools have no seeded sample and start Python anew for each fault; here the imports of
the tests are done once, and each fault is tried in a fork. A survivor is either a missing test or a change that cannot
matter. Known survivors are listed in `survivors.toml` with a reason each; any other one makes the exit code 1.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.record import Figures

ROOT = Path(__file__).resolve().parent.parent
SURVIVORS = Path(__file__).parent / "survivors.toml"
ROOMS: dict[str, tuple[str, str]] = {
    "gate": ("saec/gate/*.py", "tests/gate"),
    "codes": ("saec/compression/codes.py", "tests/compression/test_codes.py"),
    "index": ("saec/compression/index*.py", "tests/compression/test_index.py"),
    "clustering": ("saec/compression/clustering.py", "tests/compression/test_clustering.py"),
    "vocabulary": ("saec/data/vocabulary.py", "tests/data/test_vocabulary.py"),
    "releases": ("saec/store/releases.py", "tests/store/test_releases.py"),
    "planner": ("saec/schedule/planner.py", "tests/schedule/test_planner.py"),
    "lease": ("saec/schedule/lease.py", "tests/schedule/test_lease.py"),
}
"""Modules, and the tests that are to notice."""
HEAVY = (
    "torch",
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "sklearn.metrics",
    "sqlalchemy",
    "hypothesis",
    "pytest",
    "obstore",
)
"""Packages that the tests import and in which no fault is planted."""
COPIED = ("saec", "tests", "flows", "benchmarks", "configs", "pyproject.toml")
MOST_SECONDS = 120
"""CPU seconds after which a fault counts as noticed, because it makes the code loop for ever."""

_SHOWN = (ast.expr, ast.keyword, ast.Assign, ast.Return)
"""The nodes with which a number is shown, to tell it from the other numbers of its function."""
_QUIET = ("reached", "log.")
"""Calls that do nothing unless a test asks for it: fail points and log lines."""
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_SIGNS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


@dataclass(frozen=True)
class Fault:
    """One change of a module; it is known again by what it changes, wherever that has moved to in its function."""

    module: str
    """Path of the module within the project."""
    function: str
    """Where, as `Class.method`; empty at the module's level."""
    was: str
    """The statement's or expression's source before."""
    now: str
    """And after."""

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.module} {self.function or '(module)'}: {self.was}  ->  {self.now}"


def faults(module: str, source: str) -> list[tuple[Fault, Callable[[], str]]]:
    r"""Every fault that is tried in a module, with what makes the module's source as it then is, in its order.

    >>> [fault.now for fault, _ in faults("m.py", "def f(a):\n    return a < 3")]
    ['a <= 3', 'a < 4']
    """
    tree = ast.parse(source)
    return [
        (Fault(module, function, ast.unparse(shown), _with(shown, node, changed)), partial(_with, tree, node, changed))
        for function, node, around in _places(tree)
        for changed in _changes(node)
        for shown in [around if isinstance(node, ast.Constant) and isinstance(around, _SHOWN) else node]
    ]


def _places(tree: ast.AST, function: str = "") -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Every node with the function that it is in and the node around it; what only types or people read is left out."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_text(child) or _for_types(child):
                continue
            inner = function
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{function}.{child.name}".lstrip(".")
            yield inner, child, tree
            yield from _places(child, inner)


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a docstring, or an f-string, whose words are no decision."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What a node may become."""
    changed = copy.deepcopy(node)
    match changed:
        case ast.Compare(ops=[one]) if type(one) in _COMPARISONS:
            changed.ops = [_COMPARISONS[type(one)]()]
            yield changed
        case ast.BoolOp():
            changed.op = ast.Or() if isinstance(changed.op, ast.And) else ast.And()
            yield changed
        case ast.UnaryOp(op=ast.Not()):
            yield changed.operand
        case ast.BinOp(op=sign) if type(sign) in _SIGNS and not isinstance(changed.left, ast.JoinedStr):
            changed.op = _SIGNS[type(sign)]()
            yield changed
        case ast.IfExp():
            yield changed.body
            yield changed.orelse
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Expr(value=ast.Call(func=called)) if not ast.unparse(called).startswith(_QUIET):
            yield ast.Pass()


def _with(tree: ast.AST, node: ast.AST, changed: ast.AST) -> str:
    """The source of a tree with another node in the place of one; the tree itself stays."""

    class Replace(ast.NodeTransformer):
        def visit(self, found: ast.AST) -> ast.AST:
            return changed if found is node else self.generic_visit(found)

    if tree is node:
        return ast.unparse(changed)
    memo = {id(node): node}  # deep copies keep this one node, so that it is found
    return ast.unparse(ast.fix_missing_locations(Replace().visit(copy.deepcopy(tree, memo))))


def known(path: Path = SURVIVORS) -> dict[Fault, str]:
    """The survivors that are known, with the reason of each."""
    listed = tomllib.loads(path.read_text(encoding="utf-8"))["survivor"]
    return {
        Fault(**{name: item[name] for name in ("module", "function", "was", "now")}): item["reason"] for item in listed
    }


def sample(room: str, count: int, seed: int) -> list[tuple[Fault, Callable[[], str]]]:
    """So many faults of a room, drawn from the seed; all, in their order, where it has no more."""
    found = [
        entry
        for path in sorted(ROOT.glob(ROOMS[room][0]))
        for entry in faults(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    drawn = sorted(random.Random(f"{seed} {room}").sample(range(len(found)), min(count, len(found))))
    return [found[place] for place in drawn]


def survives(folder: Path, fault: Fault, source: str, tests: str) -> bool:
    """Whether a copy of the project passes the tests with a fault in it; the copy is left as it was."""
    place = folder / fault.module
    whole = place.read_bytes()
    place.write_text(source, encoding="utf-8")
    try:
        return _tested(folder, tests) == 0
    finally:
        place.write_bytes(whole)


def _tested(folder: Path, tests: str) -> int:
    """Exit code of the tests in a fork of this process, which has imported what they import."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    import pytest  # noqa: PLC0415 - only the child needs it

    code: int = 70
    with contextlib.suppress(BaseException):
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)  # its signal ends the process
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        sys.dont_write_bytecode = True
        for name in [name for name in sys.modules if name.split(".")[0] in ("saec", "tests", "benchmarks", "flows")]:
            del sys.modules[name]
        with contextlib.redirect_stdout(io.StringIO()):
            code = int(pytest.main([tests, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]))
    os._exit(code)


def main() -> int:
    """Try a sample of each room, and say what survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=[*ROOMS], help="which rooms")
    parser.add_argument("--sample", type=int, default=12, help="faults of each room")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for name in HEAVY:
        importlib.import_module(name)
    reasons, figures, unknown = known(), Figures("mutation"), 0
    with tempfile.TemporaryDirectory(prefix="saec-mutation-") as scratch:
        folder = Path(scratch)
        for name in COPIED:
            place = ROOT / name
            (shutil.copytree if place.is_dir() else shutil.copy2)(place, folder / name)
        for room in given.rooms:
            drawn, tests, started = sample(room, given.sample, given.seed), ROOMS[room][1], time.monotonic()
            if _tested(folder, tests):
                print(f"{room}: {tests} fails without any fault; nothing can be told", file=sys.stderr)
                return 2
            survivors = [fault for fault, source in drawn if survives(folder, fault, source(), tests)]
            for fault in survivors:
                print(f"survived, {reasons.get(fault, 'NOT LISTED')}: {fault}", flush=True)
            new = sum(fault not in reasons for fault in survivors)
            unknown += new
            took = time.monotonic() - started
            print(f"{room}: {len(drawn) - len(survivors)} of {len(drawn)} noticed, {took:.0f} s", flush=True)
            figures.add(f"{room}: faults noticed", f"{len(drawn) - len(survivors)} of {len(drawn)}", "faults")
            figures.add(f"{room}: survivors without a reason", new, "faults", "0", new == 0)
    figures.finish()
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
