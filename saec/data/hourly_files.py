"""Writes hourly Parquet files in the default layout of `data.source`.

Decisions: one file per hour, `date=YYYY-MM-DD/hour=HH/part-0.parquet` in UTC; zstd; always with page checksums (without
them pyarrow silently reads most flipped bits). A file gets its name only when it is complete, and so does the folder of
an import.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from saec.errors import ConfigError
from saec.hour_layout import DEFAULT_LAYOUT, layout_of
from saec.hours import Hour

EVENT_TIME = pa.timestamp("ms", tz="UTC")


def hour_file(root: Path, hour: Hour) -> Path:
    """The path of an hour's file.

    >>> hour_file(Path("data"), Hour.parse("2017-10-01T03")).as_posix()
    'data/date=2017-10-01/hour=03/part-0.parquet'
    """
    return root / layout_of(DEFAULT_LAYOUT).place(hour) / "part-0.parquet"


class HourWriter:
    """Writes one hour's file piece by piece; the file takes its name when the `with` block ends without an error.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with HourWriter(Path(folder), Hour.parse("2017-10-01T03"), pa.schema({"clicked": pa.int8()})) as writer:
    ...         writer.append(pa.table({"clicked": pa.array([0, 1], pa.int8())}))
    ...     pq.read_metadata(writer.path).num_rows
    2
    """

    def __init__(self, root: Path, hour: Hour, schema: pa.Schema) -> None:
        self.path = hour_file(root, hour)
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self._schema = schema

    def __enter__(self) -> Self:
        """Open the file under its temporary name."""
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._partial, self._schema, compression="zstd", write_page_checksum=True)
        return self

    def append(self, rows: pa.Table) -> None:
        """Add rows, as row groups of their own."""
        self._writer.write_table(rows)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Give the file its name, or remove it after an error."""
        self._writer.close()
        if error is None:
            self._partial.replace(self.path)
        else:
            self._partial.unlink(missing_ok=True)


def write_hour(root: Path, hour: Hour, rows: pa.Table) -> Path:
    """Write one hour's rows as one file, and return its path."""
    with HourWriter(root, hour, rows.schema) as writer:
        writer.append(rows)
    return writer.path


@contextmanager
def emerging_folder(out: Path, *, replace: bool) -> Iterator[Path]:
    """A folder to write hourly files into, which becomes `out` when the `with` block ends without an error.

    Args:
        out: must be absent or empty, or hold hourly files and nothing else where `replace` is set.
        replace: whether hourly files in `out` are removed, once all the others are written.

    Raises:
        ConfigError: `out` may not be replaced.
    """
    _refuse_occupied(out, replace=replace)
    staging = out.with_name(f".{out.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)  # what an interrupted import left
    staging.mkdir(parents=True)
    try:
        yield staging
        _refuse_occupied(out, replace=replace)
        if out.exists():
            shutil.rmtree(out)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _refuse_occupied(out: Path, *, replace: bool) -> None:
    """Refuse an `out` that holds anything, or with `replace` anything but hourly files."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is not a folder; name one that is absent or empty")
    others = [entry.name for entry in out.iterdir() if not (replace and entry.name.startswith("date="))]
    if others:
        remedy = "only hourly files (date=…) are replaced" if replace else "name another, or ask to replace it"
        raise ConfigError(f"{out} is not empty, it holds {min(others)!r}; {remedy}")
