"""What may import what, and what nothing may import: the rules of CONTRIBUTING.md, read off the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("saec/**/*.py"), *ROOT.glob("flows/**/*.py")])

LAYERS = (  # from the ground up; a module imports from its own layer and those below
    (
        "saec.errors",
        "saec.hours",
        "saec.layout",
        "saec.hour_layout",
        "saec.constants",
        "saec.config",
        "saec.settings_digest",
        "saec.settings_file",
        "saec.durable",
        "saec.failpoints",
        "saec.plain_json",
        "saec.build_kernel",
    ),
    ("saec.data",),
    (
        "saec.device",
        "saec.gate.metrics",
    ),
    ("saec.discover",),
    (
        "saec.compression.index",
        "saec.compression.index_build",
        "saec.compression.index_layout",
        "saec.compression.peeling",
        "saec.compression.places",
        "saec.compression.quantised",
        "saec.serving.kernel",
        "saec.store.manifest",
        "saec.store.objects",
        "saec.store.staging",
    ),
    ("saec.serving",),
    ("saec.export",),
    ("saec.model",),
    ("saec.train",),
    ("saec.compression",),
    ("saec.gate",),
    ("saec.store",),
    ("saec.ledger",),
    ("saec.workspace",),
    ("saec.space", "saec.carry"),
    ("saec.records",),
    ("saec.hour_figures", "saec.hour_over_ranks", "saec.hour_record", "saec.met"),
    ("saec.steps",),
    ("saec.schedule.planner", "saec.logs"),
    ("saec.server",),
    ("saec.schedule.retries",),
    ("saec.schedule.late", "saec.schedule.tidy"),
    ("saec.schedule.progress",),
    ("saec.schedule.lease",),
    ("saec.integrity",),
    ("saec.mirrors",),
    ("saec.monitoring",),
    ("saec.schedule.pipeline",),
    ("saec.schedule.backfill",),
    ("saec.schedule",),
    ("saec.tuning",),
    ("saec.report",),
    ("saec.cli", "saec.__main__"),
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


def layer_of(module: str) -> int | None:
    """Height of a module: the bare package and the leaves are the ground; None for what has no place."""
    if module == "saec":
        return 0
    for height, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return height
    return None


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every module of saec and flows, parsed; more than two hundred of them."""
    found = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert len(found) > 200
    return found


@pytest.fixture(scope="module")
def imports(trees) -> dict[str, set[str]]:
    """What each module imports."""
    packages = {module_name(path): path.name == "__init__.py" for path in SOURCES}
    return {
        name: set(imported(tree, name if packages[name] else name.rpartition(".")[0])) for name, tree in trees.items()
    }


def roots(names: set[str]) -> set[str]:
    """The packages that modules are of."""
    return {name.partition(".")[0] for name in names}


def test_the_order_is_the_documented_one():
    """docs/architecture.md lists the layers as they are here, the topmost first."""
    order = "\n".join(" ".join(names) for names in reversed(LAYERS))
    assert f"```text\n{order}\n```" in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_a_module_says_what_it_is_for(trees):
    """Every module opens with a docstring."""
    assert [name for name, tree in trees.items() if not ast.get_docstring(tree)] == []


def test_the_library_needs_no_server(imports):
    """Saec imports neither prefect nor flows."""
    of_saec = {name: roots(names) for name, names in imports.items() if not name.startswith("flows")}
    assert [name for name, names in of_saec.items() if names & {"prefect", "flows"}] == []


def test_arrows_go_one_way(imports):
    """A module imports from its own layer and those below it, never from above."""
    homeless = [name for name in imports if layer_of(name) is None]
    assert homeless == [], "these have no place in LAYERS of this test: give them one"
    above = {
        name: found
        for name, names in imports.items()
        if (found := {other for other in names if (layer_of(other) or 0) > layer_of(name)})
    }
    assert above == {}, "these import from a layer above them"


@pytest.mark.fault(71)
def test_nothing_is_pickled(trees, imports):
    """No module imports a pickler or calls a loader that unpickles."""
    assert {name: found for name, names in imports.items() if (found := roots(names) & PICKLERS)} == {}
    calls = {
        name: {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for name, tree in trees.items()
    }
    assert {name: found for name, made in calls.items() if (found := made & PICKLING_CALLS)} == {}


@pytest.mark.parametrize(
    ("text", "package", "expected"),
    [
        ("import prefect.flows", "saec.data", {"prefect.flows"}),
        ("def f():\n    from flows import hourly", "saec.data", {"flows.hourly"}),
        ("from ..store import versions", "saec.data", {"saec.store.versions"}),
        ("from . import batches", "saec.data", {"saec.data.batches"}),
    ],
)
def test_imports_are_found_wherever_they_stand(text, package, expected):
    """Imports inside functions and relative ones are seen too, so the tests above cannot pass by not looking."""
    assert set(imported(ast.parse(text), package)) == expected
