"""Two commands from an unknown log to a published model, in a short form."""

import pyarrow as pa
import pytest

from benchmarks.first_day import FIRST, LOGS, by_hand, first_day
from saec.config import Config
from saec.data.hourly_files import EVENT_TIME


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("place", [0, 4])
def test_a_log_by_init_alone_is_as_good_as_by_hand(tmp_path, place):
    """Published, and within 0.01 of AUC of settings by hand."""
    day = first_day(LOGS[place], tmp_path)
    assert day.published >= 1
    assert day.auc > day.auc_by_hand - 0.01


def test_settings_by_hand_are_valid():
    """They keep the log's source and names, and have the truth's fields."""
    data = {"source": "log", "time_column": "ts", "label_column": "label"}
    settings = by_hand({"data": data, "fields": [{"name": "uid"}, {"name": "site_domain"}, {"name": "device"}]})
    config = Config.model_validate(settings)
    assert [field.name for field in config.fields] == ["uid", "site_domain", "device", "hour_of_day"]
    assert config.data.source == "log"


@pytest.mark.parametrize("kind", LOGS, ids=lambda kind: kind.write.__name__)
def test_every_log_is_written_somewhere(tmp_path, kind):
    """Ten writers, each of which names what it wrote."""
    if kind.write.__name__ == "delta_table":
        pytest.importorskip("deltalake")
    rows = pa.table(
        {
            "impression_id": pa.array([1, 2]),
            "event_time": pa.array([FIRST.start_ms, FIRST.start_ms + 1_001], EVENT_TIME),
            "user_id": pa.array([1, 2]),
            "item_id": pa.array([3, 4]),
            "item_tags": pa.array([[1], [2, 3]]),
            "site_domain": pa.array(["a", "b"]),
            "device": pa.array([1, 2], pa.int32()),
            "price": pa.array([1.0, 2.0], pa.float32()),
            "clicked": pa.array([0, 1], pa.int8()),
        }
    )
    assert (tmp_path / kind.write({FIRST: rows}, tmp_path)).exists()
