"""Reads the ledger's records: one JSON mapping per hour, any of whose values may be missing.

Decisions: to a report a missing key, None, NaN and infinity all mean "unknown". Nothing here raises on an incomplete
record, because a report must show the hours that went wrong. The keys of `saec report --json` are fixed here: first the
stable ones, then those that may grow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saec.hours import Hour

Record = Mapping[str, Any]
"""One hour of the ledger: `hour`, `outcome`, metrics, sizes and `seconds` by step."""

OUTCOMES = ("PUBLISHED", "HELD", "QUARANTINED", "FAILED")
STEPS = ("ingest", "train", "cluster", "retrain", "gate", "publish")
PARTS = ("codebooks", "index", "network", "schema")

STABLE_KEYS = (
    "hour",
    "outcome",
    "reason",
    "version",
    "rows",
    "auc_served",
    "logloss_served",
    "auc_version_served",
    "logloss_version_served",
    "auc_original_served",
    "logloss_original_served",
    "auc_original",
    "auc_compressed",
    "auc_champion",
    "logloss_original",
    "logloss_compressed",
    "logloss_champion",
    "vectors_original",
    "vectors_compressed",
    "bytes_original",
    "bytes_compressed",
    "ratio_vectors",
    "ratio_embedding",
    "ratio_total",
    "ratio_version",
    "seconds",
)
"""Figures of the served hour first; `auc_original` and those that follow it are the gate's."""
FURTHER_KEYS = (
    "message",
    "rows_train",
    "rows_gate",
    "clicks",
    "stand_for",
    "quarantined_rows",
    "duplicates",
    "contradicting",
    "clicks_joined",
    "clicks_of_earlier",
    "new_features",
    "features",
    "normalised_entropy_compressed",
    "calibration_compressed",
    "sizes",
    "verdict",
    "release_problem",
    "code_churn",
    "utilisation",
    "fields",
    "served_pairs",
    "slices",
    "served_rows",
    "served_coverage",
    "served_auc",
    "served_logloss",
    "served_mean_score",
    "served_click_rate",
    "served_calibration",
    "served_ece",
    "served_bins",
    "served_versions",
    "served_log",
    "served_problem",
)


def hour_of(record: Record) -> Hour:
    """The hour a record is of."""
    return Hour.parse(str(record["hour"]))


def ordered(records: Iterable[Record]) -> list[Record]:
    """The records, oldest hour first."""
    return sorted(records, key=hour_of)


def last_hours(records: Iterable[Record], hours: int) -> list[Record]:
    """The records of the last so many hours on the clock (not of the last so many records), oldest first."""
    in_order = ordered(records)
    return [record for record in in_order if hour_of(record) > hour_of(in_order[-1]) - hours]


def finite(value: object) -> float | None:
    """The value as a number, or None when it is not a finite one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def number(record: Record, key: str) -> float | None:
    """A number of the record, or None when the record does not know it."""
    return finite(record.get(key))


def parts(record: Record, key: str, order: Sequence[str] = ()) -> dict[str, float]:
    """A record's mapping of names to numbers (`seconds`, `sizes`): known names in `order` first, the rest sorted."""
    raw = record.get(key)
    found = raw if isinstance(raw, Mapping) else {}
    names = [*(name for name in order if name in found), *sorted(str(name) for name in found if name not in order)]
    return {name: value for name in names if (value := finite(found.get(name))) is not None}


def total_seconds(record: Record) -> float | None:
    """Seconds of all steps of the hour together, or None when no step was timed."""
    seconds = parts(record, "seconds")
    return sum(seconds.values()) if seconds else None


def verdict_text(record: Record) -> str:
    """The gate's verdict in its own words, empty when the gate was not reached."""
    verdict = record.get("verdict")
    return str(verdict.get("text") or "") if isinstance(verdict, Mapping) else ""


def verdict_status(record: Record) -> str:
    """PASS, FAIL, UNDECIDED or BOOTSTRAP, empty when the gate was not reached."""
    verdict = record.get("verdict")
    return str(verdict.get("status") or "") if isinstance(verdict, Mapping) else ""


def comparisons(record: Record) -> list[dict[str, Any]]:
    """The gate's comparisons: `reference`, `rows`, and of each metric its difference and the bound that was judged.

    The bound is the worst that the rows leave possible: the lowest AUC difference, the highest log-loss difference.
    First those of the pooled hours, then those of the hour's gate rows alone, where these were asked.
    """
    verdict = record.get("verdict")
    known = verdict if isinstance(verdict, Mapping) else {}
    found = [(item, "") for item in known.get("comparisons") or ()]
    found += [(item, ", gate rows alone") for item in known.get("gate_rows") or ()]
    shown = []
    for item, rows in found:
        of_auc, of_logloss = item.get("auc") or {}, item.get("logloss") or {}
        shown.append(
            {
                "reference": f"{item.get('reference', '')}{rows}",
                "rows": item.get("rows"),
                "auc_difference": of_auc.get("difference"),
                "auc_bound": of_auc.get("lower"),
                "logloss_difference": of_logloss.get("difference"),
                "logloss_bound": of_logloss.get("upper"),
            }
        )
    return shown


def stood_in(record: Record) -> bool:
    """Whether the judged candidate was published in place of the version of the hour's end, see `release_problem`."""
    return record.get("outcome") == "PUBLISHED" and bool(record.get("release_problem"))


def explanation(record: Record) -> str:
    """Why the hour ended as it did: the message of what stopped it, else the verdict's text, else the reason."""
    return str(record.get("message") or "") or verdict_text(record) or str(record.get("reason") or "")
