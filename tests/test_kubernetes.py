"""The Kustomize base says the same as docker-compose.yml, and confines its pods as that does its services."""

import base64
import shutil
import subprocess

import pytest
import yaml

from saec import __version__

KINDS = ("StatefulSet", "Deployment")


@pytest.fixture(scope="module")
def compose(root):
    return yaml.safe_load((root / "docker-compose.yml").read_text())["services"]


@pytest.fixture(scope="module")
def kustomization(root):
    return yaml.safe_load((root / "kustomization.yaml").read_text())


@pytest.fixture(scope="module")
def objects(root, kustomization):
    """Every object of the base, as its files have it."""
    texts = [(root / name).read_text() for name in kustomization["resources"]]
    return [found for text in texts for found in yaml.safe_load_all(text)]


@pytest.fixture(scope="module")
def pods(objects):
    """The pod of each service, by its name."""
    return {found["metadata"]["name"]: found["spec"]["template"]["spec"] for found in objects if found["kind"] in KINDS}


def plain(value):
    """A value of compose as the service gets it: the default of `${NAME:-default}`, `$` for `$$`."""
    text = str(value)
    text = text.partition(":-")[2].removesuffix("}") if text.startswith("${") else text
    return text.replace("$$", "$")


def environment(pod):
    """A pod's variables."""
    return {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}


def test_every_file_that_is_named_is_there(root, kustomization):
    """Resources and generated settings lie where the base looks for them; secrets are those of compose."""
    named = [name for made in kustomization["configMapGenerator"] for name in made["files"]]
    assert all((root / name.rpartition("=")[2]).is_file() for name in [*named, *kustomization["resources"]])
    there = {f"kubernetes/{path.name}" for path in (root / "kubernetes").iterdir()}
    assert there == set(kustomization["resources"])
    secrets = yaml.safe_load((root / "docker-compose.yml").read_text())["secrets"]
    [made] = kustomization["secretGenerator"]
    assert set(made["files"]) == {said["file"].removeprefix("./") for said in secrets.values()}


def test_the_services_are_those_of_compose(compose, pods):
    """Each runs the same command with the same variables and the same secrets."""
    assert pods.keys() == compose.keys()
    for name, service in compose.items():
        container = pods[name]["containers"][0]
        variables = {key: plain(value) for key, value in service["environment"].items()}
        own = {key: value for key, value in environment(pods[name]).items() if key != "PGDATA"}
        assert own == variables, name
        command = service.get("command")
        words = command.split() if isinstance(command, str) else [plain(word) for word in command or []]
        assert container.get("args", []) == words, name
        [mounted] = [volume["secret"] for volume in pods[name]["volumes"] if "secret" in volume]
        assert {item["key"] for item in mounted["items"]} == set(service["secrets"]), name


def test_pods_are_confined(pods):
    """No root, no capabilities, a read-only root file system, no token, bounded memory, a check of readiness."""
    for name, pod in pods.items():
        [container] = pod["containers"]
        said, own = pod["securityContext"], container["securityContext"]
        assert said["runAsNonRoot"], name
        assert said["runAsUser"] > 0, name
        assert said["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, f"{name}: POSTGRES_PORT and the like would be set"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume], name
        assert container["resources"]["limits"]["memory"], name
        assert container["readinessProbe"], name


def test_nothing_is_reached_from_outside(objects):
    """Services are of the cluster; policies let nobody in by default, and by name only pods of this namespace."""
    assert all("type" not in found["spec"] for found in objects if found["kind"] == "Service")
    policies = {found["metadata"]["name"]: found["spec"] for found in objects if found["kind"] == "NetworkPolicy"}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    callers = {
        name: {
            label
            for rule in spec["ingress"]
            for peer in rule["from"]
            for label in peer["podSelector"]["matchLabels"].values()
        }
        for name, spec in policies.items()
        if "ingress" in spec
    }
    assert callers == {
        "postgres": {"server", "worker"},
        "store": {"worker", "model"},
        "server": {"worker"},
        "model": {"true"},
    }


def test_the_images_are_of_this_version(kustomization, pods):
    """Ours carry the package's version, others a tag."""
    tags = {image["name"]: image["newTag"] for image in kustomization["images"]}
    assert set(tags.values()) == {__version__}
    for pod in pods.values():
        image = pod["containers"][0]["image"]
        assert image in tags or ":" in image


def test_the_worker_reads_the_settings_that_are_mounted(root, kustomization, pods):
    """The file that SAEC_CONFIG names is in the ConfigMap; both sides of the log of scored rows mount one volume."""
    settings = next(made for made in kustomization["configMapGenerator"] if made["name"] == "settings")
    assert settings["files"] == [environment(pods["worker"])["SAEC_CONFIG"]]
    shared = [
        (volume["persistentVolumeClaim"]["claimName"], mount["mountPath"])
        for pod in (pods["worker"], pods["model"])
        for volume in pod["volumes"]
        for mount in pod["containers"][0]["volumeMounts"]
        if "persistentVolumeClaim" in volume and mount["name"] == volume["name"]
    ]
    assert shared == [("scored", "/app/scored")] * 2


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl, which renders it")
def test_it_renders(root, kustomization, tmp_path):
    """Kubectl's Kustomize makes one set of objects of it, with the secrets and settings that were given."""
    for name in ("kustomization.yaml", "ledger-database.sql"):
        shutil.copy(root / name, tmp_path)
    for name in ("kubernetes", "configs"):
        shutil.copytree(root / name, tmp_path / name)
    (tmp_path / "secrets").mkdir()
    for name in kustomization["secretGenerator"][0]["files"]:
        (tmp_path / name).write_text("canary")
    made = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    objects = list(yaml.safe_load_all(made.stdout))
    [secret] = [found for found in objects if found["kind"] == "Secret"]
    assert {base64.b64decode(value) for value in secret["data"].values()} == {b"canary"}
    images = {
        found["spec"]["template"]["spec"]["containers"][0]["image"] for found in objects if found["kind"] in KINDS
    }
    assert images == {f"{name}:{__version__}" for name in ("saec", "saec-store", "saec-serving")} | {
        "postgres:15-bookworm"
    }
    named = [
        volume["secret"]["secretName"]
        for found in objects
        if found["kind"] in KINDS
        for volume in found["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    ]
    assert set(named) == {secret["metadata"]["name"]}, "pods name the secret as it was made, with its digest"
    assert all(found["metadata"].get("namespace") == "saec" for found in objects if found["kind"] != "Namespace")
