"""Hours of the real log done again by the real command, which is made to fail, paused, killed and resumed on its way.

SAEC_TEST_HOURS=48 python -m pytest -m slow tests/test_disturbed_backfill.py -s     # as docs/LOG.md has it
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from saec.data.hourly_files import hour_file
from saec.hours import Hour, hour_range
from saec.ledger import HourRow, Ledger
from saec.settings_file import load_config

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(1800)]

HOURS = int(os.environ.get("SAEC_TEST_HOURS", "7"))
LAST = Hour.parse("2017-10-11T02")
FIRST = LAST - (HOURS - 1)
BROKEN = FIRST + HOURS // 3
RANGE = ("--from", str(FIRST), "--to", str(LAST))
REDO = (*RANGE, "--only", "all", "--promote", "--replace")


class Place:
    """A workspace with data of its own."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder, self.data = root, folder, folder / "data"

    def make(self, source: Path) -> "Place":
        """Take the hours' files over."""
        for hour in hour_range(FIRST, LAST):
            if hour_file(source, hour).exists():
                hour_file(self.data, hour).parent.mkdir(parents=True)
                shutil.copyfile(hour_file(source, hour), hour_file(self.data, hour))
        return self

    def configured(self) -> "Place":
        """Write the real log's settings for this folder; nothing is to be removed for its age."""
        settings = load_config(self.root / "configs" / "globo.yaml").model_dump(mode="json")
        settings["workspace"], settings["data"]["source"] = str(self.folder / "workspace"), str(self.data)
        settings["retention"] = 500
        (self.folder / "settings.yaml").write_text(yaml.safe_dump(settings))
        return self

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Type a command."""
        command = [sys.executable, "-m", "saec.cli.main", *words, "--config", str(self.folder / "settings.yaml")]
        return subprocess.Popen(
            [*command, "--json"],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(self.root)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def run(self, *words: str, code: int | None = None) -> Any:
        """Type a command and wait for its answer."""
        process = self.start(*words)
        said, _ = process.communicate()
        assert code in (None, process.returncode), said
        return json.loads(said)

    def status(self) -> dict[str, Any]:
        """How the open backfill stands."""
        return self.run("status")["backfill"] or {}

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, once there is one."""
        return Ledger(f"sqlite:///{self.folder / 'workspace' / 'ledger.db'}")

    def rows(self) -> list[HourRow]:
        """The hours that stand."""
        return self.ledger.rows()

    @property
    def aside(self) -> int:
        """Hours done aside."""
        return len(self.ledger.backfills.aside())

    def left(self) -> dict[str, str]:
        """sha256 of every version, checkpoint and file of an hour."""
        roots = [self.folder / "workspace" / below for below in ("store/versions", "checkpoints", "hours", "aside")]
        paths = (path for root in roots for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def places(root, shared_data, tmp_path) -> tuple[Place, Place]:
    """Two places where the hours were done once; then the second hour came with other labels for every tenth row."""
    first = Place(root, tmp_path / "undisturbed").make(shared_data / "globo").configured()
    first.run("backfill", *RANGE, "--promote")
    path = hour_file(first.data, FIRST + 1)
    table = pq.read_table(path, partitioning=None)
    clicked_B = table["clicked"].to_numpy().copy()
    clicked_B[::10] ^= 1
    place = table.column_names.index("clicked")
    pq.write_table(table.set_column(place, "clicked", pa.array(clicked_B, table["clicked"].type)), path)
    shutil.copytree(first.folder, tmp_path / "disturbed")
    return first, Place(root, tmp_path / "disturbed").configured()


def until(found: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_disturbed_backfill_ends_as_an_undisturbed_one(places):
    """Failed in the middle, paused, killed and resumed: the same bytes; and the dry run had told the truth."""
    undisturbed, disturbed = places
    plan = undisturbed.run("backfill", *REDO, "--dry-run")
    told = {
        str(hour)
        for item in plan["plan"]
        if item["action"] == "do"
        for hour in hour_range(Hour.parse(item["hour"]), Hour.parse(item["last"]))
    }
    started = time.monotonic()
    done = undisturbed.run("backfill", *REDO)
    seconds = time.monotonic() - started
    assert {row["hour"] for row in done["hours"]} == told
    assert plan["total"]["seconds"] > 0, "told from earlier hours"

    stood, good = disturbed.rows(), hour_file(disturbed.data, BROKEN).read_bytes()
    hour_file(disturbed.data, BROKEN).write_bytes(good[:-1])
    assert "STOPPED" in disturbed.run("backfill", *REDO, code=3)["note"]
    assert (disturbed.status()["state"], disturbed.status()["done"]) == (
        "STOPPED",
        len([hour for hour in told if hour < str(BROKEN)]),
    )
    assert disturbed.rows() == stood, "what stands is as it was"
    hour_file(disturbed.data, BROKEN).write_bytes(good)

    process = disturbed.start("backfill", "--resume")
    until(lambda: disturbed.ledger.backfills.current().state == "RUNNING")
    disturbed.ledger.backfills.ask("pause")  # as `saec backfill --pause`, whose process takes hours to start
    process.wait()
    assert disturbed.status()["state"] == "PAUSED"

    process, reached = disturbed.start("backfill", "--resume"), disturbed.aside
    until(lambda: disturbed.aside > reached)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert disturbed.rows() == stood, "still"
    disturbed.run("backfill", "--resume")
    assert disturbed.status() == {}
    assert [(row.hour, row.state, row.version, row.learnt) for row in disturbed.rows()] == [
        (row.hour, row.state, row.version, row.learnt) for row in undisturbed.rows()
    ]
    assert disturbed.rows() != stood
    assert disturbed.left() == undisturbed.left()
    print(  # noqa: T201
        f"\n{len(told)} hours: dry run {plan['total']['seconds']:.0f} s, took {seconds:.0f} s; equal bytes in "
        f"{len(disturbed.left())} files"
    )
