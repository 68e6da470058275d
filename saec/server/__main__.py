"""`python -m saec.server --store URL`: starts the model server if only `saec[serving]` is installed.

It does the same as `saec serve`, with store and row ids as options instead of a settings file.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from saec.errors import ConfigError, SaecError
from saec.server.options import ServerOptions, server_options
from saec.server.serve import serve


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM like Ctrl-C."""
    raise KeyboardInterrupt


@click.command(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SAEC_SERVER"})
@click.option("--store", required=True, help="Folder or URL of the model store.")
@click.option("--row-id", "row_ids", multiple=True, help="Column that identifies a row, with others or alone.")
@server_options
def main(store: str, row_ids: tuple[str, ...], **given: Any) -> None:
    """Answer HTTP requests with the live version of a model store.

    Every option can be set as SAEC_SERVER_<OPTION> instead.
    """
    signal.signal(signal.SIGTERM, _stop)
    try:
        serve(store, ServerOptions(**given), row_ids)
    except SaecError as error:
        click.echo(f"saec: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


if __name__ == "__main__":
    main(prog_name="python -m saec.server")
