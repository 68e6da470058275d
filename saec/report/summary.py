"""Computes the summary of a report, and the rows of `saec report --json`.

Decisions: the served figures come first (`saec.report.headline`), over the last hours and over all hours of the report,
with intervals. The gate's figures, of other rows and of a candidate that served nobody, follow under their own name.
"The last 24 hours" are hours on the clock, like the last 24 epochs of the paper's figure 2. Two models are pooled over
all hours in which both were scored, whatever the outcome: leaving out hours whose challenger was refused would flatter
the compressed model. The gate's pooled AUC is the mean of the hours' AUCs weighted by their gate rows (not the AUC of
all rows thrown together, which would also reward knowing the hour of day); its pooled log loss is exact.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from saec.gate.paired import over_hours
from saec.gate.slices import slices_over_hours
from saec.plain_json import plain_json
from saec.report.headline import plain_pairs
from saec.report.records import (
    FURTHER_KEYS,
    OUTCOMES,
    STABLE_KEYS,
    Record,
    hour_of,
    last_hours,
    number,
    ordered,
    stood_in,
    total_seconds,
)
from saec.report.worth import field_worth

RATIOS = ("ratio_vectors", "ratio_embedding", "ratio_total", "ratio_version")
TOTALS = (
    "rows",
    "rows_gate",
    "clicks",
    "quarantined_rows",
    "duplicates",
    "contradicting",
    "clicks_joined",
    "new_features",
)


def summarise(records: Iterable[Record], last: int = 24) -> dict[str, Any]:
    """Count the hours' outcomes and pool the last hours' figures.

    Args:
        records: the ledger's records, in any order; none is fine.
        last: hours on the clock, up to the newest record, that are pooled.

    Returns:
        `hours`, `first`, `last`, `outcomes` and `version` (the newest published) over all records;
        `hours_since_publish`; `served`, with the pairs of models over the `last` hours and over `all` (see
        `saec.gate.paired.over_hours`); and over the last hours `window` (hours, outcomes), the gate's
        `against_original` and `against_champion` (see `pool`), `stood_in` (hours of which the judged candidate was
        published), `medians` (ratios, seconds of an hour), `totals` (rows and the like) and `latest` (bytes and vectors
        of the newest hour that knows them). Values that no record knows are None.
    """
    in_order = ordered(records)
    recent = last_hours(in_order, last)
    published = [record for record in in_order if record.get("outcome") == "PUBLISHED"]
    return {
        "hours": len(in_order),
        "first": str(hour_of(in_order[0])) if in_order else None,
        "last": str(hour_of(in_order[-1])) if in_order else None,
        "outcomes": count_outcomes(in_order),
        "version": published[-1].get("version") if published else None,
        "hours_since_publish": hour_of(in_order[-1]).index - hour_of(published[-1]).index if published else None,
        "served": {"last": over_hours(recent), "all": over_hours(in_order)},
        "window": {"length": last, "hours": len(recent), "outcomes": count_outcomes(recent)},
        "against_original": pool(recent, "original"),
        "against_champion": pool(recent, "champion"),
        "worth": field_worth(in_order, last),
        "slices": slices_over_hours(recent),
        "stood_in": sum(map(stood_in, recent)),
        "medians": {
            **{key: _median(number(record, key) for record in recent) for key in RATIOS},
            "seconds": _median(map(total_seconds, recent)),
        },
        "totals": {key: _total(number(record, key) for record in recent) for key in TOTALS},
        "latest": {
            key: _newest(in_order, key)
            for key in ("bytes_original", "bytes_compressed", "vectors_original", "vectors_compressed")
        },
    }


def plain_summary(records: Iterable[Record]) -> dict[str, Any]:
    """The summary for JSON."""
    summary = summarise(records)
    served = {window: plain_pairs(pairs) for window, pairs in summary["served"].items()}
    slices = [item.as_dict() for item in summary["slices"]]
    return dict(plain_json(summary | {"served": served, "slices": slices}))


def pool(records: Sequence[Record], reference: str) -> dict[str, float | int | None]:
    """Compare the gate's candidate with a reference over the hours that scored both, weighted by their gate rows.

    Args:
        records: the hours to pool.
        reference: `original` or `champion`.

    Returns:
        `hours` and `rows` that were compared, and for `auc` and `logloss`: `…_compressed`, `…_reference` and
        `…_difference` (compressed minus reference), None when no hour scored both.
    """
    needed = [f"{metric}_{model}" for metric in ("auc", "logloss") for model in ("compressed", reference)]
    paired = [r for r in records if (number(r, "rows_gate") or 0) > 0 and all(number(r, k) is not None for k in needed)]
    weights = [number(record, "rows_gate") or 0.0 for record in paired]
    pooled: dict[str, float | int | None] = {"hours": len(paired), "rows": round(sum(weights))}
    for metric in ("auc", "logloss"):
        compressed, other = (_mean(paired, weights, f"{metric}_{model}") for model in ("compressed", reference))
        pooled[f"{metric}_compressed"], pooled[f"{metric}_reference"] = compressed, other
        pooled[f"{metric}_difference"] = None if compressed is None or other is None else compressed - other
    return pooled


def count_outcomes(records: Iterable[Record]) -> dict[str, int]:
    """Hours by outcome: the four, in their order, then any other that a record names."""
    counts = Counter(str(record.get("outcome") or "PENDING") for record in records)
    return {name: counts[name] for name in (*OUTCOMES, *sorted(set(counts) - set(OUTCOMES)))}


def report_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The rows of `saec report --json`: oldest hour first, the stable keys in their order, then the further ones.

    Every row has every key; what is not known is None, and so is a number that JSON has no word for (NaN, infinity).
    """
    return [{key: plain_json(record.get(key)) for key in (*STABLE_KEYS, *FURTHER_KEYS)} for record in ordered(records)]


def _mean(records: Sequence[Record], weights: Sequence[float], key: str) -> float | None:
    """Weighted mean of a key that every record knows, None for no records."""
    values = [number(record, key) or 0.0 for record in records]
    return statistics.fmean(values, weights) if values else None


def _median(values: Iterable[float | None]) -> float | None:
    """Median of the known values, None when none is known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _total(values: Iterable[float | None]) -> int | None:
    """Sum of the known values, None when none is known."""
    known = [value for value in values if value is not None]
    return round(sum(known)) if known else None


def _newest(records: Sequence[Record], key: str) -> float | None:
    """The key's value in the newest record that knows it."""
    return next((value for record in reversed(records) if (value := number(record, key)) is not None), None)
