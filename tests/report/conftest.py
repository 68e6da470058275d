"""Sixty plausible hours of a ledger: a bootstrap, drift, and every way an hour can end without publishing."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest

from saec.data.slices import Slices
from saec.gate.metrics import auc, logloss
from saec.gate.paired import served_pairs
from saec.gate.slices import slice_pairs
from saec.hours import Hour

FIRST = Hour.parse("2017-10-01T00")
HOSTILE = "<script>alert('x')</script> | [a](javascript:b) \x1b[31mred\x1b[0m \ud800 $x_1$"
NOTHING_LEARNT = {
    9: ("HELD", "no-data", "the partition of 2017-10-01T09 did not come within 2 hours of its end"),
    23: ("FAILED", "diverged", "training loss of hour 2017-10-01T23 is nan after batch 37; the warm state is kept"),
    31: ("QUARANTINED", "schema", "field 'category' wants column category_id (int64), found none " + HOSTILE),
}
GATED = {
    17: ("UNDECIDED", "undecided", "the rows cannot tell: log loss may be 0.0061 above the original's"),
    46: ("FAIL", "worse", "AUC is at least 0.0057 worse than the original's, margin 0.0050"),
}


STOOD_IN = {46, 50}
"""Hours whose judged candidate was to be published; the first of them was held all the same."""
PROBLEM = "its auc on the gate rows, which it has learnt, is 0.5 to 0.7 <b>of the judged candidate</b>"
KEEPS_FIELDS = 12
"""First hour that was done since records tell of their fields."""


def field_figures(index: int) -> dict[str, dict[str, float]]:
    """A field that clusters, one that is direct, and a hostile name without any code."""
    user = {
        "head": 2400.0 + index,
        "clusters": 32.0,
        "used": 24.0,
        "largest_share": 0.125,
        "error": 0.25 - index / 1000,
        "drift": 0.5,
        "rebuilt": float(index == 59),
    }
    os = {"head": 4.0, "clusters": 4.0, "used": 4.0, "largest_share": 0.7, "error": 0.0, "drift": 0.1, "rebuilt": 0.0}
    worth = {"user_id": 0.02, "os": 0.001, "<b>a|b": 0.0}
    figures = {"user_id": user, "os": os, "<b>a|b": dict.fromkeys(user, 0.0)}
    return {name: of | {"worth": worth[name], "worth_error": 0.001, "worth_rows": 2000} for name, of in figures.items()}


@functools.cache
def headline_figures(index: int, *, live: bool) -> dict[str, Any]:
    """How the models that met an hour did on its rows: live a little worse than the version, the original between."""
    rng = np.random.default_rng(index)
    labels_B = (rng.random(400 + 10 * (index % 7)) < 0.3).astype(np.uint8)
    truth_B = 0.3 + 0.25 * (labels_B - 0.3) + 0.15 * rng.standard_normal(labels_B.size)
    noise = {"original": 0.05, "version": 0.04, **({"live": 0.08} if live else {})}
    scores = {
        name: np.clip(truth_B + width * rng.standard_normal(labels_B.size), 0.01, 0.99) for name, width in noise.items()
    }
    device_B = Slices(("phone", "<script>x|[y](z)"), (rng.random(labels_B.size) < 0.2).astype(np.uint8))
    keys = {"live": "served", "version": "version_served", "original": "original_served"}
    return {
        **{
            f"{metric.__name__}_{keys[name]}": metric(labels_B, scores_B)
            for name, scores_B in scores.items()
            for metric in (auc, logloss)
        },
        "served_pairs": served_pairs(labels_B, scores),
        "slices": slice_pairs(labels_B, scores, {"device": device_B}),
    }


def ledger_record(index: int) -> dict[str, Any]:
    """The record of the hour so many hours after the first."""
    hour = FIRST + index
    if index in NOTHING_LEARNT:
        outcome, reason, message = NOTHING_LEARNT[index]
        timed = {"ingest": 3.1, "train": 9.9} if outcome == "FAILED" else {}
        return {
            "hour": str(hour),
            "outcome": outcome,
            "reason": reason,
            "message": message,
            "version": None,
            "rows": None if reason == "no-data" else 11000,
            "seconds": timed,
            "verdict": None,
        }
    status, reason, said = GATED.get(index, ("PASS", "", "not worse than the original nor the champion within 0.0050"))
    if index == 0:
        status, said = "BOOTSTRAP", "no champion yet; log loss beats that of the hour's click rate"
    swing = 0.018 * math.sin(index / 24 * 2 * math.pi) + 0.006 * math.sin(index * 2.3)
    auc, loss = 0.70 + 0.04 * (1 - math.exp(-index / 9)) + swing, 0.62 - 0.02 * (1 - math.exp(-index / 9)) - swing / 2
    gain = 0.0027 + 0.002 * math.sin(index * 1.7) - (0.012 if index == 46 else 0)
    rows = 9000 + round(5000 * math.sin((index - 6) / 24 * 2 * math.pi)) + 173 * (index % 7)
    features = 20000 + 9000 * index
    sizes = {"codebooks": 128000 + 90 * index, "index": 40000 + 3100 * index, "network": 172000, "schema": 5200}
    head = 4100 if index > 3 else 900 + 800 * index
    kept = sizes["codebooks"] + sizes["index"]
    champion = {"auc": None, "loss": None} if index == 0 else {"auc": auc - 0.0045, "loss": loss + 0.0041}
    compared = [
        {
            "reference": name,
            "rows": rows * 3 // 10,
            "auc": {"difference": difference, "lower": difference - 0.0021, "upper": difference + 0.0021},
            "logloss": {"difference": -difference / 2, "lower": None, "upper": 0.0017 - difference / 2},
        }
        for name, difference in (("original", gain), ("champion", gain + 0.0045))
        if index or name == "original"
    ]
    return {
        "hour": str(hour),
        "outcome": "HELD" if index in GATED else "PUBLISHED",
        "reason": reason,
        "message": "",
        "version": None if index in GATED else f"{hour.compact}-{index * 7919 + 0xABC123:012x}",
        "rows": rows,
        "rows_train": rows - rows * 3 // 10,
        "rows_gate": rows * 3 // 10,
        "clicks": rows * 3 // 11,
        "quarantined_rows": 0 if index % 5 else 13,
        "duplicates": index % 3,
        "new_features": 14000 - 100 * index,
        "features": features,
        "auc_original": auc,
        "auc_compressed": auc + gain,
        "auc_champion": champion["auc"],
        "logloss_original": loss,
        "logloss_compressed": loss - gain / 2,
        "logloss_champion": champion["loss"],
        **(headline_figures(index, live=index > 1) if index else {}),
        "normalised_entropy_compressed": loss / 0.66,
        "calibration_compressed": 1.01 - swing / 3,
        "vectors_original": features,
        "vectors_compressed": head,
        "bytes_original": features * 72,
        "bytes_compressed": kept,
        "ratio_vectors": features / head,
        "ratio_embedding": features * 64 / kept * 1.3,
        "ratio_total": features * 72 / kept,
        "ratio_version": (features * 72 + 172000) / sum(sizes.values()),
        "sizes": sizes,
        "code_churn": 0.08,
        "utilisation": 0.97,
        "verdict": {"status": status, "reason": reason, "text": said, "comparisons": compared},
        "seconds": {
            "ingest": 3.1,
            "train": 9.5 + rows / 2000,
            "cluster": 2.2,
            "retrain": 7.4 + rows / 3000,
            "gate": 1.3,
            "publish": 0.9,
        },
        "release_problem": PROBLEM if index in STOOD_IN else "",
        **({"fields": field_figures(index)} if index >= KEEPS_FIELDS else {}),
    }


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages whose figures are empty: to write them takes a second a page, and tests of figures look at them."""
    monkeypatch.setattr("saec.report.page.svg", lambda figure, title: "<svg></svg>")


@pytest.fixture
def records() -> list[dict[str, Any]]:
    """Sixty hours from 2017-10-01T00, fresh for each test."""
    return [ledger_record(index) for index in range(60)]


def served_figures(index: int) -> dict[str, Any]:
    """What a request log told of an hour: two versions, ten bins, a few lines that were no lines."""
    rows, swing = 9_000 + 11 * index, 0.01 * math.sin(index)
    auc, rate = 0.731 + swing, 0.27
    bins = [
        {"rows": rows // 10, "mean_score": 0.04 + 0.055 * place, "click_rate": 0.05 + 0.05 * place + swing / 2}
        for place in range(10)
    ]
    known = {
        "rows": rows,
        "auc": auc,
        "logloss": 0.57 - swing,
        "mean_score": 0.2875,
        "click_rate": rate,
        "calibration": 0.2875 / rate,
    }
    versions = {
        (FIRST + index - age).compact + f"-{age:012x}": known | {"rows": rows * (3 - age) // 3} for age in (2, 1)
    }
    figures = known | {"coverage": 0.912, "ece": 0.0213, "bins": bins}
    log = {"files": 3, "lines": 30_000, "unreadable": 2, "torn": 1, "unknown_versions": index % 2}
    return {
        **{f"served_{name}": value for name, value in figures.items()},
        "served_log": log,
        "served_versions": versions | ({HOSTILE: known} if index == 59 else {}),
    }


@pytest.fixture
def served_records(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same hours, of which the last twenty know what was served; the second to last could not read its log."""
    served = [record | served_figures(index) if index >= 40 else record for index, record in enumerate(records)]
    served[58] = records[58] | {"served_problem": "the request log /log cannot be read: Permission denied"}
    return served
