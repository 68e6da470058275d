"""A log behind a web address is fetched once, whole, and its address stays a secret."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from saec.discover.download import download
from saec.errors import InputError


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and counts what it was asked."""

    asked: ClassVar[list[str]] = []

    def log_message(self, *_):
        """Nothing."""

    def do_GET(self):
        """Count and serve."""
        self.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def web(tmp_path):
    """A folder, and the address under which it is served."""
    Quiet.asked = []
    folder = tmp_path / "web"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_is_fetched_whole_with_its_signature(web, tmp_path):
    """Under its own name; what follows the ? is sent."""
    folder, address = web
    (folder / "clicks day.csv").write_bytes(b"a,b\n" * 5_000_000)
    told = []
    path = download(f"{address}/clicks%20day.csv?sig=secret", tmp_path / "here", lambda what, here: told.append(here))
    assert (path, path.read_bytes()) == (tmp_path / "here" / "clicks day.csv", b"a,b\n" * 5_000_000)
    assert Quiet.asked == ["/clicks%20day.csv?sig=secret"]
    assert told[-1] == 20_000_000
    assert list(path.parent.iterdir()) == [path]


def test_what_is_here_is_fetched_again_only_when_it_has_changed(web, tmp_path):
    """By its size."""
    folder, address = web
    (folder / "log.csv").write_text("one")
    path = download(f"{address}/log.csv", tmp_path / "here")
    before = path.stat().st_mtime_ns
    assert download(f"{address}/log.csv", tmp_path / "here").stat().st_mtime_ns == before
    (folder / "log.csv").write_text("more")
    assert download(f"{address}/log.csv", tmp_path / "here").read_text() == "more"


@pytest.mark.parametrize("place", ["/absent.csv?sig=secret", "/?sig=secret"])
def test_what_cannot_be_had_is_named_without_its_signature(web, tmp_path, place):
    """And nothing is left behind."""
    _, address = web
    with pytest.raises(InputError) as refused:
        download(address + place, tmp_path / "here")
    assert address + place.partition("?")[0] in str(refused.value)
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "here").exists() or not list((tmp_path / "here").iterdir())
