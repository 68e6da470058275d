"""The project's own files: the lock, the reasons for dependencies, the compose installation."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCKS = ("lock.txt", "torch-cpu.txt", "torch-registry.txt")


@pytest.fixture(scope="module")
def project(root):
    """The [project] table of pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def direct(project):
    """All direct dependencies, those of the extras included."""
    extras = (line for extra in project["optional-dependencies"].values() for line in extra)
    return [Requirement(line) for line in (*project["dependencies"], *extras)]


@pytest.fixture(scope="module")
def compose(root):
    """The compose file."""
    return yaml.safe_load((root / "docker-compose.yml").read_text())


def entries(root, name):
    """Requirement and hashes of each entry of a lock file."""
    text = re.sub(r"^\s*#.*\n", "", (root / "requirements" / name).read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return {Requirement(line.partition("--hash")[0]): re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line)
            for line in lines}


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


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_a_hash(root, name):
    """No entry of a lock file can be installed unchecked."""
    unhashed = [str(requirement) for requirement, hashes in entries(root, name).items() if not hashes]
    assert entries(root, name)
    assert not unhashed


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_host_and_no_path(root, name):
    """Where packages come from is the installing machine's affair."""
    assert not re.search(r"://|^-|file:|(?<!\S)/\w", (root / "requirements" / name).read_text(), flags=re.MULTILINE)


def test_the_lock_satisfies_every_direct_dependency(direct, locked):
    """Ranges of pyproject.toml and the lock agree, so `make lock` was not forgotten."""
    assert {str(need): locked.get(canonicalize_name(need.name)) for need in direct
            if not need.specifier.contains(locked.get(canonicalize_name(need.name), Version("0")))} == {}


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
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
         str(root / "docker-compose.yml")], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


def test_compose_listens_on_loopback_only(compose):
    """Every published port is bound to 127.0.0.1, and no service shares the host's network."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("network_mode" in service for service in compose["services"].values())


def test_compose_services_are_confined(root, compose):
    """No root, no capabilities, a read-only root file system, and a check that each service is alive."""
    assert re.search(r"^USER (?!root|0)", (root / "Dockerfile").read_text(), flags=re.MULTILINE)
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service.get("user", "") not in ("root", "0"), name
        assert service.get("user") or service["build"] == ".", f"{name} runs as its image's user, which may be root"
        assert service["healthcheck"]["test"], name


def test_compose_passwords_come_from_files(compose):
    """No password stands in the file or in a container's settings."""
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    settings = [(name, str(value)) for service in compose["services"].values()
                for name, value in service["environment"].items()]
    assert not [name for name, _ in settings if re.search("PASSWORD|AUTH|SECRET", name) and not name.endswith("_FILE")]
    assert not [value for _, value in settings if re.search(r"://[^/@]*:[^/@]*@", value)]
