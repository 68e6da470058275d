"""The first step of an hour: from the producers' files to encoded rows, with an account of every row.

Writes into the hour's folder `rows.safetensors`, `quarantine.parquet` where rows were set aside,
`identities.safetensors` by which rows that come later are told from these, and `ingest.json`, which names the rows with
their digest. Rows of earlier hours that came late may be learnt with the hour: they come before its own, as their times
do. Decisions: `ingest.json` goes first and comes last, so that a folder with one is
whole; nothing in the files depends on the clock or the machine, so the same delivery gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from saec.config import Config
from saec.data.checks import CheckedHour, check_hour
from saec.data.columns import encoder_columns, times_ms
from saec.data.features import FeatureEncoder
from saec.data.hashing import Keys
from saec.data.late import identities, only_late, save_identities
from saec.data.part_files import PartFile
from saec.data.partitions import Partition, read_partition
from saec.data.rows import EncodedRows
from saec.durable import write_file
from saec.errors import IntegrityError
from saec.hours import Hour

ROWS_FILE = "rows.safetensors"
QUARANTINE_FILE = "quarantine.parquet"
RECORD_FILE = "ingest.json"


@dataclass(frozen=True)
class IngestRecord:
    """What became of an hour's delivery."""

    hour: str
    """The hour, `2017-10-01T03`."""
    input_sha256: str
    """Digest of the delivery, over the digests of its files."""
    files: tuple[PartFile, ...]
    """Files that were read."""
    duplicate_files: int
    """Files that repeat another byte for byte."""
    extra_columns: tuple[str, ...]
    """Columns that were passed over."""
    rows_read: int
    """Rows of the delivery: `rows`, `duplicates` and all `quarantined` together."""
    rows: int
    """Rows that are learnt from."""
    duplicates: int
    """Rows that repeat an earlier one."""
    quarantined: dict[str, int]
    """Rows set aside, by the rule they broke."""
    clicks: int
    """Rows with label 1."""
    first_ms: int
    """Time of the first row, milliseconds since the epoch."""
    last_ms: int
    """Time of the last row."""
    truncated_values: int
    """Values of lists beyond their field's `max_values`."""
    late: dict[str, int]
    """Rows of earlier hours among `rows`, by hour."""
    rows_file: str
    """Name of the file of encoded rows, in the record's folder."""
    rows_sha256: str
    """Its sha256."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the record of a folder.

        Raises:
            IntegrityError: when there is none, or it is none of ours.
        """
        path = folder / RECORD_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values["files"] = tuple(PartFile(**file) for file in values["files"])
            values["extra_columns"] = tuple(values["extra_columns"])
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise IntegrityError(f"{path} is no record of an ingested hour ({error}); ingest the hour again") from None

    def load_rows(self, folder: Path) -> EncodedRows:
        """The encoded rows of the record, verified."""
        return EncodedRows.load(folder / self.rows_file, self.rows_sha256)


def ingest_hour(config: Config, hour: Hour, folder: Path, late: Mapping[Hour, Keys] | None = None) -> IngestRecord:
    """Read, check and encode the rows of an hour.

    Args:
        config: All settings.
        hour: Which hour.
        folder: Where the files go; made if need be.
        late: Earlier hours of which rows came late, each with the identities of those learnt before.

    Raises:
        InputError: the hour is to be quarantined, for the error's reason.
        HourHeld: the hour is to be held (absent, empty, one class).
        OSError: when the disk or the network fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD_FILE).unlink(missing_ok=True)
    partition = read_partition(config, hour)
    checked = check_hour(partition, config)
    own, truncated = _encode(checked.table, config)
    learnt = sorted((late or {}).items())
    parts = {early: only_late(config, read_rows(config, early), known_N) for early, known_N in learnt} | {hour: own}
    rows = EncodedRows.joined(parts.values())
    _write_quarantine(checked.quarantined, folder / QUARANTINE_FILE)
    save_identities(folder, {source: identities(config, part) for source, part in parts.items()})
    counts = {str(early): len(part) for early, part in parts.items() if early != hour}
    record = _record(partition, checked, rows, truncated, counts, rows.save(folder / ROWS_FILE))
    text = json.dumps(asdict(record), indent=1, sort_keys=True)
    write_file(folder / RECORD_FILE, f"{text}\n".encode())
    return record


def read_rows(config: Config, hour: Hour) -> EncodedRows:
    """The good rows of an hour's delivery, encoded; errors as for `ingest_hour`."""
    return good_rows(config, read_partition(config, hour))


def good_rows(config: Config, partition: Partition) -> EncodedRows:
    """The good rows of a delivery that was read, encoded; errors as for `ingest_hour`."""
    return _encode(check_hour(partition, config).table, config)[0]


def _encode(table: pa.Table, config: Config) -> tuple[EncodedRows, int]:
    """Encoded rows of a checked table, and how many values of lists they leave out."""
    encoder = FeatureEncoder(config)
    columns = encoder_columns(table.select({field.source_column: None for field in config.fields
                                            if field.source_column}))
    times_B = times_ms(table[config.data.time_column])
    labels_B = table[config.data.label_column].cast(pa.uint8()).to_numpy()
    return EncodedRows(labels_B, times_B, encoder.encode(columns, times_B)), encoder.truncated(columns)


def _write_quarantine(table: pa.Table, path: Path) -> None:
    """Keep the rows that were set aside; a file of an earlier ingest goes when there are none."""
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
        hour=str(partition.hour), input_sha256=partition.sha256, files=partition.files,
        duplicate_files=partition.duplicate_files, extra_columns=partition.extra_columns,
        rows_read=partition.table.num_rows, rows=len(rows), duplicates=checked.duplicates, quarantined=checked.counts,
        clicks=int(np.sum(rows.labels_B, dtype=np.int64)), first_ms=int(rows.times_B[0]), last_ms=int(rows.times_B[-1]),
        truncated_values=truncated, late=late, rows_file=ROWS_FILE, rows_sha256=sha256)
