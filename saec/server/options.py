"""Defines the options of the model server, shared by `saec serve` and `python -m saec.server`.

Decisions: each option can also be set as SAEC_SERVER_<OPTION>. None of them changes a version, and a server often runs
elsewhere than the pipeline, so they are no settings of the pipeline. The defaults suit a server on one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
_PREFIX = "SAEC_SERVER_"


@dataclass(frozen=True)
class ServerOptions:
    """All of them; `server_options` says what each is for."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    log: Path | None = None
    cache: Path | None = None
    api_key_file: Path | None = None
    poll_seconds: float = 0.5
    max_body_bytes: int = 1 << 20
    max_rows: int = 10_000


def _there(_context: click.Context, _option: click.Parameter, value: Any) -> Any:
    """The value, which must not be empty text: an empty host would be every address of the machine."""
    if value == "":
        raise click.BadParameter("it is empty; name an address, such as 127.0.0.1")
    return value


_FILE = click.Path(path_type=Path)
_OPTIONS: tuple[tuple[str, click.ParamType[Any], str], ...] = (
    ("host", click.STRING, "Address to listen on; beyond loopback, set an API key."),
    ("port", click.IntRange(0, 65535), "Port to listen on; 0 takes a free one and says which."),
    ("workers", click.IntRange(1, 256), "Processes that answer on the port, each on one core."),
    ("log", _FILE, "Folder of the log of scored rows, one file an hour; none without."),
    ("cache", _FILE, "Folder of this server alone that keeps the last good version, to answer with the store away."),
    ("api-key-file", _FILE, "File whose first line is the key that requests must bear; SAEC_API_KEY goes before."),
    ("poll-seconds", click.FloatRange(0.05, 60), "Seconds between two looks at the store's releases."),
    ("max-body-bytes", click.IntRange(1024, 1 << 26), "Most bytes of a request's body."),
    ("max-rows", click.IntRange(1), "Most rows, or candidates, of a request."),
)


def server_options(command: Command) -> Command:
    """Give a command the server's options, each also as an environment variable."""
    for name, kind, said in reversed(_OPTIONS):
        place = name.replace("-", "_")
        default = getattr(ServerOptions, place)
        shown: dict[str, Any] = {"help": said, "default": default, "show_default": True}
        command = click.option(f"--{name}", type=kind, envvar=_PREFIX + place.upper(), callback=_there, **shown)(
            command
        )
    return command
