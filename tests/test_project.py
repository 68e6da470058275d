"""The project's own files: the lock, the reasons for dependencies, the compose installation."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCKS = ("lock.txt", "torch-cpu.txt", "torch-registry.txt")
HASHED = (*LOCKS, "serving.txt")


@pytest.fixture(scope="module")
def project(root):
    """The [project] table of pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def direct(project):
    """All direct dependencies, those of the extras included."""
    extras = (line for extra in project["optional-dependencies"].values() for line in extra)
    needs = [Requirement(line) for line in (*project["dependencies"], *extras)]
    return [need for need in needs if need.name != project["name"]]


@pytest.fixture(scope="module")
def compose(root):
    """The compose file."""
    return yaml.safe_load((root / "docker-compose.yml").read_text())


def entries(root, name):
    """Requirement and hashes of each entry of a lock file."""
    text = re.sub(r"^\s*#.*\n", "", (root / "requirements" / name).read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return {
        Requirement(line.partition("--hash")[0]): re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line) for line in lines
    }


@pytest.fixture(scope="module")
def locked(root):
    """Locked version of each package, by name."""
    pins = {}
    for name in LOCKS:
        for requirement in entries(root, name):
            (pin,) = requirement.specifier
            assert pin.operator == "==", f"{requirement} is not pinned"
            pins[canonicalize_name(requirement.name)] = Version(pin.version)
    return pins


@pytest.mark.fault(74)
@pytest.mark.parametrize("name", HASHED)
def test_every_locked_package_has_a_hash(root, name):
    """No entry of a lock file can be installed unchecked."""
    unhashed = [str(requirement) for requirement, hashes in entries(root, name).items() if not hashes]
    assert entries(root, name)
    assert not unhashed


@pytest.mark.parametrize("name", HASHED)
def test_a_lock_names_no_host_and_no_path(root, name):
    """Where packages come from is the installing machine's affair."""
    assert not re.search(r"://|^-|file:|(?<!\S)/\w", (root / "requirements" / name).read_text(), flags=re.MULTILINE)


def test_the_lock_satisfies_every_direct_dependency(direct, locked):
    """Ranges of pyproject.toml and the lock agree, so `make lock` was not forgotten."""
    assert {
        str(need): locked.get(canonicalize_name(need.name))
        for need in direct
        if not need.specifier.contains(locked.get(canonicalize_name(need.name), Version("0")))
    } == {}


def test_the_serving_lock_is_the_locks_own_part(root, project, locked):
    """The model server's image holds what is tested, all that the extra wants, and neither torch nor Prefect."""
    pins = {canonicalize_name(need.name): need.specifier for need in entries(root, "serving.txt")}
    assert {name: str(pin) for name, pin in pins.items()} == {name: f"=={locked[name]}" for name in pins}
    wanted = (*project["dependencies"], *project["optional-dependencies"]["serving"])
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= set(pins)
    assert not {"torch", "prefect", "pandas", "pyarrow"} & set(pins)


@pytest.mark.parametrize(("package", "below"), [("fastapi", "0.151"), ("sqlalchemy", "2.1")])
def test_releases_that_break_prefect_stay_out(direct, locked, package, below):
    """FastAPI 0.151 breaks deployments, SQLAlchemy 2.1 the scheduler: locked out, and refused by the range."""
    assert locked[package] < Version(below)
    assert not next(need for need in direct if need.name == package).specifier.contains(below)


def test_prefect_is_the_measured_release(locked):
    """What a crash leaves behind was measured on this release."""
    assert locked["prefect"] == Version("3.8.8")


def test_every_direct_dependency_is_justified(root, direct):
    """Each has its row in docs/dependencies.md, and no row is left of one that is gone."""
    rows = re.findall(r"^\| `([\w-]+)` \| \S", (root / "docs" / "dependencies.md").read_text(), flags=re.MULTILINE)
    assert sorted(rows) == sorted(canonicalize_name(need.name) for need in direct)


def test_compose_file_follows_its_specification(root):
    """Docker Compose would accept the file."""
    check = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            str(root / "docker-compose.yml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.case(15)
def test_read_only_services_are_given_files_only(root, compose):
    """Compose writes what is given as `content` or `environment` into the container; if it cannot, it refuses.

    Its words are "`file` is the sole supported option". What is mounted instead is in the checkout.
    """
    given = {(kind, name): set(said) for kind in ("configs", "secrets") for name, said in compose.get(kind, {}).items()}
    for name, service in compose["services"].items():
        for kind in ("configs", "secrets"):
            for item in service.get(kind, []) if service["read_only"] else []:
                assert given[kind, item if isinstance(item, str) else item["source"]] == {"file"}, name
    mounted = [
        source
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        for source in [volume.partition(":")[0]]
        if source.startswith(".")
    ]
    assert "./ledger-database.sql" in mounted
    assert all((root / source).exists() for source in mounted)


@pytest.mark.case(15)
def test_the_database_check_asks_both_databases(root, compose):
    """A query in Prefect's and in the ledger's: pg_isready says yes to any name."""
    test = compose["services"]["postgres"]["healthcheck"]["test"]
    assert test[0] == "CMD-SHELL"
    assert "pg_isready" not in test[1]
    assert "SELECT 1" in test[1]
    made = {
        compose["services"]["postgres"]["environment"]["POSTGRES_DB"],
        *re.findall(r"^CREATE DATABASE (\w+);", (root / "ledger-database.sql").read_text(), flags=re.MULTILINE),
    }
    assert set(re.search(r"for database in ([\w ]+);", test[1])[1].split()) == made


@pytest.mark.case(22)
def test_make_clean_leaves_the_workspace(root, tmp_path):
    """Ledgers, checkpoints and published models go only by a target of their own, and only after a yes."""
    shutil.copy(root / "Makefile", tmp_path)
    kept = tmp_path / "workspace" / "shop" / "ledger.db"
    kept.parent.mkdir(parents=True)
    kept.touch()
    (tmp_path / "build").mkdir()

    def make(target: str, said: str = "") -> int:
        return subprocess.run(
            ["make", "--always-make", target, f"INSTALLED={tmp_path / 'none'}"],
            cwd=tmp_path,
            input=said,
            text=True,
            capture_output=True,
            check=False,
        ).returncode

    assert make("clean") == 0
    assert kept.exists()
    assert not (tmp_path / "build").exists()
    for answer in ("", "no\n", "\n"):
        assert make("wipe", answer) != 0
        assert kept.exists()
    assert make("wipe", "yes\n") == 0
    assert not kept.exists()


def test_an_installation_tells_its_steps(root, tmp_path):
    """A line for each step with its time; a CPU build of torch that is not there is told, a failure ends it."""
    shutil.copy(root / "Makefile", tmp_path)
    shutil.copytree(root / "requirements", tmp_path / "requirements")
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / "python"  # makes a .venv of itself
    python.write_text(
        '#!/bin/sh\ncase "$*" in\n"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;\n'
        "*check) echo No broken requirements found.;;\n*torch-cpu*) exit 1;;\n"
        "*lock.txt) yes Collecting | head -120; echo WARNING: a\n"
        '[ "$LOCK" = 0 ] || { echo "ERROR: no such package" >&2; echo more; exit 1; }\n'
        "echo Installing;;\nesac\n"
    )
    python.chmod(0o755)

    def install(lock: int) -> tuple[int, str]:
        done = subprocess.run(
            ["make", "--no-print-directory", ".venv/.installed", f"PYTHON={python}"],
            cwd=tmp_path,
            env={**os.environ, "LOCK": str(lock), "MAKEFLAGS": ""},
            text=True,
            capture_output=True,
            check=False,
        )
        return done.returncode, re.sub(r"\d+ s$", "0 s", done.stdout, flags=re.MULTILINE)

    code, said = install(lock=1)
    assert code != 0
    assert not (tmp_path / ".venv" / ".installed").exists()
    assert "ERROR: no such package\nmore\n" in said
    assert "3 of 4" not in said
    code, said = install(lock=0)
    packages = len(re.findall(r"^[a-z].*==", (root / "requirements" / "lock.txt").read_text(), flags=re.MULTILINE))
    assert code == 0
    assert said.splitlines()[1:] == [
        "saec: 1 of 4, torch ... pip finds no CPU build here, so the registry's is taken (docs/dependencies.md)",
        "saec: 1 of 4, torch of the registry ... 0 s",
        f"saec: 2 of 4, {packages} other packages ... 50 100 fetched, installing ... 0 s",
        "saec: 3 of 4, saec ... 0 s",
        "saec: 4 of 4, do they fit together? No broken requirements found.",
    ]


@pytest.mark.fault(74)
def test_compose_listens_on_loopback_only(compose):
    """Every published port is bound to 127.0.0.1, and no service shares the host's network."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("network_mode" in service for service in compose["services"].values())


def test_compose_services_are_confined(root, compose):
    """No root, no capabilities, a read-only root file system, and a check that each service does its work."""
    stages = re.split(r"^FROM .* AS (\w+)$", (root / "Dockerfile").read_text(), flags=re.MULTILINE)
    users = {
        stage: (re.findall(r"^USER (\w+)", text, flags=re.MULTILINE) or ["root"])[-1]
        for stage, text in zip(stages[1::2], stages[2::2], strict=True)
    }
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        user = users[service["build"]["target"]] if "build" in service else service["user"]
        assert user not in ("root", "0"), name
        assert service["healthcheck"]["test"], name


def test_every_image_has_a_version(root, compose):
    """An image that is pulled, or built upon, is named with its tag, and with no tag that moves on its own."""
    pulled = [service["image"] for service in compose["services"].values() if "build" not in service]
    pulled += re.findall(r"^FROM (\S+)", (root / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert len(pulled) == 7
    assert not [image for image in pulled if not re.fullmatch(r"[\w/-]+:\d[\w.-]*", image)]


def test_docker_sees_all_that_is_copied(root):
    """Whatever the Dockerfile copies from the checkout is there, and `.dockerignore` lets it through."""
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", (root / "Dockerfile").read_text(), flags=re.MULTILINE)
    copied = {name.partition("/")[0] for line in lines for name in line.split()}
    let_through = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"saec", "store-identities.sh"} <= copied
    assert copied == let_through
    assert all((root / name).exists() for name in copied)


def test_health_checks_ask_whether_hours_are_scheduled(compose):
    """Prefect's own /health is green while its scheduler stands still, so server and worker are asked for more."""
    for name in ("server", "worker"):
        assert "flows.health" in " ".join(compose["services"][name]["healthcheck"]["test"]), name


def test_the_store_shows_other_containers_its_gateway_only(compose):
    """SeaweedFS's master, volume server and filer hand out objects without a key; nothing is reported to its makers."""
    arguments = set(compose["services"]["store"]["command"].split())
    assert {
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3.ip.bind=0.0.0.0",
        "-filer.disableHttp",
        "-master.telemetry=false",
    } <= arguments


@pytest.mark.fault(73)
def test_compose_passwords_come_from_files(compose):
    """No password stands in the file or in a container's settings."""
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    settings = [
        (name, str(value)) for service in compose["services"].values() for name, value in service["environment"].items()
    ]
    assert not [name for name, _ in settings if re.search("PASSWORD|AUTH|SECRET", name) and not name.endswith("_FILE")]
    assert not [value for _, value in settings if re.search(r"://[^/@]*:[^/@]*@", value)]


def test_secrets_are_read_from_files(root, tmp_path):
    """`with-secrets.sh` turns NAME_FILE into NAME for the command it becomes; a missing file stops it."""
    (tmp_path / "key").write_text("two words\n")
    run = [root / "with-secrets.sh", "sh", "-c", 'echo "$AWS_SECRET_ACCESS_KEY"']
    for named, code, said in ((tmp_path / "key", 0, "two words\n"), (tmp_path / "nothing", 1, "")):
        ended = subprocess.run(
            run,
            env={"PATH": "/usr/bin:/bin", "AWS_SECRET_ACCESS_KEY_FILE": str(named)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (code, said)


def test_the_model_server_may_only_read(root, compose, tmp_path):
    """The store's identities: the pipeline's, and the server's, which cannot write; their file is the store's alone."""
    path = tmp_path / "identities.json"
    keys = {"AWS_ACCESS_KEY_ID": "saec", "AWS_SECRET_ACCESS_KEY": "w" * 48, "STORE_READER_KEY": "r" * 48}
    subprocess.run(
        [root / "store-identities.sh", "true"],
        check=True,
        env={"PATH": "/usr/bin:/bin", "STORE_IDENTITIES": str(path), **keys},
    )
    assert path.stat().st_mode & 0o777 == 0o600
    pipeline, serving = json.loads(path.read_text())["identities"]
    assert pipeline["credentials"] == [{"accessKey": "saec", "secretKey": "w" * 48}]
    assert serving["credentials"] == [{"accessKey": "serving", "secretKey": "r" * 48}]
    assert serving["actions"] == ["Read:models", "List:models"]
    assert "-s3.config=/tmp/identities.json" in compose["services"]["store"]["command"]
    model = compose["services"]["model"]
    assert model["environment"]["AWS_ACCESS_KEY_ID"] == "serving"
    assert "store_key" not in model["secrets"]
    assert not any(volume.startswith(("workspace", "models")) for volume in model["volumes"])


def test_the_model_server_answers_from_the_standard_pipeline(root, compose):
    """Its store, row ids and log are those of configs/standard.yaml."""
    settings = yaml.safe_load((root / "configs" / "standard.yaml").read_text())
    model = {
        name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", str(value))
        for name, value in compose["services"]["model"]["environment"].items()
    }
    assert model["SAEC_SERVER_STORE"] == settings["store"]
    assert model["SAEC_SERVER_ROW_IDS"].split() == settings["data"]["row_id_columns"]
    assert model["SAEC_SERVER_LOG"] == f"/app/{settings['serving']['log']}"
    assert f"scored:{model['SAEC_SERVER_LOG']}" in compose["services"]["worker"]["volumes"]


def test_every_secret_of_the_compose_file_is_read(root, compose):
    """`with-secrets.sh` knows each NAME_FILE that a service is given, and each service may read its files."""
    script = (root / "with-secrets.sh").read_text()
    known = re.search(r"^for name in ([^;]*); do", script, flags=re.MULTILINE)[1].split()
    for name, service in compose["services"].items():
        files = {key: value for key, value in service["environment"].items() if key.endswith("_FILE")}
        assert {value.removeprefix("/run/secrets/") for value in files.values()} == set(service["secrets"]), name
        if name != "postgres":  # its image does the same by itself
            assert {key.removesuffix("_FILE") for key in files} <= set(known), name
