"""Computes the digest of the settings that change the bytes of a version.

Decisions: paths, and settings that decide when an hour is done or what happens around it, are left out, so that two
workspaces agree on version ids. A setting that was added later counts only where somebody sets it. A setting that is
gone counts with the value that follows for it, in its old form. So a site keeps its digest when it updates.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from saec.constants import MOST_NULLS

if TYPE_CHECKING:
    from saec.config import Config

_WITHOUT_EFFECT: dict[str, bool | set[str]] = {
    "workspace": True,
    "store": True,
    "ledger": True,
    "retention": True,
    "alarms": True,
    "serving": True,
    "report": True,
    "mirrors": True,
    "data": {"source", "layout", "format", "due_after", "absent_after", "late"},
}
"""Settings that say where files lie and how they are written, when an hour is done, and what happens around it."""
_LATER: tuple[tuple[str, str, Any], ...] = (
    ("", "device", "cpu"),
    ("data", "header", []),
    ("data", "duplicates", "click-wins"),
    ("data", "click_delay", 0),
    ("data", "weight_column", None),
    ("data", "negative_sampling", None),
    ("data", "time_unit", None),
    ("model", "first_order", 0.0),
    ("compression", "clusterer", "saec"),
)
"""Settings that came later, with what they are where nobody sets them; in no section where it has no name."""
_DROPOUT = 0.1
"""What `training.feature_dropout` was by default; nothing is dropped any more, and hours that are done stay done."""
_CODEBOOKS = {"int4": "int8", "int8": "int8, chosen"}
"""How `compression.codebook_precision` counts: int8 was the default, and what is the default now takes its name."""
_MOST_BYTES = 8 << 30
"""What `data.max_bytes` was by default; now it follows from `data.max_rows`."""


def digest_of(config: Config) -> str:
    """sha256 (hex) of the settings that change the bytes of a version."""
    settings = config.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    _say_what_is_gone(settings, config)
    for section, name, default in _LATER:
        of = settings[section] if section else settings
        if of[name] == default:
            del of[name]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _say_what_is_gone(settings: dict[str, Any], config: Config) -> None:
    """Write what follows from other settings now as when it was a setting."""
    shares = {field.most_nulls for field in config.fields if field.nullable}
    settings["data"] |= {"max_bytes": config.data.max_bytes or _MOST_BYTES, "max_null_share": MOST_NULLS}
    settings["training"] |= {"precision": config.training.arithmetic, "feature_dropout": _DROPOUT}
    precision = config.compression.codebook_precision
    settings["compression"]["codebook_precision"] = _CODEBOOKS.get(precision, precision)
    if len(shares) == 1:  # one limit for all fields was the only one there could be
        settings["data"]["max_null_share"] = shares.pop()
        for field in settings["fields"]:
            field["nullable"] = bool(field["nullable"])
