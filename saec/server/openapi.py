"""Builds the OpenAPI document, with the columns and examples of the live version.

Decisions: it is built once per version, from its schema, so that a generated client knows the model's columns. Nullable
columns may be missing. The example is a typical request: the columns of user and page once, and for each candidate the
few columns that distinguish it. These are guessed from words in their names, because a schema does not say which they
are.
"""

from __future__ import annotations

import json
import re
from typing import Any

from saec import __version__
from saec.server.refusals import ARROW, JSON
from saec.serving import Field, Model

_INTEGER = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
_VALUES: dict[str, dict[str, Any]] = {
    "int": _INTEGER,
    "string": {"type": "string"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
}
_EXAMPLES: dict[str, Any] = {"int": 42, "string": "example.org", "float": 9.99, "bool": True}
_OF_CANDIDATES = {
    "ad",
    "app",
    "article",
    "banner",
    "brand",
    "campaign",
    "candidate",
    "category",
    "creative",
    "doc",
    "document",
    "item",
    "news",
    "pos",
    "position",
    "price",
    "product",
    "rank",
    "slot",
    "tag",
    "tags",
    "topic",
    "video",
}
"""Words in the names of columns in which the candidates of a page differ."""
_TIME = {"type": "string", "format": "date-time", "description": "When it happened, in UTC."}
_TIME_EXAMPLE = "2026-11-21T10:20:30Z"
_REFUSALS = {
    400: "The body is empty, or no JSON or Arrow stream.",
    401: "The API key is missing or wrong.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is of another type, or compressed.",
    422: "A column is unknown, missing or of the wrong type, or there are too many rows; the message names it.",
    429: "Too many requests at once; Retry-After says when to come back.",
    503: "No version is loaded yet.",
}


def document(model: Model, max_rows: int, row_ids: tuple[str, ...] = ()) -> bytes:
    """The document for a version's columns, as JSON.

    Args:
        model: the version.
        max_rows: most rows of a request.
        row_ids: columns that identify a row and may be there besides.
    """
    row, example = _row_schema(model, row_ids), example_row(model)
    rows = {"type": "array", "maxItems": max_rows, "items": {"$ref": "#/components/schemas/Row"}}
    part = {"$ref": "#/components/schemas/PartOfRow"}
    batch = {"type": "object", "required": ["rows"], "additionalProperties": False, "properties": {"rows": rows}}
    ranked = {
        "type": "object",
        "required": ["user", "candidates"],
        "additionalProperties": False,
        "properties": {"user": part, "candidates": rows | {"items": part}},
    }
    own = candidate_columns(model)
    candidate = {name: example[name] for name in own}
    examples = {
        "candidates": {
            "summary": "One user, many candidates: what they share is said once.",
            "value": {
                "user": {name: value for name, value in example.items() if name not in candidate},
                "candidates": [candidate] * 3,
            },
        },
        "rows": {"summary": "Rows of their own.", "value": {"rows": [example]}},
    }
    schemas = {
        "Row": row,
        "PartOfRow": row | {"required": []},
        "Refusal": _refusal_schema(),
        "Scores": _scores_schema(),
    }
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "saec",
                "version": __version__,
                "description": f"Click probabilities by version {model.version}.",
            },
            "paths": {
                "/v1/score": {"post": _score({"oneOf": [ranked, batch]}, examples, model.version)},
                "/v1/model": _get("The version that answers", "What it is, what it takes, and since when it answers."),
                "/openapi.json": _get("This document", "The columns are those of the version that answers."),
                "/healthz": _get("Liveness", "The process is alive.", open_to_all=True),
                "/readyz": _get("Readiness", "A version is loaded.", open_to_all=True),
                "/metrics": _get("Metrics", "In Prometheus' text format.", "text/plain", open_to_all=True),
            },
            "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
            "security": [{}, {"key": []}],
        }
    ).encode()


def example_row(model: Model) -> dict[str, Any]:
    """A row that the version takes: every column, with some value."""
    return {name: _example(field) for name, field in model.schema.readers.items()}


def candidate_columns(model: Model) -> list[str]:
    """The columns that each candidate of a page most likely has of its own: by name, else the last quarter."""
    names = [name for name, field in model.schema.readers.items() if field is not None]
    own = [name for name in names if _OF_CANDIDATES & set(re.split(r"[^a-z]+", name.lower()))]
    return own if 0 < len(own) < len(names) else names[-max(1, len(names) // 4) :]


def _example(field: Field | None) -> Any:
    """A value of a column."""
    if field is None:
        return _TIME_EXAMPLE
    value = _EXAMPLES[field.type]
    return [value] if field.kind == "list" else value


def _row_schema(model: Model, row_ids: tuple[str, ...]) -> dict[str, Any]:
    """What a row may hold."""
    columns: dict[str, Any] = {
        name: {"type": ["integer", "string", "null"], "description": "Identifies the row."} for name in row_ids
    }
    columns |= {
        name: _time_schema(model.schema.time_unit) if field is None else _column_schema(field)
        for name, field in model.schema.readers.items()
    }
    required = [name for name, field in model.schema.readers.items() if field is None or not field.nullable]
    return {"type": "object", "additionalProperties": False, "required": required, "properties": columns}


def _time_schema(unit: str | None) -> dict[str, Any]:
    """What the time may be."""
    if unit is None:
        return _TIME
    text = {name: value for name, value in _TIME.items() if name != "description"}
    return {
        "anyOf": [text, {"type": "number"}],
        "description": f"When it happened: in UTC, or as a number of {unit} since 1970.",
    }


def _column_schema(field: Field) -> dict[str, Any]:
    """What a column may hold."""
    value = _VALUES[field.type]
    if field.kind == "list":
        value = {"type": "array", "items": value}
    return {"anyOf": [value, {"type": "null"}]} if field.nullable else value


def _scores_schema() -> dict[str, Any]:
    score = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        "type": "object",
        "required": ["version", "scores"],
        "properties": {
            "version": {"type": "string", "description": "The version that gave all of these scores."},
            "scores": {"type": "array", "items": score, "description": "Probability of a click, row by row."},
        },
    }


def _refusal_schema() -> dict[str, Any]:
    error = {
        "type": "object",
        "required": ["status", "reason", "message"],
        "properties": {"status": {"type": "integer"}, "reason": {"type": "string"}, "message": {"type": "string"}},
    }
    return {"type": "object", "required": ["error"], "properties": {"error": error}}


def _score(body: dict[str, Any], examples: dict[str, Any], version: str) -> dict[str, Any]:
    """The operation that scores."""
    scored = {
        "schema": {"$ref": "#/components/schemas/Scores"},
        "example": {"version": version, "scores": [0.0312, 0.1205]},
    }
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    in_arrow = {"schema": {"description": "For whom accepts it: a column `score`; the metadata name the version."}}
    answers: dict[str, Any] = {
        "200": {"description": "A score for each row.", "content": {JSON: scored, ARROW: in_arrow}}
    }
    answers |= {str(status): {"description": text, "content": refused} for status, text in _REFUSALS.items()}
    return {
        "operationId": "score",
        "summary": "Click probabilities",
        "description": "Of one user with many candidates, or of rows. All scores are of one version.",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": body, "examples": examples},
                ARROW: {
                    "schema": {
                        "description": "Where pyarrow is installed: an Arrow stream of the rows, or two, "
                        "of the user's one row and of the candidates."
                    }
                },
            },
        },
        "responses": answers,
    }


def _get(
    summary: str, description: str, kind: str = "application/json", *, open_to_all: bool = False
) -> dict[str, Any]:
    """An operation that only tells something."""
    schema = {"type": "string"} if kind == "text/plain" else {"type": "object"}
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    answers = {
        "200": {"description": description, "content": {kind: {"schema": schema}}},
        **{
            str(status): {"description": text, "content": refused}
            for status, text in _REFUSALS.items()
            if status in (401, 429, 503)
        },
    }
    return {"get": {"summary": summary, "responses": answers} | ({"security": []} if open_to_all else {})}
