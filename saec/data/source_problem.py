"""Finds out why `data.source` has no hour: it does not exist, is not a folder, or has another layout than the settings.

Decisions: an empty source waits for its first delivery, unless hours were read from it before; then a disk is not
mounted, or somebody has emptied it. If files are there in another layout, the message gives the lines of YAML that read
them; these lines have been tried on the named path. Only a few files are examined.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from itertools import accumulate, islice

import pyarrow as pa
from pyarrow import fs

from saec.config import DataConfig
from saec.data.partitions import in_place, listed, open_source
from saec.data.tables import open_table
from saec.errors import ConfigError, nearest
from saec.hour_layout import HourLayout, data_format

UNDER_DATA = "Under data:, write\n"
"""Text before the lines of YAML that fix a problem."""
_LOOKED_AT = 200
"""Maximum number of files to examine."""
_SHOWN = 5
_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2}
_RANGES = {"Y": range(1970, 2200), "m": range(1, 13), "d": range(1, 32), "H": range(24)}


def check_source(data: DataConfig, *, known: bool = False) -> None:
    """Refuse a source that cannot contain any hour.

    Raises:
        ConfigError: saying what is wrong and what to write.
    """
    if problem := source_problem(data, known=known):
        raise ConfigError(problem)


def source_problem(data: DataConfig, *, known: bool = False) -> str | None:
    """Why the source has no hour, and what to do.

    Args:
        data: Names the source and how it is laid out.
        known: Whether hours were read from it before.

    Returns:
        None if it has an hour, or exists and is still empty.
    """
    try:
        if open_table(data):
            return None
        filesystem, root = open_source(data.source)
        kind = filesystem.get_file_info(root).type
        if kind == fs.FileType.NotFound:
            return _absent(filesystem, root)
        return _is_a_file(root) if kind == fs.FileType.File else _in_folder(filesystem, root, data, known=known)
    except ConfigError as error:
        return str(error)
    except (OSError, pa.ArrowException) as error:
        return f"data.source cannot be read: {error}"


def guess_layout(path: str) -> str | None:
    """The layout under which a path below the source is a file of an hour.

    >>> guess_layout("dt=2026-01-02/hr=5/part-0.parquet")
    'dt=%Y-%m-%d/hr=%H'
    >>> guess_layout("2026/01/clicks-2026010205.csv")
    '%Y/%m/clicks-%Y%m%d%H*'
    """
    names, letters, made = path.split("/"), "YmdH", list[str]()
    for place, name in enumerate(names):
        part, letters = _guess_name(name, letters)
        made.append(part)
        if not letters:
            deeper = names[place + 1 : -1]
            pattern = "/".join([*made, *(re.sub(r"(?<==).*|^[^=]*$", "*", folder) for folder in deeper)])
            if place == len(names) - 1:
                pattern = re.sub("%H[^%]*$", "%H*", pattern)
            layout = HourLayout(pattern + "/" * bool(deeper))
            return layout.pattern if layout.hour(path) else None
    return None


def _guess_name(name: str, letters: str) -> tuple[str, str]:
    """One name with its numbers as directives, and the letters that are left to be found."""
    made, end, left = "", 0, letters
    for run in re.finditer(r"\d+", name):
        digits = run[0]
        again = len(digits) >= 8 or (len(digits) == 4 and int(digits) in _RANGES["Y"])  # a date, a year
        taken = _directives(digits, "YmdH" if again else left)
        if not taken:
            continue
        made += name[end : run.start()].replace("%", "%%") + "".join(f"%{letter}" for letter in taken)
        end = run.start() + min(len(digits), sum(_WIDTHS[letter] for letter in taken))
        left = "YmdH".partition(taken)[2]
        letters = min(letters, left, key=len)
        if not letters:
            break
    return made + name[end:].replace("%", "%%"), letters


def _directives(digits: str, letters: str) -> str:
    """The first letters whose numbers some digits are: several with their zeros, and minutes may follow the hour."""
    for count in range(len(letters), 0, -1):
        taken, width = letters[:count], sum(_WIDTHS[letter] for letter in letters[:count])
        short = taken in ("m", "d", "H") and len(digits) == 1
        with_minutes = taken.endswith("H") and len(digits) in (width + 2, width + 4)
        if not (len(digits) == width or short or with_minutes):
            continue
        ends = list(accumulate(_WIDTHS[letter] for letter in taken))
        values = [int(digits[end - _WIDTHS[letter] : end]) for letter, end in zip(taken, ends, strict=True)]
        if short or all(value in _RANGES[letter] for letter, value in zip(taken, values, strict=True)):
            return taken
    return ""


def _absent(filesystem: fs.FileSystem, root: str) -> str:
    """The source does not exist: describe its nearest existing parent."""
    parent, name = posixpath.split(root)
    while parent.strip("/") and filesystem.get_file_info(parent).type != fs.FileType.Directory:
        parent, name = posixpath.split(parent)
    there = sorted(info.base_name for info in listed(filesystem, parent or "/"))
    shown = ", ".join(there[:_SHOWN]) + (", …" if len(there) > _SHOWN else "") if there else "nothing"
    return (
        f"data.source {root} does not exist: {parent or '/'} holds {shown}{nearest(name, there)}. Mount the disk, "
        "correct data.source, or make the folder if its first hour is yet to come"
    )


def _is_a_file(root: str) -> str:
    """The source is one file: of one hour among others, or a whole log."""
    folder, name = posixpath.split(root)
    layout = guess_layout(name)
    if layout:
        lines = _yaml(source=folder, layout=layout)
        return f"data.source {root} is a file; name its folder. {UNDER_DATA}{lines}"
    return (
        f"data.source {root} is a file, and a folder of hourly files is wanted: `saec init {root} --partition OUT` "
        "lays a log in one file out by the hour"
    )


def _in_folder(filesystem: fs.FileSystem, root: str, data: DataConfig, *, known: bool) -> str | None:
    """What is wrong with a source that is a folder."""
    if any(data_format(info.base_name, data.format) for _, info in in_place(filesystem, root, data)):
        return None
    paths = [path.removeprefix(root).lstrip("/") for path in islice(_files(filesystem, root), _LOOKED_AT)]
    if paths:
        return _laid_out_otherwise(filesystem, root, paths, data)
    return (
        (
            f"data.source {root} is empty, though hours were read from it before: mount it, restore it, or correct "
            "data.source"
        )
        if known
        else None
    )


def _laid_out_otherwise(filesystem: fs.FileSystem, root: str, paths: list[str], data: DataConfig) -> str:
    """There are files, but none in the layout and format of the settings."""
    guesses = {path: layout for path in paths if (layout := guess_layout(path))}
    path, layout = next(iter(guesses.items()), (paths[0], None))
    said = (
        f"data.source {root} holds no hour of layout {data.layout!r} and format {data.format}, but files such as {path}"
    )
    if not layout:
        return (
            f"{said}, which tell no hour. If that is as it should be, `saec init {root} --partition OUT` lays the "
            "log out by the hour"
        )
    lines = {} if HourLayout(data.layout).hour(path) else {"layout": layout}
    if data_format(posixpath.basename(path), data.format) is None:
        kind = data_format(posixpath.basename(path))
        lines["format"] = "auto" if kind else _looks_like(filesystem, f"{root}/{path}")
    return f"{said}. {UNDER_DATA}{_yaml(**lines)}"


def _looks_like(filesystem: fs.FileSystem, path: str) -> str:
    """The format of a file by its first bytes; compressed text counts as CSV."""
    with filesystem.open_input_file(path) as stream:
        first = stream.read(4)
    return "parquet" if first == b"PAR1" else "jsonl" if first.lstrip()[:1] == b"{" else "csv"


def _yaml(**settings: str) -> str:
    """Settings as lines of YAML, in quotes where these are needed."""
    plain = re.compile(r"[A-Za-z/][\w./-]*")
    return "\n".join(
        f"  {name}: {value if plain.fullmatch(value) else json.dumps(value, ensure_ascii=False)}"
        for name, value in settings.items()
    )


def _files(filesystem: fs.FileSystem, folder: str) -> Iterator[str]:
    """Paths of files below a folder, but a writer's own, folder by folder."""
    infos = sorted(
        (info for info in listed(filesystem, folder) if not info.base_name.startswith(("_", "."))),
        key=lambda info: (info.type == fs.FileType.Directory, info.path),
    )
    for info in infos:
        if info.type == fs.FileType.Directory:
            yield from _files(filesystem, info.path)
        else:
            yield info.path
