"""`saec serve`: serves the live version over HTTP."""

# ruff: noqa: PLC0415 - command bodies import what they need
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from saec.cli.session import Session, example, shared_options


@click.command(epilog=example("saec serve --port 8080 --log workspace/scored"))
@click.option("--host", help="Address to listen on; overrides serving.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; overrides serving.port.")
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Number of processes that answer; overrides serving.workers."
)
@click.option("--log", type=click.Path(path_type=Path), help="Folder for the log of scored rows (serving.log).")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder for the last good version (serving.cache).")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="File with the API key (serving.api_key_file).")
@shared_options
def serve(session: Session, **given: Any) -> None:
    """Answer HTTP requests with the live version.

    The server follows the store: a publication, rollback or hold takes effect within a second. If a new version is
    damaged or the store is unreachable, the last good version keeps answering. POST /v1/score scores; /openapi.json
    describes the API; /healthz, /readyz and /metrics are for probes and Prometheus. An optional API key comes from
    SAEC_API_KEY or a file, never from the command line. Without the pipeline installed, run the same server with python
    -m saec.server.
    """
    from saec.server.serve import serve as run

    config = session.config
    run(config.store_url, config.serving.changed(**given), config.data.row_id_columns)
