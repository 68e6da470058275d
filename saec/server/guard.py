"""Checks every request before it is read (number of requests at work, API key), and counts answers.

Decisions: it is an ASGI layer around the whole application, so that the application's errors are counted too. Beyond
`AT_WORK` concurrent requests the answer is 429, which limits the memory of slow bodies. The key comes as
`Authorization: Bearer KEY` and is compared in constant time.
"""

from __future__ import annotations

import hmac
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saec.server.metrics import ServerMetrics
from saec.server.refusals import Refusal, answer

AT_WORK = 128
"""Most requests at once; further ones are told to come back."""
OPEN = ("/healthz", "/readyz", "/metrics")
PATHS = ("/v1/score", "/v1/model", "/openapi.json", *OPEN)


class Guard:
    """The application behind its guard."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, key: str | None) -> None:
        self._app, self._metrics = app, metrics
        self._bearer = f"Bearer {key}".encode() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = scope["path"] if scope["path"] in PATHS else "other"
                self._metrics.requests[path, message["status"]] += 1
            await send(message)

        self._metrics.at_work += 1
        try:
            refusal = self._refusal(scope)
            await (answer(refusal) if refusal else self._app)(scope, receive, counting)
        finally:
            self._metrics.at_work -= 1

    def _refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is refused; None if it is not."""
        if scope["path"] in OPEN:
            return None
        if self._metrics.at_work > AT_WORK:
            return Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "busy",
                f"more than {AT_WORK} requests are being answered",
                {"retry-after": "1"},
            )
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if self._bearer and not hmac.compare_digest(given, self._bearer):
            return Refusal(
                HTTPStatus.UNAUTHORIZED,
                "key",
                "wanted the API key in the header Authorization: Bearer KEY",
                {"www-authenticate": "Bearer"},
            )
        return None
