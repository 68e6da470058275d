"""`saec serve`: the live version over HTTP."""

# ruff: noqa: PLC0415 - command bodies import what they need
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from saec.cli.session import Session, example, shared_options


@click.command(epilog=example("saec serve --port 8080 --log workspace/scored"))
@click.option("--host", help="Address to listen on, in place of serving.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on, in place of serving.port.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that answer, in place of serving.workers.")
@click.option("--log", type=click.Path(path_type=Path), help="Folder of the log of scored rows (serving.log).")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of the last good version (serving.cache).")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="File of the API key (serving.api_key_file).")
@shared_options
def serve(session: Session, **given: Any) -> None:
    """Answer HTTP requests with the live version.

    Follows the store: a version that is published, rolled back to or held takes effect within a second, and the last
    good one goes on answering when a new one is damaged or the store is away. POST /v1/score scores, /openapi.json
    tells how; /healthz, /readyz and /metrics are for probes and Prometheus. An API key, if one is wanted, comes from
    SAEC_API_KEY or a file, never from the command line. The same server without the pipeline installed: python -m
    saec.server.
    """
    from saec.server.serve import serve as run

    config = session.config
    run(config.store_url, config.serving.changed(**given), config.data.row_id_columns)
