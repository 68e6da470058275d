"""The footer reader agrees with pyarrow on sound files and survives damaged ones."""

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saec.data.footer import read_footer
from tests.properties import examples


def parquet(table: pa.Table, **settings: object) -> bytes:
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, **settings)
    return stream.getvalue().to_pybytes()


TABLE = pa.table(
    {
        "a": pa.array(np.arange(50)),
        "b": pa.array(["x", None] * 25),
        "c": pa.array([[True], []] * 25, pa.list_(pa.bool_())),
        "d": pa.array(np.arange(50) / 7),
    }
)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"row_group_size": 20, "write_page_index": True, "write_page_checksum": True},
        {"version": "1.0", "compression": "none", "use_dictionary": False},
    ],
)
def test_agrees_with_pyarrow(settings):
    """Rows, columns, and every chunk's path, values, size and type are those that pyarrow reads."""
    data = parquet(TABLE, **settings)
    footer, metadata = read_footer(memoryview(data)), pq.ParquetFile(pa.BufferReader(data)).metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    assert (footer.rows, footer.columns) == (50, 4)
    assert [(c.path, c.values, c.uncompressed_bytes, c.is_string) for c in footer.chunks] == [
        (c.path_in_schema, c.num_values, c.total_uncompressed_size, c.physical_type == "BYTE_ARRAY") for c in chunks
    ]


def test_a_file_without_row_groups():
    """An empty table may have no row group at all; it has no rows and no chunks."""
    footer = read_footer(memoryview(parquet(TABLE.slice(0, 0))))
    assert footer.rows == sum(chunk.values for chunk in footer.chunks) == 0


def framed(footer: bytes) -> memoryview:
    return memoryview(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_footer_or_a_value_error(footer):
    """Whatever the bytes, the reader returns or raises ValueError."""
    with contextlib.suppress(ValueError):
        read_footer(framed(footer))


@pytest.mark.parametrize(
    "footer",
    [
        b"\x1c" * 10_000,
        b"\x19\xfc" + b"\xff" * 9,
        b"\x18" + b"\xff" * 8 + b"\x01",
        b"\x16" + b"\x80" * 30,
        b"\x16\x01\x00",
        b"",
    ],
)
def test_hostile_footers(footer):
    """Deep nesting, endless lists, strings and numbers, and no rows are refused at once."""
    with pytest.raises(ValueError, match="footer"):
        read_footer(framed(footer))


def test_footer_longer_than_the_file():
    """A length that points before the file is refused."""
    with pytest.raises(ValueError, match="would have"):
        read_footer(memoryview(b"PAR1" + (99).to_bytes(4, "little") + b"PAR1"))
