"""Sums of a model line's rows: pooled they are the whole, with or without clicks, and they travel as JSON."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saec.gate.comparison import compare, score
from saec.gate.evidence import Evidence
from saec.gate.metrics import auc, base_rate_entropy, logloss, row_losses

strata = st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9), st.integers(1, 9)), max_size=12), max_size=5)


def of(*parts):
    """Evidence of strata, each of labels, the line's scores and the original's."""
    evidence = Evidence()
    for labels_B, line_B, original_B in parts:
        evidence = evidence.with_stratum(labels_B, line_B, {"original": original_B})
    return evidence


def arrays(rows):
    """Drawn rows as labels and two models' probabilities, with many ties."""
    table = np.array(rows, np.float64).reshape(-1, 3)
    return table[:, 0].astype(np.uint8), table[:, 1] / 10, table[:, 2] / 10


def test_one_stratum_is_delongs_comparison(planted):
    """Difference and standard error of both metrics are those of a comparison of the same rows."""
    made = planted(400)
    line_B, original_B = made.model(0.5), made.model(0.7)
    pair = of((made.labels_B, line_B, original_B)).pairs["original"]
    wanted = compare(
        score("line", made.labels_B, line_B),
        score("original", made.labels_B, original_B),
        auc_margin=1,
        logloss_margin=1,
        confidence=0.95,
    )
    assert pair.ranks.positive.mean == pytest.approx(wanted.auc.difference, abs=1e-12)
    assert pair.ranks.standard_error == pytest.approx(wanted.auc.standard_error, rel=1e-9)
    assert pair.loss.mean == pytest.approx(wanted.logloss.difference, abs=1e-12)
    assert pair.loss.standard_error == pytest.approx(wanted.logloss.standard_error, rel=1e-9)


@given(strata)
def test_the_pooled_log_loss_is_that_of_all_rows(drawn):
    """However the rows are split, sums of the losses are those of the whole; an empty stratum adds nothing."""
    parts = [arrays(rows) for rows in drawn]
    labels_B, line_B, original_B = (
        (np.concatenate([np.zeros(0), *column]) for column in zip(*parts, strict=True)) if parts else (np.zeros(0),) * 3
    )
    evidence, labels_B = of(*parts), labels_B.astype(np.uint8)
    assert (evidence.alone.rows, evidence.alone.positives) == (labels_B.size, labels_B.sum())
    if labels_B.size:
        pair = evidence.pairs["original"]
        gap_B = row_losses(labels_B, line_B) - row_losses(labels_B, original_B)
        assert pair.loss.total == pytest.approx(gap_B.sum(), abs=1e-9)
        assert pair.line.loss / labels_B.size == pytest.approx(logloss(labels_B, line_B))
        assert evidence.alone.entropy == pytest.approx(base_rate_entropy(labels_B))


@given(strata)
def test_the_pooled_auc_is_the_mean_over_strata_by_clicks(drawn):
    """Each stratum's AUC counts by its clicked rows; those of one label are left out."""
    parts = [arrays(rows) for rows in drawn]
    both = [part for part in parts if 0 < part[0].sum() < len(part[0])]
    evidence = of(*parts)
    if not both:
        assert not evidence.alone.ranks.positive.weight
        return
    clicks = [int(labels_B.sum()) for labels_B, _, _ in both]
    wanted = np.average(
        [auc(labels_B, line_B) - auc(labels_B, original_B) for labels_B, line_B, original_B in both], weights=clicks
    )
    assert evidence.pairs["original"].ranks.positive.mean == pytest.approx(wanted, abs=1e-12)
    assert evidence.alone.ranks.positive.mean + 0.5 == pytest.approx(
        np.average([auc(labels_B, line_B) for labels_B, line_B, _ in both], weights=clicks), abs=1e-12
    )


@given(strata)
def test_evidence_round_trips_through_json(drawn):
    """What was written is read as it was, to the bit, and goes on adding up."""
    evidence = of(*map(arrays, drawn))
    evidence = evidence.afresh(qualified=True, passed=True) if len(drawn) % 2 else evidence
    read = Evidence.from_dict(json.loads(json.dumps(evidence.as_dict(), allow_nan=False)))
    assert read == evidence
    labels_B, line_B, original_B = arrays([(1, 5, 4), (0, 3, 3)])
    grown = [each.with_stratum(labels_B, line_B, {"original": original_B}) for each in (read, evidence)]
    assert grown[0] == grown[1]


def test_the_record_stays_small(planted):
    """Two days of hours are as many figures as one."""
    made = planted(100)
    part = made.labels_B, made.model(0.5), made.model(0.7)
    assert len(json.dumps(of(*[part] * 96).as_dict())) < 2_000


@pytest.mark.slow  # 400 sites of 40 hours
def test_sparse_strata_have_the_scatter_of_their_auc(planted):
    """400 sites of 40 strata with one or two clicks in 60 rows: the standard error is the scatter, within a fifth."""
    random, found = np.random.default_rng(2), []
    for seed in range(400):
        made, parts = planted(40 * 60, seed), []
        line_B, original_B = made.model(0.4), made.model(0.4)
        for start in range(0, 40 * 60, 60):
            rows = np.arange(start, start + 60)
            clicked = rows[made.labels_B[rows] == 1][: random.integers(0, 3)]
            kept = np.concatenate([clicked, rows[made.labels_B[rows] == 0]])
            parts.append((made.labels_B[kept], line_B[kept], original_B[kept]))
        ranks = of(*parts).pairs["original"].ranks
        found.append((ranks.positive.mean, ranks.standard_error))
    means, errors = np.array(found).T
    assert means.std() < errors.mean() < 1.25 * means.std()


def test_the_base_rate_is_that_of_all_rows(planted):
    """The gap to the base rate is taken with the share of clicks of all hours, as if they had come together."""
    made = planted(500)
    line_B = made.model(0.5)
    evidence = of(*((made.labels_B[part], line_B[part], line_B[part]) for part in (slice(150), slice(150, 500))))
    rate = made.labels_B.mean()
    gap_B = row_losses(made.labels_B, line_B) - np.where(made.labels_B == 1, -np.log(rate), -np.log1p(-rate))
    assert evidence.alone.loss_gap.mean == pytest.approx(gap_B.mean())
    assert evidence.alone.loss_gap.standard_error == pytest.approx(gap_B.std(ddof=1) / math.sqrt(500))


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_label_add_to_the_log_loss_alone(label):
    """They have no pairs: no AUC, no error, and a base rate that is certain."""
    evidence = of((np.full(50, label, np.uint8), np.full(50, 0.2), np.full(50, 0.3)))
    pair = evidence.pairs["original"]
    assert pair.loss.weight == 50
    assert not pair.ranks.positive.weight
    assert math.isnan(pair.ranks.standard_error)
    assert evidence.alone.entropy == 0.0
    assert evidence.alone.loss_gap.total > 0.0


def test_identical_scores_have_no_difference_at_all(planted):
    """Difference and standard error are exactly 0 for both metrics, over any number of strata."""
    made = planted(300)
    model_B = made.model(0.5)
    pair = of(*[(made.labels_B, model_B, model_B.copy())] * 3).pairs["original"]
    assert (pair.ranks.positive.mean, pair.ranks.standard_error) == (0.0, 0.0)
    assert (pair.loss.mean, pair.loss.standard_error) == (0.0, 0.0)
