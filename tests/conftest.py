"""Fixtures that many tests share."""

import copy
import gc
import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from _pytest.doctest import DoctestModule

import saec.ledger.tables
import saec.train.ranks
import tests.properties  # noqa: F401 - its profiles, before Hypothesis reads its options
from saec.config import Config
from saec.constants import TRIAL
from saec.data.hourly_files import hour_file, write_hour
from saec.data.rows import EncodedRows
from saec.data.simulate import Simulation, simulate_hours
from saec.hours import Hour
from saec.ledger import HourRow, Lease
from saec.monitoring.lost import Lost
from saec.monitoring.outlook import Outlook
from saec.schedule.advance import advance
from saec.schedule.backfill import run_backfill
from saec.schedule.pipeline import Pipeline
from saec.schedule.planner import Only, PlannedHour
from saec.schedule.progress import ask
from saec.schedule.retries import tried_again
from saec.steps import Run
from saec.store.model_store import ModelStore, open_store
from saec.store.releases import Release
from saec.workspace import Workspace

ROOT = Path(__file__).parent.parent
os.environ[TRIAL] = "1"  # the small sites of the tests have other constants, in commands as well
gc.disable()  # until all is collected: a million objects come to stay, and to look for garbage among them takes seconds


class Examples:
    """Examples in docstrings are looked for where there are some: to look through every module takes seconds."""

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(self, file_path: Path) -> Iterator[None]:
        """Leave out tests, in which there are none, and modules without a prompt."""
        found = yield
        if found and (file_path.is_relative_to(ROOT / "tests") or b">>>" not in file_path.read_bytes()):
            return [one for one in found if not isinstance(one, DoctestModule)]
        return found


def pytest_configure(config: pytest.Config) -> None:
    """Hooks of this file are for tests alone; those of a plugin are for the library too."""
    config.pluginmanager.register(Examples())


TOGETHER = {
    "tests/flows/test_deploy.py": "Prefect's test server",
    "tests/flows/test_flows.py": "Prefect's test server",
    "tests/test_story.py": "Prefect's test server",
    "tests/processes/test_canary.py": "the server of the drills",
    "tests/processes/test_contention.py": "the server of the drills",
    "tests/processes/test_cron.py": "the server of the drills",
    "tests/processes/test_kills.py": "the server of the drills",
    "tests/processes/test_outages.py": "the server of the drills",
}
"""Files whose tests share what takes tens of seconds to make."""
APART = ("tests/benchmarks/test_faults.py", "tests/test_disturbed_backfill.py")
"""Files whose tests share nothing, and take long."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadscope`, as `make slow` has it, tests that share something expensive go to one worker.

    By default a worker takes over half of what another still has to do, and makes all that those tests need once more:
    Prefect's server, a day of the news log, two ranks' hour.
    """
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - only where tests are handed out

    class Sharing(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return nodeid if file in APART else TOGETHER.get(file, file)

    return Sharing(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests that have a time limit of their own come first: the long ones are not to be left for the end."""
    limits: dict[Path, float] = {}
    for item in items:
        limit = item.get_closest_marker("timeout")
        limits[item.path] = max(limits.get(item.path, 0.0), limit.args[0] if limit else 0.0)
    items.sort(key=lambda item: -limits[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Garbage is looked for in what tests make, not in modules and collected tests, and not after every 700 objects."""
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data(root: Path) -> Path:
    """The folder of public data sets beside the checkout; tests that ask for it are skipped where it is absent."""
    folder = root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the checkout")
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """One thread for torch: on vectors this small, waking a second one costs more than all the arithmetic."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def no_fsync() -> Iterator[None]:
    """No real fsync, nor SQLite's: they cost time, and only a power loss can tell. Calls are still counted."""

    def prepared(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA synchronous=OFF").close()

    prepare = saec.ledger.tables._prepare_sqlite
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(saec.ledger.tables, "_prepare_sqlite", prepared)
        yield


def clean_forks() -> ForkServerContext:
    """Processes that are forked from one which has only imported.

    A start takes no seconds, and no lock of a thread of this one, which has trained, is held in it for ever.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.conftest", "saec.hour_over_ranks"])
    return context


def clean_fork(body: Callable[..., object], *args: Any) -> ForkServerProcess:
    """Start a function in such a process."""
    process = clean_forks().Process(target=body, args=args)
    process.start()
    return process


@pytest.fixture
def short_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that says nothing is lost at once."""
    monkeypatch.setattr(saec.train.ranks, "_WORD_SECONDS", 0.2)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Prefect's test server: forty CPU seconds a session, so what asks for it is marked `server`."""
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415 - seconds, for the tests that need it

    with prefect_test_harness(server_startup_timeout=120):
        yield


FIRST = Hour.parse("2026-03-01T12")
SIMULATED, DONE = 7, 5
_SETTINGS = {
    "threads": 1,
    "data": {
        "time_column": "event_time",
        "label_column": "clicked",
        "row_id_columns": ["impression_id"],
        "max_rows": 5_000,
        "max_bytes": 4 << 20,
    },
    "fields": [
        {"name": "user_id"},
        {"name": "item_id"},
        {"name": "item_tags", "kind": "list", "max_values": 4},
        {"name": "site_domain", "type": "string", "nullable": True},
        {"name": "device"},
        {"name": "price", "kind": "numeric", "type": "float"},
    ],
    "crosses": [["site_domain", "device"]],
    "vocabulary": {"max_new_features": 2_000},
    "model": {"width": 4, "hidden": [8], "cross_layers": 1, "cross_rank": 4},
    "training": {"dense_learning_rate": 0.02},
    "compression": {"codewords": 15, "ratio": 20.0},
    # Margins so wide that an hour of a thousand rows decides: what is tested here is the way of an hour, not the gate.
    "gate": {"auc_margin": 0.3, "confidence": 0.52, "entropy_margin": 0.5, "min_rows": 50, "min_class_rows": 10},
}


STEPS = ("ingest", "train", "cluster", "retrain", "gate", "publish")
"""The steps of an hour, in their order."""


def wrapped(by: Callable[..., Callable[..., Any]]) -> Run:
    """Run each step as what `by(name, step)` makes of it."""

    def run_step(step, /, *args):
        return by(step.__name__, step)(*args)

    return run_step


def instead(**replaced: Callable[..., Any]) -> Run:
    """Run some steps, by name, as something else."""
    return wrapped(replaced.get)


class Site:
    """A small pipeline with its simulated data in one folder, which a test may copy and spoil."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hours = [FIRST + offset for offset in range(SIMULATED)]

    def simulate(self, count: int = SIMULATED) -> None:
        """Make the data of the first so many hours; they are the hours of this site from then on."""
        self.hours = [FIRST + offset for offset in range(count)]
        simulation = Simulation(
            seed=3, rows_per_hour=1_000, users=50, items=30, clusters=4, base_rate=0.3, new_share=0.02
        )
        simulate_hours(simulation, FIRST, count, self.folder / "data")

    def config(self, **changed: Any) -> Config:
        """The settings, some sections changed in part."""
        settings = copy.deepcopy(_SETTINGS)
        settings["workspace"] = self.folder / "workspace"
        settings["data"]["source"] = str(self.folder / "data")
        for section, values in changed.items():
            settings[section] = settings.get(section, {}) | values if isinstance(values, dict) else values
        return Config.model_validate(settings)

    @contextmanager
    def pipeline(self, config: Config | None = None, run_step: Run = tried_again) -> Iterator[Pipeline]:
        """A pipeline over this folder, as a process of its own would see it."""
        Workspace._resident = None
        pipeline = Pipeline(config or self.config(), run_step)
        try:
            yield pipeline
        finally:
            pipeline.ledger.close()

    def advance(
        self, last: Hour, *, config: Config | None = None, run_step: Run = tried_again, **options
    ) -> list[HourRow]:
        """What a scheduled run does when hour `last` has just ended."""
        with self.pipeline(config, run_step) as pipeline:
            return advance(pipeline, last + 1, **options)

    def backfill(
        self,
        first: Hour,
        last: Hour,
        only: Only,
        *,
        config: Config | None = None,
        run_step: Run = tried_again,
        **wanted,
    ) -> list[HourRow]:
        """What a backfill of a range does, long after it; the hours it did, as they stand then."""
        with self.pipeline(config, run_step) as pipeline:
            asked = ask(first, last, "a test", **{"only": only, "stop_on_failure": False, **wanted})
            return run_backfill(pipeline, asked, now=last + 100)[1]

    def rows(self) -> list[HourRow]:
        """The ledger, oldest first."""
        with self.pipeline() as pipeline:
            return pipeline.ledger.rows()

    @property
    def store(self) -> ModelStore:
        return open_store(self.config().store_url)

    @property
    def live(self) -> str | None:
        """The live version."""
        release = self.store.live()
        return release.version if release else None

    def file(self, hour: Hour) -> Path:
        """The data file of an hour."""
        return hour_file(self.folder / "data", hour)

    def redeliver(self, hour: Hour, *, every: int = 10, rows: slice = slice(None)) -> None:
        """Deliver the hour again: only these rows, and every so manieth with its label turned over (0: none)."""
        whole = pq.read_table(self.file(hour), partitioning=None)
        table = whole.take(np.arange(whole.num_rows)[rows])
        clicked_B = table["clicked"].to_numpy().copy()
        if every:
            clicked_B[::every] ^= 1
        place = table.column_names.index("clicked")
        write_hour(self.folder / "data", hour, table.set_column(place, "clicked", pa.array(clicked_B)))

    def digests(self, below: str = "workspace/store", of: str = "") -> dict[str, str]:
        """sha256 of every file below a folder, by path; only paths that contain `of`."""
        root = self.folder / below
        files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        return {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in sorted(files) if of in name}

    def serving(self) -> dict[str, str]:
        """sha256 of everything that serving depends on: the files of the live version and all releases."""
        stored = self.digests()
        return {name: sha for name, sha in stored.items() if name.startswith("releases/") or str(self.live) in name}

    def copy(self, folder: Path) -> "Site":
        """The same, to be spoiled."""
        shutil.copytree(self.folder, folder)
        return Site(folder)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> Site:
    """Seven hours of data, nothing done; not to be changed."""
    site = Site(tmp_path_factory.mktemp("simulated"))
    site.simulate()
    return site


@pytest.fixture(scope="session")
def done(simulated, tmp_path_factory) -> Site:
    """The first five hours done (the first HELD(floor), the last three PUBLISHED), two to come; not to be changed."""
    site = simulated.copy(tmp_path_factory.mktemp("done") / "site")
    site.advance(site.hours[DONE - 1])
    states = [row.state for row in site.rows()]
    assert (states[0], states[2:]) == ("HELD", ["PUBLISHED"] * 3), site.rows()
    return site


@pytest.fixture(scope="session")
def undisturbed(done, tmp_path_factory) -> Site:
    """All seven hours done without any fault; not to be changed."""
    site = done.copy(tmp_path_factory.mktemp("undisturbed") / "site")
    site.advance(site.hours[-1])
    return site


@pytest.fixture
def fresh(simulated, tmp_path) -> Site:
    """Seven hours of data, nothing done."""
    return simulated.copy(tmp_path / "site")


@pytest.fixture
def site(done, tmp_path) -> Site:
    """Five hours done, the last of them live; two to come."""
    return done.copy(tmp_path / "site")


class ClickHours:
    """Small hours of clicks, made in memory: the same hour is always the same rows.

    Every third user clicks four times as often as the others; each hour brings two users and takes two away. The fields
    are user, item and tags, a list of up to three.
    """

    first = Hour.parse("2017-10-01T03")

    def config(self, **sections: Any) -> Config:
        """A small model of these hours; `sections` replace whole sections of the settings."""
        settings = {
            "threads": 1,
            "data": {"source": "nowhere", "time_column": "time", "label_column": "clicked"},
            "fields": [{"name": "user"}, {"name": "item"}, {"name": "tags", "kind": "list", "max_values": 3}],
            "model": {"width": 4, "hidden": [8], "cross_rank": 4},
            "training": {"batch_rows": 32},
            "compression": {"codewords": 6, "ratio": 4.0, "fingerprint_bits": 16},
        }
        return Config.model_validate(settings | sections)

    def rows(self, hour: Hour, count: int = 150) -> EncodedRows:
        """The rows of an hour."""
        rng = np.random.default_rng(hour.index)
        user_B = 2 * (hour.index - self.first.index) + rng.integers(0, 30, count)
        item_B = rng.integers(0, 9, count)
        tags_BS = np.where(np.arange(3) < rng.integers(0, 4, (count, 1)), rng.integers(0, 7, (count, 3)), -1)
        labels_B = rng.random(count) < np.where(user_B % 3 == 0, 0.8, 0.2)
        keys_BS = np.column_stack([self.keys(0, user_B), self.keys(1, item_B), self.keys(2, tags_BS)])
        times_B = hour.start_ms + np.arange(count) * 1000
        return EncodedRows(labels_B.astype(np.uint8), times_B, keys_BS)

    @staticmethod
    def keys(field: int, values: np.ndarray) -> np.ndarray:
        """Distinct keys of a field's values; negative values are padding."""
        numbers = ((field + 1) * 1_000_000 + values).astype(np.uint64)
        return np.where(values < 0, np.uint64(0), numbers * np.uint64(0x9E3779B97F4A7C15))


@pytest.fixture(scope="session")
def click_hours() -> ClickHours:
    """Maker of small hours of clicks and of a configuration that reads them."""
    return ClickHours()


OUTLOOK_FIRST = Hour.parse("2017-10-01T00")
OUTLOOK_NOW = datetime(2017, 10, 1, 12, 30, tzinfo=UTC)


def ended_hour(index: int, state: str = "PUBLISHED", **known) -> HourRow:
    """An hour of the ledger, which ended six minutes after it was over."""
    hour = OUTLOOK_FIRST + index
    return HourRow(hour, state, attempts=1, fence=1, finished_at=hour.start + timedelta(hours=1, minutes=6), **known)


def last_release(**known) -> Release:
    """A release."""
    given = {
        "sequence": 3,
        "action": "publish",
        "version": "20171001T11-abc",
        "held": False,
        "actor": "saec run",
        "reason": "PASS",
        "at": "2017-10-01T12:06:00+00:00",
        "previous": None,
        "fence": 1,
    }
    return Release(**given | known)


@pytest.fixture
def outlook() -> Callable[..., Outlook]:
    """Makes an outlook: twelve hours published, the last of them live, nothing due; some of it changed."""

    def make(**changed) -> Outlook:
        known = {
            "now": OUTLOOK_NOW,
            "rows": [ended_hour(index) for index in range(12)],
            "due": [],
            "waiting": None,
            "has_data": True,
            "lease": None,
            "backfill": None,
            "live": last_release(),
            "live_since": OUTLOOK_NOW - timedelta(minutes=24),
            "disk_free": 50_000_000_000,
        }
        return Outlook(**known | changed)

    return make


@pytest.fixture
def troubled(outlook) -> Outlook:
    """Six hours that published nothing, the last FAILED; three due, one awaited, one stale; a full disk; a hold."""
    rows = [ended_hour(0, version="20171001T00-abc")]
    rows += [ended_hour(1, "HELD", reason="worse", stale_because="hour 0 was done again")]
    rows += [ended_hour(index, "HELD", reason="worse") for index in range(2, 5)]
    watch = {"version": "20171001T00-abc", "worse_than": ["the version before"], "text": "it is shown worse"}
    rows += [ended_hour(5, "HELD", reason="worse", record={"watch": watch})]
    rows += [ended_hour(6, "FAILED", reason="oom", message="no memory left")]
    return outlook(
        rows=rows,
        due=[PlannedHour(OUTLOOK_FIRST + index, "do", "is due", 60.0) for index in range(7, 10)],
        waiting=PlannedHour(
            OUTLOOK_FIRST + 10, "wait", "its partition is absent; the pipeline waits until 2017-10-01T13"
        ),
        lease=Lease("hourly flow on host, process 7", 4, OUTLOOK_NOW + timedelta(seconds=90)),
        live=last_release(version="20171001T00-abc", held=True, action="hold", actor="ann", reason="launch day"),
        live_since=OUTLOOK_NOW - timedelta(hours=13),
        disk_free=2_500_000_000,
        lost=[Lost("20171001T00-abc is live, and the store does not hold it", "verify")],
    )
