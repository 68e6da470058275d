"""Runs the model server (`saec serve`, `python -m saec.server`): one or more processes that serve the live version.

Decisions: the port is bound before anything else that takes time, and its address is said once it is; the last good
version is recalled by the thread that follows the store. A request that has begun is finished when the server is told
to stop (SIGTERM, Ctrl-C), for at most ten seconds. A process uses one core to score: more cores are used by more
workers (`saec.server.workers`). Each follows the store by itself; they map the same files of a local store or of the
cache, so a version's bytes are in memory once. The log (`SAEC_LOG`) is on standard error as text unless told otherwise.
Protection against clients that send a request's head over hours is left to the load balancer.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from threadpoolctl import threadpool_limits

from saec.durable import make_folder, storage_errors
from saec.errors import ConfigError
from saec.logs import start as start_log
from saec.server.app import Api, build_app
from saec.server.follow import Follower
from saec.server.last_good import LastGood
from saec.server.live import Standing
from saec.server.options import ServerOptions
from saec.server.protocol import BoundedProtocol
from saec.server.request_log import RequestLog
from saec.server.together import Together
from saec.server.workers import listen, supervise
from saec.serving.kernel import chosen
from saec.store.model_store import open_store

KEY_VARIABLE = "SAEC_API_KEY"
_SHORTEST_KEY = 16
_KEEP_ALIVE_SECONDS = 75
_LAST_WORDS_SECONDS = 10
log = logging.getLogger(__name__)


def serve(store: str, options: ServerOptions, row_ids: Sequence[str] = ()) -> None:
    """Answer from a store's live version until told to stop.

    Args:
        store: folder or URL of the model store.
        options: as on the command line.
        row_ids: columns that together identify a row (`data.row_id_columns`), for the log of scored rows.

    Raises:
        ConfigError: when the address cannot be listened on, the key cannot be read, rows are to be logged that nothing
            identifies, or the engine that `SAEC_ENGINE` names is not available.
    """
    start_log("text")
    chosen(None)
    threadpool_limits(1, user_api="blas")
    key, names = read_key(options.api_key_file), tuple(row_ids)
    if options.log and not names:
        raise ConfigError(
            f"scored rows cannot be logged in {options.log}: no columns identify them; name those "
            "that do in data.row_id_columns (--row-id)"
        )
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as open_:  # being told to stop is no error
        sockets = [open_.enter_context(one) for one in listen(options.host, options.port, options.workers)]
        cache = open_.enter_context(_cache(store, options.cache))
        if options.log:  # what is wrong with it is said by this process, whoever writes there
            with storage_errors(f"make the folder {options.log} of the log of scored rows"):
                make_folder(options.log)
        worker = _Worker(store, options, names, key, cache)
        if options.workers == 1:
            worker.answer(sockets[0])
        else:
            _announce(sockets[0], key)
            folder = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="saec-workers-")))
            together = Together(folder, options.workers)
            supervise(lambda number: worker.answer(sockets[number], number, together), sockets)


@dataclass(frozen=True)
class _Worker:
    """What a process needs to answer."""

    store: str
    options: ServerOptions
    row_ids: tuple[str, ...]
    key: str | None
    cache: Path | None

    def answer(self, listening: socket.socket, number: int = 0, together: Together | None = None) -> None:
        """Follow the store and answer what connects, until told to stop.

        Args:
            listening: where callers connect.
            number: which worker this is.
            together: the others, if there are some.
        """
        options, standing = self.options, Standing()
        with contextlib.ExitStack() as open_:
            request_log = open_.enter_context(RequestLog(options.log)) if options.log else None
            last_good = LastGood(self.cache, shared=together is not None) if self.cache else None
            follower = Follower(
                open_store(self.store, self.cache),
                standing,
                poll_seconds=options.poll_seconds,
                last_good=last_good,
                max_rows=options.max_rows,
                row_ids=self.row_ids,
            )
            api = Api(standing, options, self.row_ids, request_log)
            if together:
                together.tell(number, api.metrics.own_text)
                api.metrics.among = lambda own: together.text(number, own)
            open_.enter_context(follower)
            if together is None:
                _announce(listening, self.key)
            uvicorn.Server(
                uvicorn.Config(
                    build_app(api, self.key),
                    http=BoundedProtocol,
                    ws="none",
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                    timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
                )
            ).run(sockets=[listening])


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
