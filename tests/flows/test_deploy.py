"""One machine's installation, started as a user starts it."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import events
from flows.automations import automations
from flows.deploy import CRON, command, deployments
from flows.events import pipeline_name, resource
from flows.pages import OVERVIEW, page_key
from flows.settings import SETTINGS

SECONDS = 100
EVERY_HOUR = Cron(CRON, timezone="UTC")


@pytest.fixture
def port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(found: Callable[[], Any]) -> Any:
    """What is found in the end."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if (value := found()) is not None:
                return value
        except OSError:
            pass
        time.sleep(0.25)
    raise TimeoutError


def test_deployments_without_a_server(tmp_path, fresh):
    """`hourly` runs by the schedule, `backfill` by hand; both are named alike and told where the settings are."""
    hourly, backfill = deployments(tmp_path / "shop.yaml", fresh.config(), "shop", EVERY_HOUR)
    assert (hourly.full_name, backfill.full_name) == ("hourly/shop", "backfill/shop")
    assert (hourly.entrypoint, backfill.entrypoint) == ("flows.hourly.hourly", "flows.backfill.backfill")
    (schedule,) = hourly.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == (CRON, "UTC")
    assert not backfill.schedules
    assert hourly.parameters == backfill.parameters == {"config": str(tmp_path / "shop.yaml"), "ranks": 1}


@pytest.mark.case(20)
def test_the_form_and_the_page_of_a_deployment(tmp_path, fresh):
    """The settings file is fixed and comes last; the description leads to the overview and says whose it is."""
    settings = fresh.config()
    for deployment in deployments(tmp_path / "shop.yaml", settings, "shop", EVERY_HOUR):
        fields = deployment._parameter_openapi_schema.properties
        assert (fields["config"]["readOnly"], fields["config"]["enum"]) == (True, [str(tmp_path / "shop.yaml")])
        assert max(fields.values(), key=lambda field: field["position"]) is fields["config"]
        assert f"(/artifacts/key/{pipeline_name(settings)}-overview)" in deployment.description
        assert deployment.description.endswith(f"Pipeline: {pipeline_name(settings)}")
    assert fields["first"]["pattern"].startswith("^")


@pytest.mark.case(18)
def test_pipelines_of_one_name_are_told_apart(fresh, tmp_path):
    """Two workspaces of one folder name share no key, no resource and no automation; each keeps its own for good."""
    other = fresh.copy(tmp_path / "other" / "site")
    configs = fresh.config(), other.config()
    assert configs[0].workspace.name == configs[1].workspace.name
    for made in (
        pipeline_name,
        lambda config: resource(config)["prefect.resource.id"],
        lambda config: page_key(config, OVERVIEW),
        lambda config: automations(config)[1].name,
    ):
        first, second = map(made, configs)
        assert first != second
        events._id.cache_clear()
        assert made(configs[0]) == first


@pytest.mark.case(18)
@pytest.mark.server
@pytest.mark.usefixtures("prefect_server")
def test_a_name_that_another_pipeline_has_is_refused(site, settings_file, simulated, tmp_path):
    """Its deployment would be overwritten without a word; the same pipeline may deploy again from elsewhere."""

    def mine(path: Path):
        return CliRunner().invoke(command, ["--config", str(path), "--name", "mine", "--work-pool", "machines"])

    assert mine(settings_file).exit_code == 0
    moved = settings_file.with_name("moved.yaml")
    moved.write_bytes(settings_file.read_bytes())
    assert mine(moved).exit_code == 0
    theirs = tmp_path / "theirs.yaml"
    other = simulated.config().model_copy(update={"workspace": tmp_path / "other" / "workspace"})
    theirs.write_text(yaml.safe_dump(other.model_dump(mode="json")))
    refused = mine(theirs)
    assert refused.exit_code == 1
    assert f"hourly/mine is the deployment of another pipeline on this server, {pipeline_name(site.config())}" in (
        refused.output
    )
    assert known("hourly/mine").parameters == {"config": str(moved), "ranks": 1}


def known(name: str = "hourly/shop"):
    """A deployment as the server knows it."""
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(name)


def register(arguments: str, settings_file: Path):
    """What the command says and ends with; the server is Prefect's test server."""
    return CliRunner().invoke(command, ["--config", str(settings_file), "--name", "shop", *shlex.split(arguments)])


@pytest.mark.server
@pytest.mark.usefixtures("prefect_server")
def test_a_work_pool_takes_both_deployments(settings_file, monkeypatch):
    """Both are registered in a process pool that is made; runs start in this folder, with Prefect set up as here."""
    monkeypatch.chdir(settings_file.parent)
    assert register("--work-pool machines", settings_file).exit_code == 0
    with get_client(sync_client=True) as client:
        assert client.read_work_pool("machines").type == "process"
    for found in (known("hourly/shop"), known("backfill/shop")):
        assert found.work_pool_name == "machines"
        assert found.job_variables == {"working_dir": str(settings_file.parent), "env": SETTINGS}
    assert not known("backfill/shop").schedules


@pytest.mark.server
@pytest.mark.usefixtures("prefect_server")
def test_deploying_again_replaces_the_schedule(settings_file):
    """The new cron is the only one left, in its zone; a second pipeline beside it keeps its own."""
    assert register("--work-pool machines --cron '20 * * * *'", settings_file).exit_code == 0
    other = CliRunner().invoke(command, ["--config", str(settings_file), "--work-pool", "machines"])
    assert other.exit_code == 0, other.output
    again = register("--work-pool machines --cron '40 * * * *' --timezone Europe/Berlin", settings_file)
    assert again.exit_code == 0, again.output
    ((schedule,),) = [known().schedules]
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("40 * * * *", "Europe/Berlin")
    ((beside,),) = [known(f"hourly/{settings_file.stem}").schedules]
    assert beside.schedule.cron == CRON


@pytest.mark.server
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("whole", [True, False], ids=["deployment", "schedule"])
def test_what_somebody_paused_stays_paused(settings_file, whole):
    """A restart of the installation deploys again and must not undo what was decided in an incident."""
    assert register("--work-pool machines", settings_file).exit_code == 0
    with get_client(sync_client=True) as client:
        if whole:
            client.pause_deployment(known().id)
        else:
            client.update_deployment_schedule(known().id, known().schedules[0].id, active=False)
    again = register("--work-pool machines --cron '40 * * * *'", settings_file)
    assert "stays so" in again.output
    assert [schedule.active for schedule in known().schedules] == [False]
    assert known().schedules[0].schedule.cron == "40 * * * *"


@pytest.mark.server
@pytest.mark.usefixtures("prefect_server")
def test_a_pool_of_another_kind_is_refused(settings_file):
    """Nothing is registered where it could not run."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="boxes", type="docker"))
    refused = register("--work-pool boxes", settings_file)
    assert refused.exit_code == 1
    assert "boxes is of type docker" in refused.output


def test_a_work_pool_wants_a_server_that_stays(settings_file, port):
    """Without one nothing is started that would end with the command."""
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        refused = register(f"--work-pool machines --port {port}", settings_file)
    assert refused.exit_code == 1
    assert "no Prefect server answers" in refused.output


@pytest.mark.parametrize("wrong", ["--cron 'every hour'", "--timezone Europe/Atlantis"])
def test_a_schedule_that_is_none_is_refused(settings_file, wrong):
    """Before any server is troubled."""
    refused = register(wrong, settings_file)
    assert refused.exit_code == 2
    assert "no schedule can be made" in refused.output


def test_a_store_that_overwrites_is_refused(settings_file, monkeypatch):
    """A pipeline is not scheduled on a store that lets a second writer through."""
    monkeypatch.setattr("saec.store.objects.LocalObjects.put_if_absent", lambda *_: True)
    refused = register("", settings_file)
    assert refused.exit_code == 1
    assert "overwrite" in refused.output


@pytest.mark.fault(4)
@pytest.mark.server
@pytest.mark.timeout(300)
def test_a_scheduled_pipeline_on_one_machine(root, site, settings_file, port, tmp_path):
    """One command serves both flows beside a server on loopback; a run made by API completes; SIGTERM ends it all."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.deploy", "--config", str(settings_file), "--port", str(port)],
        cwd=root,
        env=environment | {"PREFECT_HOME": str(tmp_path / "prefect")},
    )

    def ask(path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{port}/api{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=10))

    def both():
        found = {item["entrypoint"]: item for item in ask("/deployments/filter", {})}
        return found if len(found) == 2 else None

    try:
        served = until(both)
        hourly = served["flows.hourly.hourly"]
        assert [item["schedule"]["cron"] for item in hourly["schedules"]] == ["5 * * * *"]
        assert served["flows.backfill.backfill"]["schedules"] == []
        scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        planned = until(lambda: ask("/flow_runs/filter", scheduled) or None)
        assert {run["deployment_id"] for run in planned} == {hourly["id"]}, "the scheduler creates runs"
        run = ask(f"/deployments/{hourly['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})
        ended = until(
            lambda: next(
                (
                    found
                    for found in [ask(f"/flow_runs/{run['id']}")]
                    if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED")
                ),
                None,
            )
        )
        assert (ended["state_type"], ended["state_name"]) == ("COMPLETED", "PUBLISHED"), ended["state"]["message"]
        assert [row.state for row in site.rows()[5:]] == ["PUBLISHED", "PUBLISHED"]
        assert not (tmp_path / "prefect" / "storage").exists(), "no result was kept"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    with pytest.raises(OSError, match="refused"):
        ask("/health")
