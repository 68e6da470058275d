"""The wheel is complete: its contents, and that the command works from it alone, as with `pipx run saec`."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a wheel is built, an environment made


def run(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that finds no package but those of its environment; its output is text."""
    bare = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SAEC_CONFIG")}
    return subprocess.run([*map(str, words)], cwd=folder, capture_output=True, text=True, check=False, env=bare)


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """The project's wheel, built without any network from a copy of its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, folder)
    for name in ("saec", "flows"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_kernel-*"))
    words = ("pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation", "--no-index", ".")
    built = run(sys.executable, "-m", *words, folder=folder)
    assert built.returncode == 0, built.stderr
    [made] = folder.glob("saec-*.whl")
    return made


@pytest.fixture
def installed(wheel, tmp_path):
    """A function that makes an environment with the wheel, and with the packages that the tests run on or without."""

    def make(*, packages: bool) -> Path:
        folder = tmp_path / "environment"
        assert run(sys.executable, "-m", "venv", "--without-pip", folder, folder=tmp_path).returncode == 0
        python = folder / "bin" / "python"
        words = ("--disable-pip-version-check", "--python", python, "install", "--no-deps", "--no-index", wheel)
        done = run(sys.executable, "-m", "pip", *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        if packages:
            [there] = folder.glob("lib/python*/site-packages")
            (there / "tested.pth").write_text(sysconfig.get_path("purelib"))
        return folder / "bin"

    return make


def test_it_holds_every_module_and_file(root, wheel):
    """All of saec and flows, templates and the kernel's source among them, and the command's entry point."""
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        [entry_points] = [name for name in names if name.endswith("entry_points.txt")]
        assert "saec = saec.__main__:main" in opened.read(entry_points).decode()
    kinds = (".py", ".html", ".j2", ".c", ".typed")
    there = {
        path.relative_to(root).as_posix()
        for package in ("saec", "flows")
        for path in (root / package).rglob("*")
        if path.suffix in kinds or path.name == "py.typed"
    }
    assert not there - names
    assert not {name for name in names if name.startswith(("tests/", "benchmarks/", "configs/"))}


def test_the_command_works_from_it(root, installed, tmp_path):
    """From an empty folder: help, an hour of data, the hour itself and what came of it, by the wheel's code."""
    bin_, config = installed(packages=True), root / "configs" / "quickstart.yaml"
    where = run(bin_ / "python", "-c", "import saec; print(saec.__file__)", folder=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(tmp_path), "the wheel's package comes first"
    assert "Models:" in run(bin_ / "saec", "--help", folder=tmp_path).stdout
    made = run(bin_ / "saec", "simulate", "--hours", 1, "--config", config, folder=tmp_path)
    assert made.returncode == 0, made.stderr
    ended = run(bin_ / "saec", "run", "--hour", "2026-01-01T00", "--config", config, folder=tmp_path)
    assert ended.returncode in (0, 3), ended.stderr
    card = run(bin_ / "saec", "card", "--config", config, folder=tmp_path)
    assert ("Version `" in card.stdout) or ("no version is live yet" in card.stderr)


def test_without_its_extra_it_says_what_to_install(installed, tmp_path):
    """The bare wheel brings no command line; the command that is installed all the same says so, and no traceback."""
    done = run(installed(packages=False) / "saec", "--help", folder=tmp_path)
    assert done.returncode == 1
    assert "saec[pipeline]" in done.stderr
    assert "Traceback" not in done.stderr
