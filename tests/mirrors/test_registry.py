"""Releases reach an MLflow registry, whatever happened to it in between, and nothing waits for it."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from saec.mirrors.registry import HELD, LIVE, VERSION, mirror_releases

URL = "http://127.0.0.1:9"


@pytest.fixture
def mirror(settings, ledger, store):
    """Mirror the store's releases, as the end of a run does."""

    def run(**mirrors) -> None:
        mirror_releases(settings(**mirrors or {"mlflow": URL}), ledger, store)

    return run


def mirrored(registry):
    """The versions that the registry holds, in its order."""
    return [found.tags[VERSION] for found in registry.versions]


def test_a_release_is_registered_with_its_figures(registry, mirror, release, settings, ledger):
    """The version, a run with its figures at its hour, and the alias; where it lies is no path of this machine."""
    version = release(0)
    mirror()
    name = settings().pipeline_name(ledger.pipeline_id)
    [found] = registry.versions
    assert found.tags == {
        VERSION: version,
        "saec.hour": "2017-10-01T03",
        "saec.verdict": "PASS",
        "saec.config": "c" * 64,
        "saec.data": "d" * 64,
    }
    assert found.source == f"saec://{name}/versions/{version}"
    assert registry.aliases == {LIVE: version}
    assert registry.runs[0].metrics == {
        "gate.auc_compressed": 0.71,
        "gate.logloss_compressed": 0.52,
        "met.auc_served": 0.7,
        "compression.ratio_total": 199.5,
        "rows.train": 700.0,
        "rows.gate": 300.0,
        "bytes.codebooks": 100.0,
        "bytes.all": 100.0,
    }
    assert registry.runs[0].info.status == "FINISHED"


def test_what_is_mirrored_is_asked_for_once(registry, mirror, release):
    """Nothing new costs one question."""
    release(0)
    mirror()
    before = registry.calls
    mirror()
    assert registry.calls == before + 1


def test_a_rollback_moves_the_alias_back(registry, mirror, release, store):
    """The version that comes back is not registered again, and the hold is told."""
    first, second = release(0), release(1)
    mirror()
    assert registry.aliases == {LIVE: second}
    store.rollback(first, actor="ann", reason="odd")
    mirror()
    [tags] = registry.models.values()
    assert (registry.aliases, mirrored(registry), tags[HELD]) == ({LIVE: first}, [first, second], "true")


@pytest.mark.parametrize("calls", range(14))
def test_what_was_missed_is_caught_up(registry, mirror, release, caplog, calls):
    """A registry that goes away after any call is warned of, shows no login, and ends as one that never did."""
    first = release(0)
    registry.down = calls
    with caplog.at_level(logging.WARNING):
        mirror()
    assert "the next run catches up: ConnectionError: no route to http://x" in caplog.text
    assert "secret" not in caplog.text
    second, registry.down = release(1), None
    mirror()
    assert (mirrored(registry), registry.aliases) == ([first, second], {LIVE: second})
    assert [run.info.status for run in registry.runs] == ["FINISHED", "FINISHED"]


def test_a_version_that_the_store_no_longer_has_is_passed_over(registry, mirror, release, store, caplog):
    """Retention removed it before it could be mirrored; those after it are."""
    first, second = release(0), release(1)
    store.remove(first)
    mirror()
    assert mirrored(registry) == [second]
    assert f"version {first} is not mirrored" in caplog.text


def test_without_the_setting_nobody_is_asked(registry, mirror, release):
    """Off is off."""
    release(0)
    mirror(mlflow=None)
    assert registry.calls == 0


def test_without_the_extra_the_warning_says_what_to_install(mirror, release, monkeypatch, caplog):
    """And the hour goes on."""
    release(0)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    mirror()
    assert "saec[mirrors]" in caplog.text


@pytest.fixture
def server(tmp_path):
    """The address of a real MLflow server on SQLite."""
    pytest.importorskip("mlflow", reason="it comes with the extra mirrors")
    pytest.importorskip("flask", reason="the server runs on it")
    program = Path(__file__).parent / "mlflow_server.py"
    process = subprocess.Popen(
        [sys.executable, program, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        lines = (line.strip() for line in process.stdout)
        yield next(line for line in lines if line.startswith("http"))
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(600)
def test_a_real_server_holds_what_was_released(server, mirror, release, store, settings, ledger):
    """Two releases and a rollback, by its own client: numbers, tags, figures, alias."""
    versions = [release(0), release(1)]
    mirror(mlflow=server)
    store.rollback(versions[0], actor="ann", reason="odd")
    mirror(mlflow=server)
    mlflow = pytest.importorskip("mlflow")
    client, name = mlflow.MlflowClient(server, server), settings().pipeline_name(ledger.pipeline_id)
    found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))
    assert [version.tags[VERSION] for version in found] == versions
    assert client.get_model_version_by_alias(name, LIVE).tags[VERSION] == versions[0]
    assert client.get_registered_model(name).tags[HELD] == "true"
    run = client.get_run(found[1].run_id)
    assert (run.data.metrics["gate.auc_compressed"], run.data.metrics["bytes.all"]) == (0.71, 101.0)
    assert run.info.status == "FINISHED"
