"""Writes docs/commands.md, docs/configuration.md and docs/types.md from the code: `python -m saec.cli.docs`.

A test fails if a page is out of date, so commands, settings and type rules cannot change without their page.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saec.cli.main import SECTIONS, cli
from saec.config import Config
from saec.constants import Section, constants
from saec.data.types import RULES, SOURCES, WANTED
from saec.settings_file import sections, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
_SHARED = ("config_path", "as_json", "debug", "help")
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_RULES = "Settings are in one YAML file. Unknown keys are refused; relative paths start from the current directory."
_CONSTANTS = "These are the same for everybody. A settings file that sets one is refused (`saec/constants.py`)."
_WRITTEN = "<!-- Written by `python -m saec.cli.docs`; change the code, not this page. -->"
_ON_TYPES = """\
This page lists which types of values each kind of column accepts. The same rules apply to the files of
an hour, to `saec score`, to `Model.score` with Arrow, pandas, polars, numpy or plain rows, and to requests over HTTP: a
value is the same feature everywhere, or refused everywhere. `tests/test_types.py` tests each type through each of these
entrances."""
_ON_RULES = """\
A dash means refused, with a message that names the column and says what to do. A field of `kind: list` accepts lists
whose values its type accepts. No other field accepts lists, and no field accepts lists of lists."""
_MORE_ON_TYPES = """\
## Details

- **Types are widened without loss, never narrowed.** Within an hour and between hours, files may mix int32 and int64,
  float and double, string and large_string, ms and us, nullable and NOT NULL, and nulls with anything. A file without
  rows may have any types. If no single type can hold all values (negative integers together with integers of 2⁶³ and
  more, text together with numbers), the hour is refused; the message names column and files.
- **Floats have one precision.** In a field of `type: float` each number and each boundary counts as the nearest 32-bit
  float, in files and requests alike: 0.7 is the same number in a float32 column, a float64 column, a decimal and JSON,
  and falls in the bucket above the boundary 0.7. (Half floats are widened unchanged: there 0.7 is 0.7002.) Numbers
  larger than 3.4·10³⁸ count as that. In a field of `type: int` nothing is rounded to 32 bits.
- **Times.** A timestamp with a zone is an instant, whatever the zone; without one it is UTC. Text is ISO 8601
  (`2026-11-21T10:20:30Z`, with any offset; without one it is UTC). A row whose text is not a time is set aside; an hour
  with only such texts is refused. A date has no hour and is refused. Numbers need `data.time_unit`.
- **Integers** from 2⁶³ to 2⁶⁴−1 are identified by their 64 bits, which they share with a negative number; a column that
  contains both is refused. Larger integers are refused.
- **Decimals** are exact as integers, if they are written without decimal places and fit; as floats they become the
  nearest float.
- **Text and bytes** are equal if their bytes are; nothing is normalised. A UUID column is not text: write it as text.
- **Labels** are 0 and 1, as integers, booleans, floats or decimals; a row with another value is set aside.
- **Missing values.** A column with only nulls has no type and is read as nulls of the required type; separate rules
  decide whether nulls are allowed (`nullable`). pandas' NaN, NA and NaT in a frame or series are
  nulls, as in Arrow. In plain rows the missing value is `None`, and NaN is refused. NaN is also refused in polars,
  Arrow and Parquet, which distinguish null from NaN.
- **Parquet** may have any encoding, and lists in any number of row groups. A file that pyarrow cannot read is refused
  as `unsupported`; it need not be damaged, so delivering the same file again would not help."""


def commands_page() -> str:
    """Every command: what it does, an example, its arguments and options."""
    lines = ["# Commands", "", _WRITTEN, "", *_help_lines(cli), "Every command also takes:", ""]
    any_command = SECTIONS["Hours"][0]
    lines += _option_table([param for param in any_command.params if param.name in _SHARED])
    for section, commands in SECTIONS.items():
        lines += [f"## {section}", ""]
        for command in commands:
            lines += _command_lines(f"saec {command.name}", command)
    return "\n".join(lines).rstrip() + "\n"


def configuration_page() -> str:
    """Every setting: its type and range, its default, and the line beneath it in saec/config.py."""
    schema = Config.model_json_schema()
    lines = ["# Configuration", "", _WRITTEN, "", schema["description"], "", _RULES, ""]
    plain = [name for name in settings_of(Config) if not _section(schema["properties"][name])]
    lines += _knob_table({name: schema["properties"][name] for name in plain}, [])
    for name, knob in schema["properties"].items():
        if section := _section(knob):
            described = schema["$defs"][section]
            each = " (a list)" if knob.get("type") == "array" else ""
            lines += [f"## `{name}`{each}", "", described["description"], ""]
            named = {knob: described["properties"][knob] for knob in settings_of(sections()[name])}
            lines += _knob_table(named, described.get("required", []))
    lines += ["## What is no setting", "", _CONSTANTS, "", "| constant | value | meaning |", "|---|---|---|"]
    everywhere: dict[str, type[Section]] = {"": Config, **sections()}
    for name, kind in everywhere.items():
        for constant, said in constants(kind).items():
            value = _yaml(kind.model_fields[constant].default)
            lines.append(f"| `{f'{name}.{constant}'.lstrip('.')}` | `{value}` | {' '.join(said.split())} |")
    return "\n".join(lines).rstrip() + "\n"


def types_page() -> str:
    """For every type of value and every kind of column: how the value is converted, or that it is refused."""
    lines = ["# Types", "", _WRITTEN, "", _ON_TYPES, "", "| values | includes |", "|---|---|"]
    lines += [f"| {source} | {words} |" for source, words in SOURCES.items()]
    lines += [
        "",
        "## Conversions",
        "",
        _ON_RULES,
        "",
        f"| values | {' | '.join(WANTED.values())} |",
        "|---" * (len(WANTED) + 1) + "|",
    ]
    for source, rules in RULES.items():
        if source != "list":
            lines.append(f"| {source} | {' | '.join(rules.get(want, '–') for want in WANTED)} |")
    return "\n".join([*lines, "", _MORE_ON_TYPES]).rstrip() + "\n"


def write(folder: Path = DOCS) -> list[Path]:
    """Write the pages and return their paths."""
    pages = {
        folder / "commands.md": commands_page(),
        folder / "configuration.md": configuration_page(),
        folder / "types.md": types_page(),
    }
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return list(pages)


def _command_lines(name: str, command: click.Command) -> Iterator[str]:
    """One command, or each command of a group."""
    context = click.Context(command, info_name=name)
    yield from (f"### {name}", "")
    yield from _help_lines(command)
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from _command_lines(f"{name} {child.name}", child)
        return
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    yield from ("```", usage, *(command.epilog or "").removeprefix("\b\nExample: ").splitlines(), "```", "")
    options = [param for param in command.params if isinstance(param, click.Option) and param.name not in _SHARED]
    if options:
        yield from _option_table(options)


def _help_lines(command: click.Command) -> Iterator[str]:
    yield from (inspect.cleandoc(command.help or ""), "")


def _option_table(params: list[click.Parameter] | list[click.Option]) -> Iterator[str]:
    """A table of options."""
    yield from ("| option | meaning | default |", "|---|---|---|")
    for param in params:
        if isinstance(param, click.Option):
            yield f"| `{_spelling(param)}` | {param.help} | {_option_default(param)} |"
    yield ""


def _spelling(option: click.Option) -> str:
    """The option as typed, with its argument."""
    names = "/".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    choices = "/".join(option.type.choices) if isinstance(option.type, click.Choice) else ""
    return f"{names} {choices or option.metavar or option.type.name.upper().removesuffix(' RANGE')}"


def _option_default(option: click.Option) -> str:
    """The default of an option."""
    if option.required:
        return "needed"
    if isinstance(option.show_default, str):
        return f"`{option.show_default}`"
    if option.is_flag and option.secondary_opts:
        return f"`{(option.opts if option.default else option.secondary_opts)[0]}`"
    shown = option.show_default and not option.is_flag and option.default is not None
    also = f", or `{option.envvar}`" if option.envvar else ""
    return f"`{option.default}`{also}" if shown else ""


def _section(knob: dict[str, Any]) -> str | None:
    """The section that a setting contains (one, or a list of them); None for a plain setting."""
    reference = knob.get("$ref") or knob.get("items", {}).get("$ref")
    return reference.rpartition("/")[2] if reference else None


def _knob_table(knobs: dict[str, dict[str, Any]], required: list[str]) -> Iterator[str]:
    """A table of settings."""
    yield from ("| setting | type | default | meaning |", "|---|---|---|---|")
    for name, knob in knobs.items():
        default = "needed" if name in required else f"`{_yaml(knob.get('default'))}`"
        yield f"| `{name}` | {_kind(knob)} | {default} | {' '.join(knob.get('description', '').split())} |"
    yield ""


def _kind(knob: dict[str, Any]) -> str:
    """The type of a setting, in words."""
    if "anyOf" in knob:
        return " or ".join(_kind(kind) for kind in knob["anyOf"])
    if values := knob.get("enum", [knob["const"]] if "const" in knob else []):
        return ", ".join(f"`{value}`" for value in values)
    if knob.get("type") == "array":
        return f"list of {_kind(knob['items'])}"
    if knob.get("type") == "null":
        return "nothing"
    if knob.get("format") == "path":
        return "path"
    bounds = [f"{sign} {knob[bound]:g}" for bound, sign in _BOUNDS.items() if bound in knob]
    return " ".join([str(knob["type"]), ", ".join(bounds)]).rstrip()


def _yaml(value: Any) -> str:
    """A default as it is written in YAML."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case "":
            return '""'
        case _:
            return str(value)


if __name__ == "__main__":
    for written in write():
        click.echo(written)
