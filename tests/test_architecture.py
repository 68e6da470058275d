"""What may import what, and what nothing may import: the rules of CONTRIBUTING.md, read off the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("saec/**/*.py"), *ROOT.glob("flows/**/*.py")])

LAYERS = (  # from the ground up; a module imports from its own layer and those below
    ("saec.errors", "saec.hours", "saec.layout", "saec.hour_layout", "saec.config", "saec.durable", "saec.failpoints",
     "saec.plain_json", "saec.build_kernel"),
    ("saec.data",), ("saec.gate.metrics",), ("saec.discover",),
    ("saec.compress.index", "saec.compress.places", "saec.store.manifest", "saec.store.objects", "saec.store.staging"),
    ("saec.serving",), ("saec.export",),
    ("saec.model",), ("saec.train",), ("saec.compress",), ("saec.gate",), ("saec.store",),
    ("saec.ledger",), ("saec.workspace",), ("saec.space", "saec.carry"), ("saec.records",), ("saec.met",),
    ("saec.steps",),
    ("saec.schedule.planner", "saec.logs"), ("saec.server",), ("saec.schedule.retries",),
    ("saec.schedule.late", "saec.schedule.tidy"),
    ("saec.schedule.progress",), ("saec.schedule.lease",), ("saec.integrity",), ("saec.monitoring",),
    ("saec.schedule.pipeline",), ("saec.schedule.backfill",), ("saec.schedule",), ("saec.report",), ("saec.cli",),
    ("flows",),
)
PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
PICKLING_CALLS = {"torch.load", "torch.save", "np.load", "np.save", "numpy.load", "numpy.save", "pd.read_pickle"}


def module_name(path: Path) -> str:
    """Dotted name of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, with `from a import b` given as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    """What one source file imports."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return set(imported(ast.parse(path.read_text(encoding="utf-8")), package))


def layer_of(module: str) -> int | None:
    """Height of a module: the bare package and the leaves are the ground; None for what has no place."""
    if module == "saec":
        return 0
    for height, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return height
    return None


@pytest.fixture(params=SOURCES, ids=module_name)
def source(request: pytest.FixtureRequest) -> Path:
    """One source file of saec or flows."""
    return request.param


def test_a_module_says_what_it_is_for(source):
    """Every module opens with a docstring."""
    assert ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))), f"{source} has no docstring"


def test_the_library_needs_no_server(source):
    """Saec imports neither prefect nor flows."""
    roots = {name.partition(".")[0] for name in imports_of(source)}
    assert module_name(source).startswith("flows") or not roots & {"prefect", "flows"}


def test_arrows_go_one_way(source):
    """A module imports from its own layer and those below it, never from above."""
    height = layer_of(module_name(source))
    assert height is not None, f"{module_name(source)} has no place in LAYERS of this test: give it one"
    above = {name for name in imports_of(source) if (layer_of(name) or 0) > height}
    assert not above, f"{module_name(source)} imports from a layer above it: {sorted(above)}"


@pytest.mark.fault(71)
def test_nothing_is_pickled(source):
    """No module imports a pickler or calls a loader that unpickles."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not {name.partition(".")[0] for name in imports_of(source)} & PICKLERS
    assert not calls & PICKLING_CALLS


@pytest.mark.parametrize(("text", "package", "expected"), [
    ("import prefect.flows", "saec.data", {"prefect.flows"}),
    ("def f():\n    from flows import hourly", "saec.data", {"flows.hourly"}),
    ("from ..store import versions", "saec.data", {"saec.store.versions"}),
    ("from . import batches", "saec.data", {"saec.data.batches"}),
])
def test_imports_are_found_wherever_they_stand(text, package, expected):
    """Imports inside functions and relative ones are seen too, so the tests above cannot pass by not looking."""
    assert set(imported(ast.parse(text), package)) == expected
