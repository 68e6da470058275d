"""Error answers of the server: a status, a slug and a sentence, as JSON of at most 4 KiB.

    {"error":{"status":422,"reason":"dtype","message":"field 'user_id' wants int, found str"}}

Decisions: `reason` is short and stable, for programs; `message` is for people, names the field and shows little of what
was sent. A message is cut so that the body stays within `LIMIT` however its letters are escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from saec.errors import InputError

LIMIT = 4096
"""Most bytes of the body of a refusal."""
_LETTERS = 600
JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"


class Refusal(HTTPException):
    """A request that is not answered."""

    def __init__(self, status: HTTPStatus, reason: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.reason = reason


def answer(error: HTTPException | InputError) -> Response:
    """The answer to a request that was refused."""
    if isinstance(error, InputError):
        error = Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, error.reason, str(error))
    status = HTTPStatus(error.status_code)
    reason = error.reason if isinstance(error, Refusal) else status.name.lower().replace("_", "-")
    body = {"error": {"status": status, "reason": reason, "message": _short(error.detail)}}
    return Response(orjson.dumps(body), error.status_code, error.headers, media_type=JSON)


def internal(_error: Exception) -> Response:
    """The answer when the server itself is at fault; what happened is in its log."""
    return answer(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "bug", "a fault in saec; its log shows where"))


def _short(message: str) -> str:
    """The message without lone surrogates, cut where it is long."""
    sound = message.encode(errors="replace").decode()
    return sound if len(sound) <= _LETTERS else sound[: _LETTERS - 1] + "…"
