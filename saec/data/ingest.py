"""The first step of an hour: turns the producers' files into encoded rows and accounts for every row.

It writes these files into the hour's folder: `rows.safetensors`; `quarantine.parquet`, if rows were set aside;
`identities.safetensors`, to recognise late rows; `row_ids.safetensors`, to join a request log, if there is one;
`other_keys.safetensors`, if a model that scores the hour has another schema than the settings; and `ingest.json`, which
names these files with their digests. Late rows of earlier hours may be learnt with the hour: they come before its own
rows, in time order. Decisions: `ingest.json` is removed first and written last, so a folder that has one is complete.
The files do not depend on the clock or the machine, so the same delivery gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import save

from saec.config import Config
from saec.data.checks import CheckedHour, check_hour, taken
from saec.data.click_window import click_window
from saec.data.columns import encoder_columns, times_ms
from saec.data.features import FeatureEncoder
from saec.data.hashing import Keys
from saec.data.late import identities, only_late, save_identities
from saec.data.other_keys import keys_by, other_columns
from saec.data.part_files import PartFile
from saec.data.partitions import Partition, read_partition
from saec.data.request_log import row_ids
from saec.data.rows import EncodedRows
from saec.data.schema import Schema
from saec.data.slices import sliced
from saec.data.weights import row_weights
from saec.durable import write_file
from saec.errors import InputError, IntegrityError
from saec.hours import Hour

log = logging.getLogger(__name__)
ROWS_FILE = "rows.safetensors"
QUARANTINE_FILE = "quarantine.parquet"
ROW_IDS_FILE = "row_ids.safetensors"
OTHER_KEYS_FILE = "other_keys.safetensors"
SLICES_FILE = "slices.safetensors"
RECORD_FILE = "ingest.json"
MOST_LINES = 20
"""Broken lines that a record names."""


@dataclass(frozen=True)
class IngestRecord:
    """The account of an hour's delivery."""

    hour: str
    """The hour, `2017-10-01T03`."""
    input_sha256: str
    """Digest of the delivery, over the digests of its files."""
    files: tuple[PartFile, ...]
    """Files that were read."""
    duplicate_files: int
    """Files that repeat another byte for byte."""
    extra_columns: tuple[str, ...]
    """Columns that were not read."""
    rows_read: int
    """Rows of the delivery: `rows`, `duplicates`, `clicks_of_earlier` and all `quarantined` together."""
    rows: int
    """Rows that are learnt from."""
    duplicates: int
    """Rows dropped because another one of their id is learnt."""
    contradicting: int
    """Ids with rows of both labels, resolved by `data.duplicates`."""
    clicks_joined: int
    """Rows whose click came in a later hour, as `data.click_delay` allows."""
    clicks_of_earlier: int
    """Click rows of impressions in earlier hours, left out because they were learnt there."""
    quarantined: dict[str, int]
    """Rows set aside, by the rule they broke, and lines that could not be read."""
    stand_for: tuple[float, float] | None
    """How many rows of the full traffic these stand for, and how many with label 1; None without weights."""
    clicks: int
    """Rows with label 1."""
    first_ms: int
    """Time of the first row, milliseconds since the epoch."""
    last_ms: int
    """Time of the last row."""
    truncated_values: int
    """Values of lists beyond their field's `max_values`."""
    late: dict[str, int]
    """Number of late rows of earlier hours among `rows`, by hour."""
    rows_file: str
    """Name of the file of encoded rows, in the record's folder."""
    rows_sha256: str
    """Its sha256."""
    slices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By column of `report.slices`, the names of its slices."""
    slices_sha256: str = ""
    """sha256 of the file that says in which slice each of the hour's own rows is; empty without any."""
    table_version: int | None = None
    """Version of the table that the rows are of; None for files."""
    row_ids_sha256: str = ""
    """sha256 of the file of row ids, of the hour's own rows alone; empty when there is no request log to join."""
    broken_lines: tuple[str, ...] = ()
    """The first lines of text that could not be read and were left out, in words; `quarantined` counts all."""
    clicks_from: dict[str, str] = field(default_factory=dict)
    """Digests of the deliveries of other hours in which clicks were looked for, by hour."""
    other_keys_sha256: str = ""
    """sha256 of the file of key matrices by the schemas of other models; empty when all have that of the settings."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the record of a folder.

        Raises:
            IntegrityError: when there is none, or it is not a valid record.
        """
        path = folder / RECORD_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values["files"] = tuple(PartFile(**file) for file in values["files"])
            values["extra_columns"] = tuple(values["extra_columns"])
            values["broken_lines"] = tuple(values.get("broken_lines", ()))
            values["stand_for"] = values["stand_for"] and tuple(values["stand_for"])
            values["slices"] = {column: tuple(names) for column, names in values["slices"].items()}
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise IntegrityError(f"{path} is no record of an ingested hour ({error}); ingest the hour again") from None

    def load_rows(self, folder: Path) -> EncodedRows:
        """The encoded rows of the record, verified."""
        return EncodedRows.load(folder / self.rows_file, self.rows_sha256)


def ingest_hour(
    config: Config,
    hour: Hour,
    folder: Path,
    late: Mapping[Hour, Keys] | None = None,
    others: Mapping[str, Schema] | None = None,
) -> IngestRecord:
    """Read, check and encode the rows of an hour.

    Args:
        config: All settings.
        hour: Which hour.
        folder: Where the files go; made if need be.
        late: Earlier hours of which rows came late, each with the identities of those learnt before.
        others: Schemas of other models that score the hour, by `saec.data.meaning.encoding`.

    Raises:
        InputError: the hour is to be quarantined, for the error's reason.
        HourHeld: the hour is to be held (absent, empty, one class).
        OSError: when the disk or the network fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD_FILE).unlink(missing_ok=True)
    others = others or {}
    partition = read_partition(config, hour, other_columns(config, others.values()))
    window = click_window(config, hour)
    checked = check_hour(partition, config, window)
    if partition.broken:
        log.warning(
            "hour %s: %d lines cannot be read and are left out, the first is %s",
            hour,
            len(partition.broken),
            partition.broken[0],
        )
    own = _encode(partition, checked, config, others)
    parts = {early: _late(config, early, known_N, others) for early, known_N in sorted((late or {}).items())}
    parts[hour] = own
    rows = EncodedRows.joined(part.rows for part in parts.values())
    _write_quarantine(checked.quarantined, folder / QUARANTINE_FILE)
    save_identities(config, folder, {source: identities(config, part.rows) for source, part in parts.items()})
    counts = {str(early): len(part.rows) for early, part in parts.items() if early != hour}
    record = _record(partition, checked, rows, own.truncated, counts, rows.save(folder / ROWS_FILE))
    record = replace(record, clicks_from=window.read if window else {})
    if others:
        record = replace(record, other_keys_sha256=_write_other_keys(folder, list(others), list(parts.values())))
    if config.serving.log:
        ids = {"ids_B": row_ids(checked.table, config.data)}
        record = replace(record, row_ids_sha256=_write_arrays(folder / ROW_IDS_FILE, ids))
    if config.report.slices:
        record = replace(record, **_write_slices(config, checked.table, folder))
    text = json.dumps(asdict(record), indent=1, sort_keys=True)
    write_file(folder / RECORD_FILE, f"{text}\n".encode())
    return record


def _write_slices(config: Config, table: pa.Table, folder: Path) -> dict[str, Any]:
    """Save the slice of each row of a checked table; returns the entries for the record."""
    columns = {named.name: named.source_column for named in config.fields}
    found = {name: sliced(table[columns[name]]) for name in config.report.slices}
    codes = {name: own.codes_B for name, own in found.items()}
    return {
        "slices": {name: own.names for name, own in found.items()},
        "slices_sha256": _write_arrays(folder / SLICES_FILE, codes),
    }


def _write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> str:
    """Write named arrays beside the rows; returns the file's sha256."""
    data = save(arrays)
    write_file(path, data)
    return hashlib.sha256(data).hexdigest()


def read_rows(config: Config, hour: Hour) -> EncodedRows:
    """The good rows of an hour's delivery, encoded; errors as for `ingest_hour`."""
    return good_rows(config, read_partition(config, hour))


def good_rows(config: Config, partition: Partition) -> EncodedRows:
    """The good rows of a delivery that was read, encoded; errors as for `ingest_hour`."""
    return _encode(partition, _checked(config, partition), config, {}).rows


def _checked(config: Config, partition: Partition) -> CheckedHour:
    """The rows of a delivery, checked, with clicks that came in later hours."""
    return check_hour(partition, config, click_window(config, partition.hour))


@dataclass(frozen=True)
class _Encoded:
    """Rows as keys: by the settings' schema, and by those of other models that can read them."""

    rows: EncodedRows
    truncated: int
    """Values of lists that were left out."""
    others: dict[str, Keys]


def _encode(partition: Partition, checked: CheckedHour, config: Config, others: Mapping[str, Schema]) -> _Encoded:
    """Encode the good rows of a delivery."""
    table, encoder = checked.table, FeatureEncoder(config)
    columns = encoder_columns(table.select({own.source_column: None for own in config.fields if own.source_column}))
    times_B = times_ms(table[config.data.time_column])
    labels_B = table[config.data.label_column].cast(pa.uint8()).to_numpy()
    rows = EncodedRows(labels_B, times_B, encoder.encode(columns, times_B), row_weights(table, labels_B, config.data))
    if partition.others is not None:
        for name, column in zip(
            partition.others.column_names, taken(partition.others, checked.rows_B).columns, strict=True
        ):
            table = table.append_column(name, column)
    found = {}
    for name, schema in others.items():
        try:
            found[name] = keys_by(schema, table, times_B, config.data.time_column)
        except InputError as error:
            log.warning(
                "hour %s: a model with another schema than the settings cannot answer its rows and is not compared: %s",
                partition.hour,
                error,
            )
    return _Encoded(rows, encoder.truncated(columns), found)


def _late(config: Config, early: Hour, known_N: Keys, others: Mapping[str, Schema]) -> _Encoded:
    """The rows of an earlier hour that have not been learnt yet."""
    partition = read_partition(config, early, other_columns(config, others.values()))
    whole = _encode(partition, _checked(config, partition), config, others)
    chosen = only_late(config, whole.rows, known_N)
    return _Encoded(whole.rows.taken(chosen), 0, {name: keys_BS[chosen] for name, keys_BS in whole.others.items()})


def _write_other_keys(folder: Path, names: list[str], parts: list[_Encoded]) -> str:
    """Write the key matrices of all rows by other schemas that can read them all; returns the file's sha256."""
    keys = {
        name: np.concatenate([part.others[name] for part in parts])
        for name in names
        if all(name in part.others for part in parts)
    }
    return _write_arrays(folder / OTHER_KEYS_FILE, keys)


def _write_quarantine(table: pa.Table, path: Path) -> None:
    """Save the rows that were set aside; if there are none, remove the file of an earlier ingest."""
    if not table.num_rows:
        path.unlink(missing_ok=True)
        return
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, compression="zstd", write_page_checksum=True)
    write_file(path, stream.getvalue().to_pybytes())


def _record(
    partition: Partition, checked: CheckedHour, rows: EncodedRows, truncated: int, late: dict[str, int], sha256: str
) -> IngestRecord:
    """The account of an hour."""
    return IngestRecord(
        hour=str(partition.hour),
        input_sha256=partition.sha256,
        table_version=partition.version,
        files=partition.files,
        duplicate_files=partition.duplicate_files,
        extra_columns=partition.extra_columns,
        rows_read=partition.table.num_rows + len(partition.broken),
        broken_lines=partition.broken[:MOST_LINES],
        rows=len(rows),
        duplicates=checked.duplicates,
        contradicting=checked.contradicting,
        clicks_joined=checked.joined,
        clicks_of_earlier=checked.of_earlier,
        quarantined=checked.counts,
        stand_for=rows.stand_for,
        clicks=int(np.sum(rows.labels_B, dtype=np.int64)),
        first_ms=int(rows.times_B[0]),
        last_ms=int(rows.times_B[-1]),
        truncated_values=truncated,
        late=late,
        rows_file=ROWS_FILE,
        rows_sha256=sha256,
    )
