"""One good hour of clicks, and a producer that delivers it, whole or damaged."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saec.config import Config
from saec.hour_layout import DEFAULT_LAYOUT, layout_of
from saec.hours import Hour

HOUR = Hour.parse("2017-10-01T03")
FIELDS = [
    {"name": "user"},
    {"name": "site", "type": "string", "nullable": True},
    {"name": "price", "kind": "numeric", "type": "float"},
    {"name": "tags", "kind": "list", "type": "string", "nullable": True, "max_values": 3},
]


def good_columns(rows: int) -> dict[str, pa.Array]:
    """Columns of an hour without fault: the times are spread evenly, every third row is a click."""
    step = np.arange(rows)
    return {
        "time": pa.array(HOUR.start_ms + step * 3_600_000 // max(rows, 1), pa.timestamp("ms", "UTC")),
        "clicked": pa.array((step % 3 == 0).astype(np.int8)),
        "user": pa.array(step % 7, pa.int64()),
        "site": pa.array([f"site {i % 5}" for i in step], pa.string()),
        "price": pa.array(step / 4, pa.float64()),
        "tags": pa.array([[f"tag {k}" for k in range(i % 5)] for i in step], pa.list_(pa.string())),
    }


class Producer:
    """Writes part files into a source folder, and holds the configuration that reads them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / layout_of(DEFAULT_LAYOUT).place(HOUR)

    def config(self, fields: list[dict] | None = None, **data: object) -> Config:
        """Settings that fit the good columns; the arguments replace parts of them."""
        source = {"source": str(self.root), "time_column": "time", "label_column": "clicked", **data}
        return Config.model_validate({"data": source, "fields": FIELDS if fields is None else fields})

    def table(self, rows: int = 200, **columns: pa.Array | None) -> pa.Table:
        """The good columns, some replaced, added or (None) left out."""
        merged = good_columns(rows) | columns
        return pa.table({name: values for name, values in merged.items() if values is not None})

    def deliver(self, table: pa.Table | None = None, name: str = "part-0.parquet", **columns: pa.Array | None) -> Path:
        """Write one part file, page checksums included, and return its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        pq.write_table(self.table(**columns) if table is None else table, path, write_page_checksum=True)
        return path


@pytest.fixture
def hour() -> Hour:
    return HOUR


@pytest.fixture
def producer(tmp_path) -> Producer:
    return Producer(tmp_path / "source")
