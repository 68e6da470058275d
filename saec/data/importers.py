"""Imports the two public click logs of the CTR literature into hourly files.

Avazu (contest of 2014, 40.4 M rows, 10 days) gives only the hour of a row: the n rows of an hour are spread evenly over
it in file order. Criteo (Kaggle 2014, 45.8 M rows; Terabyte) has no times: the rows are spread evenly, in file order,
over a given number of hours. These times are made up; the files' metadata say so (`saec.times`), and only their order
is meaningful.

Decisions: two passes, the first to count (and to find most problems before anything is written), the second to write,
so that memory holds only one piece of the file. The import appears at once, by a rename.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saec.data.hourly_files import EVENT_TIME, HourWriter, emerging_folder
from saec.data.source_files import SourceFile
from saec.errors import ConfigError, InputError
from saec.hours import HOUR_MS, Hour

Progress = Callable[[str, int], None]
"""Called with "counted" or "written" and the rows so far."""

AVAZU_COLUMNS = pa.schema(
    {"id": pa.string(), "click": pa.int8(), "hour": pa.int32(), "C1": pa.int32(), "banner_pos": pa.int32()}
    | {
        name: pa.string()
        for name in (
            "site_id",
            "site_domain",
            "site_category",
            "app_id",
            "app_domain",
            "app_category",
            "device_id",
            "device_ip",
            "device_model",
        )
    }
    | {name: pa.int32() for name in ("device_type", "device_conn_type", *(f"C{n}" for n in range(14, 22)))}
)
"""The contest's columns and our types; `id` stays text, since it may exceed any integer type of a reader."""

CRITEO_COLUMNS = pa.schema(
    {"label": pa.int8()} | {f"I{n}": pa.int64() for n in range(1, 14)} | {f"C{n}": pa.string() for n in range(1, 27)}
)
"""The columns of Criteo's files, which name none, and our types; nulls are kept."""


@dataclass(frozen=True)
class Imported:
    """What an import wrote."""

    rows: int
    hours: int
    """Hours that have rows."""
    first: Hour
    last: Hour


def import_avazu(src: Path, out: Path, *, replace: bool = False, on_progress: Progress | None = None) -> Imported:
    """Import the Avazu contest's training file, in the contest's order (hours ascend).

    `hour` (YYMMDDHH, taken as UTC) becomes `event_time`: row k = 0, 1, … of the n rows of an hour happens k/n of an
    hour into it. `id` is kept to tell duplicates by, all other columns for the model, hexadecimal strings as strings.

    Args:
        src: CSV, gzipped CSV or Parquet with the contest's columns.
        out: folder for the hourly files; it appears when all of them are whole.
        replace: whether hourly files that `out` already holds may be replaced.
        on_progress: told of rows counted, then of rows written.

    Returns:
        How much was written, and for which hours.

    Raises:
        ConfigError: `out` is not empty.
        InputError: reason absent, archive, schema, malformed, bad-hour, disorder or empty; names file and line.
    """
    source = SourceFile(src, AVAZU_COLUMNS)
    kept = [name for name in AVAZU_COLUMNS.names if name != "hour"]
    note = "file order within the hour that the source names, spread evenly over it"
    with emerging_folder(out, replace=replace) as staging:
        counts = _count_avazu_hours(source, on_progress)
        spread = _Spread([(hour, rows, 1) for hour, rows in counts.items()])
        timed = _timed(_told(source.pieces(kept), "written", on_progress), spread, note)
        return _write_hours(timed, src, staging)


def import_criteo(
    src: Path, out: Path, start: Hour, hours: int, *, replace: bool = False, on_progress: Progress | None = None
) -> Imported:
    """Import a Criteo file (Kaggle's train.txt, or a day of the Terabyte log), which has no timestamps.

    Of N rows, row i is given the time `start + i/N * hours`: the order is the file's, the times are made up. A row has
    no identity; equal rows are taken for different impressions, told apart by their times.

    Args:
        src: tab-separated text without a header (label, I1..I13, C1..C26), gzipped or not, or Parquet with those names.
        out: folder for the hourly files; it appears when all of them are whole.
        start: the first hour.
        hours: how many hours the rows are spread over, 1 or more.
        replace: whether hourly files that `out` already holds may be replaced.
        on_progress: told of rows counted, then of rows written.

    Returns:
        How much was written, and for which hours.

    Raises:
        ConfigError: `out` is not empty, or `hours` is below 1.
        InputError: reason absent, archive, schema, malformed or empty; names file and line.
    """
    if hours < 1:
        raise ConfigError(f"rows must be spread over 1 hour or more, got {hours}")
    source = SourceFile(src, CRITEO_COLUMNS, delimiter="\t", header=False)
    note = f"file order, spread evenly over {hours} hours from {start}; the source has no timestamps"
    with emerging_folder(out, replace=replace) as staging:
        rows = sum(piece.num_rows for piece in _told(source.pieces(["label"]), "counted", on_progress))
        spread = _Spread([(start, rows, hours)])
        timed = _timed(_told(source.pieces(), "written", on_progress), spread, note)
        return _write_hours(timed, src, staging)


class _Spread:
    """Times for the rows of a file: consecutive spans of rows, each spread evenly over its own hours."""

    def __init__(self, spans: list[tuple[Hour, int, int]]) -> None:
        """Each span: its first hour, its rows, its hours."""
        self._start_ms = np.array([hour.start_ms for hour, _, _ in spans], dtype=np.int64)
        self._rows = np.array([rows for _, rows, _ in spans], dtype=np.int64)
        self._length_ms = np.array([hours * HOUR_MS for _, _, hours in spans], dtype=np.int64)
        self._first_row = np.cumsum(self._rows) - self._rows

    def times(self, first_row: int, rows: int) -> NDArray[np.int64]:
        """Milliseconds since the epoch of `rows` rows from `first_row` on (int64 [B])."""
        row_B = np.arange(first_row, first_row + rows)
        span_B = np.searchsorted(self._first_row, row_B, side="right") - 1
        passed_B = (row_B - self._first_row[span_B]) * self._length_ms[span_B] // self._rows[span_B]
        return np.asarray(self._start_ms[span_B] + passed_B)


def _count_avazu_hours(source: SourceFile, on_progress: Progress | None) -> dict[Hour, int]:
    """Rows of each hour, hours ascending; refuses an hour that does not exist or goes back."""
    counts: dict[Hour, int] = {}
    row, latest = 0, Hour(0)
    for piece in _told(source.pieces(["hour"]), "counted", on_progress):
        runs = pc.run_end_encode(piece["hour"].combine_chunks(), run_end_type=pa.int64())
        lengths = np.diff(runs.run_ends.to_numpy(), prepend=0)
        for value, length in zip(runs.values.to_pylist(), lengths.tolist(), strict=True):
            hour = _avazu_hour(value, source.place(row))
            if hour < latest:
                raise InputError(
                    f"{source.place(row)} goes back from hour {latest} to {hour}; rows must be in the "
                    "contest's order: sort the file by its hour column",
                    reason="disorder",
                )
            counts[hour] = counts.get(hour, 0) + length
            row, latest = row + length, hour
    return counts


def _avazu_hour(value: int | None, place: str) -> Hour:
    """Read YYMMDDHH as a UTC hour."""
    digits = "" if value is None else f"{value:08d}"
    try:
        return Hour.parse(f"20{digits[:6]}T{digits[6:]}")
    except ConfigError:
        raise InputError(f"{place} has hour {value}, wanted YYMMDDHH as in 14102100", reason="bad-hour") from None


def _told(pieces: Iterator[pa.Table], what: str, on_progress: Progress | None) -> Iterator[pa.Table]:
    """The same pieces, with progress told after each."""
    rows = 0
    for piece in pieces:
        yield piece
        rows += piece.num_rows
        if on_progress is not None:
            on_progress(what, rows)


def _timed(pieces: Iterator[pa.Table], spread: _Spread, note: str) -> Iterator[tuple[Hour, pa.Table]]:
    """The rows with their times, in pieces that each lie within one hour."""
    row = 0
    for piece in pieces:
        times_B = spread.times(row, piece.num_rows)
        timed = piece.add_column(0, "event_time", pa.array(times_B).cast(EVENT_TIME))
        timed = timed.replace_schema_metadata({"saec.times": note})
        cuts = [0, *(np.flatnonzero(np.diff(times_B // HOUR_MS)) + 1).tolist(), piece.num_rows]
        for start, stop in pairwise(cuts):
            yield Hour(int(times_B[start]) // HOUR_MS), timed.slice(start, stop - start)
        row += piece.num_rows


def _write_hours(parts: Iterator[tuple[Hour, pa.Table]], src: Path, root: Path) -> Imported:
    """Write consecutive parts of the same hour to one file."""
    hours: list[Hour] = []
    rows = 0
    for hour, same_hour in groupby(parts, key=lambda part: part[0]):
        _, first = next(same_hour)
        with HourWriter(root, hour, first.schema) as writer:
            for part in chain([first], (part for _, part in same_hour)):
                writer.append(part)
                rows += part.num_rows
        hours.append(hour)
    if not hours:
        raise InputError(f"{src} holds no rows", reason="empty")
    return Imported(rows, len(hours), hours[0], hours[-1])
