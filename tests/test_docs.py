"""The documents: what they show runs, what they name exists, and no file tells of the machine it was made on."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import takewhile
from pathlib import Path

import click
import pytest
from markdown_it import MarkdownIt

import saec
from saec.cli.main import cli
from saec.constants import TRIAL
from saec.settings_file import load_config

ROOT = Path(__file__).parent.parent
HISTORY = {"CHANGELOG.md", "LOG.md"}  # they tell of what was, also of names that are gone
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMED = [path for path in DOCUMENTS if path.name not in HISTORY]
SHELL = {".", "env", "export", "time"}
FILE_NAME = re.compile(r"[\w.-]+/|[\w.-]+\.\w+|LICENSE|Makefile|Dockerfile")
TELLTALES = (
    re.compile(r"(?<![\w.$}/-])/(?:work|opt|root|home|mnt|srv|Users)(?:/|\b(?!\w))"),
    re.compile(r"pypi[.]|pythonhosted|artifactory|devpi|download[.]pytorch", re.IGNORECASE),
)
"""Paths of a machine, and package registries."""
HOST = re.compile(r"\w+://(?:[^\s/@\"'`]*@)?([\w-]+(?:\.[\w-]+)*)")
HOSTS = {
    "127.0.0.1",
    "0.0.0.0",
    "localhost",
    "server",
    "postgres",
    "store",
    "models",
    "host",
    "bucket",
    "x",
    "www.apache.org",
    "www.w3.org",
    "db",
    "saec",
    "CATALOG",
}


def name_of(path: Path) -> str:
    """A document's name within the project."""
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(params=DOCUMENTS, ids=name_of)
def document(request) -> Path:
    return request.param


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Every file of the project, also those not committed yet."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout, so nobody knows which files are the project's")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages."""
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of every command of a document, comments left out."""
    lines = "".join(blocks(text, "bash", "console", "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]


def check_saec(words: list[str]) -> None:
    """Every subcommand and option that is given exists."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        assert words, f"{command.name} wants a subcommand"
        name, *words = words
        assert name in command.commands, f"saec has no command {name!r}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = {word for word in words if word.startswith("--")} - known
    assert not unknown, f"saec {command.name} has no {sorted(unknown)}"


def check_command(words: list[str]) -> None:
    """The command is one of ours, or a shell's own."""
    if words[:2] == ["env", "time"]:
        words = words[3:] if words[2] == "-v" else words[2:]
    match words:
        case ["saec", *rest]:
            check_saec(rest)
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            missing = [target for target in targets if "=" not in target and f"\n{target}:" not in makefile]
            assert not missing, f"the Makefile has no {missing}"
        case ["python", "-m", module, *_]:
            assert exists(module), f"there is no module {module}"
        case _:
            assert words[0] in SHELL, f"nobody knows the command {words[0]!r}"


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module of ours, or is defined in one (a class's members count)."""
    parts = dotted.split(".")
    if parts[0] == "saec" and parts[1] in saec.__all__:
        return True
    for length in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:length])
        source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if source.is_file():
            return defines(parsed(source), parts[length:])
    return False


@cache
def parsed(source: Path) -> list[ast.stmt]:
    """What a module says; documents name many things of the same few."""
    return ast.parse(source.read_text(encoding="utf-8")).body


def defines(body: list[ast.stmt], names: list[str]) -> bool:
    """Whether a chain of names leads through definitions."""
    if not names:
        return True
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == names[0]:
            return defines(node.body, names[1:])
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == names[0] for target in targets):
                return len(names) == 1
    return False


def tree(architecture: str) -> Iterator[str]:
    """The names that the lines of the file tree start with; an indented line's are in the folder above it."""
    folder, listing = "", blocks(architecture.partition("## Rooms")[2], "text")[0]
    for line in listing.splitlines():
        names = list(takewhile(FILE_NAME.fullmatch, line.split()))
        assert names, f"the file tree's line {line!r} names no file"
        folder = folder if line.startswith(" ") else names[0]
        yield from (folder + name if line.startswith(" ") else name for name in names)


@pytest.mark.parametrize(
    "words",
    [words for name in ("README.md", "docs/guide.md") for words in commands((ROOT / name).read_text(encoding="utf-8"))],
    ids=" ".join,
)
def test_every_command_of_readme_and_guide_exists(words):
    """Commands, options, make targets and modules that they show are there."""
    check_command(words)


@pytest.mark.parametrize(
    "words",
    [
        ["saec", "rum"],
        ["saec", "run", "--hours"],
        ["saec", "import"],
        ["make", "runn"],
        ["python", "-m", "flows.nightly"],
        ["curl", "x"],
    ],
    ids=" ".join,
)
def test_unknown_commands_are_found(words):
    """The test above cannot pass by not looking."""
    with pytest.raises(AssertionError):
        check_command(words)


def test_links_lead_somewhere(document):
    """Every relative link or picture of a document is a file of the project."""
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    local = [target.partition("#")[0] for target in targets if "://" not in target]
    assert not [target for target in local if target and not (document.parent / target).is_file()]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_anchors_lead_somewhere(document):
    """A link into a page names a heading of it."""
    text = document.read_text(encoding="utf-8")
    lost = []
    for target in re.findall(r"\]\(([^)\s]*#[^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        if "://" in target or (name and not name.endswith(".md")):
            continue
        page = (document.parent / name).read_text(encoding="utf-8") if name else text
        if anchor not in {slug(heading) for heading in re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)}:
            lost.append(target)
    assert not lost


def broken_tables(text: str) -> list[str]:
    """Lines meant as tables that do not render as such, and rows of tables with too few or too many cells."""
    outside = re.sub(r"^```.*?^```", lambda code: "\n" * code[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    lines, rendered = outside.splitlines(), set()
    broken = []
    for token in MarkdownIt("commonmark").enable("table").parse(outside):
        if token.type == "table_open":
            first, last = token.map
            cells = [len(re.findall(r"(?<!\\)\|", line.strip().strip("|"))) for line in lines[first:last]]
            broken += [lines[first + row] for row, count in enumerate(cells) if count != cells[0]]
            rendered |= set(range(first, last))
    meant = {number for number, line in enumerate(lines) if re.match(r"\s*\|", line)}
    return broken + [lines[number] for number in sorted(meant - rendered)]


def test_tables_render(document):
    """Every table is one in Markdown, and its rows have as many cells as its head."""
    assert not broken_tables(document.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text", ["| a | b |\n|---|---|\n| 1 |\n", "| a | b |\n| 1 | 2 |\n", "word\n\n| a |\n\n|---|\n| 1 |\n"]
)
def test_broken_tables_are_found(text):
    """The test above cannot pass by not looking."""
    assert broken_tables(text)


@pytest.mark.parametrize("path", NAMED, ids=name_of)
def test_every_name_in_the_documents_exists(path):
    """Modules, classes, functions and files that a document names in backticks are there."""
    text = path.read_text(encoding="utf-8")
    dotted = re.findall(r"`((?:saec|flows|benchmarks)(?:\.(?!yaml`)\w+)+)`", text)
    files = re.findall(r"`((?:saec|flows|benchmarks|configs|docs|requirements|tests)/[\w./-]*)`", text)
    assert not [name for name in dotted if not exists(name)] + [name for name in files if not (ROOT / name).exists()]


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("saec.hours.Hour.parse", True),
        ("saec.data", True),
        ("saec.errors.HourHeld", True),
        ("saec.compress", True),
        ("saec.schedule.lease.LEASE_SECONDS", True),
        ("saec.hours.Hour.guess", False),
        ("saec.nothing", False),
        ("saec.compres", False),
        ("saec.errors.Nothing", False),
    ],
)
def test_names_are_looked_up(name, there):
    """Modules, classes, methods and constants are told from names that are none."""
    assert exists(name) is there


def test_the_guides_settings_load(tmp_path, monkeypatch):
    """The example of one's own data is a valid configuration."""
    monkeypatch.delenv(TRIAL)
    (example,) = blocks((ROOT / "docs" / "guide.md").read_text(encoding="utf-8"), "yaml")
    (tmp_path / "shop.yaml").write_text(example, encoding="utf-8")
    assert load_config(tmp_path / "shop.yaml").field_names[-1] == "user_id&hour_of_day"


def test_the_file_tree_is_that_of_the_project(files):
    """The tree shows everything at the top and everything in saec, and nothing that is not there."""
    shown = list(tree((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))
    assert not [name for name in shown if not (ROOT / name).exists()]
    parts = [path.relative_to(ROOT).parts for path in files]
    there = {part[0] for part in parts} | {f"saec/{part[1]}" for part in parts if part[0] == "saec"}
    untold = {name for name in there if name.startswith((".", "saec/__", "saec/py.typed"))}
    assert not there - untold - {name.rstrip("/") for name in shown}


def telltales(text: str) -> list[str]:
    """What in a text names a package registry, a host that is not known to be harmless, or a path of a machine."""
    found = [match for pattern in TELLTALES for match in pattern.findall(text)]
    return found + [host for host in HOST.findall(text) if host not in HOSTS]


def test_nothing_tells_of_the_machine(files):
    """No file but this one tells where it was written or where its packages came from."""
    told = {}
    for file in files:
        with suppress(UnicodeDecodeError):  # a picture
            told[name_of(file)] = telltales(file.read_text(encoding="utf-8"))
    assert not {name: found for name, found in told.items() if found and name != name_of(Path(__file__))}


@pytest.mark.parametrize(
    "text", ["cd /work/main", "'/home/ann/x'", "see https://pypi.org/simple", "http://10.0.0.7:80"]
)
def test_telltales_are_found(text):
    """The test above cannot pass by not looking."""
    assert telltales(text)


@pytest.mark.parametrize("text", ["/workspace/", "a/work", "http://127.0.0.1:4200", "s3://bucket/x", "../shared"])
def test_harmless_text_is_not_told_on(text):
    """Relative paths, paths that only begin alike, loopback addresses and stand-ins may be named."""
    assert not telltales(text)
