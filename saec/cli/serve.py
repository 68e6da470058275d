"""`saec serve`: serves the live version over HTTP."""

# ruff: noqa: PLC0415 - command bodies import what they need
from __future__ import annotations

from typing import Any

import click

from saec.cli.session import Session, example, shared_options
from saec.server.options import ServerOptions, server_options


@click.command(epilog=example("saec serve --port 8080 --log workspace/scored"))
@server_options
@shared_options
def serve(session: Session, **given: Any) -> None:
    """Answer HTTP requests with the live version.

    The server follows the store: a publication, rollback or hold takes effect within a second. If a new version is
    damaged or the store is unreachable, the last good version keeps answering. POST /v1/score scores; /openapi.json
    describes the API; /healthz, /readyz and /metrics are for probes and Prometheus. Without --log, rows are logged
    where serving.log says. An optional API key comes from SAEC_API_KEY or a file, never from the command line. Without
    the pipeline installed, run the same server with python -m saec.server.
    """
    from saec.server.serve import serve as run

    config = session.config
    run(
        config.store_url,
        ServerOptions(**given | {"log": given["log"] or config.serving.log}),
        config.data.row_id_columns,
    )
