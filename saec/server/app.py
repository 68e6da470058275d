"""The HTTP API of the model server, as an ASGI application.

    POST /v1/score      {"user": {…}, "candidates": [{…}, …]} or {"rows": [{…}, …]}  ->  {"version": …, "scores": […]}
                        or the same as Arrow streams (`saec.server.arrow_body`)
    GET  /v1/model      the version that answers, its columns, since when, held or not
    GET  /openapi.json  this API with the live version's columns
    GET  /healthz       the process is alive         (no API key)
    GET  /readyz        200 when a version is loaded (no API key)
    GET  /metrics       for Prometheus               (no API key)

Decisions: scoring requests, nearly all requests, are answered by plain ASGI; starlette's routing, middleware and
request objects, which cost a fifth of scoring a hundred candidates, handle only the rest. Scores are computed in the
event loop: a hundred candidates take less than a millisecond, and a thread gives no measurable gain (docs/LOG.md). Only
requests with many rows go to a thread, so that health checks do not wait for them. Each answer names its version in the
body and in `saec-version`, and its request in `x-request-id` (the caller's, where it sent a sound one). Probes and
metrics need no key, because their callers can seldom store one; they reveal versions and counts, never columns or rows.
"""

from __future__ import annotations

import importlib
import re
import secrets
import sys
import time
from http import HTTPStatus
from types import ModuleType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from saec.errors import InputError
from saec.server import refusals
from saec.server.asked import Asked, Headers, parse, read_body
from saec.server.guard import Guard
from saec.server.live import Live, Standing
from saec.server.metrics import ServerMetrics
from saec.server.options import ServerOptions
from saec.server.refusals import ARROW, JSON, Refusal
from saec.server.request_log import RequestLog

THREAD_ROWS = 1_000
"""Requests with at least this many rows are scored in a thread."""
SCORE = "/v1/score"
_JSON, _ARROW = JSON.encode(), ARROW.encode()
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


class Api:
    """The endpoints, answering from the server's state."""

    def __init__(
        self,
        standing: Standing,
        options: ServerOptions,
        row_ids: tuple[str, ...] = (),
        request_log: RequestLog | None = None,
    ) -> None:
        self._standing, self._options, self._row_ids = standing, options, row_ids
        self._request_log = request_log
        self.metrics = ServerMetrics(standing, request_log)

    async def score(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Scores of the rows that a request holds, or why there are none."""
        started = time.perf_counter()
        try:
            answer, kind, name, version, rows = await self._score(dict(reversed(scope["headers"])), receive)
        except (HTTPException, InputError) as error:
            await refusals.answer(error)(scope, receive, send)
            return
        except Exception as error:
            await refusals.internal(error)(scope, receive, send)
            raise  # for the server's log
        await send(
            {
                "type": "http.response.start",
                "status": HTTPStatus.OK.value,
                "headers": [
                    (b"content-type", kind),
                    (b"content-length", b"%d" % len(answer)),
                    (b"saec-version", version),
                    (b"x-request-id", name),
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer})
        self.metrics.scored(rows, time.perf_counter() - started)

    async def _score(self, headers: Headers, receive: Receive) -> tuple[bytes, bytes, bytes, bytes, int]:
        """The answer with its type, the request's name, the version's, and the number of rows."""
        kind, body = await read_body(headers, receive, self._options.max_body_bytes)
        back = headers.get(b"accept", b"")
        arrow = await _arrow() if kind == ARROW or _ARROW in back else None
        live = self._live()
        if kind == JSON:
            asked = parse(body, self._options.max_rows)
        elif arrow:
            asked = arrow.parse(body, self._options.max_rows, self._options.max_body_bytes)
        else:
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "content-type",
                f"{ARROW} is taken where pyarrow is installed (saec[arrow]), and here it is not; send {JSON}",
            )
        ids = asked.take_ids(self._row_ids, live.model.columns.keys())
        scores_B = (
            await run_in_threadpool(_scores, live, asked) if len(asked.rows) >= THREAD_ROWS else _scores(live, asked)
        )
        name, version = _request_id(headers), live.model.version
        self._log(name, version, ids, scores_B)
        if arrow and _ARROW in back and not (0 <= back.find(_JSON) < back.find(_ARROW)):
            answer, kind = arrow.answer(version, scores_B), ARROW
        else:
            answer = orjson.dumps({"version": version, "scores": scores_B}, option=orjson.OPT_SERIALIZE_NUMPY)
            kind = JSON
        return answer, kind.encode(), name, version.encode(), len(asked.rows)

    async def model(self, _request: Request) -> Response:
        """What answers."""
        refused, seen = self._standing.refused, self._standing.seen_at
        return _json(
            self._live().described()
            | {
                "row_ids": self._row_ids,
                "refused": dict(zip(("version", "why"), refused, strict=True)) if refused else None,
                "store_seen": seen.isoformat(timespec="milliseconds") if seen else None,
            }
        )

    async def openapi(self, _request: Request) -> Response:
        """The document of the live version."""
        return Response(self._live().openapi, media_type=JSON)

    async def health(self, _request: Request) -> Response:
        """The process answers."""
        return _json({"alive": True})

    async def ready(self, _request: Request) -> Response:
        """A version is loaded."""
        return _json({"ready": True, "version": self._live().model.version})

    async def show_metrics(self, _request: Request) -> Response:
        """Prometheus' text."""
        text = await run_in_threadpool(self.metrics.text) if self.metrics.among else self.metrics.text()
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    def _live(self) -> Live:
        """The live version at this moment; call it once per request."""
        live = self._standing.live
        if live is None:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "not-ready",
                f"no version is loaded: {self._standing.waiting_for}",
                {"retry-after": "1"},
            )
        return live

    def _log(self, name: bytes, version: str, ids: list[dict[str, Any]], scores_B: NDArray[np.float64]) -> None:
        """Log the rows that can be joined with their labels."""
        if self._request_log is None:
            return
        known = [
            (row, score) for row, score in zip(ids, scores_B.tolist(), strict=True) if len(row) == len(self._row_ids)
        ]
        if known:
            rows, scores = zip(*known, strict=True)
            self._request_log.add(name.decode(), version, rows, scores)


def build_app(api: Api, key: str | None = None) -> ASGIApp:
    """The application.

    Args:
        api: the endpoints.
        key: the API key that requests must send; None requires none.
    """
    app = Starlette(
        routes=[
            Route(SCORE, api.score, methods=["POST"]),  # for its 405; what is posted there does not come this far
            Route("/v1/model", api.model),
            Route("/openapi.json", api.openapi),
            Route("/healthz", api.health),
            Route("/readyz", api.ready),
            Route("/metrics", api.show_metrics),
        ],
        exception_handlers={HTTPException: _refuse, Exception: _internal},
    )
    app.router.redirect_slashes = False

    async def first(scope: Scope, receive: Receive, send: Send) -> None:
        scores = scope["type"] == "http" and scope["path"] == SCORE and scope["method"] == "POST"
        await (api.score if scores else app)(scope, receive, send)

    return Guard(first, api.metrics, key)


def _scores(live: Live, asked: Asked) -> NDArray[np.float64]:
    """Probability of a click for each row."""
    if not len(asked.rows):
        return np.zeros(0)
    scores_B: NDArray[np.float64] = (
        live.model.score(asked.rows) if asked.user is None else live.model.score_candidates(asked.user, asked.rows)
    )
    return scores_B


async def _arrow() -> ModuleType | None:
    """`saec.server.arrow_body`, imported while other requests go on; None where there is no pyarrow."""
    name = "saec.server.arrow_body"
    if name in sys.modules:
        return sys.modules[name]
    try:
        return await run_in_threadpool(importlib.import_module, name)
    except ModuleNotFoundError:
        return None


def _request_id(headers: Headers) -> bytes:
    """The caller's name for the request, or one of our own."""
    given = headers.get(b"x-request-id", b"")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16).encode()


def _json(value: dict[str, Any]) -> Response:
    return Response(orjson.dumps(value), media_type=JSON)


def _refuse(_request: Request, error: Exception) -> Response:
    """A refusal as an answer."""
    assert isinstance(error, HTTPException)
    return refusals.answer(error)


def _internal(_request: Request, error: Exception) -> Response:
    """The answer to a fault."""
    return refusals.internal(error)
