"""The server as a process: swaps under load, kills, large and slow bodies on the wire, and what it imports."""

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

import pytest

from benchmarks.faults.figure_18_listeners import beyond, listeners
from saec.store.model_store import open_store
from tests.server.process import ROOT, Load, running
from tests.server.swaps import BODIES, scores, swapped_under_load
from tests.server.versions import commit, publish, rows

SWAPS, ROLLBACKS = 100, 10


@pytest.fixture
def store(tmp_path):
    """A store with one version live."""
    store = open_store(tmp_path / "store")
    publish(store, 0)
    return store


@pytest.mark.server
@pytest.mark.fault(70)
def test_swaps_and_rollbacks_under_load(tmp_path):
    """Of all answers during swaps and rollbacks none fails, none is mixed, and each rollback is obeyed."""
    drill = swapped_under_load(tmp_path, SWAPS, ROLLBACKS)
    assert (drill.load.failed[:3], drill.load.mixed[:3]) == ([], [])
    assert len(drill.rollback_seconds) == ROLLBACKS
    assert len(drill.load.answers) > SWAPS / 2, "too few versions met a request"
    assert statistics.median(drill.load.seconds) < 0.25, "answers wait for a look at the store"
    assert drill.grown < 50 << 20


@pytest.mark.server
@pytest.mark.fault(9)
def test_a_killed_server_answers_again_with_the_store_away(store, tmp_path):
    """Killed with SIGKILL and started again, the store having been moved: its cache alone answers."""
    words = ("--cache", str(tmp_path / "cache"), "--log", str(tmp_path / "log"), "--row-id", "user_id")
    version = publish(store, 1)
    wanted = scores(store, version)[0]
    with running(tmp_path / "store", *words) as server:
        server.wait_for(version)
        assert server.score(BODIES[0])["scores"] == pytest.approx(wanted)
        wait_until((tmp_path / "cache" / "last.json").exists)
        server.kill()
    (tmp_path / "store").rename(tmp_path / "moved")
    with running(tmp_path / "store", *words) as server:
        server.wait_for(version)
        assert server.score(BODIES[0]) == {"version": version, "scores": pytest.approx(wanted)}
        assert json.loads(server.ask("GET", "/v1/model")[1])["from_cache"] is True
        (tmp_path / "moved").rename(tmp_path / "store")
        wait_until(lambda: not json.loads(server.ask("GET", "/v1/model")[1])["from_cache"])
        assert server.stop() == 0
    lines = [json.loads(line) for path in (tmp_path / "log").iterdir() for line in path.read_text().splitlines()]
    assert [line["id"] for line in lines[-5:]] == [{"user_id": row["user_id"]} for row in rows(5, 0)]


@pytest.mark.server
@pytest.mark.fault(72)
def test_large_and_slow_bodies_on_the_wire(store, tmp_path):
    """A body too large is refused while it is being sent, chunked or not; connections that dawdle harm nobody."""
    with running(tmp_path / "store", "--max-body-bytes", "65536") as server:
        server.wait_for(store.versions()[0])
        head = b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as endless:
            endless.sendall(head + b"transfer-encoding: chunked\r\n\r\n" + chunk * 3)
            assert endless.recv(100).startswith(b"HTTP/1.1 413")
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as huge:
            huge.sendall(head + b"content-length: 99999999999\r\n\r\n" + b" " * 1000)
            assert huge.recv(100).startswith(b"HTTP/1.1 413")
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        for connection in slow:
            connection.sendall(head + b"content-length: 100\r\n\r\n{")
        assert server.score(BODIES[0])["version"] == store.versions()[0]
        for connection in slow:
            connection.close()
        assert server.ask("POST", "/v1/score", b" " * 65537)[0] == 413
        assert server.score(BODIES[0])["version"] == store.versions()[0]


@pytest.mark.server
@pytest.mark.fault(72)
@pytest.mark.parametrize("part", [b"x-%d: 1\r\n", b"a"])
def test_heads_without_end(store, tmp_path, part):
    """A head that goes on and on, in whatever pieces, ends with its connection; so do trailers. Others are answered."""
    with running(tmp_path / "store") as server:
        server.wait_for(store.versions()[0])
        body = b"transfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n1\r\n{\r\n0\r\n"
        for begun in (b"POST /v1/score HTTP/1.1\r\n", b"POST /v1/score HTTP/1.1\r\nhost: x\r\n" + body):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as caller:
                caller.sendall(begun)
                sent = 0
                with contextlib.suppress(ConnectionError):
                    while sent < 1 << 22:
                        piece = b"".join(part.replace(b"%d", b"%d" % (sent + n)) for n in range(500))
                        caller.sendall(piece)
                        sent += len(piece)
                assert sent < 1 << 22, "it was read without end"
        assert server.score(BODIES[0])["version"] == store.versions()[0]


@pytest.mark.server
def test_the_command_serves_as_well(store, tmp_path):
    """`saec serve` takes store, columns and settings from the configuration, and ends with 0 on SIGTERM."""
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        f"store: {tmp_path / 'store'}\ndata: {{source: x, time_column: time, label_column: clicked}}\n"
        "fields: [{name: user_id}]\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "saec.cli.main", "serve", "--port", "0", "--config", str(settings)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert any("serving on http://127.0.0.1:" in line for line in process.stderr)
    assert listeners(process.pid)
    assert not any(beyond(address) for address in listeners(process.pid))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    process.stderr.close()


def test_callers_notice_what_is_wrong(store):
    """An answer with another version's scores, or under another's name, counts as mixed; so the drill can fail."""
    other = commit(store, 1)
    expected = {version: scores(store, version) for version in store.versions()}
    load, (version, _) = Load(None, BODIES, expected), store.versions()
    load._judge({"version": version, "scores": expected[version][0]}, 0, version)
    assert (load.mixed, load.answers[version]) == ([], 1)
    load._judge({"version": version, "scores": expected[other][0]}, 0, version)
    load._judge({"version": version, "scores": expected[version][0]}, 0, other)
    load._judge({"version": version, "scores": expected[version][0][:-1]}, 0, version)
    load._judge({"version": "unknown", "scores": expected[version][0]}, 0, "unknown")
    assert len(load.mixed) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "1"], "cannot listen on"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (["--log", "x"], "no columns identify them"),
                (["--max-rows", "0"], "--max-rows"),
                (["--host", "nowhere.invalid"], "cannot listen on"),
            )
        ),
    ],
)  # a process each
def test_what_cannot_be_served_is_said_at_once(tmp_path, words, said):
    """A message, no traceback, and an exit code that is not 0."""
    if words == ["--port", "1"] and os.geteuid() == 0:
        taken = socket.create_server(("127.0.0.1", 0))
        words = ["--port", str(taken.getsockname()[1])]
    ended = subprocess.run(
        [sys.executable, "-m", "saec.server", "--store", str(tmp_path), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_server_needs_no_pipeline():
    """All of it is imported without anything of the pipeline's installation, save what takes Arrow streams."""
    script = (
        "import sys, importlib, pkgutil, saec.server\n"
        "for module in pkgutil.iter_modules(saec.server.__path__):\n"
        "    module.name == 'arrow_body' or importlib.import_module(f'saec.server.{module.name}')\n"
        "print(*sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in ended.stdout.split()}
    assert not imported & {
        "torch",
        "prefect",
        "pandas",
        "pyarrow",
        "sqlalchemy",
        "yaml",
        "rich",
        "scipy",
        "matplotlib",
        "fastapi",
        "jinja2",
        "flows",
    }
    assert {"starlette", "uvicorn", "orjson"} <= imported


def wait_until(what, seconds: float = 10.0) -> None:
    """Wait until something is so."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < seconds
        time.sleep(0.01)
