"""Reads an Iceberg table with its own library: files and bounds of one snapshot, rows of an hour.

Decisions: `iceberg://CATALOG/NAMESPACE.TABLE` names a catalog from pyiceberg's own settings (.pyiceberg.yaml,
PYICEBERG_CATALOG__...). A folder, or `iceberg+URL`, is read from its newest metadata file without a catalog. The
library leaves out rows deleted by delete files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.types as t
from pyiceberg.catalog import load_catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan
from pyiceberg.table import StaticTable

from saec.config import DataConfig
from saec.data.partitions import listed, open_source
from saec.data.tables import Moment, TableFile
from saec.errors import ConfigError
from saec.hours import Hour

_PREFIX = "iceberg://"


class IcebergTable:
    """One snapshot of an Iceberg table."""

    def __init__(self, source: str, data: DataConfig, version: int | None) -> None:
        """Open it.

        Raises:
            ConfigError: when there is none, or no such snapshot.
        """
        self._time = data.time_column
        try:
            self._table: Any = _from_catalog(source) if source.startswith(_PREFIX) else _from_folder(source)
        except (NoSuchTableError, OSError, ValueError, KeyError) as error:
            raise ConfigError(f"data.source is no Iceberg table that can be read: {str(error)[:300]}") from None
        found = self._table.current_snapshot() if version is None else self._table.snapshot_by_id(version)
        if found is None and version is not None:
            raise ConfigError(f"the Iceberg table of data.source has no snapshot {version}")
        self.version: int = found.snapshot_id if found else 0
        self.schema: pa.Schema = self._table.schema().as_arrow()
        for place, field in enumerate(self.schema):
            self.schema = self.schema.set(place, field.remove_metadata())

    def files(self) -> list[TableFile]:
        """All files, with the times that they span."""
        return self._files

    @cached_property
    def _files(self) -> list[TableFile]:
        if not self.version:
            return []
        field = self._table.schema().find_field(self._time)
        return [self._file(task, field) for task in self._table.scan(snapshot_id=self.version).plan_files()]

    def _file(self, task: Any, field: Any) -> TableFile:
        """One file of the snapshot, with the delete files that go with it in its name."""
        file = task.file
        bounds = [(ends or {}).get(field.field_id) for ends in (file.lower_bounds, file.upper_bounds)]
        if None in bounds:
            raise ConfigError(
                f"file {file.file_path} of the Iceberg table has no bounds of column {self._time!r}, by "
                "which its hours are told; have them written (write.metadata.metrics)"
            )
        first, last = (from_bytes(field.field_type, value) for value in bounds)
        if t.is_timestamp(self.schema.field(self._time).type):
            first, last = (Hour(value // 3_600_000_000).start for value in (first, last))
        name = "|".join([file.file_path, *sorted(delete.file_path for delete in task.delete_files)])
        return TableFile(name, file.file_size_in_bytes, file.record_count, first, last)

    def batches(self, columns: Sequence[str], first: Moment, last: Moment) -> Iterator[pa.RecordBatch]:
        """Rows with times from `first` on and before `last`."""
        if not self.version:
            return
        ends = [moment.isoformat() if isinstance(moment, datetime) else moment for moment in (first, last)]
        rows = And(GreaterThanOrEqual(self._time, ends[0]), LessThan(self._time, ends[1]))
        scan = self._table.scan(row_filter=rows, selected_fields=tuple(columns), snapshot_id=self.version)
        yield from scan.to_arrow_batch_reader()


def _from_catalog(source: str) -> Any:
    """The table that a catalog knows by its name."""
    catalog, _, name = source.removeprefix(_PREFIX).partition("/")
    return load_catalog(catalog).load_table(name.replace("/", "."))


def _from_folder(source: str) -> Any:
    """The table of a folder, by its newest metadata."""
    filesystem, root = open_source(source)
    found = [info for info in listed(filesystem, f"{root}/metadata") if info.base_name.endswith(".metadata.json")]
    if not found:
        raise FileNotFoundError(f"no metadata/*.metadata.json in {root}")
    newest = max(found, key=lambda info: (_number(info.base_name), info.mtime_ns or 0))
    scheme = f"{source.partition('://')[0]}://" if "://" in source else ""
    return StaticTable.from_metadata(f"{scheme if scheme != 'file://' else ''}{newest.path}")


def _number(name: str) -> int:
    """The number of a metadata file, `00003-...` or `v3...`."""
    digits = name.removeprefix("v").partition("-")[0].partition(".")[0]
    return int(digits) if digits.isdigit() else -1
