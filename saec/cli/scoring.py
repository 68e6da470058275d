"""Scores a Parquet file of raw rows with a published version.

Decisions: rows are streamed in batches, so memory does not grow with the file. Rows keep their order and all their
columns. The output appears under its name only when it is complete. `saec.serving` makes keys, codes and scores, as for
the gate and every server.

Shapes: B rows of a batch.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from saec.data.part_files import not_implemented
from saec.errors import InputError
from saec.serving.arrow import check_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from saec.serving import Model

BATCH_ROWS = 65_536
ADDED = {"score": pa.float64(), "version": pa.string()}
"""Columns that scoring adds: probability of a click, and the version that gave it."""


@dataclass(frozen=True)
class Scored:
    """What was scored."""

    rows: int
    mean_score: float | None
    """None for no rows."""


def score_file(source: Path, out: Path, model: Model, on_rows: Callable[[int], object]) -> Scored:
    """Score the rows of a file.

    Args:
        source: Parquet file with the columns of the version's fields; a label is not needed.
        out: Parquet file to write, with all columns of `source` and those of `ADDED`.
        model: the version.
        on_rows: told of the rows scored so far.

    Raises:
        InputError: reason absent, corrupt, unsupported, schema, dtype, nulls or non-finite, naming the file.
    """
    with _opened(source) as file, _named(source):
        check_types(file.schema_arrow, model.schema)
        schema = _scored_schema(file.schema_arrow)
        needed = [name for name in model.columns if name in schema.names]
        rows, total = 0, 0.0
        with (
            _emerging(out) as partial,
            pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer,
        ):
            for batch in file.iter_batches(BATCH_ROWS):
                scores_B = model.score(batch.select(needed))
                added = [pa.array(scores_B), pa.array([model.version] * len(scores_B), pa.string())]
                writer.write_table(pa.table([*batch.columns, *added], schema=schema))
                rows, total = rows + len(scores_B), total + float(scores_B.sum())
                on_rows(rows)
    return Scored(rows, total / rows if rows else None)


@contextmanager
def _named(source: Path) -> Iterator[None]:
    """Add the file's name to an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"file {source}: {error}", reason=error.reason) from None


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """The file to score; pyarrow's errors become ours."""
    if not path.is_file():
        raise InputError(f"{path} is not there; give one Parquet file of rows", reason="absent")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the file's
        said = str(error)[:200]
        if not_implemented(error):
            raise InputError(
                f"{path} is Parquet that pyarrow cannot read, though it need not be damaged: {said}; "
                "write it with plain or dictionary encoding",
                reason="unsupported",
            ) from None
        raise InputError(f"{path} cannot be read as Parquet: {said}; write it again", reason="corrupt") from None


def _scored_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of the scored file."""
    for name, kind in ADDED.items():
        if name in schema.names:
            raise InputError(f"it has a column {name!r}, which scoring adds; rename it", reason="schema")
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
