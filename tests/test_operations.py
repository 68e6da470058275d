"""docs/operations.md: every command that it shows works, and every alarm and reason is in its tables.

`COMMANDS` says of each command line what state of the pipeline it needs and what it must answer. A line that is in the
document and not here, or the other way round, fails.
"""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from click.testing import CliRunner

from flows.automations import ZOMBIE
from saec.cli.main import cli
from saec.data.checks import ROW_RULES
from saec.durable import REASONS
from saec.ledger import Ledger
from saec.monitoring.alarms import ALARMS
from saec.workspace import Workspace

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
LAST = 4
"""Of the hours of a site, the last one done; two are due."""


def lines(text: str) -> list[str]:
    """The command lines of the document's bash blocks, comments left out."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    bare = (re.sub(r"\s+#(?: .*)?$", "", line).strip() for line in "".join(blocks).splitlines())
    return [line for line in bare if line]


class Shop:
    """The document's pipeline: five hours done, two due, in a folder that commands are typed in."""

    def __init__(self, site, folder: Path) -> None:
        self.site = site
        settings = site.config().model_dump(mode="json")
        settings |= {"workspace": "workspace/shop", "data": settings["data"] | {"source": "data"}}
        (folder / "configs").mkdir()
        (folder / "configs" / "shop.yaml").write_text(yaml.safe_dump(settings))
        (folder / "workspace").rename(folder / "shop")
        (folder / "workspace").mkdir()
        (folder / "shop").rename(folder / "workspace" / "shop")
        self.folder, self.workspace = folder, folder / "workspace" / "shop"

    def type(self, line: str) -> tuple[int, str]:
        """Type a command line; its exit code, and all that it said."""
        line = line.replace("VERSION", self.previous) if "rollback" in line else line
        variables, words = assignments(line)
        if words[0] == "saec":
            Workspace._resident = None
            result = CliRunner().invoke(cli, words[1:], env=variables, catch_exceptions=False)
            return result.exit_code, result.output
        path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(line, shell=True, env=os.environ | path, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def all(self, *typed: str) -> None:
        """Type command lines that must succeed, or hold hours."""
        for line in typed:
            code, said = self.type(line)
            assert code in (0, 3), f"{line}: {said}"

    @property
    def previous(self) -> str:
        """The version that was live before the live one."""
        return sorted(path.name for path in (self.workspace / "store" / "versions").iterdir())[-2]

    def states(self) -> list[tuple[str, str | None]]:
        """How each hour stands."""
        ledger = Ledger(f"sqlite:///{self.workspace / 'ledger.db'}")
        rows = ledger.rows()
        ledger.close()
        return [(row.state, row.version) for row in rows]


def assignments(line: str) -> tuple[dict[str, str], list[str]]:
    """The variables that a line sets for its command, and its words."""
    words = shlex.split(line)
    count = next(place for place, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


@pytest.fixture
def shop(site, monkeypatch) -> Shop:
    monkeypatch.chdir(site.folder)
    monkeypatch.setenv("SAEC_CONFIG", "configs/shop.yaml")
    return Shop(site, site.folder)


def as_it_is(_shop: Shop) -> None:
    """Five hours done, two due."""


def all_done(shop: Shop) -> None:
    """Nothing due."""
    shop.all("saec run")


def late(shop: Shop) -> None:
    """Labels of two hours were corrected when all were done."""
    shop.all("saec run")
    for hour in shop.site.hours[3:5]:
        shop.site.redeliver(hour)
    shop.all("saec run")


def stopped(shop: Shop) -> None:
    """A backfill stopped at a damaged hour, which has been delivered again since."""
    path = shop.site.file(shop.site.hours[LAST + 1])
    whole = path.read_bytes()
    path.write_bytes(b"PAR1 no more")
    shop.all("saec backfill --from 2026-03-01T14 --to 2026-03-01T18")
    path.write_bytes(whole)


def held(shop: Shop) -> None:
    """Publishing is held."""
    shop.all('saec hold --reason "launch day"')


def damaged(shop: Shop) -> None:
    """The training state that the due hours go on from is damaged, and they were tried."""
    for path in (shop.workspace / "checkpoints").glob("20260301T16-*"):
        path.write_bytes(path.read_bytes() + b"x")
    assert shop.type("saec run")[0] == 1


def backing_up(shop: Shop) -> None:
    """The folder of the backup is there."""
    (shop.folder / "backup" / "store").mkdir(parents=True)


def backed_up(shop: Shop) -> None:
    """A backup was made."""
    shop.all(*(line for line in lines(DOCUMENT) if line.startswith(("mkdir", "python -c", "cp -a workspace"))))


def set_aside(shop: Shop) -> None:
    """What is broken was moved away."""
    backed_up(shop)
    shop.workspace.rename(shop.folder / "workspace" / "shop.broken")


class Case(NamedTuple):
    """What a command line needs and answers."""

    state: Callable[[Shop], None]
    code: int
    word: str = ""


RANGE = "--from 2026-03-01T14 --to 2026-03-01T18"
COMMANDS = {
    "saec status": Case(as_it_is, 0, "next: saec run"),
    "saec run": Case(as_it_is, 0, "PUBLISHED"),
    "SAEC_LOG=json saec run": Case(as_it_is, 0, '"level"'),
    "saec simulate --hours 6": Case(as_it_is, 0, "6 hours from"),
    "saec report --from 2026-03-01T14": Case(as_it_is, 0, "2026-03-01T16"),
    "saec metrics": Case(as_it_is, 0, "saec_backlog_hours 2.0"),
    "saec verify": Case(as_it_is, 0, "0 damaged or missing"),
    "saec versions": Case(as_it_is, 0, "live"),
    'saec rollback VERSION --reason "calibration off in the app"': Case(as_it_is, 0, "held: nothing is published"),
    'saec hold --reason "launch day"': Case(as_it_is, 0, "held"),
    'saec release --reason "launch is over"': Case(held, 0, "launch is over"),
    "saec backfill --only stale --from 2026-03-01T15 --to 2026-03-01T16 --dry-run": Case(late, 0, "have another label"),
    "saec backfill --only stale --from 2026-03-01T15 --to 2026-03-01T16 --promote": Case(late, 3, "were swapped in (2)"),
    "saec run --hour 2026-03-01T16 --replace": Case(late, 0, "2026-03-01T16 PUBLISHED"),
    f"saec backfill {RANGE} --dry-run": Case(as_it_is, 0, "5 hours: 2 to do"),
    f"saec backfill {RANGE}": Case(as_it_is, 0, "not-promoted"),
    f"saec backfill {RANGE} --only failed --keep-going": Case(stopped, 1, "--resume"),
    f"saec backfill {RANGE} --only all --promote": Case(all_done, 0, "were swapped in (5)"),
    "saec backfill --pause": Case(stopped, 0, "no run is at work on it"),
    "saec backfill --resume": Case(stopped, 0, "is DONE"),
    "saec backfill --cancel": Case(stopped, 0, "CANCELLED"),
    "saec backfill --from 2026-03-01T16 --to 2026-03-01T18 --only all --promote": Case(damaged, 0, "is live"),
    "du -sh workspace/shop/*": Case(as_it_is, 0, "checkpoints"),
    "mkdir -p backup/store": Case(as_it_is, 0),
    "python -c \"import sqlite3; sqlite3.connect('workspace/shop/ledger.db').execute('VACUUM INTO "
    "\\'backup/ledger.db\\'')\"": Case(backing_up, 0),
    "cp -a workspace/shop/checkpoints workspace/shop/hours backup/": Case(backing_up, 0),
    "cp -a workspace/shop/store/releases backup/store/": Case(backing_up, 0),
    "cp -a workspace/shop/store/versions backup/store/": Case(backing_up, 0),
    "mv workspace/shop workspace/shop.broken": Case(backed_up, 0),
    "cp -a backup workspace/shop": Case(set_aside, 0),
}
ELSEWHERE = {
    ". .venv/bin/activate": "made by make install",
    "make install": "make run and make test, which CI types, begin with it",
    "export SAEC_CONFIG=configs/shop.yaml": "the fixture shop",
    "export PREFECT_API_URL=http://127.0.0.1:4200/api": "the tests of a server",
}
SERVED = {
    "saec deploy": "hourly/shop",
    'saec deploy --cron "20 * * * *"': "hourly/shop",
    "saec deploy --config configs/shop.yaml": "hourly/shop",
    "prefect server start": "",
    "prefect deployment run hourly/shop": "Created flow run",
    "python -m flows.health --config configs/shop.yaml": "healthy: hourly/shop runs next",
}


def test_the_table_is_the_document():
    """No command is shown that is not tried, and none is tried that is not shown."""
    assert {*lines(DOCUMENT)} == {*COMMANDS, *ELSEWHERE, *SERVED}


@pytest.mark.parametrize(("line", "case"), COMMANDS.items(), ids=COMMANDS)
def test_every_command_works(shop, line, case):
    """Typed in the state that it is meant for, it leaves with the exit code and says the word that it should."""
    case.state(shop)
    code, said = shop.type(line)
    assert code == case.code, said
    assert case.word in " ".join(said.split()), said
