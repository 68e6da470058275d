"""A day and a half of a real click log, the gap in it included, through the pipeline with its own configuration."""

import json

import pytest

from benchmarks.golden import GOLDEN, STRETCH, by_day, moved
from saec.hours import Hour
from saec.ledger import HourRow
from saec.schedule.backfill import run_backfill
from saec.schedule.pipeline import Pipeline
from saec.schedule.progress import ask
from saec.settings_file import load_config
from saec.store.model_store import open_store

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(900)]

FIRST, LAST = STRETCH
ABSENT = [Hour.parse("2017-10-05T06") + offset for offset in range(7)]


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


def test_the_stretch_comes_to_its_golden_figures(rows):
    """By day: outcomes, served and gate figures, ratios; renew with python -m benchmarks.golden --renew."""
    assert moved(by_day(rows), json.loads(GOLDEN.read_text(encoding="utf-8"))["globo"]) == []


def test_compression_is_real(rows, pipeline):
    """The files that replace the table have on disk the bytes that the record says."""
    last = next(row for row in reversed(rows) if row.version)
    folder = open_store(pipeline.config.store_url).open(last.version)
    assert last.record["bytes_compressed"] == sum(
        (folder / f"{name}.safetensors").stat().st_size for name in ("index", "codebooks")
    )
