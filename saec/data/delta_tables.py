"""Reads a Delta Lake table with its own library: files and statistics of one version, rows of an hour.

Decisions: only files whose statistics allow rows of the hour are opened. Times in statistics are rounded to
milliseconds, so one is added to the latest. A table whose files lack statistics of the time column is refused, because
finding its hours would mean reading all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from saec.config import DataConfig
from saec.data.tables import Moment, TableFile
from saec.errors import ConfigError


class DeltaLakeTable:
    """One version of a Delta table."""

    def __init__(self, source: str, data: DataConfig, version: int | None) -> None:
        """Open it.

        Raises:
            ConfigError: when there is none, or no such version.
        """
        self._time = data.time_column
        try:
            self._table = DeltaTable(source, version=version)
            self.version: int = self._table.version()
            self.schema = pa.schema(self._table.schema().to_arrow())
        except DeltaError as error:
            asked = "" if version is None else f" of version {version}"
            raise ConfigError(f"data.source is no Delta table{asked} that can be read: {str(error)[:300]}") from None

    def files(self) -> list[TableFile]:
        """All files, with the times that they span."""
        return self._files

    @cached_property
    def _files(self) -> list[TableFile]:
        actions = pa.table(self._table.get_add_actions(flatten=True)).to_pylist()
        return [self._file(action) for action in actions if action["num_records"] != 0]

    def _file(self, action: dict[str, Any]) -> TableFile:
        """One file that the log names."""
        first, last = (action.get(f"{end}.{self._time}") for end in ("min", "max"))
        if first is None or last is None:
            raise ConfigError(
                f"file {action['path']} of the Delta table has no statistics of column {self._time!r}, "
                "by which its hours are told; have them written (delta.dataSkippingStatsColumns)"
            )
        late = last + timedelta(milliseconds=1) if isinstance(last, datetime) else last
        return TableFile(action["path"], action["size_bytes"], action["num_records"] or 0, first, late)

    def batches(self, columns: Sequence[str], first: Moment, last: Moment) -> Iterator[pa.RecordBatch]:
        """Rows with times from `first` on and before `last`."""
        try:
            rows = self._table.to_pyarrow_dataset()
        except DeltaError as error:
            raise ConfigError(f"the Delta table cannot be read: {str(error)[:300]}") from None
        kind = self.schema.field(self._time).type
        time = ds.field(self._time)
        wanted = (time >= pa.scalar(first, kind)) & (time < pa.scalar(last, kind))
        yield from rows.scanner(columns=list(columns), filter=wanted, use_threads=False).to_batches()
