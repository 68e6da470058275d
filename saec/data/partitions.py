"""Finds the files of an hour, checks them against the producer's manifest and the limits, and reads them.

Decisions: an hour's files are where `data.layout` says under `data.source`, a local folder or a URL. They are found by
listing, never by constructing a name, so that every spelling of an hour is found. Each file's bytes are fetched once.
Footers are read first: rows, columns and decoded size are checked against the limits before any page is read. If the
producer adds a `_manifest.json` ({"files": {NAME: {"sha256": ..., "rows": ...}}}), the files must match it; other names
that start with `_` or `.` are ignored. A failing disk or network is an OSError, not a fault of the input.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from saec.config import Config, DataConfig
from saec.data.merging import merged_parts
from saec.data.part_files import DeliveredFile, PartFile, truncated
from saec.data.schema import Field
from saec.data.tables import Table, open_table, table_hours, table_rows
from saec.data.text_files import TextFile
from saec.data.types import Want, column_wants, field_want
from saec.errors import ConfigError, HourAbsent, InputError
from saec.hour_layout import HourLayout, Numbers, data_format, layout_of, span
from saec.hours import Hour

MANIFEST = "_manifest.json"
MAX_COLUMNS = 10_000
"""Most columns of a file, wanted or not."""


@dataclass(frozen=True)
class Partition:
    """The rows of an hour as delivered, with the digests that identify the delivery."""

    hour: Hour
    table: pa.Table
    """Wanted columns that are there, part files in name order; strings as dictionaries."""
    files: tuple[PartFile, ...]
    """Files that were read, in name order."""
    duplicate_files: int
    """Files skipped because they repeat another one byte for byte."""
    sha256: str
    """Digest over the digests of the files read."""
    extra_columns: tuple[str, ...]
    """Columns in the files that no setting names; they were not read."""
    version: int | None = None
    """Version of the table that was read; None for files."""
    broken: tuple[str, ...] = ()
    """Lines of text that could not be read and were left out, in words."""
    others: pa.Table | None = None
    """The extra columns that the caller asked for, unchecked; None if they cannot be read."""


def read_partition(config: Config, hour: Hour, others: Mapping[str, Field | None] | None = None) -> Partition:
    """Read the hour's files.

    Args:
        config: Names the source, the wanted columns and the limits.
        hour: Which hour.
        others: Further columns to read where they are there, with the field that reads each; None for times.

    Raises:
        HourAbsent: when there is no file of rows for the hour.
        InputError: reason truncated, corrupt, too-large, schema, dtype or layout, naming the hour and the file.
        OSError: when the disk or the network fails.
    """
    others = others or {}
    if table := open_table(config.data):
        return _table_partition(config, hour, table, [*others])
    reading = config
    if others:  # text is decoded with the types of the fields
        fields = [*config.fields, *(field for field in others.values() if field)]
        reading = config.model_copy(update={"fields": fields})
    filesystem, root = open_source(config.data.source)
    layout = layout_of(config.data.layout)
    infos = _part_files(filesystem, root, config.data, hour)
    size = sum(info.size for info in infos)
    if size > config.data.most_bytes:
        raise _too_large(hour, f"{size:,} bytes", f"limit of {config.data.most_bytes:,}, which follows from max_rows")
    delivered: list[DeliveredFile | TextFile] = []
    for info in infos:
        unpacked = sum(part.decoded_bytes(()) for part in delivered)
        delivered.append(_fetch(filesystem, info, hour, reading, config.data.most_bytes - unpacked))
    for folder in sorted({posixpath.dirname(info.path) for info in infos}):
        beside = [
            part.file for part, info in zip(delivered, infos, strict=True) if posixpath.dirname(info.path) == folder
        ]
        _check_manifest(filesystem, folder, layout, beside, hour)
    parts = list({part.file.sha256: part for part in reversed(delivered)}.values())[::-1]
    wanted = wanted_columns(config)
    _check_limits(parts, wanted, config, hour)
    present = dict.fromkeys(name for part in parts for name in part.names)
    digest = hashlib.sha256("\n".join(part.file.sha256 for part in parts).encode()).hexdigest()
    table = merged_parts([(part.file.name, part.read(wanted)) for part in parts], column_wants(config), hour)
    return Partition(
        hour,
        table,
        tuple(part.file for part in parts),
        len(delivered) - len(parts),
        digest,
        tuple(name for name in present if name not in wanted),
        broken=_few_broken(parts, config),
        others=_read_others(parts, others, config, hour),
    )


def _table_partition(config: Config, hour: Hour, table: Table, others: Sequence[str]) -> Partition:
    """An hour of a table."""
    wanted = wanted_columns(config)
    there = [name for name in others if name in table.schema.names]
    rows, files = table_rows(table, config.data, hour, [*wanted, *there])
    if not files:
        raise HourAbsent(
            f"hour {hour} has no rows in version {table.version} of the table of data.source; have it delivered"
        )
    digest = hashlib.sha256("\n".join(file.sha256 for file in files).encode()).hexdigest()
    extra = tuple(name for name in table.schema.names if name not in wanted)
    return Partition(
        hour,
        rows.select([name for name in wanted if name in rows.column_names]),
        files,
        0,
        digest,
        extra,
        table.version,
        others=rows.select(there) if others else None,
    )


def available_hours(data: DataConfig, first: Hour | None = None, last: Hour | None = None) -> dict[Hour, str]:
    """Hours that have at least one file of rows, oldest first, each with a mark of its files.

    Only the days of the range are listed, so that the cost does not grow with everything ever delivered.

    Args:
        data: Names the source, which need not be there, and its layout.
        first: The first hour asked about; the oldest when left out.
        last: The last hour asked about.

    Returns:
        By hour, a digest of the names, sizes and times of its files. While it is unchanged, nothing was delivered. If
        it changes, the files are worth reading; their own digest decides.
    """
    if table := open_table(data):
        return table_hours(table, data, first, last)
    filesystem, root = open_source(data.source)
    found: dict[Hour, list[str]] = {}
    for hour, info in in_place(filesystem, root, data, first, last):
        if data_format(info.base_name, data.format):
            found.setdefault(hour, []).append(f"{info.base_name} {info.size} {info.mtime_ns}")
    return {hour: hashlib.sha256("\n".join(sorted(found[hour])).encode()).hexdigest() for hour in sorted(found)}


def in_place(
    filesystem: fs.FileSystem, root: str, data: DataConfig, first: Hour | None = None, last: Hour | None = None
) -> Iterator[tuple[Hour, fs.FileInfo]]:
    """Everything at the places of the hours from `first` to `last` in the layout, each with its hour."""
    layout = layout_of(data.layout)

    def below(folder: str, level: int, known: Numbers) -> Iterator[tuple[Hour, fs.FileInfo]]:
        one_day = level >= layout.day_level
        for info in listed(filesystem, folder, recursive=one_day):
            names = info.path.removeprefix(folder).lstrip("/").split("/")
            numbers = layout.read(names, known, level)
            hours = span(numbers) if numbers is not None else None
            if numbers is None or hours is None or (first and hours[1] < first) or (last and hours[0] > last):
                continue
            depth, is_folder = level + len(names), info.type == fs.FileType.Directory
            if depth == layout.depth or (depth == len(layout.parts) and not is_folder):
                yield hours[0], info
            elif is_folder and not one_day:
                yield from below(info.path, level + 1, numbers)

    return below(root, 0, {})


def listed(filesystem: fs.FileSystem, folder: str, *, recursive: bool = False) -> list[fs.FileInfo]:
    """The contents of a folder; empty if it does not exist."""
    infos: list[fs.FileInfo] = filesystem.get_file_info(
        fs.FileSelector(folder, allow_not_found=True, recursive=recursive)
    )
    return infos


def wanted_columns(config: Config) -> tuple[str, ...]:
    """Columns that the settings name: the time's, the label's, the fields', the row id's; each once."""
    fields = (field.source_column for field in config.fields)
    names = (
        config.data.time_column,
        config.data.label_column,
        *fields,
        *config.data.row_id_columns,
        *config.data.weight_columns,
    )
    return tuple(dict.fromkeys(name for name in names if name))


def open_source(source: str) -> tuple[fs.FileSystem, str]:
    """The file system of a source and the path in it.

    Raises:
        ConfigError: when the URL cannot be opened; the message leaves the URL out, as it may hold a password.
    """
    if "://" not in source:
        return fs.LocalFileSystem(), str(Path(source).absolute())
    try:
        filesystem, path = fs.FileSystem.from_uri(source)
    except (pa.ArrowException, OSError, ValueError) as error:
        scheme = source.partition("://")[0]
        raise ConfigError(
            f"data.source, a URL of scheme {scheme!r}, cannot be opened ({type(error).__name__}); give a "
            "folder or a URL such as file:///data, s3://bucket/data or gs://bucket/data"
        ) from None
    return filesystem, path.rstrip("/")


def _part_files(filesystem: fs.FileSystem, root: str, data: DataConfig, hour: Hour) -> list[fs.FileInfo]:
    """The hour's files in name order, each an ordinary file."""
    layout = layout_of(data.layout)
    infos = sorted(
        (info for _, info in in_place(filesystem, root, data, hour, hour)), key=lambda info: (info.base_name, info.path)
    )
    for info in infos:
        if info.path.removeprefix(root).strip("/").count("/") + 1 < layout.depth:
            raise _odd(hour, info.path, "is a file where a folder of files is wanted")
    infos = [info for info in infos if data_format(info.base_name, data.format)]
    if not infos:
        files = "" if layout.names_files else "/*.parquet" if data.format == "auto" else f"/*.{data.format}"
        raise HourAbsent(
            f"hour {hour} has no file of rows: wanted {root}/{layout.place(hour)}{files}; have it "
            "delivered, or check data.source, data.layout and data.format in the configuration"
        )
    for info in infos:
        if isinstance(filesystem, fs.LocalFileSystem) and Path(info.path).is_symlink():
            raise _odd(hour, info.path, "is a symbolic link; put the file itself there")
        if info.type != fs.FileType.File:
            raise _odd(hour, info.path, f"is no ordinary file (found: {info.type.name}); put one file of rows there")
    formats = {data_format(info.base_name, data.format): info.path for info in infos}
    if len(formats) > 1:
        one, other = sorted(formats.items(), key=str)[:2]
        raise _odd(
            hour,
            one[1],
            f"is {one[0]} and {other[1]} is {other[0]}: the same rows may be there twice; remove "
            "one kind, or name the one to read in data.format",
        )
    return infos


def _fetch(
    filesystem: fs.FileSystem, info: fs.FileInfo, hour: Hour, config: Config, most: int
) -> DeliveredFile | TextFile:
    """All bytes of one file, exactly as many as were listed."""
    where = f"hour {hour}: file {info.path}"
    with filesystem.open_input_file(info.path) as stream:
        data = stream.read_buffer(info.size)
    if data.size != info.size:
        raise truncated(where, f"{info.size:,} bytes were listed, {data.size:,} could be read")
    kind = data_format(info.base_name, config.data.format)
    if kind in ("csv", "jsonl"):
        return TextFile(info.base_name, data, where, kind, config, most)
    return DeliveredFile(info.base_name, data, where)


def _check_manifest(
    filesystem: fs.FileSystem, folder: str, layout: HourLayout, files: Sequence[PartFile], hour: Hour
) -> None:
    """Compare the files of a folder with the producer's manifest, if there is one."""
    path = f"{folder}/{MANIFEST}"
    if filesystem.get_file_info(path).type != fs.FileType.File:
        return
    promised = _promises(filesystem, path, hour)
    if layout.names_files:  # the files of other hours lie beside them
        promised = {name: entry for name, entry in promised.items() if layout.is_of(name, hour)}
    for name in sorted({file.name for file in files} ^ promised.keys()):
        fault = "is promised by the manifest but not there" if name in promised else "is there but not in the manifest"
        raise InputError(f"hour {hour}: file {name} {fault} {path}; have the hour delivered again", reason="corrupt")
    for file in files:
        for what, found in (("sha256", file.sha256), ("rows", file.rows)):
            wanted = promised[file.name].get(what, found)
            if wanted != found:
                raise InputError(
                    f"hour {hour}: file {file.name} has {what} {found}, but {path} promises "
                    f"{str(wanted)[:80]}; have it delivered again",
                    reason="corrupt",
                )


def _promises(filesystem: fs.FileSystem, path: str, hour: Hour) -> dict[str, dict[str, object]]:
    """The manifest's entry for each file name."""
    with filesystem.open_input_file(path) as stream:
        text = stream.read()
    try:
        return {str(name): dict(entry) for name, entry in json.loads(text)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f'hour {hour}: {path} ({type(error).__name__}) is not of the form {{"files": {{NAME: '
            '{"sha256": ..., "rows": ...}}}; have it delivered again',
            reason="corrupt",
        ) from None


def _check_limits(parts: Sequence[DeliveredFile | TextFile], wanted: Sequence[str], config: Config, hour: Hour) -> None:
    """Refuse files that are too large to decode, by their footers alone."""
    columns = max(part.columns for part in parts)
    if columns > MAX_COLUMNS:
        raise InputError(
            f"hour {hour} has {columns:,} columns, over the limit of {MAX_COLUMNS:,}, which no setting "
            "changes; no page was decoded. Have it delivered with the columns that the settings name",
            reason="too-large",
        )
    rows = sum(part.file.rows for part in parts)
    if rows > config.data.max_rows:
        raise _too_large(hour, f"{rows:,} rows", f"max_rows {config.data.max_rows:,}")
    decoded = sum(part.decoded_bytes(wanted) for part in parts)
    if decoded > config.data.most_bytes:
        raise _too_large(
            hour, f"{decoded:,} decoded bytes", f"limit of {config.data.most_bytes:,}, which follows from max_rows"
        )


def _few_broken(parts: Sequence[DeliveredFile | TextFile], config: Config) -> tuple[str, ...]:
    """The broken lines of all files, in words.

    Raises:
        InputError: reason malformed, when they are more than `data.max_bad_share` of the rows.
    """
    text = [part for part in parts if isinstance(part, TextFile)]
    broken = tuple(f"{part.file.name}: {line}" for part in text for line in part.broken)
    if len(broken) > config.data.max_bad_share * sum(part.file.rows for part in parts):
        raise next(part.refusal for part in text if part.refusal)
    return broken


def _read_others(
    parts: Sequence[DeliveredFile | TextFile], others: Mapping[str, Field | None], config: Config, hour: Hour
) -> pa.Table | None:
    """Read columns that are not learnt from; their faults are not faults of the hour."""
    wants = {
        name: [field_want(field) if field else Want("time", unit=config.data.time_unit)]
        for name, field in others.items()
    }
    try:
        return merged_parts([(part.file.name, part.read([*others])) for part in parts], wants, hour) if others else None
    except InputError:
        return None


def _odd(hour: Hour, path: str, what: str) -> InputError:
    """Something in the hour's place that is not a plain file of rows."""
    return InputError(f"hour {hour}: {path} {what}", reason="layout")


def _too_large(hour: Hour, found: str, limit: str) -> InputError:
    """An hour over a limit."""
    return InputError(
        f"hour {hour} is too large: {found}, over the {limit}; no page was decoded. Raise "
        "data.max_rows if the hour is sound",
        reason="too-large",
    )
