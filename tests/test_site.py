"""The site builds strictly, shows every document and loads nothing from elsewhere; the notebook of the library runs."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

NOTEBOOK = "docs/library.ipynb"


@pytest.fixture(scope="module")
def pages(root) -> list[str]:
    """All pages that the navigation names, in its order."""
    navigation = yaml.safe_load((root / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    return [page for section in navigation for listed in section.values() for page in listed]


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    """The site, built as `make site` builds it."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


class Loaded(HTMLParser):
    """What a page loads by itself."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        """Scripts, styles, pictures and frames; links that a reader clicks are not loaded."""
        if tag in {"script", "link", "img", "iframe", "source"}:
            given = dict(attributes)
            self.found += [value for name in ("src", "href") if (value := given.get(name))]


def test_every_document_has_its_place(root, pages):
    """The navigation names each document once, and none that is not there."""
    there = {path.relative_to(root / "docs").as_posix() for path in (root / "docs").glob("**/*.md")}
    assert sorted(pages) == sorted(there)


def test_a_newcomer_begins_at_the_front(pages):
    """What it is, then what to do, then words."""
    assert pages[:2] == ["index.md", "tutorial.md"]


@pytest.mark.slow
def test_reference_pages_show_signatures_and_examples(site):
    """Classes and functions are there with their parameters and with an example as code."""
    for page, names in {
        "compress": ["compress", "rows_of", "CompressedTable", "Sizes"],
        "estimator": ["FieldKMeans"],
        "models": ["Original", "Challenger", "Model"],
        "gate": ["judge", "Verdict", "Status", "Evidence"],
    }.items():
        text = (site / "reference" / f"{page}.html").read_text(encoding="utf-8")
        for name in names:
            assert re.search(rf'<h\d id="saec\.[\w.]*\.{name}"', text), f"{page} does not show {name}"
        assert text.count("Examples:") >= len(names), page
        assert "<blockquote>" not in text, "an example outside of `Examples:` comes out as a quotation"


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    """No fonts, scripts or counters of others: it opens from a folder without a network."""
    for page in site.glob("**/*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.found
        assert not [name for name in loaded.found if re.match(r"(\w+:)?//", name)], page.name


def test_the_notebook_is_kept_without_output(root):
    """Outputs are made anew by whoever runs it."""
    cells = nbformat.read(root / NOTEBOOK, 4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs(root, monkeypatch):
    """From top to bottom, with a plot; a hundredth of the bytes costs less than 0.003 of AUC."""
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(root / NOTEBOOK, 4)
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(root)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    lines = "\n".join(output.get("data", {}).get("text/plain", "") for output in shown)
    original, saec = (
        re.search(rf"{name} +(\d+) +([\d.]+) +([\d.]+) +([\d.]+)", lines).groups()
        for name in ("original, float32", "saec, 1/100")
    )
    assert float(saec[1]) >= 100
    assert float(original[3]) - float(saec[3]) < 0.003
