"""Logged figures become part of the hour's record, and of nothing else."""

from datetime import timedelta

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from saec.data.request_log import log_files
from saec.gate.metrics import auc, logloss

NEXT = 5
"""Of the hours of a site, the one to be done next."""
OTHER = "20200101T00-0123456789ab"
"""A version that no store has."""


class Served:
    """An hour of which every row but each tenth was served."""

    def __init__(self, site, hour):
        table = pq.read_table(site.file(hour), partitioning=None)
        rng = np.random.default_rng(1)
        self.scores_B = np.clip(0.2 + 0.3 * table["clicked"].to_numpy() + rng.normal(0, 0.2, len(table)), 0.01, 0.99)
        self.labels_B = table["clicked"].to_numpy().astype(np.uint8)
        self.rows = np.flatnonzero(np.arange(len(table)) % 10)
        times, impressions = table["event_time"].to_pylist(), table["impression_id"].to_pylist()
        self.lines = [
            orjson.dumps(
                {
                    "at": (times[row] - timedelta(milliseconds=80)).isoformat(),
                    "request": "r",
                    "version": OTHER if row % 3 else site.live,
                    "id": {"impression_id": impressions[row]},
                    "score": self.scores_B[row],
                },
                option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY,
            )
            for row in self.rows
        ]

    def write(self, folder, hour):
        folder.mkdir()
        (folder / f"{hour.compact}.host-1.jsonl").write_bytes(b"".join(self.lines) + b"garbage\n{")
        return folder


@pytest.fixture
def hour(site):
    return site.hours[NEXT]


@pytest.fixture
def served(site, hour):
    return Served(site, hour)


def record(site, hour, log):
    """Do the hour with a log; its record."""
    (row,) = site.advance(hour, config=site.config(serving={"log": log}))
    return row.record


def test_figures_are_those_of_the_rows_that_were_served(site, hour, served, tmp_path):
    """Coverage, AUC, log loss and calibration, together and by version, and what was wrong with the log."""
    known = record(site, hour, served.write(tmp_path / "log", hour))
    labels, scores = served.labels_B[served.rows], served.scores_B[served.rows]
    assert known["served_rows"] == len(served.rows)
    assert known["served_coverage"] == pytest.approx(0.9, abs=0.001)
    assert known["served_auc"] == auc(labels, scores)
    assert known["served_logloss"] == pytest.approx(logloss(labels, scores), abs=1e-12)
    assert known["served_calibration"] == pytest.approx(scores.mean() / labels.mean())
    assert known["served_ece"] > 0
    assert sum(item["rows"] for item in known["served_bins"]) == len(served.rows)
    assert len(known["served_bins"]) == 10
    ours = served.rows % 3 == 0
    assert list(known["served_versions"]) == [OTHER, site.store.versions()[-2]]
    assert known["served_versions"][site.store.versions()[-2]]["auc"] == auc(labels[ours], scores[ours])
    assert known["served_log"] == {
        "files": 1,
        "lines": len(served.lines) + 2,
        "unreadable": 1,
        "torn": 1,
        "unknown_versions": 1,
    }


def test_no_byte_depends_on_the_log(site, hour, served, tmp_path, undisturbed):
    """Store, checkpoints and releases are those of an hour without a log, whatever the log holds."""
    record(site, hour, served.write(tmp_path / "log", hour))
    site.advance(site.hours[-1], config=site.config(serving={"log": tmp_path / "log"}))
    assert site.live == undisturbed.live
    assert site.serving().keys() == undisturbed.serving().keys()
    assert site.digests(of="versions/") == undisturbed.digests(of="versions/")
    assert site.digests("workspace/checkpoints") == undisturbed.digests("workspace/checkpoints")
    plain = [set(row.record or ()) for row in undisturbed.rows()]
    assert not any(key.startswith("served_") and key != "served_pairs" for keys in plain for key in keys)


@pytest.mark.parametrize("broken", ["absent", "a file", "nothing in it"])
def test_a_log_that_cannot_be_read_is_a_warning(site, hour, tmp_path, broken, caplog):
    """The hour is published all the same, and says what was wrong."""
    log = tmp_path / "log"
    if broken == "a file":
        log.write_text("")
    elif broken == "nothing in it":
        log.mkdir()
    (row,) = site.advance(hour, config=site.config(serving={"log": log}))
    assert row.state == "PUBLISHED"
    if broken == "nothing in it":
        assert (row.record["served_rows"], row.record["served_coverage"]) == (0, 0.0)
    else:
        assert str(log) in row.record["served_problem"]
        assert "cannot be read" in caplog.text


def test_rows_that_came_late_are_not_the_hours(site, served, tmp_path):
    """With rows of an earlier hour learnt in this one, only the hour's own are looked for in the log."""
    late, hour = site.hours[NEXT - 1], site.hours[NEXT]
    log = served.write(tmp_path / "log", hour)
    config = site.config(serving={"log": log})
    with site.pipeline(config) as pipeline, pipeline.leased() as lease:
        site.redeliver(late, every=0, rows=slice(500))
        known = pipeline.do(lease, hour, late=[late]).record
    assert known["served_rows"] == len(served.rows)
    assert known["served_auc"] == auc(served.labels_B[served.rows], served.scores_B[served.rows])


@pytest.mark.parametrize(("kept", "left"), [pytest.param(48, 8, marks=pytest.mark.slow), (3, 4)])
def test_old_log_files_go_with_the_hours_they_belong_to(site, tmp_path, kept, left):
    """Files are kept as long as an hour that reads them could be done again: `retention` hours."""
    log = tmp_path / "log"
    log.mkdir()
    for hour in (site.hours[0] - 1, *site.hours):
        (log / f"{hour.compact}.host-1.jsonl").write_text("")
    site.advance(site.hours[-1], config=site.config(serving={"log": log}, retention=kept))
    assert len(list(log.iterdir())) == left
    assert log_files(log, site.hours[-3])[0].name.startswith(site.hours[-4].compact)
