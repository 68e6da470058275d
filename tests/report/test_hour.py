"""The markdown of an hour in the Prefect UI."""

from __future__ import annotations

from typing import Any

import numpy as np

from saec.config import GateConfig
from saec.gate.paired import pooled
from saec.gate.verdict import judge
from saec.report.hour import hour_markdown, models_table
from saec.report.markdown import escape
from saec.report.text import signed


def test_headline_says_outcome_reason_and_verdict(records: list[dict[str, Any]]) -> None:
    """The first lines answer what became of the hour and why."""
    lines = hour_markdown(records[46]).splitlines()
    assert lines[0] == r"# 2017-10-02T22 · HELD (worse) · verdict FAIL"
    assert lines[2].startswith("AUC is at least 0.0057 worse")


def test_what_was_served_comes_before_the_gate(records: list[dict[str, Any]]) -> None:
    """All rows of the hour first, with differences and intervals; an old record says nothing of them."""
    told = hour_markdown(records[20])
    assert told.index("| served, all rows of the hour |") < told.index("| gate rows | AUC |")
    assert f"| live | {records[20]['auc_served']:.4f} | {records[20]['logloss_served']:.4f} |" in told
    gap = pooled([records[20]["served_pairs"]["live-original"]]).auc
    assert f"| live − original | {signed(gap.difference)} | {signed(gap.lower)} to {signed(gap.upper)} |" in told
    assert "| live |" not in hour_markdown(records[1])
    assert "| version of the hour before |" in hour_markdown(records[1])
    assert "served, all rows" not in hour_markdown(records[0])


def test_models_are_a_table_of_their_own(records: list[dict[str, Any]]) -> None:
    """Those that met the hour on all its rows, then the gate's on its last minutes, with bytes."""
    rows = models_table(records[20])
    assert [(row["scored on"], row["model"]) for row in rows] == [
        ("all rows", "live"),
        ("all rows", "version of the hour before"),
        ("all rows", "original"),
        ("gate rows", "original"),
        ("gate rows", "candidate (compressed)"),
        ("gate rows", "champion"),
    ]
    assert rows[0]["AUC"] == f"{records[20]['auc_served']:.4f}"
    assert models_table(records[23]) == []


def test_metrics_of_all_three_models_are_shown(records: list[dict[str, Any]]) -> None:
    """Original, candidate and champion side by side on the gate rows; the first hour has no champion."""
    told = hour_markdown(records[20])
    assert f"| original | {records[20]['auc_original']:.4f} |" in told
    assert f"| candidate (compressed) | {records[20]['auc_compressed']:.4f} |" in told
    assert "| champion |" in told
    assert "| champion |" not in hour_markdown(records[0])


def test_comparisons_are_those_of_the_gate(records: list[dict[str, Any]]) -> None:
    """A verdict as the gate writes it is shown with its differences and the bounds it was judged by."""
    rng = np.random.default_rng(1)
    labels_B = (rng.random(2_000) < 0.3).astype(np.uint8)
    original_B = np.clip(0.3 + 0.2 * (labels_B - 0.3) + 0.1 * rng.standard_normal(2_000), 0.01, 0.99)
    line_B = original_B * 0.99
    verdict = judge(labels_B, line_B, original_B, original_B, line_B[1_400:], 1_400, None, GateConfig())
    compared, alone = verdict.comparisons[0], verdict.gate_rows[0]
    auc, logloss = compared.auc, compared.logloss
    figures = (auc.difference, auc.lower, logloss.difference, logloss.upper)
    told = hour_markdown(records[20] | {"verdict": verdict.as_dict()})
    assert f"| original | 2,000 | {' | '.join(map(signed, figures))} |" in told
    assert f"| champion, gate rows alone | 600 | {signed(alone.auc.difference)} | {signed(alone.auc.lower)} |" in told


def test_an_hour_that_stopped_early_shows_what_it_reached(records: list[dict[str, Any]]) -> None:
    """A failed hour has its steps' seconds, but no table of metrics full of dashes."""
    told = hour_markdown(records[23])
    assert "diverged" in told
    assert "| step: train | 9.9 s |" in told
    assert "log loss" not in told


def test_fields_are_shown_one_a_row(records: list[dict[str, Any]]) -> None:
    """Features with codes, clusters and how they live; a name cannot add a cell or HTML, an older hour has no table."""
    told = hour_markdown(records[59])
    assert r"| user\_id | 2,459 | 32 | 75 % | 12 % | 19 % | 50 % | yes |" in told
    assert "| os | 4 | 4 | 100 % | 70 % | 0 % | 10 % | no |" in told
    assert r"| &lt;b&gt;a\|b | 0 | – |" in told
    assert "features with codes" not in hour_markdown(records[5])


def test_a_candidate_that_was_released_is_said(records: list[dict[str, Any]]) -> None:
    """Only of hours that published it; what the release check found is escaped."""
    told = hour_markdown(records[50])
    assert "Released: the judged candidate, instead of the version of the hour's end" in told
    assert "<b>" not in told
    assert "Released:" not in hour_markdown(records[46])
    assert "Released:" not in hour_markdown(records[45])


def test_hostile_message_stays_literal(records: list[dict[str, Any]]) -> None:
    """No HTML, link, table cell or terminal escape comes from a message."""
    told = hour_markdown(records[31])
    assert "<script" not in told
    assert r"\[a\]\(javascript\:b\)" in told
    assert "\x1b" not in told
    assert escape("a\nb | c") == r"a b \| c"
    told.encode("utf-8")


def test_figure_travels_in_the_text(records: list[dict[str, Any]]) -> None:
    """With a history the markdown holds a PNG data URI, without one it has no image."""
    assert "](data:image/png;base64,iVBOR" in hour_markdown(records[46], records)
    assert "data:image" not in hour_markdown(records[46])
