"""Several workers on one port: each answers, each follows, one that dies is replaced, and none outlives its parent."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saec.errors import ConfigError
from saec.server import together as together_module
from saec.server.follow import Follower
from saec.server.last_good import LastGood
from saec.server.live import Standing
from saec.server.metrics import ServerMetrics
from saec.server.together import Together, merged
from saec.server.workers import listen
from saec.store.model_store import open_store
from tests.server.process import ROOT, Load, running
from tests.server.swaps import BODIES, scores
from tests.server.versions import commit, publish


@pytest.fixture
def store(tmp_path):
    """A store with one version live."""
    store = open_store(tmp_path / "store")
    publish(store, 0)
    return store


def workers(pid: int) -> list[int]:
    """The processes that a server has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def of_workers(server, metric: str) -> dict[str, float]:
    """A metric's samples by worker."""
    lines = server.ask("GET", "/metrics")[1].decode().splitlines()
    samples = [line for line in lines if line.startswith(f"{metric}{{")]
    return {line.partition('worker="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in samples}


def until(what, seconds: float = 15.0) -> None:
    """Wait until something is so."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < seconds
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    path = Path(f"/proc/{pid}/stat")
    return not path.exists() or path.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.server
def test_workers_answer_follow_log_and_are_replaced(store, tmp_path):
    """Two workers, a new release and the death of one of them under load; then SIGTERM."""
    second = commit(store, 1)
    expected = {version: scores(store, version) for version in store.versions()}
    words = (
        "--workers",
        "2",
        "--log",
        str(tmp_path / "log"),
        "--row-id",
        "user_id",
        "--poll-seconds",
        "0.05",
        "--cache",
        str(tmp_path / "cache"),
    )
    with running(tmp_path / "store", *words) as server:
        until(lambda: of_workers(server, "saec_server_ready") == {"0": 1.0, "1": 1.0})
        first, other = workers(server.pid)
        with Load(server, BODIES, expected, callers=12) as load:
            store.publish(second, actor="run", reason="passed", fence=1)
            until(lambda: of_workers(server, "saec_server_swaps_total") == {"0": 1.0, "1": 1.0})
            until(lambda: load.answers[second] > 50)
        assert (load.failed, load.mixed) == ([], [])
        counted = of_workers(server, "saec_server_scored_rows_total")
        assert sum(counted.values()) == 5 * sum(load.answers.values())
        assert min(counted.values()) > 0, "one worker did everything"
        until(lambda: len(list((tmp_path / "log").iterdir())) == 2)  # what is queued dies with its worker
        os.kill(first, signal.SIGKILL)
        until(lambda: len(workers(server.pid)) == 2 and first not in workers(server.pid))
        until(lambda: of_workers(server, "saec_server_ready") == {"0": 1.0, "1": 1.0})
        assert other in workers(server.pid)
        started = workers(server.pid)
        assert server.stop() == 0
    until(lambda: all(map(gone, started)))
    logged = {
        path: [json.loads(line) for line in path.read_text().splitlines()] for path in (tmp_path / "log").iterdir()
    }
    assert len(logged) == 2
    assert {line["version"] for lines in logged.values() for line in lines} == set(store.versions())


@pytest.mark.server
def test_what_has_begun_is_finished(store, tmp_path):
    """Told to stop in the middle of a body, a worker waits for the rest and answers."""
    with running(tmp_path / "store", "--workers", "2") as server:
        server.wait_for(store.versions()[0])
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
            head = "POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: "
            caller.sendall(f"{head}{len(BODIES[0])}\r\n\r\n".encode() + BODIES[0][:20])
            time.sleep(0.3)
            os.kill(server.pid, signal.SIGTERM)
            time.sleep(0.3)
            caller.sendall(BODIES[0][20:])
            assert caller.recv(1000).startswith(b"HTTP/1.1 200")
        assert server._end() == 0


@pytest.mark.server
def test_workers_without_their_parent_stop(store, tmp_path):
    """A parent that is killed leaves no process behind that holds the port."""
    with running(tmp_path / "store", "--workers", "2") as server:
        server.wait_for(store.versions()[0])
        children = workers(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: all(map(gone, children)))


@pytest.mark.server
def test_a_worker_that_cannot_start_is_tried_again_after_pauses(tmp_path):
    """What ends at once is not started at once for ever; the log says so."""
    script = (
        "import os, logging, signal; from saec.server import workers\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it\n"
        "logging.basicConfig()\n"
        "workers.supervise(lambda number: os._exit(3), workers.listen('127.0.0.1', 0, 2))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=10)[1]
    assert said.count("exit code 3; another takes its place in 1 s") == 2
    assert said.count("takes its place") == 4


def test_a_port_that_is_taken_is_refused():
    """Also where the other server lets its own workers share it, and this one would as well."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for count in (1, 3):
            with pytest.raises(ConfigError, match="cannot listen on"):
                listen("127.0.0.1", taken.getsockname()[1], count)


def test_each_worker_listens_on_the_port():
    """As many sockets as workers, on one port, whichever is free."""
    sockets = listen("127.0.0.1", 0, 3)
    assert len({one.getsockname() for one in sockets}) == 1
    assert len({one.fileno() for one in sockets}) == 3
    for one in sockets:
        one.close()


def test_metrics_of_all_workers_are_in_one_answer(tmp_path, monkeypatch):
    """Each series says of which worker it is; one that does not answer in time is left out."""
    monkeypatch.setattr(together_module, "ANSWER_SECONDS", 0.2)
    all_of_them, metrics = Together(tmp_path, 3), [ServerMetrics(Standing(), None) for _ in range(3)]
    for number in (0, 1):
        metrics[number].scored(10 * (number + 1), 0.003)
        metrics[number].requests["/v1/score", 200] += number + 1
        all_of_them.tell(number, metrics[number].own_text)
    text = all_of_them.text(0, metrics[0].own_text()).decode()
    assert 'saec_server_scored_rows_total{worker="0"} 10.0' in text
    assert 'saec_server_scored_rows_total{worker="1"} 20.0' in text
    assert 'saec_server_requests_total{path="/v1/score",status="200",worker="1"} 2.0' in text
    assert 'saec_server_score_seconds_bucket{le="0.005",worker="0"} 1.0' in text
    assert 'worker="2"' not in text
    assert text.count("# TYPE saec_server_scored_rows_total counter") == 1


def test_metrics_of_one_are_kept_as_they_are():
    """Put together with nothing, the same samples are there, with the label."""
    own = ServerMetrics(Standing(), None).own_text()
    samples = [line for line in merged({"0": own}).splitlines() if not line.startswith(b"#")]
    assert len(samples) == len([line for line in own.splitlines() if not line.startswith(b"#")])
    assert all(b'worker="0"' in line for line in samples)


def test_workers_keep_one_version_in_turn(store, tmp_path):
    """A cache that several keep is locked while one loads and keeps; what cannot be locked is no hindrance."""
    kept = [LastGood(tmp_path / "cache", shared=True) for _ in range(2)]
    for last_good in kept:
        standing = Standing()
        Follower(store, standing, poll_seconds=1, last_good=last_good).look()
        assert standing.live.model.version == last_good.last()[1].version == store.versions()[0]
    (tmp_path / "file").write_text("no folder")
    with LastGood(tmp_path / "file", shared=True).alone():
        pass
