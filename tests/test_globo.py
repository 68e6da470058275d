"""A day and a half of a real click log, the gap in it included, through the pipeline with its own configuration."""

import math

import pytest

from saec.config import load_config
from saec.hours import Hour
from saec.ledger import HourRow
from saec.schedule.backfill import run_backfill
from saec.schedule.pipeline import Pipeline
from saec.schedule.progress import ask
from saec.store.model_store import open_store

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(900)]

FIRST, LAST = Hour.parse("2017-10-04T10"), Hour.parse("2017-10-05T17")
ABSENT = [Hour.parse("2017-10-05T06") + offset for offset in range(7)]
SETTLED = 10
"""Hours after which the model has seen enough to be held to bounds."""


@pytest.fixture(scope="module")
def pipeline(root, shared_data, tmp_path_factory) -> Pipeline:
    config = load_config(root / "configs" / "globo.yaml")
    data = config.data.model_copy(update={"source": str(shared_data / "globo")})
    return Pipeline(config.model_copy(update={"workspace": tmp_path_factory.mktemp("globo"), "data": data}))


@pytest.fixture(scope="module")
def rows(pipeline) -> list[HourRow]:
    """The hours, done by one backfill that may promote."""
    return run_backfill(pipeline, ask(FIRST, LAST, "a test", promote=True))[1]


def test_every_hour_ends_well(rows):
    """Each hour of the range has an outcome, in order; none FAILED or QUARANTINED; some went live."""
    assert [row.hour for row in rows] == [Hour(index) for index in range(FIRST.index, LAST.index + 1)]
    assert {row.state for row in rows} <= {"PUBLISHED", "HELD"}
    assert "PUBLISHED" in {row.state for row in rows}


def test_gap_is_stepped_over(rows):
    """The hours that the feed lacks are HELD(no-data); the first one after them goes on from the last before."""
    assert [row.hour for row in rows if row.reason == "no-data"] == ABSENT
    after = next(row for row in rows if row.hour == ABSENT[-1] + 1)
    assert after.parent == ABSENT[0] - 1
    assert after.checkpoint


def test_compressed_model_is_of_use(rows):
    """Once settled, both models rank clearly better than chance and the compressed one stays close to the original."""
    settled = [row.record for row in rows if row.record][SETTLED:]
    assert len(settled) >= 10
    mean = {name: math.fsum(record[name] for record in settled) / len(settled) for name in (
        "auc_original", "auc_compressed", "logloss_original", "logloss_compressed")}
    assert mean["auc_original"] > 0.6
    assert mean["auc_compressed"] > mean["auc_original"] - 0.02
    assert mean["logloss_compressed"] < min(mean["logloss_original"] + 0.02, math.log(2))


def test_compression_is_real(rows, pipeline):
    """At the end of the range the files that replace the table are less than a fifth of it."""
    last = next(row for row in reversed(rows) if row.version)
    assert last.record["ratio_total"] > 5
    folder = open_store(pipeline.config.store_url).open(last.version)
    assert last.record["bytes_compressed"] == sum(
        (folder / f"{name}.safetensors").stat().st_size for name in ("index", "codebooks"))
