"""Malicious requests: 60 made by hand, each with the status it deserves and what the answer must name.

They are asked of the versions of `tests.server.versions`, with bodies of at most 64 KiB and 100 rows.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from tests.server.versions import rows

MAX_BODY, MAX_ROWS = 1 << 16, 100
JSON = {"content-type": "application/json"}
GOOD = rows(1)[0]


@dataclass(frozen=True)
class Nasty:
    """A request that is to be refused."""

    name: str
    body: bytes
    status: int
    said: str
    """What the refusal must say, such as the field."""
    headers: dict[str, str] = field(default_factory=lambda: JSON)
    method: str = "POST"
    path: str = "/v1/score"


def text(name: str, body: str | bytes, status: int, said: str) -> Nasty:
    """A body as it is."""
    return Nasty(name, body if isinstance(body, bytes) else body.encode(), status, said)


def value(name: str, column: str, written: str, said: str | None = None, status: int = 422) -> Nasty:
    """A good row, one of whose columns holds what is written there in JSON."""
    row = json.dumps(GOOD | {column: "?"}).replace(f'"{column}": "?"', f'"{column}": {written}')
    return text(name, f'{{"rows": [{row}]}}', status, said or f"'{column}'")


def row(name: str, said: str, /, *gone: str, **changed: Any) -> Nasty:
    """A good row with columns changed, or gone."""
    kept = {column: content for column, content in (GOOD | changed).items() if column not in gone}
    return text(name, json.dumps({"rows": [kept]}), 422, said)


def ask(name: str, asked: Any, said: str, status: int = 422) -> Nasty:
    """Any JSON value in place of the request."""
    return text(name, json.dumps(asked), status, said)


def _sent(name: str, status: int, said: str, **changed: Any) -> Nasty:
    """A good request, sent in another way."""
    known = {"body": json.dumps({"rows": [GOOD]}).encode(), **changed}
    return Nasty(name, known.pop("body"), status, said, **known)


_GOOD_BODY = json.dumps({"rows": [GOOD]}).encode()
_LONG = "x" * 60_000

REQUESTS = [
    # What is no JSON.
    text("empty body", b"", 400, "empty"),
    text("white space", "  \n ", 400, "not JSON"),
    text("half a body", _GOOD_BODY[:-9], 400, "not JSON"),
    text("two bodies", _GOOD_BODY * 2, 400, "not JSON"),
    text("NaN", _GOOD_BODY.replace(b'"user_id": ', b'"user_id": NaN, "x": '), 400, "not JSON"),
    value("NaN as a price", "price", "NaN", "not JSON", 400),
    value("Infinity", "price", "Infinity", "not JSON", 400),
    value("minus Infinity", "price", "-Infinity", "not JSON", 400),
    value("more than any double", "price", "1e999", "not JSON", 400),
    value("integer of 5,000 digits", "user_id", "9" * 5000, "not JSON", 400),
    value("lone high surrogate", "site", '"\\ud800"', "not JSON", 400),
    value("lone low surrogate", "site", '"\\udc00x"', "not JSON", 400),
    text("lone surrogate as a name", '{"rows": [{"\\ud800": 1}]}', 400, "not JSON"),
    text("bad UTF-8", b'{"rows": [{"site": "\xff\xfe"}]}', 400, "not JSON"),
    text("UTF-8 surrogate bytes", b'{"rows": [{"site": "\xed\xa0\x80"}]}', 400, "not JSON"),
    text("overlong UTF-8", b'{"rows": [{"site": "\xc0\xaf"}]}', 400, "not JSON"),
    text("UTF-16", _GOOD_BODY.decode().encode("utf-16"), 400, "not JSON"),
    text("byte order mark", b"\xef\xbb\xbf" + _GOOD_BODY, 400, "not JSON"),
    text("control character in a string", b'{"rows": [{"site": "a\x00b"}]}', 400, "not JSON"),
    text("single quotes", "{'rows': []}", 400, "not JSON"),
    text("trailing comma", '{"rows": [],}', 400, "not JSON"),
    text("comment", '{"rows": [] /* none */}', 400, "not JSON"),
    text("deep lists", "[" * 30_000 + "]" * 30_000, 400, "not JSON"),
    text("deep objects", '{"rows":' * 6_000 + "1" + "}" * 6_000, 400, "not JSON"),
    value("deep value", "site", "[" * 1_000 + "]" * 1_000),
    # What is no request for scores.
    ask("null", None, "must be an object"),
    ask("number", 7, "must be an object"),
    ask("list of rows", [GOOD], "must be an object"),
    ask("nothing asked", {}, "'rows'"),
    ask("misspelt", {"row": [GOOD]}, "did you mean 'rows'"),
    ask("both forms", {"rows": [GOOD], "user": {}, "candidates": []}, "'rows'"),
    ask("user without candidates", {"user": GOOD}, "'candidates'"),
    ask("candidates without user", {"candidates": [GOOD]}, "'user'"),
    ask("user is a list", {"user": [GOOD], "candidates": [{}]}, "'user'"),
    ask("rows is an object", {"rows": GOOD}, "'rows'"),
    ask("a row is null", {"rows": [GOOD, None]}, "rows[1]"),
    ask("a row is a list", {"rows": [GOOD, GOOD, [1]]}, "rows[2]"),
    ask("too many rows", {"rows": [{}] * (MAX_ROWS + 1)}, "101 rows"),
    ask("too many candidates", {"user": GOOD, "candidates": [{}] * 15_000}, "15,000 rows"),
    ask("column on both sides", {"user": GOOD, "candidates": [{"user_id": 1}]}, "'user_id'"),
    ask("very long name at the top", {_LONG: 1}, "'rows'"),
    # What no column takes.
    row("unknown column", "'usr_id'", usr_id=3),
    row("very long column name", "no field", **{_LONG: 1}),
    row("control characters as a name", "no field", **{"\x1b[31m\x00" * 500: 1}),
    row("missing column", "'user_id'", "user_id"),
    row("null where none may be", "'user_id'", user_id=None),
    row("text for an integer", "'user_id'", user_id="17"),
    row("float for an integer", "'user_id'", user_id=17.0),
    row("boolean for an integer", "'user_id'", user_id=True),
    row("list for an integer", "'user_id'", user_id=[17]),
    value("integer beyond 64 bits", "user_id", str(2**64)),
    value("integer below 64 bits", "user_id", str(-(2**63) - 1)),
    row("number for a text", "'site'", site=5),
    row("object for a text", "'site'", site={"$ne": None}),
    row("text for a list", "'tags'", tags="a,b"),
    row("list of lists", "'tags'", tags=[["a"]]),
    row("text for a price", "'price'", price="9.99"),
    row("text for a time", "'time'", time="yesterday"),
    row("date for a time", "'time'", time="2026-11-21"),
    row("week for a time", "'time'", time="2026-W47-6"),
    row("number for a time", "'time'", time=1_700_000_000),
    # What is sent otherwise than it should be.
    _sent("large body", 413, "65,536", body=b" " * (MAX_BODY + 1)),
    _sent("gzip", 415, "gzip", body=gzip.compress(_GOOD_BODY), headers=JSON | {"content-encoding": "gzip"}),
    _sent("form", 415, "application/json", headers={"content-type": "application/x-www-form-urlencoded"}),
    _sent("no type", 415, "application/json", headers={}),
    _sent("another method", 405, "", method="PUT"),
    _sent("another path", 404, "", path="/v1/score/../../etc/passwd"),
]
