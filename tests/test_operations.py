"""docs/operations.md: every command that it shows works, and every alarm and reason is in its tables.

`COMMANDS` says of each command line what state of the pipeline it needs and what it must answer. A line that is in the
document and not here, or the other way round, fails.
"""

import ast
import contextlib
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from click.testing import CliRunner

from flows.automations import ZOMBIE
from saec.cli.main import cli
from saec.constants import TRIAL
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
        done = subprocess.run(
            line,
            shell=True,
            env=environment(self.folder),
            text=True,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
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


def environment(folder: Path) -> dict[str, str]:
    """A shell's variables, with the command `saec` of this checkout on the PATH, and nothing said about Prefect."""
    program = folder / "bin" / "saec"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m saec.cli.main "$@"\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    silent = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    return kept | silent | {"PATH": path, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder / "prefect")}


def assignments(line: str) -> tuple[dict[str, str], list[str]]:
    """The variables that a line sets for its command, and its words."""
    words = shlex.split(line)
    count = next(place for place, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


@pytest.fixture
def shop(site, monkeypatch) -> Shop:
    log = logging.getLogger("saec")
    monkeypatch.setattr(log, "handlers", [*log.handlers])  # what SAEC_LOG=json adds is taken away again
    monkeypatch.setattr(log, "propagate", log.propagate)
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


def damaged_during(shop: Shop, command: str) -> None:
    """The next hour's file is damaged while a command is typed, and whole again after it."""
    path = shop.site.file(shop.site.hours[LAST + 1])
    whole = path.read_bytes()
    path.write_bytes(b"PAR1 no more")
    shop.all(command)
    path.write_bytes(whole)


def stopped(shop: Shop) -> None:
    """A backfill stopped at a damaged hour, which has been delivered again since."""
    damaged_during(shop, "saec backfill --from 2026-03-01T14 --to 2026-03-01T18")


def delivered_again(shop: Shop) -> None:
    """An hour was quarantined, the next one done, and its files have come whole since."""
    damaged_during(shop, "saec run")


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
    "saec verify": Case(as_it_is, 0, "0 damaged, 0 missing"),
    "saec card": Case(as_it_is, 0, "What speaks against it"),
    "saec migrate --dry-run": Case(as_it_is, 0, "nothing to carry over"),
    "saec migrate": Case(as_it_is, 0, "nothing to carry over"),
    "saec versions": Case(as_it_is, 0, "live"),
    'saec rollback VERSION --reason "calibration off in the app"': Case(as_it_is, 0, "held: nothing is published"),
    'saec hold --reason "launch day"': Case(as_it_is, 0, "held"),
    'saec unhold --reason "launch is over"': Case(held, 0, "launch is over"),
    "saec backfill --only stale --from 2026-03-01T15 --to 2026-03-01T18 --dry-run": Case(late, 0, "have another label"),
    "saec backfill --only stale --from 2026-03-01T15 --to 2026-03-01T18 --promote": Case(late, 0, "swapped in (4)"),
    "saec run --hour 2026-03-01T16 --replace": Case(late, 3, "2026-03-01T16 HELD superseded"),
    f"saec backfill {RANGE} --dry-run": Case(as_it_is, 0, "5 hours: 2 to do"),
    f"saec backfill {RANGE}": Case(as_it_is, 0, "not-promoted"),
    f"saec backfill {RANGE} --only failed --keep-going": Case(delivered_again, 0, "were swapped in (2)"),
    f"saec backfill {RANGE} --only all --promote": Case(all_done, 0, "were swapped in (5)"),
    "saec backfill --pause": Case(stopped, 0, "no run is at work on it"),
    "saec backfill --resume": Case(stopped, 0, "is DONE"),
    "saec backfill --cancel": Case(stopped, 0, "CANCELLED"),
    "saec backfill --from 2026-03-01T16 --to 2026-03-01T18 --only all --promote": Case(damaged, 0, "is live"),
    "saec tidy --keep 2": Case(all_done, 0, "freed"),
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
LONG = {all_done, late, stopped, delivered_again, damaged}
"""States that take hours of the pipeline to come to."""
ELSEWHERE = {
    ". .venv/bin/activate": "made by make install",
    "make install": "make run and make test, which CI types, begin with it",
    "export SAEC_CONFIG=configs/shop.yaml": "the fixture shop",
    "export DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false": "environment()",
    "export PREFECT_API_URL=http://127.0.0.1:4200/api": "the tests of a server",
}
SERVED = {
    "prefect server start",
    "saec deploy",
    'saec deploy --cron "20 * * * *"',
    "saec deploy --config configs/shop.yaml",
    "prefect deployment run hourly/shop",
    "python -m flows.health --config configs/shop.yaml",
}
"""Tried by test_what_needs_a_server."""


def test_the_table_is_the_document():
    """No command is shown that is not tried, and none is tried that is not shown."""
    assert {*lines(DOCUMENT)} == {*COMMANDS, *ELSEWHERE, *SERVED}


@pytest.mark.parametrize(
    ("line", "case"),
    [
        pytest.param(
            line, case, id=line, marks=pytest.mark.slow if case.state in LONG or line.startswith("SAEC_LOG") else []
        )
        for line, case in COMMANDS.items()
    ],
)
def test_every_command_works(shop, line, case):
    """Typed in the state that it is meant for, it leaves with the exit code and says the word that it should."""
    case.state(shop)
    code, said = shop.type(line)
    assert code == case.code, said
    assert case.word in " ".join(said.split()), said


@pytest.mark.slow  # four hours
def test_a_backup_is_restored(shop):
    """Hours done after the backup come out with the same versions when they are done again."""
    backed_up(shop)
    shop.all("saec run")
    done = shop.states()
    begin = lines(DOCUMENT).index("mv workspace/shop workspace/shop.broken")
    shop.all(*lines(DOCUMENT)[begin:])
    assert shop.states() == done
    assert [state for state, _ in done] == ["HELD"] * 2 + ["PUBLISHED"] * 5


@pytest.mark.slow  # a process that does two hours
def test_the_crontab_line_runs(shop):
    """What cron would type, in a shell that knows nothing of the environment, does the due hours."""
    (line,) = re.findall(r"^5 \* \* \* \* (.*)$", DOCUMENT, flags=re.MULTILINE)
    (shop.folder / ".venv").mkdir()
    environment(shop.folder)
    (shop.folder / ".venv" / "bin").symlink_to(shop.folder / "bin")
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), TRIAL: "1"}  # the small site's constants
    subprocess.run(line.replace("cd shop", f"cd {shop.folder}"), shell=True, env=bare, check=True, cwd="/")
    assert [state for state, _ in shop.states()[LAST + 1 :]] == ["PUBLISHED"] * 2
    assert '"level": "INFO"' in (shop.folder / "saec.log").read_text()


@pytest.fixture
def address() -> str:
    """Where nothing listens yet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def known(url: str, word: str = "") -> None:
    """Wait until the server says so: to ask it costs nothing beside a command, which takes seconds to start."""
    request = urllib.request.Request(url, b"{}" if word else None, {"Content-Type": "application/json"})
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:
            if word in answer.read().decode():
                return
        time.sleep(0.2)
    raise TimeoutError(f"{url}: no {word}")


@pytest.mark.server
@pytest.mark.timeout(900)
def test_what_needs_a_server(shop, address):
    """The server, the deployments with either schedule, a run by hand and the health check, as they are shown."""
    port = address.partition(":")[2]
    variables = environment(shop.folder) | {"PREFECT_API_URL": f"http://{address}/api"}
    begun: list[subprocess.Popen] = []

    def begin(line: str) -> None:
        log = (shop.folder / f"{len(begun)}.log").open("w")
        begun.append(subprocess.Popen(shlex.split(line), env=variables, stdout=log, stderr=log, start_new_session=True))

    def until(line: str, word: str) -> None:
        deadline, said = time.monotonic() + 120, ""
        while time.monotonic() < deadline:
            said = subprocess.run(
                line,
                shell=True,
                env=variables,
                text=True,
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ).stdout
            if word in said:
                return
            time.sleep(1)
        raise TimeoutError(f"{line}: {said}")

    try:
        begin(f"prefect server start --port {port}")
        known(f"http://{address}/api/ready")
        until(f"python -m flows.health --url http://{address}/api", "healthy: no pipeline")
        for line, minute in (
            ("saec deploy", ":05:"),
            ('saec deploy --cron "20 * * * *"', ":20:"),
            ("saec deploy --config configs/shop.yaml", ":05:"),
        ):
            begin(line)
            known(f"http://{address}/api/deployments/filter", f'"cron":"{int(minute[1:3])} * * * *"')
            if line != "saec deploy --config configs/shop.yaml":
                os.killpg(begun[-1].pid, signal.SIGTERM)
                begun[-1].wait(60)
        until("python -m flows.health --config configs/shop.yaml", minute)
        until("prefect deployment run hourly/shop", "Created flow run")
        until("saec status", "nothing is due")
    finally:
        for process in begun[::-1]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def test_every_alarm_is_there():
    """Each alarm by its name, that of Prefect alone too, with what to type."""
    section = DOCUMENT.partition("\n## Alarms\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `?([\w ]+?)`? \|", section, flags=re.MULTILINE)
    assert told == ["alarm", *ALARMS, ZOMBIE]


def constants(tree: ast.AST) -> Iterator[str]:
    """Reasons that a module gives: `reason="…"`, an error's default, a verdict's, an outcome's second argument."""
    for node in ast.walk(tree):
        given: list[ast.expr] = []
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given += [word.value for word in node.keywords if word.arg == "reason"]
            place = {"Published": 1, "Verdict": 1, "finish": 3}.get(name)
            given += node.args[place : place + 1] if place else []
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            given += values[-1:] if {"default_reason"} & {*names} else []
        yield from (word.value for word in given if isinstance(word, ast.Constant) and isinstance(word.value, str))


def test_every_reason_is_there():
    """Whatever an hour or a command can end with, the document says what to do."""
    # Files that one person names and sees at once.
    importing = ("importers.py", "source_files.py", "scoring.py", "log_files.py", "download.py")
    sources = [path for path in (ROOT / "saec").rglob("*.py") if path.name not in importing]
    given = {reason for path in sources for reason in constants(ast.parse(path.read_text(encoding="utf-8")))}
    given |= {*ROW_RULES, *REASONS.values(), "worse-auc", "worse-logloss", "undecided", "too-few", "floor"}
    given |= {"folded", "oom", "bug", "io"}
    given -= {"Why, for the release log."}
    assert {"busy", "no-data", "not-promoted", "truncated", "integrity", "too-few", "floor"} <= given
    assert not {reason for reason in given if f"`{reason}`" not in DOCUMENT}


def test_reasons_of_outcomes_are_in_the_architecture_too():
    """Its table of the four outcomes names no reason that this document does not know."""
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    outcomes = architecture.partition("## The four outcomes")[2].partition("## ")[0]
    named = {
        name
        for line in outcomes.splitlines()
        if line.startswith("|")
        for name in re.findall(r"`([a-z-]+)`", line.rpartition("|")[0].rpartition("|")[2])
    }
    assert len(named) > 25
    assert not {name for name in named if f"`{name}`" not in DOCUMENT}


def test_containers_that_are_named_exist():
    """Services after `docker compose exec`, `run`, `logs` or `restart` are those of docker-compose.yml."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    named = re.findall(r"docker compose (?:exec|run|logs|restart)(?: --?\w+)* (\w+)", DOCUMENT)
    assert {*named} <= {*services}
    assert "docker compose up --build --wait" in DOCUMENT
