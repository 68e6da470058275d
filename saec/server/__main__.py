"""`python -m saec.server --store URL`: the model server where only `saec[serving]` is installed.

It does what `saec serve` does, with the settings as options in place of a file.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from saec.config import ServingConfig
from saec.errors import ConfigError, SaecError
from saec.server.serve import serve


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    """What SIGTERM does."""
    raise KeyboardInterrupt


@click.command(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SAEC_SERVER"})
@click.option("--store", required=True, help="Folder or URL of the model store.")
@click.option("--row-id", "row_ids", multiple=True, help="Column that identifies a row, with others or alone.")
@click.option("--host", help="Address to listen on; 127.0.0.1 when left out.")
@click.option("--port", type=int, help="Port to listen on; 8080 when left out.")
@click.option("--workers", type=int, help="Processes that answer, each on one core; 1 when left out.")
@click.option("--log", type=click.Path(path_type=Path), help="Folder of the log of scored rows; none without.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder that keeps the last good version.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="File of the API key; SAEC_API_KEY goes before.")
@click.option("--poll-seconds", type=float, help="Seconds between two looks at the store.")
@click.option("--max-body-bytes", type=int, help="Most bytes of a request's body.")
@click.option("--max-rows", type=int, help="Most rows of a request.")
def main(store: str, row_ids: tuple[str, ...], **given: Any) -> None:
    """Answer HTTP requests with the live version of a model store.

    Every option can be set as SAEC_SERVER_<OPTION> instead.
    """
    signal.signal(signal.SIGTERM, _stop)
    try:
        serve(store, ServingConfig().changed(**given), row_ids)
    except SaecError as error:
        click.echo(f"saec: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


if __name__ == "__main__":
    main(prog_name="python -m saec.server")
