"""Writes the hours as a flat table for notebooks and dashboards: one column per figure, such as `sizes.index`.

Decisions: the columns are those of `saec report --json`, in its order. Lists, and mappings whose names differ from hour
to hour, are left out (the gate's single comparisons are in every version's manifest); so are the sums from which pairs
of models are pooled. The file's ending decides the format.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from saec.errors import ConfigError
from saec.report.records import Record
from saec.report.summary import report_rows

ENDINGS = (".csv", ".parquet")
_NESTED = ("fields", "served_bins", "served_versions", "served_pairs")


def hours_frame(records: Iterable[Record]) -> pd.DataFrame:
    """A row an hour, oldest first; `hour` is a timestamp in UTC.

    >>> print(hours_frame([{"hour": "2017-10-01T03", "rows": 7}])[["hour", "rows"]].to_string(index=False))
                         hour  rows
    2017-10-01 03:00:00+00:00     7
    """
    rows = report_rows(records)
    frame = pd.json_normalize([{key: value for key, value in row.items() if key not in _NESTED} for row in rows])
    if "hour" in frame:
        frame["hour"] = pd.to_datetime(frame["hour"], utc=True, format="%Y-%m-%dT%H")
    return frame.drop(columns=["verdict.comparisons", "verdict.gate_rows"], errors="ignore")


def encode_table(records: Iterable[Record], path: Path) -> bytes:
    """The hours as a table, in the bytes of a file of this name.

    Raises:
        ConfigError: when the name ends in none of `ENDINGS`.
    """
    if path.suffix not in ENDINGS:
        raise ConfigError(f"a report is written as .html, {' or '.join(ENDINGS)}, not as {path.name}")
    frame = hours_frame(records)
    return frame.to_csv(index=False).encode() if path.suffix == ".csv" else frame.to_parquet(index=False)
