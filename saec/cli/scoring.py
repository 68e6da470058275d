"""Scoring a Parquet file of raw rows with a published version.

Decisions: batches of rows stream through, so memory does not grow with the file; rows keep their order and all their
columns; the file appears under its name only when it is whole. Keys, codes and scores are made by the code that the
gate uses.

Shapes: B rows of a batch.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as t

from saec.data.checks import times_ms
from saec.data.columns import encoder_columns
from saec.data.contract import check_scoring
from saec.data.features import FeatureEncoder
from saec.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from saec.compress.artifact import Artifact

BATCH_ROWS = 65_536
ADDED = {"score": pa.float64(), "version": pa.string()}
"""Columns that scoring adds: probability of a click, and the version that gave it."""


@dataclass(frozen=True)
class Scored:
    """What was scored."""

    rows: int
    mean_score: float | None
    """None for no rows."""


def score_file(source: Path, out: Path, artifact: Artifact, version: str, on_rows: Callable[[int], object]) -> Scored:
    """Score the rows of a file.

    Args:
        source: Parquet file with the columns of the version's fields; a label is not needed.
        out: Parquet file to write, with all columns of `source` and those of `ADDED`.
        artifact: the version's files.
        version: its id.
        on_rows: told of the rows scored so far.

    Raises:
        InputError: reason absent, corrupt, schema, dtype, nulls or non-finite, naming the file.
    """
    with _opened(source) as file:
        needed = check_scoring(file.schema_arrow, artifact.config, f"file {source}")
        schema = _scored_schema(file.schema_arrow, source)
        encoder, rows, total = FeatureEncoder(artifact.config), 0, 0.0
        with _emerging(out) as partial, pq.ParquetWriter(partial, schema, compression="zstd",
                                                         write_page_checksum=True) as writer:
            for batch in file.iter_batches(BATCH_ROWS):
                scores_B = score_rows(pa.table(batch).select(needed), artifact, encoder)
                added = [pa.array(scores_B), pa.array([version] * len(scores_B), pa.string())]
                writer.write_table(pa.table([*batch.columns, *added], schema=schema))
                rows, total = rows + len(scores_B), total + float(scores_B.sum())
                on_rows(rows)
    return Scored(rows, total / rows if rows else None)


def score_rows(rows: pa.Table, artifact: Artifact, encoder: FeatureEncoder) -> NDArray[np.float64]:
    """Probability of a click for each of B rows.

    Args:
        rows: the columns that `check_scoring` names.
        artifact: the version's files.
        encoder: of the artifact's configuration.

    Raises:
        InputError: reason nulls (a time is missing) or non-finite.
    """
    time_column = artifact.config.data.time_column
    times_B = np.zeros(len(rows), np.int64)  # read only by fields of the clock, which need the column
    if time_column in rows.column_names and t.is_timestamp(rows.schema.field(time_column).type):
        if rows[time_column].null_count:
            raise InputError(f"column {time_column!r} has nulls, and fields are derived from it; leave those rows out",
                             reason="nulls")
        times_B = times_ms(rows[time_column])
    return artifact.score(encoder.encode(encoder_columns(rows), times_B))


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """The file to score; what pyarrow says of a bad one is said in our words."""
    if not path.is_file():
        raise InputError(f"{path} is not there; give one Parquet file of rows", reason="absent")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the file's
        said = str(error)[:200]
        raise InputError(f"{path} cannot be read as Parquet: {said}; write it again", reason="corrupt") from None


def _scored_schema(schema: pa.Schema, source: Path) -> pa.Schema:
    """The columns of the scored file."""
    for name, kind in ADDED.items():
        if name in schema.names:
            raise InputError(f"file {source} has a column {name!r}, which scoring adds; rename it", reason="schema")
        schema = schema.append(pa.field(name, kind))
    return schema


@contextmanager
def _emerging(out: Path) -> Iterator[Path]:
    """A file to write to, which takes its name when the `with` block ends without an error."""
    partial = out.with_name(f".{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
