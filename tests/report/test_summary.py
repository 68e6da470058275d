"""What the report counts and pools, against sums done by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from saec.gate.paired import pooled
from saec.report.records import FURTHER_KEYS, STABLE_KEYS
from saec.report.summary import plain_summary, report_rows, summarise


def gated(hour: str, rows: int, original: float | None, compressed: float | None, **more: Any) -> dict[str, Any]:
    """A record of an hour that reached the gate; log loss is one minus AUC."""
    known = {
        "auc_original": original,
        "auc_compressed": compressed,
        "logloss_original": original and 1 - original,
        "logloss_compressed": compressed and 1 - compressed,
    }
    return {"hour": hour, "outcome": "PUBLISHED", "rows_gate": rows, **known, **more}


def test_pooled_figures_are_weighted_by_gate_rows() -> None:
    """Two hours of 100 and 300 gate rows: a quarter of the one, three quarters of the other."""
    records = [gated("2017-10-01T00", 100, 0.70, 0.60), gated("2017-10-01T01", 300, 0.74, 0.76)]
    pooled = summarise(records)["against_original"]
    assert pooled["hours"] == 2
    assert pooled["rows"] == 400
    assert pooled["auc_reference"] == pytest.approx(0.25 * 0.70 + 0.75 * 0.74)
    assert pooled["auc_compressed"] == pytest.approx(0.25 * 0.60 + 0.75 * 0.76)
    assert pooled["auc_difference"] == pytest.approx(0.72 - 0.73)
    assert pooled["logloss_difference"] == pytest.approx(0.01)


def test_hours_that_scored_only_one_of_two_models_are_not_pooled() -> None:
    """An hour with an original only, or with a NaN, must not shift the original's mean against the other's."""
    lone = [gated("2017-10-01T01", 900, 0.9, None), gated("2017-10-01T02", 900, 0.9, math.nan)]
    pooled = summarise([gated("2017-10-01T00", 100, 0.70, 0.71), *lone])["against_original"]
    assert (pooled["hours"], pooled["rows"], pooled["auc_reference"]) == (1, 100, 0.70)


def test_hours_held_by_the_gate_count_in_the_pool() -> None:
    """Leaving out refused challengers would flatter the compressed model."""
    refused = gated("2017-10-01T01", 100, 0.70, 0.50, outcome="HELD")
    assert summarise([gated("2017-10-01T00", 100, 0.70, 0.70), refused])["against_original"]["auc_compressed"] == 0.6


def test_the_window_is_of_hours_on_the_clock() -> None:
    """With a hole of a day in the ledger, the last 24 hours hold the newest record only."""
    summary = summarise([gated("2017-10-02T05", 10, 0.8, 0.8), gated("2017-10-01T05", 10, 0.1, 0.1)])
    assert summary["window"]["hours"] == 1
    assert summary["against_original"]["auc_reference"] == 0.8
    assert (summary["first"], summary["last"]) == ("2017-10-01T05", "2017-10-02T05")


def test_medians_and_totals_skip_what_is_not_known() -> None:
    """A held hour neither lowers a median nor a total."""
    hours = [
        {
            "hour": f"2017-10-01T0{index}",
            "outcome": "PUBLISHED",
            "ratio_total": ratio,
            "rows": ratio,
            "seconds": {"train": ratio, "gate": 1.0},
        }
        for index, ratio in enumerate((10, 30, 20))
    ]
    summary = summarise([*hours, {"hour": "2017-10-01T04", "outcome": "HELD", "ratio_total": None}])
    assert summary["medians"]["ratio_total"] == 20
    assert summary["medians"]["seconds"] == 21
    assert summary["totals"]["rows"] == 60
    assert summary["totals"]["clicks"] is None
    assert summary["hours_since_publish"] == 2


def test_outcomes_are_counted_and_the_newest_published_version_named(records: list[dict[str, Any]]) -> None:
    """Sixty hours: one quarantined, one failed, three held; the order of the records does not matter."""
    summary = summarise(reversed(records))
    assert summary["outcomes"] == {"PUBLISHED": 55, "HELD": 3, "QUARANTINED": 1, "FAILED": 1}
    assert summary["version"] == records[-1]["version"]
    assert summary == summarise(records)


def test_no_records_make_an_empty_summary() -> None:
    """Nothing is known, nothing raises."""
    summary = summarise([])
    assert summary["hours"] == 0
    assert summary["version"] is None
    assert summary["against_original"]["auc_difference"] is None
    assert summary["served"] == {"last": {}, "all": {}}


def test_what_was_served_is_pooled_over_the_last_day_and_over_all(records: list[dict[str, Any]]) -> None:
    """Hours on the clock, held ones too; for JSON in plain values by the models' names."""
    served = summarise(records)["served"]
    assert served["last"]["live-original"] == pooled(
        record["served_pairs"]["live-original"] for record in records[-24:] if "served_pairs" in record
    )
    assert served["all"]["version-original"].hours == 56
    plain = json.loads(json.dumps(plain_summary(records), allow_nan=False))["served"]["all"]["live-version"]
    gap = served["all"]["live-version"].auc
    assert plain["auc_difference"] == gap.difference == pytest.approx(plain["auc_live"] - plain["auc_version"])
    assert (plain["auc_lower"], plain["auc_upper"]) == (gap.lower, gap.upper)


def test_report_rows_have_the_stable_keys_first_in_their_order(records: list[dict[str, Any]]) -> None:
    """Scripts may rely on keys and order, also of hours that know almost nothing."""
    rows = report_rows([*records, {"hour": "2017-10-09T00"}])
    assert all(tuple(row) == (*STABLE_KEYS, *FURTHER_KEYS) for row in rows)
    assert STABLE_KEYS[:5] == ("hour", "outcome", "reason", "version", "rows")
    assert STABLE_KEYS[-1] == "seconds"
    assert rows[-1]["auc_original"] is None
    assert [row["hour"] for row in rows] == sorted(row["hour"] for row in rows)


def test_report_rows_are_strict_json() -> None:
    """NaN and infinity, which JSON has no word for, become null at any depth."""
    verdict = {"status": "FAIL", "comparisons": [{"auc_bound": -math.inf}]}
    rows = report_rows([gated("2017-10-01T00", 10, math.nan, 0.7, verdict=verdict)])
    row = json.loads(json.dumps(rows, allow_nan=False))[0]
    assert row["auc_original"] is None
    assert row["verdict"]["comparisons"] == [{"auc_bound": None}]
