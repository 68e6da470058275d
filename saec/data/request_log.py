"""Joins the model server's request log with an hour's rows: which were served, with which score, by which version.

    <serving.log>/20261121T10.host-123.jsonl     one file a process and hour of the server's clock, a line a scored row:
    {"at":"2026-11-21T10:20:30.123Z","request":"…","version":"20261121T09-0123456789ab","id":{"impression_id":7},"score":0.12}

Decisions: rows are matched by the values of `data.row_id_columns` as text, so a client may write a large id as a
string; the event's time may be ISO 8601 or milliseconds. Where a row was scored more than once, the newest score that
is not after its event counts, for that is what could be shown; where all came after it (another clock, or an event
stamped when the page was asked for), the first one. Ties go to the line read last. So the server's files of the hour,
the one before and the one after are read. They are read as a stream and only the hour's own rows are kept, so memory
grows with the hour, not with the log, which also holds candidates that nobody was shown. Whatever a line holds, it is
at most counted as unreadable: the log is written by another process, perhaps at this moment.

Shapes: B rows of the hour, L lines of a chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t
from numpy.typing import NDArray

from saec.config import DataConfig
from saec.data.hashing import Keys, field_key, hash_bytes
from saec.hours import Hour, milliseconds

LONGEST_LINE = 1 << 16
"""Bytes of a line; a longer one is unreadable, in as many pieces."""
_CHUNK = 50_000
_KEYED_AS = "rows in the request log"
_BETWEEN = b"\x1f"
_AFTER = np.int64(1 << 62)
"""Added to the distance of scores that came after the event, so that any score before it is nearer."""
_FILE = re.compile(r"(\d{8}T(?:[01]\d|2[0-3]))\.[^/]+\.jsonl")
_VERSION = re.compile(r"\d{8}T\d{2}-[0-9a-f]{12}")


@dataclass(frozen=True, eq=False)
class ServedRows:
    """The log's scores of an hour's rows."""

    scores_B: NDArray[np.float64]
    """The served score; NaN for a row that is not in the log."""
    version_B: NDArray[np.int32]
    """Which of `versions` served it; -1 for a row that is not in the log."""
    versions: tuple[str, ...]
    """Versions that the log names."""
    counts: dict[str, int]
    """`files` and `lines` read, lines `unreadable`, lines `torn` (the last of a file, without its end)."""


class _Lines(NamedTuple):
    """A chunk of readable lines."""

    ids_L: Keys
    at_L: NDArray[np.int64]
    score_L: NDArray[np.float64]
    version_L: NDArray[np.int32]


@dataclass
class _Reading:
    """The result of the files read so far."""

    data: DataConfig
    versions: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("files", "lines", "unreadable", "torn"), 0))


def log_files(folder: Path, hour: Hour) -> list[Path]:
    """The files that may hold scores of an hour's rows, in the order of their names.

    Raises:
        OSError: when the folder cannot be listed.
    """
    wanted = {(hour + offset).compact for offset in (-1, 0, 1)}
    return sorted(path for path, written in _all_files(folder) if written in wanted)


def remove_log_files(folder: Path, before: Hour) -> None:
    """Remove the files of server hours before this one; files with other names are left alone.

    Raises:
        OSError: when one cannot be removed.
    """
    for path, written in _all_files(folder):
        if written < before.compact:
            path.unlink(missing_ok=True)


def row_ids(table: pa.Table, data: DataConfig) -> Keys:
    """A keyed hash of what identifies each row of an hour, uint64 [B]."""
    key = field_key(data.hash_key, _KEYED_AS)
    columns = table.select(data.row_id_columns)
    parts, between = [np.empty(0, np.uint64)], pa.scalar(_BETWEEN, pa.large_binary())
    for batch in columns.to_batches(max_chunksize=1 << 20):
        texts = [_texts(batch.column(index)) for index in range(batch.num_columns)]
        joined = pc.binary_join_element_wise(*texts, between, null_handling="replace", null_replacement=b"None")
        parts.append(hash_bytes(joined.to_pylist(), key))
    return np.concatenate(parts)


def join_log(folder: Path, hour: Hour, data: DataConfig, ids_B: Keys, times_B: NDArray[np.int64]) -> ServedRows:
    """Find the served score of each row of an hour.

    Args:
        folder: setting `serving.log`.
        hour: the hour of the rows' events.
        data: which columns identify a row.
        ids_B: from `row_ids`.
        times_B: the rows' event times, milliseconds since the epoch.

    Raises:
        OSError: when folder or files cannot be read.
    """
    order = np.argsort(ids_B, kind="stable")
    sorted_B = ids_B[order]
    scores_B, version_B = np.full(len(ids_B), np.nan), np.full(len(ids_B), -1, np.int32)
    nearest_B = np.full(len(ids_B), np.iinfo(np.int64).max)
    reading = _Reading(data)
    for path in log_files(folder, hour):
        reading.counts["files"] += 1
        with path.open("rb") as file:
            for lines in _chunks(file, reading):
                place_L = np.searchsorted(sorted_B, lines.ids_L)
                hit_L = np.flatnonzero(sorted_B[np.minimum(place_L, len(ids_B) - 1)] == lines.ids_L)
                rows = order[place_L[hit_L]]
                late = lines.at_L[hit_L] - times_B[rows]
                distance = np.where(late > 0, late + _AFTER, -late)
                np.minimum.at(nearest_B, rows, distance)
                won = distance == nearest_B[rows]
                scores_B[rows[won]] = lines.score_L[hit_L][won]
                version_B[rows[won]] = lines.version_L[hit_L][won]
    return ServedRows(scores_B, version_B, tuple(reading.versions), reading.counts)


def _all_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The regular files of a log, each with its hour of the server's clock."""
    for path in folder.iterdir():
        if (match := _FILE.fullmatch(path.name)) and path.is_file() and not path.is_symlink():
            yield path, match[1]


def _texts(column: pa.Array) -> pa.Array:
    """A column's values as the text by which the log is matched, in bytes; timestamps as their milliseconds."""
    if t.is_dictionary(column.type):
        column = column.dictionary_decode()
    if t.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64())
    if t.is_integer(column.type):
        column = column.cast(pa.string())
    if t.is_string(column.type) or t.is_large_string(column.type) or t.is_binary(column.type):
        return column.cast(pa.large_binary())
    return pa.array([None if value is None else _text(value) for value in column.to_pylist()], pa.large_binary())


def _chunks(file: BinaryIO, reading: _Reading) -> Iterator[_Lines]:
    """A file's readable lines, some thousand at a time."""
    key = field_key(reading.data.hash_key, _KEYED_AS)
    pieces = iter(lambda: file.readline(LONGEST_LINE), b"")
    while chunk := list(islice(pieces, _CHUNK)):
        read = [line for piece in chunk if (line := _read(piece, reading)) is not None]
        reading.counts["lines"] += len(chunk)
        if read:
            messages, at, scores, versions = zip(*read, strict=True)
            yield _Lines(
                hash_bytes(messages, key),
                np.array(at, np.int64),
                np.array(scores, np.float64),
                np.array(versions, np.int32),
            )


def _read(piece: bytes, reading: _Reading) -> tuple[bytes, int, float, int] | None:
    """A line's row, time, score and version; None for one that is torn or unreadable, which is counted."""
    if not piece.endswith(b"\n") and len(piece) < LONGEST_LINE:
        reading.counts["torn"] += 1
        return None
    try:
        message, at, score, version = _parsed(piece, reading.data)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        reading.counts["unreadable"] += 1
        return None
    return message, at, score, reading.versions.setdefault(version, len(reading.versions))


def _parsed(piece: bytes, data: DataConfig) -> tuple[bytes, int, float, str]:
    """The same of a whole line, the version by its name; fails in many ways on a line that is none of ours."""
    line = orjson.loads(piece)
    version, score = line["version"], line["score"]
    if not _VERSION.fullmatch(version) or type(score) not in (float, int) or not 0.0 <= score <= 1.0:
        raise ValueError(f"no version or no probability: {version!r}, {score!r}")
    message = b"\x1f".join(_text(_plain_id(line["id"][name], name, data)) for name in data.row_id_columns)
    return message, _milliseconds(line["at"]), float(score), version


def _plain_id(value: Any, name: str, data: DataConfig) -> Any:
    """An id's value; the event's time as milliseconds, however it was written."""
    return _milliseconds(value) if name == data.time_column and isinstance(value, str) else value


def _milliseconds(text: str) -> int:
    """A time in ISO 8601 as milliseconds since the epoch; without a zone it is UTC."""
    return milliseconds(datetime.fromisoformat(text))


def _text(value: Any) -> bytes:
    """A plain value as text; equal numbers are equal texts, whether they are written as 7 or as 7.0.

    >>> [_text(value) for value in (7, 7.0, "7", None, True)]
    [b'7', b'7', b'7', b'None', b'True']

    Raises:
        TypeError: for a list or an object.
    """
    if isinstance(value, str):
        return value.encode()
    if value is not None and not isinstance(value, bool | int | float):
        raise TypeError(f"an id's values are plain, found {type(value).__name__}")
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).encode()
