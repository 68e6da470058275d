"""`saec serve` and `python -m saec.server`: one process that answers from the live version of a store.

Decisions: the port is bound before anything else that takes time, and its address is said once it is; the last good
version is recalled by the thread that follows the store. A request that has begun is finished when the server is told
to stop (SIGTERM, Ctrl-C), for at most ten seconds. A process uses one core to score: more cores are used by more
processes, each with a port (and a cache) of its own, behind a balancer that asks /readyz; they map the same files of
a local store, so its bytes are in memory once. The log (`SAEC_LOG`) is on standard error as text unless told
otherwise. That clients may not dribble their request's head for hours is also the balancer's affair.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from threadpoolctl import threadpool_limits

from saec.config import ServingConfig
from saec.errors import ConfigError
from saec.logs import start as start_log
from saec.server.app import Api, build_app
from saec.server.follow import Follower
from saec.server.last_good import LastGood
from saec.server.live import Standing
from saec.server.request_log import RequestLog
from saec.serving.kernel import chosen
from saec.store.model_store import open_store

KEY_VARIABLE = "SAEC_API_KEY"
_SHORTEST_KEY = 16
_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 75
_LAST_WORDS_SECONDS = 10
log = logging.getLogger(__name__)


def serve(store: str, settings: ServingConfig, row_ids: Sequence[str] = ()) -> None:
    """Answer from a store's live version until told to stop.

    Args:
        store: folder or URL of the model store.
        settings: the section `serving` of the settings.
        row_ids: columns that together identify a row (`data.row_id_columns`), for the log of scored rows.

    Raises:
        ConfigError: when the address cannot be listened on, the key cannot be read, rows are to be logged that
            nothing identifies, or the engine that `SAEC_ENGINE` names is not to be had.
    """
    start_log("text")
    chosen(None)
    threadpool_limits(1, user_api="blas")
    key, names, standing = read_key(settings.api_key_file), tuple(row_ids), Standing()
    if settings.log and not names:
        raise ConfigError(f"scored rows cannot be logged in {settings.log}: no columns identify them; name those "
                          "that do in data.row_id_columns (--row-id)")
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as open_:  # being told to stop is no error
        listening = open_.enter_context(_bound(settings.host, settings.port))
        cache = open_.enter_context(_cache(store, settings.cache))
        request_log = open_.enter_context(RequestLog(settings.log)) if settings.log else None
        follower = Follower(open_store(store, cache), standing, poll_seconds=settings.poll_seconds,
                            last_good=LastGood(cache) if cache else None, max_rows=settings.max_rows, row_ids=names)
        app = build_app(Api(standing, settings, names, request_log), key)
        open_.enter_context(follower)
        _announce(listening, key)
        uvicorn.Server(uvicorn.Config(
            app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
        )).run(sockets=[listening])


def read_key(file: Path | None) -> str | None:
    """The API key: from the environment, else the first line of a file, else None.

    Raises:
        ConfigError: when the file cannot be read, or the key is short or no plain ASCII.
    """
    key, source = os.environ.get(KEY_VARIABLE, ""), KEY_VARIABLE
    if not key and file is None:
        return None
    if not key and file:
        source = str(file)
        try:
            key = file.read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the API key cannot be read from {file}: {type(error).__name__}") from None
    if len(key) < _SHORTEST_KEY or not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the API key of {source} must have at least {_SHORTEST_KEY} printable ASCII characters")
    return key


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                                                                proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE)[0]
        # Only with the protocol named does asyncio set TCP_NODELAY; without, answers wait 40 ms for an acknowledgement.
        with contextlib.ExitStack() as closed_on_error:
            listening = closed_on_error.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
            closed_on_error.pop_all()
            return listening
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error}; choose another with --host and --port, or "
                          "stop what listens there") from None


@contextlib.contextmanager
def _cache(store: str, folder: Path | None) -> Iterator[Path | None]:
    """The folder of the last good version; a remote store without one is downloaded to a temporary folder."""
    if folder or urlsplit(store).scheme in ("", "file"):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="saec-serve-") as temporary:
        yield Path(temporary)


def _announce(listening: socket.socket, key: str | None) -> None:
    """Say where the server is, and warn of an open door."""
    host, port = listening.getsockname()[:2]
    log.info("serving on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    if key is None and not ipaddress.ip_address(host).is_loopback:
        log.warning("%s is reachable from other machines and no API key is asked for; set %s", host, KEY_VARIABLE)
