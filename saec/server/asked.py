"""Reads the body of a scoring request within limits, and parses it.

Decisions: size, type and encoding are judged before anything is parsed, and a body without a length is read no
further than the limit. orjson refuses what is not JSON (NaN, infinities, lone surrogates, nesting deeper than 1,024)
and reads numbers too large for 64 bits as floats, which no integer field takes; of a name that is there twice the
last one counts, as in every JSON parser of the field. Values are judged by the model (`saec.serving`), which knows
the fields. Row ids that are no fields are taken out here, for the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from starlette.types import Receive

from saec.errors import nearest
from saec.server.refusals import ARROW, JSON, Refusal

BODY_SECONDS = 10.0
"""Longest that the body of a request may take to arrive."""
ID_LETTERS = 256
_CLOSE = {"connection": "close"}
Headers = Mapping[bytes, bytes]
Row = dict[str, Any]


@dataclass
class Asked:
    """Rows to be scored."""

    rows: Any
    """The rows, or the candidates of a user: a list of objects, or a table."""
    user: Any
    """What all candidates share, an object or a table of one row; None for plain rows."""

    def take_ids(self, names: Sequence[str], columns: AbstractSet[str]) -> list[Row]:
        """The row ids of each row, taken out of it where they are no columns of the model.

        Args:
            names: columns that together identify a row.
            columns: the model's columns.

        Returns:
            One mapping a row, without the ids that are missing or null.
        """
        if not names:
            return []
        shared = _ids(self.user, names, columns, "user") if self.user is not None else {}
        where = "rows" if self.user is None else "candidates"
        return [shared | _ids(row, names, columns, f"{where}[{place}]") for place, row in enumerate(self.rows)]


async def read_body(headers: Headers, receive: Receive, limit: int) -> tuple[str, bytes]:
    """The type and the body of a request, read no further than the limit.

    Args:
        headers: the request's, by their names in small letters.
        receive: gives the body's parts.
        limit: most bytes.

    Raises:
        Refusal: 415 for another type or encoding, 413 beyond the limit, 408 when it does not come, 400 when the caller
            leaves.
    """
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if kind not in (JSON, ARROW):
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content-type", f"wanted {JSON} or {ARROW}, got {kind[:80]!r}")
    if encoding := headers.get(b"content-encoding"):
        raise Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "content-encoding",
            f"wanted a body that is not compressed, got content-encoding {encoding[:80].decode('latin-1')!r}",
        )
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length[:20]) > limit:
        raise too_large(limit)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            parts, size, more = [], 0, True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(HTTPStatus.BAD_REQUEST, "gone", "the connection closed before the body was whole")
                parts.append(part := message.get("body", b""))
                size, more = size + len(part), message.get("more_body", False)
                if size > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise Refusal(
            HTTPStatus.REQUEST_TIMEOUT, "slow", f"the body did not come within {BODY_SECONDS:g} seconds", _CLOSE
        ) from None
    return kind, b"".join(parts)


def parse(body: bytes, max_rows: int) -> Asked:
    """Parse a body.

    Raises:
        Refusal: 400 when it is not JSON, 422 when it does not ask for scores or asks for too many.
    """
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(
            HTTPStatus.BAD_REQUEST, "json", f"the body is not JSON: {error}" if body else "the body is empty"
        ) from None
    if not isinstance(asked, dict):
        raise unfit(f"the body must be an object, got {_kind(asked)}")
    wanted = {"user", "candidates"} if asked.keys() & {"user", "candidates"} else {"rows"}
    for name in [*(asked.keys() - wanted), *(wanted - asked.keys())]:
        what = f"has no {name!r}" if name in wanted else f"has {name[:80]!r}{nearest(name[:80], wanted)}"
        raise unfit(f"the body {what}; wanted 'rows', or 'user' and 'candidates'")
    user = asked.get("user")
    rows = _rows(asked, "rows" if "rows" in wanted else "candidates", max_rows)
    if "user" in wanted and not isinstance(user, dict):
        raise unfit(f"'user' must be an object of columns, got {_kind(user)}")
    return Asked(rows, user)


def _rows(asked: Row, name: str, max_rows: int) -> list[Row]:
    """The value of a member: a list of objects, not too many."""
    rows = asked[name]
    if not isinstance(rows, list):
        raise unfit(f"{name!r} must be a list of objects, got {_kind(rows)}")
    if len(rows) > max_rows:
        raise too_many(repr(name), len(rows), max_rows)
    if set(map(type, rows)) - {dict}:
        place, row = next((place, row) for place, row in enumerate(rows) if not isinstance(row, dict))
        raise unfit(f"{name}[{place}] must be an object of columns, got {_kind(row)}")
    return rows


def _ids(row: Row, names: Sequence[str], columns: AbstractSet[str], where: str) -> Row:
    """The ids in a row, or in what rows share."""
    ids = {}
    for name in names:
        value = row.get(name) if name in columns else row.pop(name, None)
        if value is not None:
            ids[name] = value
            if not sound_id(value):
                raise unfit(
                    f"{where}.{name} identifies the row and must be a 64-bit integer or a string of at most "
                    f"{ID_LETTERS} letters, got {_kind(value)}"
                )
    return ids


def sound_id(value: object) -> bool:
    """Whether a value may identify a row."""
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= ID_LETTERS)


def unfit(message: str) -> Refusal:
    """The refusal of a body that is shaped otherwise than it should be."""
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "schema", message)


def too_many(what: str, rows: int, most: int) -> Refusal:
    """The refusal of too many rows."""
    return Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "too-many",
        f"{what} has {rows:,} rows, at most {most:,} may be asked for at once",
    )


def too_large(limit: int) -> Refusal:
    """The refusal of too large a body."""
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too-large",
        f"the body is larger than the {limit:,} bytes it may have",
        _CLOSE,
    )


def _kind(value: Any) -> str:
    """What JSON calls a value's type."""
    kinds: Mapping[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a number that is no 64-bit integer",
    }
    return kinds.get(type(value), "null")
