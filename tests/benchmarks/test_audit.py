"""The dependency audit against a stand-in for the service that knows vulnerabilities; the bill of materials."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.faults.figure_16_audit import audit
from benchmarks.faults.lock import bill_of_materials, locked

PINS = ["jinja2==3.1.6", "markupsafe==3.0.2"]


@pytest.fixture
def service(monkeypatch):
    """A service that knows one vulnerability, of the package that a test names."""
    vulnerable = set()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            found = [{"id": "GHSA-0", "modified": "2026-01-01T00:00:00Z"}]
            names = [query["package"]["name"] for query in asked]
            self.say({"results": [{"vulns": found} if name in vulnerable else {} for name in names]})

        def do_GET(self):
            self.say({"id": "GHSA-0", "modified": "2026-01-01T00:00:00Z", "affected": []})

        def say(self, answer):
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AUDIT_SERVICE_URL", f"http://127.0.0.1:{server.server_port}")
    yield vulnerable
    server.shutdown()


@pytest.mark.slow
def test_every_package_is_asked_about(service):
    """So many were looked up, and none or one is vulnerable."""
    assert audit(PINS) == (2, 0, "")
    service.add("markupsafe")
    assert audit(PINS) == (2, 1, "")


@pytest.mark.slow
def test_a_service_that_does_not_answer_is_no_clean_audit(monkeypatch):
    """Nothing was looked up, and that is said."""
    monkeypatch.setenv("AUDIT_SERVICE_URL", "http://127.0.0.1:9")
    audited, vulnerable, problem = audit(PINS)
    assert (audited, vulnerable) == (0, 0)
    assert problem
    assert "://" not in problem


def test_the_bill_of_materials_is_the_lock():
    """One component a package, with version and hashes."""
    components = {component["name"]: component for component in bill_of_materials()["components"]}
    assert components.keys() == locked().keys()
    assert components["prefect"]["purl"] == "pkg:pypi/prefect@3.8.8"
    assert all(component["hashes"] for component in components.values())
