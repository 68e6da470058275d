"""The requests with which servers are compared, and the printed result."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from benchmarks import http_path
from benchmarks.record import Figures
from benchmarks.serving.traffic import requests
from saec.server import arrow_body, asked


def test_a_page_is_the_same_in_both_forms():
    """What is asked as Arrow is what is asked as JSON."""
    (request,) = requests(1000, 1, 5, seed=1)
    in_arrow = arrow_body.parse(http_path.in_arrow(request), 10, 1 << 20)
    in_json = asked.parse(http_path.in_json(request), 10)
    assert (in_arrow.user.to_pylist(), in_arrow.rows.to_pylist()) == ([in_json.user], in_json.rows)


@pytest.mark.parametrize(("share", "held"), [(0.55, True), (0.65, False)])
def test_the_aims_are_held_against_cpu_time(tmp_path, share, held):
    """Twice the requests a CPU second of before; two workers of which one does two thirds miss 1.7 times one."""
    names = {http_path.BEFORE_NUMPY: 3.0, http_path.NOW: 1.0, http_path.ONE: 1.0, http_path.TWO: 1.0}
    servers = {
        name: SimpleNamespace(
            spent=[spent] * 3, busiest=[share] * 3, taken=[spent] * 3, rates=[1 / spent] * 3, memory=lambda: 1.0
        )
        for name, spent in names.items()
    }
    figures = Figures("http_path", results=tmp_path)
    http_path.report(figures, servers, 100)
    found = [figure["holds"] for figure in figures.record()["figures"] if figure["target"]]
    assert found == [True, held]


class _Answering(BaseHTTPRequestHandler):
    """Counts what it is asked."""

    protocol_version, asked = "HTTP/1.1", []

    def do_POST(self):
        self.asked.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


def test_callers_share_what_is_to_be_asked(monkeypatch):
    """Each request once, whoever asks it, however many callers there are."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answering) as answering:
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        server = http_path.Server(["-c", "import time; time.sleep(60)"], http_path.ROOT, callers=3)
        monkeypatch.setattr(
            server, "_callers", [http.client.HTTPConnection(*answering.server_address) for _ in range(3)]
        )
        server.round([b"a", b"b"], 11)
        server.end()
        answering.shutdown()
    assert sorted(_Answering.asked) == [b"a"] * 6 + [b"b"] * 5
    assert len(server.taken) == 11
