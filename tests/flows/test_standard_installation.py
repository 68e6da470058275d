"""The processes of docker-compose.yml run by hand: PostgreSQL, a store, Prefect's server and a worker.

Commands, environment, secrets and health checks are read from the compose file, with the containers' names and paths
replaced by ports and folders of this machine. Where no `weed` (SeaweedFS) is found, moto's S3 server stands in for it.
"""

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pyarrow.parquet as pq
import pytest
import yaml
from botocore.exceptions import ClientError

from saec.constants import TRIAL
from saec.ledger import Ledger
from saec.steps import train
from saec.store.model_store import open_store
from tests.conftest import instead

SECONDS = 240
BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
SECRETS = {
    "postgres_password": "postgres-canary",
    "store_key": "store-canary",
    "store_reader_key": "reader-canary",
    "prefect_auth": "admin:auth-canary",
    "api_key": "api-key-canary-00",
}
EVERY_20_SECONDS = "'* * * * * */20'"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(found: Callable[[], Any], what: str, alive: Callable[[], object] = lambda: None) -> Any:
    """What is found in the end; `alive` may give up before."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if value := found():
            return value
        alive()
        time.sleep(0.5)
    raise TimeoutError(what)


class Installation:
    """The compose file's services as processes of this machine."""

    def __init__(self, root: Path, folder: Path, stack: ExitStack) -> None:
        self.root, self.folder, self.stack = root, folder, stack
        self.services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
        self.ports = {name: free_port() for name in ("postgres", "store", "server", "model")}
        self.running: dict[str, subprocess.Popen] = {}
        for name in ("secrets", "bin"):
            (folder / name).mkdir(parents=True)
        (folder / "bin" / "saec").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m saec.cli.main "$@"\n')
        (folder / "bin" / "saec").chmod(0o755)
        for name, secret in SECRETS.items():
            (folder / "secrets" / name).write_text(secret + "\n")

    def here(self, text: Any) -> str:
        """A piece of the compose file with this machine's ports and folders."""
        at = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        inside = {
            "postgres:5432": at["postgres"],
            "store:8333": at["store"],
            "server:4200": at["server"],
            "127.0.0.1:4200": at["server"],
            "127.0.0.1:8080": at["model"],
            "0.0.0.0": "127.0.0.1",
            "/tmp/identities.json": str(self.folder / "identities.json"),
            "/app/scored": str(self.folder / "scored"),
            "/app/cache": str(self.folder / "cache"),
            "/run/secrets": str(self.folder / "secrets"),
            "/tmp/prefect": str(self.folder / "prefect"),
            "/app/workspace": str(self.folder),
            "$$": "$",
        }
        told = "|".join(re.escape(name) for name in inside)
        text = re.sub(rf"({told})(?!\d)", lambda match: inside[match[0]], str(text))
        return {"4200": str(self.ports["server"])}.get(text, text)

    def environment(self, name: str, **more: str) -> dict[str, str]:
        """A service's variables; of this process's own only the way to the programs."""
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{self.root}:{os.environ['PATH']}"
        own = {
            "PATH": path,
            "PYTHONPATH": str(self.root),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PREFECT_HOME": str(self.folder / "prefect" / name),
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PYTHONUNBUFFERED": "1",
            TRIAL: "1",  # the small site's constants
        }
        return own | {key: self.here(value) for key, value in self.services[name]["environment"].items()} | more

    def start(self, name: str, command: list[str], **options: Any) -> None:
        """Start a service, to be ended with all it started at the end."""
        log = self.stack.enter_context((self.folder / f"{name}.log").open("w"))
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **options)
        self.running[name] = process
        self.stack.callback(self.stop, name)

    def compose(self, name: str, *, replaced: tuple[str, str] = ("", ""), **more: str) -> None:
        """Start a service by its command in the compose file, in which a piece may be replaced."""
        command = [self.here(word).replace(*replaced) for word in self.services[name]["command"]]
        self.start(name, ["with-secrets.sh", *command], env=self.environment(name, **more), cwd=self.folder)

    def stop(self, name: str) -> None:
        """End a service and its children."""
        process = self.running[name]
        gently = signal.SIGINT if name == "postgres" else signal.SIGTERM  # as its image says: a fast shutdown
        for kind in (gently, signal.SIGKILL):
            try:
                os.killpg(process.pid, kind)
                process.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def check(self, name: str, *arguments: str, **more: str) -> tuple[bool, str]:
        """What a service's health check says; further arguments go to its last word, a command of the shell."""
        kind, *test = self.services[name]["healthcheck"]["test"]
        *words, last = (self.here(word) for word in ([] if kind == "CMD" else ["sh", "-c"]) + test)
        command = [*words, " ".join([last, *arguments])]
        said = subprocess.run(
            command,
            env=self.environment(name, **more),
            cwd=self.folder,
            text=True,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return said.returncode == 0, said.stdout

    def ask(self, path: str, body: dict | None = None, *, method: str | None = None, auth: str = "") -> Any:
        """The server's answer."""
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Basic {b64encode(auth.encode()).decode()}"} if auth else {}
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.ports['server']}/api{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def score(self, rows: list[dict], key: str) -> Any:
        """The model server's answer."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        url, body = f"http://127.0.0.1:{self.ports['model']}/v1/score", json.dumps({"rows": rows}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            return json.loads(answer.read())

    def gone(self) -> None:
        """Fail, with its log, when a service has ended."""
        for name, process in self.running.items():
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()[-3000:]

    def postgres(self) -> None:
        """PostgreSQL as its image sets it up: role, databases and arguments from the compose file; never as root."""
        account = {"user": "postgres", "group": "postgres"} if getpass.getuser() == "root" else {}
        data = Path(tempfile.mkdtemp(prefix="saec-postgres-"))  # pytest's folders are closed to other accounts
        self.stack.callback(shutil.rmtree, data, ignore_errors=True)
        password = data / "password"
        password.write_text(SECRETS["postgres_password"])
        if account:
            shutil.chown(data, *account.values())
            shutil.chown(password, *account.values())
        settings, port = self.environment("postgres"), str(self.ports["postgres"])
        subprocess.run(
            [
                BINARIES / "initdb",
                f"--pgdata={data / 'db'}",
                f"--username={settings['POSTGRES_USER']}",
                f"--pwfile={password}",
                *settings["POSTGRES_INITDB_ARGS"].split(),
                "--no-sync",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=data,
            **account,
        )
        command = [BINARIES / "postgres", "-D", data / "db", "-p", port, "-k", data, "-h", "127.0.0.1"]
        self.database = partial(self.start, "postgres", command, cwd=data, **account)
        self.database()
        admin = f"host=127.0.0.1 port={port} user=saec password={SECRETS['postgres_password']} dbname=postgres"
        until(lambda: self.reached(admin), "PostgreSQL", self.gone)
        with psycopg.connect(admin, autocommit=True) as connection:
            for statement in (
                f"CREATE DATABASE {settings['POSTGRES_DB']}",
                (self.root / "ledger-database.sql").read_text(),
            ):
                healthy, said = self.check("postgres", **self.client_of(port))
                assert not healthy, said
                assert "does not exist" in said
                connection.execute(statement)
        healthy, said = self.check("postgres", **self.client_of(port))
        assert healthy, said

    @staticmethod
    def reached(admin: str) -> bool:
        """Whether the database answers."""
        try:
            psycopg.connect(admin).close()
        except psycopg.OperationalError:
            return False
        return True

    @staticmethod
    def client_of(port: str) -> dict[str, str]:
        """What psql needs to find the database of this machine."""
        return {"PATH": f"{BINARIES}:{os.environ['PATH']}", "PGPORT": port}

    def store(self) -> None:
        """The S3 store: SeaweedFS by the compose file's command where it is installed, else moto with its bucket."""
        port = self.ports["store"]
        if shutil.which("weed"):
            others = [
                f"-{part}.port={20_000 + offset + port % 9_000}"
                for offset, part in enumerate(("master", "volume", "filer"))
            ]
            others.append(f"-s3.port.grpc={20_003 + port % 9_000}")  # else 10,000 above its port, which may be too high
            command = self.here(self.services["store"]["command"]).replace("s3.port=8333", f"s3.port={port}")
            command = command.replace("/models", str(self.folder / "models")).split()
            (self.folder / "models").mkdir()
            identities = {"STORE_IDENTITIES": str(self.folder / "identities.json")}
            self.start(
                "store",
                ["with-secrets.sh", "store-identities.sh", *command, *others],
                env=self.environment("store", **identities),
            )
        else:
            self.start("store", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)])
        until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)), "the store", self.gone)
        if not shutil.which("weed"):  # SeaweedFS makes a bucket when it is first written to
            self.client("saec", SECRETS["store_key"]).create_bucket(Bucket="models")

    def client(self, name: str, key: str) -> Any:
        """The store as one of its identities sees it."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.ports['store']}",
            region_name="us-east-1",
            aws_access_key_id=name,
            aws_secret_access_key=key,
        )


@pytest.fixture
def database(root, tmp_path) -> Iterator[Installation]:
    """PostgreSQL at work."""
    if BINARIES is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    with ExitStack() as stack:
        made = Installation(root, tmp_path / "installation", stack)
        made.postgres()
        yield made


@pytest.fixture
def installation(database) -> Installation:
    """PostgreSQL and the store at work."""
    database.store()
    return database


@pytest.fixture
def settings_file(installation, fresh) -> Path:
    """The small pipeline's settings with ledger and store of configs/standard.yaml."""
    standard = yaml.safe_load((installation.root / "configs" / "standard.yaml").read_text())
    settings = fresh.config().model_dump(mode="json")
    settings |= {name: installation.here(standard[name]) for name in ("ledger", "store")}
    path = installation.folder / "shop.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.server
@pytest.mark.fault(33)
def test_the_database_restarts_in_the_middle_of_an_hour(database, fresh, monkeypatch):
    """The run waits for it and goes on: the hour is done at the first attempt."""

    def while_it_restarts(*args: object) -> object:
        database.stop("postgres")
        later = threading.Timer(2.0, database.database)
        later.start()
        database.stack.callback(later.join)
        return train(*args)

    monkeypatch.setenv("PGPASSWORD", SECRETS["postgres_password"])
    url = f"postgresql+psycopg://saec@127.0.0.1:{database.ports['postgres']}/ledger"
    config = fresh.config().model_copy(update={"ledger": url})
    fresh.advance(fresh.hours[0], config=config)
    rows = fresh.advance(fresh.hours[1], config=config, run_step=instead(train=while_it_restarts))
    assert [(row.hour, row.state, row.attempts) for row in rows] == [(fresh.hours[1], "HELD", 1)], rows


@pytest.mark.server
@pytest.mark.timeout(600)
def test_the_standard_installation(installation, settings_file, fresh, monkeypatch):
    """A scheduled run is created, picked up by a worker and publishes; health checks fail when that would not be so."""
    auth = SECRETS["prefect_auth"]
    installation.compose("server")
    until(lambda: installation.check("server")[0], "the server", installation.gone)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        installation.ask("/deployments/filter", {})

    config = {"SAEC_CONFIG": str(settings_file)}
    healthy, said = installation.check("worker", **config)
    assert not healthy
    assert "hourly/shop is not deployed" in said
    installation.compose("worker", replaced=("--work-pool", f"--cron {EVERY_20_SECONDS} --work-pool"), **config)
    settings = yaml.safe_load(settings_file.read_text())
    for name, value in installation.environment("worker").items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["store_key"])
    monkeypatch.setenv("PGPASSWORD", SECRETS["postgres_password"])
    ledger = Ledger(settings["ledger"])

    def done() -> Any:
        rows = ledger.rows()
        return rows if len(rows) == len(fresh.hours) and rows[-1].finished_at else None

    rows = until(done, "seven hours", installation.gone)
    assert [row.state for row in rows[-3:]] == ["PUBLISHED"] * 3
    store = open_store(settings["store"], cache=installation.folder / "read-here")
    assert store.live().version == rows[-1].version
    assert {row.version for row in rows if row.version} <= set(store.versions())
    assert store.verify(rows[-1].version) == []

    ended = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}, "deployment_id": {"is_null_": False}}}

    def worked() -> dict | None:  # others found it at work and ended HELD
        runs = installation.ask("/flow_runs/filter", ended, auth=auth)
        return next((run for run in runs if "published" in run["state"]["message"]), None)

    assert until(worked, "the run's end", installation.gone)["auto_scheduled"]
    for service in ("server", "worker"):
        healthy, said = until(
            lambda service=service: (found := installation.check(service, **config))[0] and found,
            f"a healthy {service}",
            installation.gone,
        )
        assert "hourly/shop runs next at" in said

    installation.compose(
        "model",
        SAEC_SERVER_STORE=settings["store"],
        SAEC_SERVER_ROW_IDS="impression_id",
        SAEC_SERVER_PORT=str(installation.ports["model"]),
    )
    until(lambda: installation.check("model")[0], "the model server", installation.gone)
    row = pq.read_table(fresh.file(fresh.hours[-1]), partitioning=None).slice(0, 1).drop(["event_time", "clicked"])
    assert installation.score(row.to_pylist(), SECRETS["api_key"])["version"] == store.live().version
    with pytest.raises(urllib.error.HTTPError, match="401"):
        installation.score(row.to_pylist(), "another key, as long as it")
    until(lambda: any(path.stat().st_size for path in (installation.folder / "scored").iterdir()), "a line of the log")
    if shutil.which("weed"):  # moto asks nobody who he is
        with pytest.raises(ClientError, match="AccessDenied"):
            installation.client("serving", SECRETS["store_reader_key"]).put_object(Bucket="models", Key="x", Body=b"")

    installation.stop("worker")
    healthy, said = until(
        lambda: not (found := installation.check("worker", "--late", "5", **config))[0] and found,
        "a run that nobody takes",
    )
    assert "nobody took it" in said
    assert "worker of saec" in said
    database = installation.environment("server")["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    with psycopg.connect(database.replace("+asyncpg", "")) as connection:
        connection.execute("DELETE FROM flow_run WHERE state_type = 'SCHEDULED'")
        connection.commit()
    assert installation.ask("/health") is True
    healthy, said = installation.check("server")
    assert (healthy, "the server's scheduler is not at work" in said) == (False, True), said
    deployment = next(found for found in installation.ask("/deployments/filter", {}, auth=auth) if found["schedules"])
    installation.ask(f"/deployments/{deployment['id']}", {"paused": True}, method="PATCH", auth=auth)
    assert "hourly/shop has no active schedule" in installation.check("server")[1]

    logs = "".join(path.read_text() for path in installation.folder.glob("*.log"))
    assert not [secret for secret in SECRETS.values() if secret.removeprefix("admin:") in logs]
