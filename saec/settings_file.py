"""Reads a settings file and reports every fault in it at once, each with what to do.

Decisions: settings are in one YAML file. The message for an unknown key suggests the nearest known one; the message for
a setting that is gone says what replaced it, from the table here. The YAML reader is imported only to read a file. No
message shows a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from saec.config import Config
from saec.constants import TRIAL, Section, constants
from saec.errors import ConfigError, nearest

LOGIN = re.compile(r"://[^\s/@]*@")
"""User and password of a URL, which no message may show."""
_OPTION = "it is now an option, saec serve --{0}, or SAEC_SERVER_{1}"
_KEPT = "one number of hours keeps both now, beside `data:`: retention: {0}"
_PATIENCE = "it follows from alarms.hours now: {0}"
GONE: dict[str, str] = {
    "data.delimiter": "it is found by the names of the columns now",
    "data.version": "it is the end of data.source now, as in lake/clicks@12",
    "training.precision": "it follows from training.batch_rows now: bfloat16 from 1,024 on, where it is built in",
    "training.feature_dropout": "nothing is dropped any more: on each log measured all models were better without",
    "data.max_null_share": "each field says so itself now, as nullable: 0.9 in place of nullable: true",
    "data.frozen_after": "hours are frozen once they are older than `retention` keeps",
    "data.max_bytes": "it follows from data.max_rows now: 430 bytes for each of these, and 1 GiB at least",
    "gate.logloss_margin": (
        "nats a row are now gate.entropy_margin, a share of the base rate's entropy: 0.01 nats at 20% clicks (entropy "
        "0.5) are an entropy_margin of 0.02"
    ),
    "retention.versions": _KEPT.format(48),
    "retention.checkpoints": _KEPT.format(48),
    "alarms.quiet_minutes": _PATIENCE.format("25 minutes for each of them"),
    "alarms.held_hours": _PATIENCE.format("as many"),
    "alarms.live_hours": _PATIENCE.format("twice as many"),
} | {
    f"serving.{name}": _OPTION.format(name.replace("_", "-"), name.upper())
    for name in ("host", "port", "workers", "poll_seconds", "max_body_bytes", "max_rows", "cache", "api_key_file")
}
"""What was a setting once, and what it is now; constants say so by themselves."""


def load_config(path: str | Path) -> Config:
    """Read and check a YAML file of settings.

    Raises:
        ConfigError: naming the file, the setting, what was wanted and what was found.
    """
    import yaml  # noqa: PLC0415 - a second of no use to who makes settings by hand

    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)  # ten times as fast as safe_load
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration file {path}; name one with --config, or write one: saec init LOG"
        ) from None
    except yaml.MarkedYAMLError as error:  # its own text shows the line, which may hold a password
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"configuration {path} is not readable YAML: {error.problem} in line {line}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"configuration {path} is not readable YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"configuration {path} must be a mapping of settings, got {type(raw).__name__}")
    problems = list(_without_gone(raw))
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += [_describe(problem) for problem in error.errors()]
    if problems:
        raise ConfigError(f"configuration {path} is not valid:\n" + "\n".join(problems))
    return config


def sections() -> dict[str, type[Section]]:
    """The sections by name; that of a list is the section of each of its entries."""
    found: dict[str, type[Section]] = {}
    for name, field in Config.model_fields.items():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Section):
                found[name] = kind
    return found


def settings_of(section: type[Section]) -> list[str]:
    """Names of what a file may say in a section."""
    return [name for name in section.model_fields if name not in constants(section)]


def _without_gone(raw: dict[str, Any]) -> Iterator[str]:
    """What to do about each setting that is none any more; they are taken out, so that the others are checked too."""
    for name, values in [("", raw), *raw.items()]:
        if not isinstance(values, dict):
            continue
        section = sections().get(name) if name else Config
        fixed = constants(section) if section else {}
        allowed = fixed if os.environ.get(TRIAL) == "1" else {}
        paths = {knob: f"{name}.{knob}".lstrip(".") for knob in values}
        gone = [knob for knob in values if knob not in allowed and (knob in fixed or paths[knob] in GONE)]
        for knob in gone:
            value = values.pop(knob)
            if knob in fixed and section and value == section.model_fields[knob].default:
                continue  # the line says what is so in any case
            became = GONE.get(paths[knob]) or _constant(section, knob)
            yield f"  {paths[knob]} is gone: {became}; delete the line"
        if name and gone and not values:
            del raw[name]


def _constant(section: type[Section] | None, name: str) -> str:
    """What a constant says of itself."""
    value = section.model_fields[name].default if section else None
    return "it is the same for everybody now" + ("" if value is None else f", {value}")


def _describe(problem: ErrorDetails) -> str:
    """One line for one pydantic complaint: where, what, and the nearest known key."""
    location = problem["loc"]
    where = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        section = sections()[str(location[0])] if location[:-1] else Config
        return f"  {where}: no such setting{nearest(str(location[-1]), settings_of(section))}"
    found = LOGIN.sub("://***@", str(problem.get("input")))
    return f"  {where or 'settings'}: {problem['msg']}, got {found[:80]!r}"
