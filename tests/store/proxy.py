"""A proxy on loopback before an S3 server, which spoils answers when it is told to."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Action = Literal["pass", "lose", "cut"] | int
"""Pass it on; pass it on and lose the answer; take half of it and hang up; or answer with this status."""
CODES = {409: "ConditionalRequestConflict", 412: "PreconditionFailed", 503: "SlowDown", 500: "InternalError"}


class Proxy:
    """What was asked, and what is to be done about it."""

    def __init__(self, endpoint: str) -> None:
        self.behind = urlsplit(endpoint).netloc
        self.asked: list[tuple[str, str]] = []
        self.rule: Callable[[str, str, int], Action] = lambda *_: "pass"
        """Given method, path and how often that was asked before."""
        self.address = ""

    def spoil(self, method: str, part: str, *actions: Action) -> None:
        """Treat the first requests of this method whose path holds `part` so, in turn; pass the later ones on."""
        left = list(actions)
        self.rule = lambda asked, path, _: left.pop(0) if left and asked == method and part in path else "pass"

    def count(self, method: str, part: str) -> int:
        """How many requests of this method held `part`."""
        return sum(asked == method and part in path for asked, path in self.asked)


@contextmanager
def proxied(endpoint: str) -> Iterator[Proxy]:
    """A proxy before a server, for as long as this lasts."""
    proxy = Proxy(endpoint)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    server.daemon_threads = True
    proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield proxy
    server.shutdown()
    server.server_close()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            earlier = proxy.asked.count((self.command, self.path))
            proxy.asked.append((self.command, self.path))
            action = proxy.rule(self.command, self.path, earlier)
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length // 2 if action == "cut" else length)
            self.close_connection = True
            if action == "cut":
                return
            if isinstance(action, int):
                self._say(action, f"<Error><Code>{CODES[action]}</Code></Error>".encode(), {})
                return
            behind = http.client.HTTPConnection(proxy.behind)
            behind.request(self.command, self.path, body, dict(self.headers))
            answer = behind.getresponse()
            data = answer.read()
            if action == "pass":
                self._say(answer.status, data, dict(answer.headers))

        def _say(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            left_out = {"transfer-encoding", "connection", "server", "date"}
            kept = {name: value for name, value in headers.items() if name.lower() not in left_out}
            if self.command != "HEAD":
                kept = {name: value for name, value in kept.items() if name.lower() != "content-length"}
                kept["Content-Length"] = str(len(data))
            for name, value in kept.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nobody is to be told."""

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    return Handler
