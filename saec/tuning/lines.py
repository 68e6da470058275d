"""Writes the tuned values as YAML, and on request into the settings file.

Decisions: the file is edited line by line, so that comments and order stay. Before it is written, the result is parsed:
it must equal the old settings with the new values. A layout that cannot be edited this way is left to the user.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import yaml

from saec.durable import write_file
from saec.errors import ConfigError
from saec.tuning.dials import by_section

if TYPE_CHECKING:
    from pathlib import Path

    from saec.tuning.dials import Changes

_KEY = r"^(\s+){key}:[^#]*?(\s*#.*)?$"


def as_yaml(changes: Changes) -> str:
    """The lines, by section."""
    return yaml.safe_dump(by_section(changes), sort_keys=False) if changes else ""


def write_into(path: Path, changes: Changes) -> None:
    """Put the values into a settings file.

    Raises:
        ConfigError: when its layout is not one that can be edited line by line; nothing is written then.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    wanted: dict[str, Any] = yaml.safe_load(text)
    for section, values in by_section(changes).items():
        for knob, value in values.items():
            lines = _with(lines, section, knob, yaml.safe_dump(value).split("\n")[0])
        wanted[section] = (wanted.get(section) or {}) | values
    edited = "\n".join(lines)
    twice = any(len(re.findall(rf"^{section}:", edited, re.MULTILINE)) > 1 for section in wanted)
    if twice or _read(edited) != wanted:
        raise ConfigError(
            f"{path} is laid out in a way that cannot be edited line by line; nothing was written: "
            f"put the lines into it by hand\n{as_yaml(changes)}"
        )
    write_file(path, edited.encode(), path.stat().st_mode & 0o777)


def _with(lines: list[str], section: str, knob: str, value: str) -> list[str]:
    """The lines with one value put in."""
    starts = [place for place, line in enumerate(lines) if re.match(rf"^{section}:\s*(#.*)?$", line)]
    if not starts:
        body = lines[:-1] if lines and not lines[-1] else lines
        return [*body, f"{section}:", f"  {knob}: {value}", ""]
    first = starts[0] + 1
    block = list(takewhile(lambda line: not line or line[0] in " #", lines[first:]))
    indents = [match[1] for line in block if (match := re.match(r"^(\s+)[^\s#]", line))]
    for place, line in enumerate(block, first):
        if (match := re.match(_KEY.format(key=re.escape(knob)), line)) and match[1] == indents[0]:
            return [*lines[:place], f"{match[1]}{knob}: {value}{match[2] or ''}", *lines[place + 1 :]]
    return [*lines[:first], f"{indents[0] if indents else '  '}{knob}: {value}", *lines[first:]]


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None
