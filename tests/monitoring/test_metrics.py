"""Prometheus metrics of an outlook."""

import re

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from saec.gate.paired import served_pairs
from saec.monitoring.metrics import FILE, metrics_text, write_metrics
from tests.conftest import OUTLOOK_FIRST, ended_hour


def read(text: bytes) -> dict[str, dict[tuple, float]]:
    """Samples by family and label values, as Prometheus' own parser reads them."""
    families = text_string_to_metric_families(text.decode())
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples} for family in families
    }


@pytest.fixture
def config(simulated):
    """Settings with the thresholds as they come."""
    return simulated.config()


def test_a_pipeline_in_trouble(config, troubled):
    """Backlog, streak, hold, lease, disk and alarms, as numbers with units in their names."""
    found = read(metrics_text(config, troubled))
    assert found["saec_hours"] == {("PUBLISHED",): 1, ("HELD",): 5, ("QUARANTINED",): 0, ("FAILED",): 1}
    single = {name: samples[()] for name, samples in found.items() if () in samples}
    assert single == {
        "saec_last_hour_finished_timestamp_seconds": 1506841560,
        "saec_newest_hour_timestamp_seconds": 1506837600,
        "saec_live_version_published_timestamp_seconds": 1506814200,
        "saec_live_version_age_seconds": 46800,
        "saec_live_version_data_timestamp_seconds": 1506819600,
        "saec_publishing_held": 1,
        "saec_unpublished_hours": 6,
        "saec_backlog_hours": 3,
        "saec_backlog_seconds": 180,
        "saec_stale_hours": 1,
        "saec_lease_held": 1,
        "saec_disk_free_bytes": 2.5e9,
    }
    assert found["saec_live_version_info"] == {("20171001T00-abc",): 1}
    assert set(found["saec_alarm"].values()) == {1}


def test_figures_of_the_newest_judged_hour(config, site):
    """AUC and log loss of three models, bytes, ratio, rows and seconds by step, as the ledger has them."""
    with site.pipeline() as pipeline:
        write_metrics(config := pipeline.config, pipeline.ledger, site.store)
    found, known = read((config.workspace / FILE).read_bytes()), site.rows()[-1].record
    names = {"original": "original", "challenger": "compressed", "champion": "champion"}
    for metric in ("auc", "logloss"):
        assert found[f"saec_{metric}"] == {(model,): known[f"{metric}_{key}"] for model, key in names.items()}
    assert found["saec_compression_ratio"][()] == known["ratio_total"]
    assert found["saec_embedding_bytes"][("challenger",)] == known["bytes_compressed"]
    assert found["saec_step_seconds"] == {(step,): seconds for step, seconds in known["seconds"].items()}
    assert found["saec_hour_rows"][("gate",)] == known["rows_gate"]
    assert found["saec_judged_hour_timestamp_seconds"][()] == site.rows()[-1].hour.start.timestamp()


@pytest.fixture
def served(outlook):
    """Two hours that know how their models did, a day apart from an older one, and a newest that does not."""
    labels_B = np.array([0, 1, 0, 1, 1, 0], np.uint8)
    scores = {"live": np.linspace(0.1, 0.8, 6), "original": np.linspace(0.2, 0.5, 6)}
    pairs = served_pairs(labels_B, scores)
    known = {"auc_served": 0.71, "logloss_served": 0.5, "auc_original_served": 0.72, "served_pairs": pairs}
    return outlook(
        rows=[
            ended_hour(0, record=known),
            ended_hour(24, record=known),
            ended_hour(25, record=known),
            ended_hour(26, record={"auc_compressed": 0.7, "ratio_version": 3.5}),
        ]
    )


def test_what_was_served(config, served, outlook):
    """Levels of the newest hour that knows them, paired differences with bounds over the last 24 hours on the clock."""
    found = read(metrics_text(config, served))
    assert found["saec_served_hour_timestamp_seconds"][()] == (OUTLOOK_FIRST + 25).start.timestamp()
    assert found["saec_served_auc"] == {("live",): 0.71, ("original",): 0.72}
    assert found["saec_served_logloss"] == {("live",): 0.5}
    pair, paired = ("live", "original"), served.served["live-original"]
    assert paired.hours == 2
    assert found["saec_served_window_rows"] == {pair: 12}
    assert found["saec_served_auc_difference_lower"] == {pair: paired.auc.lower}
    assert found["saec_served_logloss_difference"] == {pair: paired.logloss.difference}
    assert found["saec_version_ratio"][()] == 3.5
    assert not [name for name in read(metrics_text(config, outlook())) if name.startswith("saec_served")]


@pytest.fixture
def logged(outlook):
    """An hour with a request log, and a newer one that could not read it."""
    figures = {
        "rows": 90,
        "coverage": 0.9,
        "auc": 0.7,
        "logloss": 0.5,
        "calibration": 1.1,
        "ece": 0.02,
        "log": {"lines": 120, "unreadable": 3, "torn": 1},
    }
    known = {f"served_{name}": value for name, value in figures.items()}
    return outlook(rows=[ended_hour(0, record=known), ended_hour(1, record={"served_problem": "no such folder"})])


def test_what_was_logged(config, logged, outlook):
    """Figures of the newest hour that knows them; nothing without a request log."""
    found = read(metrics_text(config, logged))
    single = {name: samples[()] for name, samples in found.items() if name.startswith("saec_logged") and () in samples}
    assert single == {
        "saec_logged_hour_timestamp_seconds": OUTLOOK_FIRST.start.timestamp(),
        "saec_logged_rows": 90,
        "saec_logged_coverage_ratio": 0.9,
        "saec_logged_auc": 0.7,
        "saec_logged_logloss": 0.5,
        "saec_logged_calibration_ratio": 1.1,
        "saec_logged_calibration_error": 0.02,
    }
    assert found["saec_logged_lines"] == {("unreadable",): 3, ("torn",): 1}
    assert not [name for name in read(metrics_text(config, outlook())) if name.startswith("saec_logged")]


def test_what_is_not_known_is_left_out(config, outlook):
    """No version, no hours: no figure that could be mistaken for a zero."""
    found = read(metrics_text(config, outlook(rows=[], live=None, live_since=None)))
    assert not {
        "saec_live_version_info",
        "saec_live_version_age_seconds",
        "saec_auc",
        "saec_last_hour_finished_timestamp_seconds",
        "saec_backlog_seconds",
    } & set(found)
    assert found["saec_publishing_held"][()] == 0


def test_every_family_says_what_it_is(config, site):
    """Each has a prefix, a HELP line that is a sentence, and a type."""
    with site.pipeline() as pipeline:
        write_metrics(pipeline.config, pipeline.ledger, site.store)
    lines = (site.config().workspace / FILE).read_text().splitlines()
    helps = {line.split()[2]: line for line in lines if line.startswith("# HELP")}
    assert {line.partition("{")[0].split()[0] for line in lines if not line.startswith("#")} == set(helps)
    assert all(name.startswith("saec_") and line.endswith(".") for name, line in helps.items())


def test_every_family_is_documented(config, site, troubled, served, logged, root):
    """docs/monitoring.md lists the metrics that there are, and no others."""
    with site.pipeline() as pipeline:
        write_metrics(pipeline.config, pipeline.ledger, site.store)
    families = set(read((site.config().workspace / FILE).read_bytes())) | set(read(metrics_text(config, troubled)))
    families |= set(read(metrics_text(config, served))) | set(read(metrics_text(config, logged)))
    page = (root / "docs" / "monitoring.md").read_text().partition("## Metrics")[2]
    assert set(re.findall(r"\bsaec_\w+", page)) == families


def test_every_run_leaves_them(site):
    """The file stands in the workspace after any run, with the hours of that run."""
    (site.folder / "workspace" / FILE).unlink(missing_ok=True)
    site.advance(site.hours[5])
    assert read((site.folder / "workspace" / FILE).read_bytes())["saec_hours"][("PUBLISHED",)] == 4


def test_a_file_that_cannot_be_written_disturbs_nobody(site, monkeypatch, caplog):
    """The run's hours stand, and the failure is in the log."""
    monkeypatch.setattr("saec.monitoring.metrics.write_file", lambda *_: 1 / 0)
    assert [row.state for row in site.advance(site.hours[5])] == ["PUBLISHED"]
    assert "metrics.prom is not written" in caplog.text
