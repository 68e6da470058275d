"""docs/commands.md, docs/configuration.md and docs/types.md match the code."""

import pytest

from saec.cli import docs
from saec.cli.main import cli
from saec.config import Config
from saec.data.types import SOURCES, WANTED


@pytest.mark.parametrize("page", ["commands", "configuration", "types"])
def test_pages_are_not_stale(root, page):
    """A command or knob that changes changes its page: run `python -m saec.cli.docs`."""
    assert (root / "docs" / f"{page}.md").read_text(encoding="utf-8") == getattr(docs, f"{page}_page")(), (
        "stale: run python -m saec.cli.docs"
    )


def test_every_knob_has_its_line():
    """No setting is without a line beneath it."""
    lines = [line for line in docs.configuration_page().splitlines() if line.startswith("| `")]
    assert len(lines) >= len(Config.model_fields)
    assert not [line for line in lines if line.rstrip().endswith("|  |")]


def test_a_knob_is_one_row_however_its_line_is_broken():
    """Each row of a settings' table is a whole line; a choice of a number or a word shows the word."""
    page = docs.configuration_page()
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    assert "| `ratio` | number ≥ 1 or `auto` | `100.0` |" in page


def test_every_source_has_a_row_for_every_use():
    """Each source of values, what counts as it, and each use of it."""
    lines = docs.types_page().splitlines()
    assert all(any(line.startswith(f"| {source} |") for line in lines) for source in SOURCES)
    assert {line.count("|") for line in lines if line.startswith("| integer | by value")} == {len(WANTED) + 2}


def test_every_command_has_its_section():
    """Commands of groups too."""
    page = docs.commands_page()
    assert all(f"### saec {name}\n" in page for name in [*cli.commands, "import avazu", "import criteo"])


def test_pages_are_written_where_asked(tmp_path):
    """All pages, whole."""
    assert [path.name for path in docs.write(tmp_path)] == ["commands.md", "configuration.md", "types.md"]
    assert (tmp_path / "commands.md").read_text(encoding="utf-8") == docs.commands_page()
